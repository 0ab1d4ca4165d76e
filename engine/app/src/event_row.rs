//! An event of a recording as listings and live views show it.

use anyhow::Context as _;
use deskreel_recording::{Channel, Event};
use serde_json::{Map, Value, json};

use crate::output::visible;
use crate::replay::clock;

/// An event as an object: time, channel and what the event itself says. Pixels and raw PDUs are told by their length.
///
/// # Errors
/// An event that has no JSON form, which is a defect.
pub(crate) fn row(time_ns: u64, event: &Event) -> anyhow::Result<Map<String, Value>> {
    let mut body = match event {
        Event::Screen(screen) => json!({"bytes": screen.bytes.len()}),
        other => serde_json::from_slice(&other.to_payload()?).context("read an event")?,
    };
    if let Some(shape) = body.get_mut("shape").and_then(Value::as_object_mut) {
        shape.remove("rgba_zstd");
    }
    let mut row = Map::new();
    row.insert("time".to_owned(), clock(time_ns).into());
    row.insert("time_ns".to_owned(), time_ns.into());
    row.insert("channel".to_owned(), event.channel().topic().into());
    if let Value::Object(members) = body {
        let bulky = |name: &String| matches!(event, Event::Undecoded(_)) && name == "pdu";
        row.extend(members.into_iter().filter(|(name, _)| !bulky(name)));
    }
    Ok(row)
}

/// The event that a row of [`row`] tells of, with its time; `None` for the screen, pointers without their shapes, and events of
/// another version.
pub(crate) fn event(row: &Map<String, Value>) -> Option<(u64, Event)> {
    let time_ns = row.get("time_ns")?.as_u64()?;
    let channel = Channel::from_topic(row.get("channel")?.as_str()?)?;
    if matches!(channel, Channel::Screen | Channel::Key) {
        return None;
    }
    let payload = serde_json::to_vec(row).ok()?;
    let event = Event::from_payload(channel, payload.into()).ok()?;
    Some((time_ns, event))
}

/// A row of [`row`] as one line: time, channel, and the rest as `name=value`. Names and texts in it come from client and
/// desktop.
pub(crate) fn line(row: &Map<String, Value>) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{}  {:<9}", text("time"), text("channel"));
    let known = ["time", "time_ns", "channel"];
    // What kind of event it is reads best first.
    let is_kind = |name: &str| matches!(name, "kind" | "operation");
    let kind = row.iter().filter(|(name, _)| is_kind(name));
    let rest = row
        .iter()
        .filter(|(name, _)| !is_kind(name) && !known.contains(&name.as_str()));
    for (name, value) in kind.chain(rest) {
        line.push(' ');
        match value {
            Value::String(text) if is_kind(name) => line.push_str(text),
            Value::String(text) if !text.contains(char::is_whitespace) && !text.is_empty() => {
                line.push_str(&format!("{name}={text}"));
            }
            other => line.push_str(&format!("{name}={other}")),
        }
    }
    visible(line.trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_row_has_all_of_its_event() {
        use deskreel_recording::event::{Button, Input, SessionEvent, Undecoded};
        let click = Input::MouseButton {
            button: Button::Left,
            down: true,
            x: 1,
            y: 2,
        };
        let undecoded = Undecoded {
            what: "bitmap".to_owned(),
            codec_id: Some(3),
            rect: None,
            error: "cut".to_owned(),
            length: 9,
            pdu: bytes::Bytes::new(),
        };
        let resized = SessionEvent::Resized { width: 8, height: 9 };
        for told in [
            Event::Input(click),
            Event::Undecoded(undecoded),
            Event::Session(resized),
        ] {
            let row = row(5, &told).unwrap();
            assert_eq!(event(&row), Some((5, told)));
        }
        let screen = deskreel_recording::ScreenMessage {
            key: true,
            bytes: bytes::Bytes::new(),
        };
        assert_eq!(event(&row(5, &Event::Screen(screen)).unwrap()), None);
        assert_eq!(event(&Map::new()), None);
    }

    #[test]
    fn an_event_is_one_harmless_line() {
        let hostile = "a\u{1b}[2J\u{9b}31m\n00:00:01.000  session \u{202e}b";
        let event = Event::Undecoded(deskreel_recording::event::Undecoded {
            what: hostile.to_owned(),
            codec_id: None,
            rect: None,
            error: hostile.replace([' ', '\n'], "\u{7}"),
            length: 0,
            pdu: bytes::Bytes::new(),
        });
        let line = line(&row(0, &event).unwrap());
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.contains("\\u{1b}[2J\\u{9b}31m"), "{line}");
    }
}

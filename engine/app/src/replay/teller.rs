//! What happened in a session in words, for people who read instead of watching, and for search: a line for each thing that a
//! person would tell of. Where a word has a meaning, such as that of a key, it is the one that exporters use.

use deskreel_recording::Event;
use deskreel_recording::event::{
    Button, ChannelFacts, Clipboard, ClipboardKind, Contact, ContactState, Drive, DriveOperation, Input, MonitorFacts,
    SessionEnd, SessionEvent, SessionStart,
};
use deskreel_sdk::{Typed, Typing};

use super::clock;
use super::export::keys::{Keys, Pressed};
use super::export::words;
use crate::output::visible;

/// A button that goes up so many pixels from where it went down has dragged something.
const DRAG_MIN: u16 = 8;
/// Turns of the wheel and keys without names that follow each other within this are told once.
const JOIN_NS: u64 = 2_000_000_000;

/// When it began, and what it was.
pub(crate) type Line = (u64, String);

/// Keys that went down, of which only that is recorded.
#[derive(Debug)]
struct Unnamed {
    from_ns: u64,
    until_ns: u64,
    count: u64,
}

/// Turns events into lines.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    keys: Keys,
    typing: Typing,
    unnamed: Option<Unnamed>,
    /// The button that is down, and where it went down.
    held: Option<(Button, u16, u16)>,
    /// When the wheel turned last, and which way.
    wheel: Option<(u64, &'static str)>,
}

impl Teller {
    /// What an event completes, in order of time. Events come in order of time.
    pub(crate) fn take(&mut self, time_ns: u64, event: &Event) -> Vec<Line> {
        if let Event::Input(key @ Input::Key { .. }) = event {
            return self.key(time_ns, key);
        }
        let Some(text) = self.tell(time_ns, event) else {
            return Vec::new();
        };
        // What was typed before stands before.
        let mut lines = match event {
            Event::Gap(_) => self.lost(),
            _ => self.end(),
        };
        lines.push((time_ns, capitalized(&text)));
        lines
    }

    /// What is not told yet.
    pub(crate) fn end(&mut self) -> Vec<Line> {
        let typed = self.typing.end().map(typed);
        typed.into_iter().chain(self.unnamed()).collect()
    }

    /// What is not told yet, where what follows next is missing: nobody knows which keys and buttons are down behind it.
    pub(crate) fn lost(&mut self) -> Vec<Line> {
        self.keys.release();
        (self.held, self.wheel) = (None, None);
        self.end()
    }

    /// Whether an event is none that a person would tell of: how picture and pointer changed, and how quick the network is.
    pub(crate) fn passes_over(event: &Event) -> bool {
        matches!(
            event,
            Event::Screen(_) | Event::Pointer(_) | Event::Session(SessionEvent::Network(_))
        )
    }

    /// A line as it is printed. What was typed and what others sent is harmless in it.
    pub(crate) fn printed(line: &Line) -> String {
        let (time_ns, text) = line;
        format!("{}  {}", clock(*time_ns), visible(text))
    }

    /// The keys without names that are not told yet.
    fn unnamed(&mut self) -> Option<Line> {
        let keys = self.unnamed.take()?;
        let text = match keys.count {
            1 => "Typed 1 key; which one is not recorded".to_owned(),
            count => format!("Typed {count} keys; which ones is not recorded"),
        };
        Some((keys.from_ns, text))
    }

    fn key(&mut self, time_ns: u64, key: &Input) -> Vec<Line> {
        match self.keys.apply(time_ns, key, |stays| stays) {
            None => Vec::new(),
            Some(Pressed::Known(key)) => {
                let before = self.unnamed();
                before
                    .into_iter()
                    .chain(self.typing.key(time_ns, &key).into_iter().map(typed))
                    .collect()
            }
            Some(Pressed::Unrecorded) => {
                let ended = |keys: &Unnamed| time_ns.saturating_sub(keys.until_ns) > JOIN_NS;
                let lines = if self.unnamed.as_ref().is_none_or(ended) {
                    self.end()
                } else {
                    Vec::new()
                };
                let keys = self.unnamed.get_or_insert(Unnamed {
                    from_ns: time_ns,
                    until_ns: time_ns,
                    count: 0,
                });
                keys.until_ns = time_ns;
                keys.count += 1;
                lines
            }
        }
    }

    fn tell(&mut self, time_ns: u64, event: &Event) -> Option<String> {
        match event {
            Event::Screen(_) | Event::Pointer(_) => None,
            Event::Input(input) => self.mouse(time_ns, input),
            Event::Clipboard(event) => Some(clipboard(event)),
            Event::Drive(event) => drive(event),
            Event::Session(event) => session(event),
            Event::Gap(gap) => Some(format!(
                "not recorded from {} to {}: {}",
                clock(gap.from_ns),
                clock(gap.to_ns),
                words::reason(gap)
            )),
            Event::Undecoded(event) => Some(format!(
                "could not be decoded: {}, {} bytes: {}",
                event.what, event.length, event.error
            )),
        }
    }

    fn mouse(&mut self, time_ns: u64, input: &Input) -> Option<String> {
        match *input {
            Input::MouseButton {
                button,
                down: true,
                x,
                y,
            } => {
                self.held = Some((button, x, y));
                Some(format!("{} click at {x}, {y}", named(button)))
            }
            Input::MouseButton { button, x, y, .. } => {
                let (held, from_x, from_y) = self.held.take()?;
                let moved = from_x.abs_diff(x).max(from_y.abs_diff(y));
                (held == button && moved >= DRAG_MIN).then(|| {
                    format!(
                        "dragged from {from_x}, {from_y} to {x}, {y} with the {} button",
                        named(button)
                    )
                })
            }
            Input::Wheel {
                horizontal,
                delta,
                x,
                y,
            } => {
                let way = match (horizontal, delta < 0) {
                    (false, false) => "up",
                    (false, true) => "down",
                    (true, false) => "to the right",
                    (true, true) => "to the left",
                };
                let before = self.wheel.replace((time_ns, way));
                let goes_on = before.is_some_and(|(at, before)| before == way && time_ns.saturating_sub(at) <= JOIN_NS);
                (!goes_on).then(|| format!("scrolled {way} at {x}, {y}"))
            }
            Input::Touch(contact) => contact_told(contact, "finger"),
            Input::Pen(contact) => contact_told(contact, "pen"),
            Input::MouseMove { .. } | Input::Key { .. } => None,
            Input::Unknown => Some("input of a kind that this version does not know".to_owned()),
        }
    }
}

/// Where a finger or a pen goes down; what follows of it is not told, as with the mouse.
fn contact_told(contact: Contact, with: &str) -> Option<String> {
    let Contact { state, x, y, .. } = contact;
    (state == ContactState::Down).then(|| format!("touched with a {with} at {x}, {y}"))
}

/// Monitors, one after another.
fn places(monitors: &[MonitorFacts]) -> String {
    let told = monitors.iter().map(|monitor| {
        let MonitorFacts {
            x, y, width, height, ..
        } = monitor;
        format!("{width}x{height} at {x}, {y}")
    });
    told.collect::<Vec<_>>().join("; ")
}

fn typed(typed: Typed) -> Line {
    match typed {
        Typed::Text { from_ns, text, .. } => (from_ns, format!("Typed: {text}")),
        Typed::Key { at_ns, key } => (at_ns, format!("Pressed {key}")),
    }
}

fn named(button: Button) -> &'static str {
    match button {
        Button::Left => "left",
        Button::Right => "right",
        Button::Middle => "middle",
        Button::X1 => "back",
        Button::X2 => "forward",
        Button::Unknown => "other",
    }
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + rest.as_str()
}

/// `: what` where there is something.
fn with(detail: Option<&String>) -> String {
    detail.map_or_else(String::new, |detail| format!(": {detail}"))
}

fn clipboard(event: &Clipboard) -> String {
    let mut formats: Vec<&str> = Vec::new();
    for format in &event.formats {
        match format_name(format.id, &format.name) {
            Some(name) if !formats.contains(&name) => formats.push(name),
            _ => {}
        }
    }
    let formats =
        Some(formats.join(", ")).filter(|formats| event.kind == ClipboardKind::Offered && !formats.is_empty());
    let digest = event.sha256.as_ref().filter(|_| event.text.is_none());
    let digest = digest.map_or_else(String::new, |digest| format!(", SHA-256 {digest}"));
    let what = event.text.as_ref().or(formats.as_ref());
    format!("{}{digest}{}", words::clipboard(event), with(what))
}

/// What a format holds, in words; `None` for those that only accompany others. Numbers as in `winuser.h`.
fn format_name(id: u32, name: &str) -> Option<&str> {
    match (id, name) {
        (1 | 7 | 13, _) => Some("text"),
        (2 | 3 | 8 | 17, _) => Some("picture"),
        (11 | 12, _) => Some("sound"),
        (15, _) | (_, "FileGroupDescriptorW") => Some("files"),
        (_, "HTML Format") => Some("HTML"),
        (_, "Rich Text Format") => Some("formatted text"),
        (_, "") => None,
        (_, name) => Some(name),
    }
}

/// `None` for the pieces in which a file is read or written: its close tells of all of them.
fn drive(event: &Drive) -> Option<String> {
    let path = &event.path;
    let moved = |bytes: Option<u64>, way: &str| {
        bytes
            .filter(|bytes| *bytes > 0)
            .map_or_else(String::new, |bytes| format!(", {bytes} bytes {way}"))
    };
    let mut text = match event.operation {
        DriveOperation::Read | DriveOperation::Write => return None,
        DriveOperation::Announce => format!("drive {path} shared"),
        DriveOperation::Remove => format!("drive {path} taken away"),
        DriveOperation::Open => format!("file opened: {path}"),
        DriveOperation::List => format!("folder listed: {path}"),
        DriveOperation::Rename => {
            let new = event.new_path.as_deref().unwrap_or_default();
            format!("file renamed: {path} to {new}")
        }
        DriveOperation::Resize => {
            let bytes = event
                .bytes
                .map_or_else(String::new, |bytes| format!(" to {bytes} bytes"));
            format!("file resized{bytes}: {path}")
        }
        DriveOperation::Delete => format!("file deleted: {path}"),
        DriveOperation::Close => format!(
            "file closed: {path}{}{}",
            moved(event.read, "to the desktop"),
            moved(event.written, "to the client")
        ),
        DriveOperation::Denied => format!("file denied: {path}"),
        DriveOperation::Unknown => format!("drive event of a kind that this version does not know: {path}"),
    };
    if let Some(digest) = &event.sha256 {
        text.push_str(&format!(", SHA-256 {digest}"));
    }
    if let Some(status) = event.status.filter(|status| *status != 0) {
        text.push_str(&format!(", failed with {status:#010x}"));
    }
    text.push_str(&with(event.detail.as_ref()));
    Some(text)
}

/// `None` for measures of the network: they come again and again, also in the middle of a word.
fn session(event: &SessionEvent) -> Option<String> {
    Some(match event {
        SessionEvent::Start(start) => begin(start),
        SessionEvent::Resized { width, height } => format!("the screen has {width}x{height} pixels"),
        SessionEvent::Monitors { asked: true, monitors } => {
            format!("the client asks for monitors: {}", places(monitors))
        }
        SessionEvent::Monitors { monitors, .. } if monitors.is_empty() => "the screen is one monitor".to_owned(),
        SessionEvent::Monitors { monitors, .. } => format!("the screen is several monitors: {}", places(monitors)),
        SessionEvent::ChannelOpened(channel) => format!("channel {} opened", channel.name),
        SessionEvent::ChannelDenied(ChannelFacts { name, reason, .. }) => {
            format!("channel {name} denied{}", with(reason.as_ref()))
        }
        SessionEvent::Logon { ok, login, detail } => {
            let who = login.as_ref().map_or_else(String::new, |login| format!(" of {login}"));
            let how = if *ok { "succeeded" } else { "failed" };
            format!("logon{who} {how}{}", with(detail.as_ref()))
        }
        SessionEvent::Network(_) => return None,
        SessionEvent::Alert { name, detail } => format!("alert {name}: {detail}"),
        SessionEvent::End(SessionEnd { reason, detail, .. }) => {
            let reason = serde_json::to_value(reason).ok();
            let reason = reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or("unknown");
            format!(
                "the session ends: {}{}",
                reason.replace('_', " "),
                with(detail.as_ref())
            )
        }
        SessionEvent::Unknown => "session event of a kind that this version does not know".to_owned(),
    })
}

fn begin(start: &SessionStart) -> String {
    let from = match start.client.addr.as_str() {
        "" => String::new(),
        addr => format!(" from {addr}"),
    };
    let when = words::wall_rfc3339(start, 0).map_or_else(String::new, |when| format!(", {when}"));
    format!("the session of {} begins{from}{when}", words::who(start))
}

#[cfg(test)]
#[path = "teller_tests.rs"]
mod tests;

//! Published JSON schemas of the events (`schemas/`), embedded in each segment that uses them.

use std::sync::LazyLock;

use crate::Channel;

/// The JSON Schema of a channel's events, with its name; `None` for the binary channels.
#[must_use]
pub fn schema(channel: Channel) -> Option<(&'static str, &'static str)> {
    Some(match channel {
        Channel::Screen | Channel::Key => return None,
        Channel::Pointer => ("deskreel.Pointer", include_str!("../schemas/pointer.schema.json")),
        Channel::Input => ("deskreel.Input", include_str!("../schemas/input.schema.json")),
        Channel::Clipboard => ("deskreel.Clipboard", include_str!("../schemas/clipboard.schema.json")),
        Channel::Drive => ("deskreel.Drive", include_str!("../schemas/drive.schema.json")),
        Channel::Session => ("deskreel.Session", include_str!("../schemas/session.schema.json")),
        Channel::Gap => ("deskreel.Gap", include_str!("../schemas/gap.schema.json")),
        Channel::Undecoded => ("deskreel.Undecoded", include_str!("../schemas/undecoded.schema.json")),
    })
}

/// The same without white space: it stands in every segment, twice.
pub(crate) fn compact(channel: Channel) -> Option<(&'static str, &'static [u8])> {
    static COMPACT: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let minify = |text: &str| {
            serde_json::from_str::<serde_json::Value>(text)
                .and_then(|value| serde_json::to_vec(&value))
                .unwrap_or_else(|_| text.as_bytes().to_vec())
        };
        Channel::ALL
            .iter()
            .map(|channel| schema(*channel).map_or_else(Vec::new, |(_, text)| minify(text)))
            .collect()
    });
    let (name, _) = schema(channel)?;
    Some((name, COMPACT.get(channel as usize)?.as_slice()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::event::*;
    use crate::{Event, Rect};

    /// Every member that we write is in the schema, and every required member is written.
    #[test]
    fn schemas_name_what_is_written() {
        let shape = PointerShape::image(1, 1, 0, 0, &[1, 2, 3, 4]).unwrap();
        let content = Some(KeyContent {
            scancode: Some(30),
            extended: true,
            unicode: Some(97),
        });
        let contact = Contact {
            id: 3,
            state: ContactState::Down,
            x: -4,
            y: 70_000,
            pressure: Some(512),
            eraser: true,
            barrel: true,
        };
        let start = SessionStart {
            domain: Some(String::new()),
            decision: Some(serde_json::json!({})),
            client: ClientFacts {
                name: Some(String::new()),
                build: Some(1),
                ..ClientFacts::default()
            },
            ..SessionStart::default()
        };
        let channel = ChannelFacts {
            name: "cliprdr".into(),
            dynamic: false,
            reason: Some("denied".into()),
        };
        let end = SessionEnd {
            reason: EndReason::ClientClosed,
            detail: Some(String::new()),
            error_info: Some(0),
        };
        let events = [
            Event::Pointer(Pointer {
                position: Some(Position { x: 1, y: 2 }),
                visible: Some(true),
                shape: Some(shape),
            }),
            Event::Input(Input::MouseMove { x: 1, y: 2 }),
            Event::Input(Input::MouseButton {
                button: Button::Left,
                down: true,
                x: 1,
                y: 2,
            }),
            Event::Input(Input::Wheel {
                horizontal: false,
                delta: -120,
                x: 1,
                y: 2,
            }),
            Event::Input(Input::Key { down: true, content }),
            Event::Input(Input::Touch(contact)),
            Event::Input(Input::Pen(contact)),
            Event::Clipboard(Clipboard {
                kind: ClipboardKind::Transferred,
                direction: Transfer::ToClient,
                formats: vec![ClipboardFormat {
                    id: 13,
                    name: "x".into(),
                }],
                length: Some(1),
                sha256: Some("00".repeat(32)),
                text: Some(String::new()),
            }),
            Event::Drive(Drive {
                new_path: Some("b".into()),
                drive: Some(1),
                offset: Some(0),
                bytes: Some(1),
                read: Some(1),
                written: Some(1),
                direction: Some(Transfer::ToDesktop),
                sha256: Some("00".repeat(32)),
                status: Some(0xC000_0022),
                detail: Some(String::new()),
                since_ns: Some(1),
                ..Drive::new(DriveOperation::Rename, "a".into())
            }),
            Event::Session(SessionEvent::Start(Box::new(start))),
            Event::Session(SessionEvent::Resized { width: 1, height: 1 }),
            Event::Session(SessionEvent::Monitors {
                asked: true,
                monitors: vec![MonitorFacts::default()],
            }),
            Event::Session(SessionEvent::ChannelOpened(channel)),
            Event::Session(SessionEvent::Logon {
                ok: true,
                login: Some("a".into()),
                detail: Some("b".into()),
            }),
            Event::Session(SessionEvent::Network(NetworkFacts {
                round_trip_ms: Some(1),
                round_trip_min_ms: Some(1),
                bandwidth_kbit: Some(1),
            })),
            Event::Session(SessionEvent::Alert {
                name: "a".into(),
                detail: "b".into(),
            }),
            Event::Session(SessionEvent::End(end)),
            Event::Gap(Gap {
                from_ns: 0,
                to_ns: 1,
                reason: GapReason::QueueFull,
                detail: Some(String::new()),
            }),
            Event::Undecoded(Undecoded {
                what: "bitmap".into(),
                codec_id: Some(1),
                rect: Some(Rect::default()),
                error: "e".into(),
                length: 1,
                pdu: vec![0].into(),
            }),
        ];
        for event in events {
            let payload = event.to_payload().unwrap();
            assert_eq!(Event::from_payload(event.channel(), payload.clone()).unwrap(), event);
            let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let schema: serde_json::Value = serde_json::from_str(schema(event.channel()).unwrap().1).unwrap();
            named(&value, &schema);
        }
    }

    fn named(value: &serde_json::Value, schema: &serde_json::Value) {
        let Some(members) = value.as_object() else { return };
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        for (name, member) in members {
            let property = properties
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in {}", schema["title"]));
            named(member, property);
            if let (Some(item), Some(_)) = (member.get(0), member.as_array()) {
                named(item, &property["items"]);
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(
                members.contains_key(required.as_str().unwrap()),
                "{required} is not written"
            );
        }
    }

    #[test]
    fn unknown_members_and_kinds_are_tolerated() {
        let read = |channel, text: &str| Event::from_payload(channel, bytes::Bytes::copy_from_slice(text.as_bytes()));
        let gap = read(Channel::Gap, r#"{"from_ns":1,"to_ns":2,"reason":"moon","new":[1]}"#).unwrap();
        assert_eq!(
            gap,
            Event::Gap(Gap {
                from_ns: 1,
                to_ns: 2,
                reason: GapReason::Unknown,
                detail: None
            })
        );
        let session = read(Channel::Session, r#"{"kind":"teleported","where":"x"}"#).unwrap();
        assert_eq!(session, Event::Session(SessionEvent::Unknown));
        let input = read(Channel::Input, r#"{"kind":"gesture","x":1}"#).unwrap();
        assert_eq!(input, Event::Input(Input::Unknown));
        assert!(read(Channel::Gap, "{}").is_err());
    }
}

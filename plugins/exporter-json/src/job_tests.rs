#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::Settings;

const MS: u64 = 1_000_000;

fn event(session_ns: u64, channel: &str, event: &Value) -> Marker {
    let kind = MarkerKind::Event {
        session_ns,
        channel: channel.to_owned(),
        event: event.as_object().unwrap().clone(),
    };
    // The time in the export is another one: it leaves idle time out.
    Marker { time_ns: 7, kind }
}

fn key(text: &str) -> Marker {
    let kind = MarkerKind::Key { text: text.to_owned() };
    Marker { time_ns: 7, kind }
}

/// The lines that an export makes of these markers.
fn export(settings: Settings, markers: &[Marker]) -> (Vec<Value>, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut video = VideoParams::new(640, 480);
    video.session_to_ns = 61_250 * MS;
    video.recording = Some("01902b6e".to_owned());
    video.user = Some("eve\n\u{1b}[2J".to_owned());
    let exporter = Json::open(settings, Context::new("json")).unwrap();
    let mut job = exporter.start("json", &video, Output::new(&path)).unwrap();
    for marker in markers {
        job.marker(marker).unwrap();
    }
    let summary = job.finish().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(summary.bytes, text.len() as u64);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    (
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        summary,
    )
}

#[test]
fn a_header_and_a_line_for_each_event() {
    let click = json!({"kind": "mouse_button", "button": "left", "down": true, "x": 1, "y": 2});
    let (lines, summary) = export(
        Settings::default(),
        &[
            event(0, "session", &json!({"kind": "start"})),
            event(5, "pointer", &json!({"kind": "moved"})),
            event(6, "input", &json!({"kind": "mouse_move", "x": 1, "y": 2})),
            event(12_345_678_901, "input", &click),
            event(13_000 * MS, "speech", &json!({"kind": "of a newer engine"})),
        ],
    );
    assert_eq!(
        (lines.len(), summary.notes.as_slice()),
        (4, &["4 lines".to_owned()][..])
    );
    assert_eq!(lines[0]["deskreel_log"], 1);
    assert_eq!(
        (&lines[0]["recording"], &lines[0]["to"]),
        (&"01902b6e".into(), &61.25.into())
    );
    assert_eq!(lines[1], json!([0.0, "session", {"kind": "start"}]));
    assert_eq!(lines[2], json!([12.345678901, "input", click]));
    assert_eq!(lines[3][1], "speech");
}

#[test]
fn keys_become_text() {
    let down = |at: u64| event(at, "input", &json!({"kind": "key", "down": true}));
    let mut markers = Vec::new();
    for (at, text) in (0..).zip(["l", "s", "Enter", "x"]) {
        markers.extend([down(1000 * MS + at * MS), key(text)]);
    }
    markers.push(event(1100 * MS, "input", &json!({"kind": "mouse_button"})));
    let only = Settings {
        channels: Some(vec!["typed".to_owned()]),
        moves: false,
    };
    let (lines, _) = export(only, &markers);
    assert_eq!(
        lines[1..],
        [
            json!([1.0, "typed", {"text": "ls", "until": 1.001}]),
            json!([1.002, "typed", {"key": "Enter"}]),
            json!([1.003, "typed", {"text": "x", "until": 1.003}]),
        ]
    );
}

#[test]
fn channels_and_moves_can_be_chosen() {
    let markers = [
        event(5, "pointer", &json!({"kind": "moved"})),
        event(6, "input", &json!({"kind": "mouse_move"})),
        event(7, "clipboard", &json!({"kind": "offered"})),
    ];
    let settings = Settings {
        channels: Some(vec!["pointer".to_owned(), "input".to_owned()]),
        moves: true,
    };
    assert_eq!(export(settings, &markers).0.len(), 3);
    for name in ["keys", "screen"] {
        let wrong = Settings {
            channels: Some(vec![name.to_owned()]),
            moves: false,
        };
        let error = Json::open(wrong, Context::new("json")).unwrap_err().to_string();
        let told =
            format!("no channel {name:?}, there are session, input, typed, clipboard, drive, gap, undecoded, pointer");
        assert!(error.contains(&told), "{error}");
    }
}

//! What happened, in words for markers and chapters.

use deskreel_recording::Event;
use deskreel_recording::event::{
    Clipboard, ClipboardKind, Drive, DriveOperation, Gap, SessionEvent, SessionStart, Transfer,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Characters of a chapter's title.
const TITLE_MAX: usize = 120;

/// A gap's reason in words.
pub(in crate::replay) fn reason(gap: &Gap) -> String {
    let word = serde_json::to_value(gap.reason).ok();
    let word = word
        .as_ref()
        .and_then(|word| word.as_str())
        .unwrap_or("unknown")
        .replace('_', " ");
    match &gap.detail {
        Some(detail) => format!("{word}: {detail}"),
        None => word,
    }
}

/// What passed over the clipboard.
pub(in crate::replay) fn clipboard(clipboard: &Clipboard) -> String {
    let what = match clipboard.kind {
        ClipboardKind::Offered => "offered",
        ClipboardKind::Transferred => "transferred",
        ClipboardKind::Denied => "denied",
        ClipboardKind::Unknown => "event",
    };
    let bytes = clipboard
        .length
        .map_or_else(String::new, |length| format!(", {length} bytes"));
    format!("clipboard {what}{}{bytes}", to(clipboard.direction))
}

fn to(direction: Transfer) -> &'static str {
    match direction {
        Transfer::ToClient => " to the client",
        Transfer::ToDesktop => " to the desktop",
        Transfer::Unknown => "",
    }
}

/// The title of the chapter that begins with an event; `None` for what nobody jumps to.
pub(in crate::replay) fn chapter(event: &Event) -> Option<String> {
    let title = match event {
        Event::Session(session) => session_chapter(session)?,
        Event::Clipboard(event) if event.kind != ClipboardKind::Offered => clipboard(event),
        Event::Drive(event) => drive_chapter(event)?,
        _ => return None,
    };
    Some(one_line(&title))
}

fn session_chapter(event: &SessionEvent) -> Option<String> {
    Some(match event {
        SessionEvent::ChannelDenied(channel) => format!("channel {} denied", channel.name),
        SessionEvent::Logon { ok, login, .. } => {
            let who = login.as_ref().map_or_else(String::new, |login| format!(" of {login}"));
            format!("logon{who} {}", if *ok { "succeeded" } else { "failed" })
        }
        SessionEvent::Alert { name, detail } => format!("alert {name}: {detail}"),
        SessionEvent::End(end) => {
            let reason = serde_json::to_value(end.reason).ok();
            let reason = reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or("unknown");
            format!("end: {}", reason.replace('_', " "))
        }
        _ => return None,
    })
}

fn drive_chapter(event: &Drive) -> Option<String> {
    let path = &event.path;
    Some(match event.operation {
        DriveOperation::Announce => format!("drive {path}"),
        DriveOperation::Close if event.written.unwrap_or(0) > 0 => format!("file to the client: {path}"),
        DriveOperation::Close if event.read.unwrap_or(0) > 0 => format!("file to the desktop: {path}"),
        DriveOperation::Delete => format!("file deleted: {path}"),
        DriveOperation::Rename => format!("file renamed: {path}"),
        DriveOperation::Denied => format!("file denied: {path}"),
        _ => return None,
    })
}

/// One line of bounded length: names in it come from client and desktop.
pub(in crate::replay) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    super::text::fit(&line, TITLE_MAX)
}

/// Who worked where, on one line.
pub(in crate::replay) fn who(start: &SessionStart) -> String {
    let user = &start.user.name;
    let login = match &start.domain {
        Some(domain) if !domain.is_empty() && !start.login.is_empty() => format!("{domain}\\{}", start.login),
        _ => start.login.clone(),
    };
    let as_login = if login.is_empty() || login == *user {
        String::new()
    } else {
        format!(" as {login}")
    };
    one_line(&format!("{user}{as_login} on {}", start.desktop.name))
}

/// When a moment of the session was; `None` beyond all calendars.
pub(in crate::replay) fn wall(start: &SessionStart, session_ns: u64) -> Option<OffsetDateTime> {
    let nanos = i128::from(start.started_unix_us) * 1000 + i128::from(session_ns);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

/// [`wall`] as RFC 3339.
pub(in crate::replay) fn wall_rfc3339(start: &SessionStart, session_ns: u64) -> Option<String> {
    wall(start, session_ns / 1000 * 1000)?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use deskreel_recording::event::{ClipboardFormat, DesktopFacts, UserFacts};

    use super::*;

    #[test]
    fn chapters_are_one_short_line() {
        let alert = SessionEvent::Alert {
            name: "a\nb".into(),
            detail: "x".repeat(999),
        };
        let title = chapter(&Event::Session(alert)).unwrap();
        assert!(title.starts_with("alert a b: xx") && title.ends_with("..") && title.chars().count() == TITLE_MAX);
        let mut copied = Clipboard {
            kind: ClipboardKind::Offered,
            direction: Transfer::ToClient,
            formats: Vec::<ClipboardFormat>::new(),
            length: Some(7),
            sha256: None,
            text: None,
        };
        assert_eq!(chapter(&Event::Clipboard(copied.clone())), None);
        copied.kind = ClipboardKind::Transferred;
        let title = chapter(&Event::Clipboard(copied));
        assert_eq!(title.as_deref(), Some("clipboard transferred to the client, 7 bytes"));
    }

    #[test]
    fn who_and_when() {
        let mut start = SessionStart {
            user: UserFacts {
                name: "alice".into(),
                proven: true,
            },
            login: "bob".into(),
            domain: Some("CORP".into()),
            desktop: DesktopFacts {
                name: "build-1".into(),
                ..DesktopFacts::default()
            },
            started_unix_us: 1_714_557_600_000_000,
            ..SessionStart::default()
        };
        assert_eq!(who(&start), "alice as CORP\\bob on build-1");
        start.domain = None;
        start.login = "alice".into();
        assert_eq!(who(&start), "alice on build-1");
        assert_eq!(wall_rfc3339(&start, 1_500_000_000).unwrap(), "2024-05-01T10:00:01.5Z");
    }
}

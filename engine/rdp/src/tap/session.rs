//! Facts that the desktop tells about the session: who logged on, and why it ends.

use super::event::{Logon, TapEvent, UndecodedKind};
use super::reader::{Reader, utf16};
use super::sink::Sink;

const LOGON: u32 = 0;
const LOGON_LONG: u32 = 1;
const PLAIN_NOTIFY: u32 = 2;
const EXTENDED: u32 = 3;
/// Fields of the extended form ([MS-RDPBCGR] 2.2.10.1.1.4): an auto-reconnect cookie, which is a secret and not for a
/// recording, and what is wrong with a logon.
const HAS_COOKIE: u32 = 1;
const HAS_ERRORS: u32 = 2;

/// Takes the body of a Save Session Info PDU, [MS-RDPBCGR] 2.2.10.1.1.
pub(super) fn save_session_info(body: &[u8], sink: &mut Sink<'_>) {
    let mut reader = Reader::new(body);
    let logon = match reader.u32() {
        Some(LOGON) => logon(&mut reader),
        Some(LOGON_LONG) => logon_long(&mut reader),
        Some(PLAIN_NOTIFY) => Some(Logon::default()),
        Some(EXTENDED) => {
            if let Some((notification, data)) = logon_error(&mut reader) {
                sink.push(TapEvent::LogonError { notification, data });
            }
            return;
        }
        Some(_) => return,
        None => None,
    };
    match logon {
        Some(logon) => sink.push(TapEvent::Logon(logon)),
        None => sink.undecoded(UndecodedKind::ShareData, "malformed save session info", body),
    }
}

fn logon(reader: &mut Reader<'_>) -> Option<Logon> {
    let domain_bytes = reader.len32()?;
    let domain = reader.take(52)?;
    let user_bytes = reader.len32()?;
    let user = reader.take(512)?;
    Some(Logon {
        domain: utf16(&domain[..domain_bytes.min(domain.len())]),
        user: utf16(&user[..user_bytes.min(user.len())]),
        session_id: reader.u32()?,
    })
}

fn logon_long(reader: &mut Reader<'_>) -> Option<Logon> {
    // Version and size.
    reader.skip(2 + 4)?;
    let session_id = reader.u32()?;
    let domain_bytes = reader.len32()?;
    let user_bytes = reader.len32()?;
    reader.skip(558)?;
    Some(Logon {
        domain: utf16(reader.take(domain_bytes)?),
        user: utf16(reader.take(user_bytes)?),
        session_id,
    })
}

/// Type and data of the error in the extended form, if one is there.
fn logon_error(reader: &mut Reader<'_>) -> Option<(u32, u32)> {
    // the length of all
    reader.skip(2)?;
    let fields = reader.u32()?;
    if fields & HAS_COOKIE != 0 {
        let length = reader.len32()?;
        reader.skip(length)?;
    }
    if fields & HAS_ERRORS == 0 {
        return None;
    }
    // the length of the field
    reader.skip(4)?;
    Some((reader.u32()?, reader.u32()?))
}

/// Takes the body of a Set Error Info PDU, [MS-RDPBCGR] 2.2.5.1.1.
pub(super) fn set_error_info(body: &[u8], sink: &mut Sink<'_>) {
    match Reader::new(body).u32() {
        Some(code) => sink.push(TapEvent::ErrorInfo { code }),
        None => sink.undecoded(UndecodedKind::ShareData, "malformed set error info", body),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn events(body: &[u8]) -> Vec<TapEvent> {
        let mut out = Vec::new();
        save_session_info(body, &mut Sink::new(&mut out, 100, false));
        out
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn reads_all_forms_of_logon() {
        let logon = TapEvent::Logon(Logon {
            user: "alice".to_owned(),
            domain: "LAB".to_owned(),
            session_id: 3,
        });
        let mut short = vec![0, 0, 0, 0, 8, 0, 0, 0];
        short.extend(wide("LAB\0"));
        short.resize(8 + 52, 0);
        short.extend([12, 0, 0, 0]);
        short.extend(wide("alice\0"));
        short.resize(8 + 52 + 4 + 512, 0);
        short.extend([3, 0, 0, 0]);
        assert_eq!(events(&short), std::slice::from_ref(&logon));
        assert!(matches!(events(&short[..200])[..], [TapEvent::Undecoded(_)]));

        let mut long = vec![1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 12, 0, 0, 0];
        long.resize(long.len() + 558, 0);
        long.extend(wide("LAB\0alice\0"));
        assert_eq!(events(&long), [logon]);
        assert_eq!(events(&[2, 0, 0, 0]), [TapEvent::Logon(Logon::default())]);
        assert_eq!(events(&[3, 0, 0, 0, 1, 2]), []);
    }

    #[test]
    fn what_is_wrong_with_a_logon_but_not_the_cookie() {
        let extended = |fields: u32, parts: &[&[u8]]| {
            let mut body = vec![3, 0, 0, 0, 0, 0];
            body.extend(fields.to_le_bytes());
            for part in parts {
                body.extend((part.len() as u32).to_le_bytes());
                body.extend(*part);
            }
            body
        };
        let error = [0xFD, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0];
        let told = TapEvent::LogonError {
            notification: 0xFFFF_FFFD,
            data: 1,
        };
        assert_eq!(events(&extended(2, &[&error])), std::slice::from_ref(&told));
        let both = extended(3, &[&[7; 28], &error]);
        assert_eq!(events(&both), [told]);
        assert_eq!(events(&extended(1, &[&[7; 28]])), []);
        for cut in 0..both.len() {
            assert!(
                !matches!(events(&both[..cut])[..], [TapEvent::LogonError { .. }]),
                "{cut}"
            );
        }
    }
}

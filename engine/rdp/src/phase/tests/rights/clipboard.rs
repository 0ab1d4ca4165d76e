//! Sessions that may use a part of the clipboard.

use super::*;
use crate::tap::ClipboardFormat;

pub(super) fn clip(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    message.extend((body.len() as u32).to_le_bytes());
    message.extend(body);
    message
}

fn caps(flags: u32) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0, 1, 0, 12, 0, 2, 0, 0, 0];
    body.extend(flags.to_le_bytes());
    clip(7, 0, &body)
}

pub(super) fn list(formats: &[(u32, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (id, name) in formats {
        body.extend(id.to_le_bytes());
        body.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    }
    clip(2, 0, &body)
}

fn blocked(direction: Direction, formats: &[(u32, &str)]) -> PhaseEvent {
    let format = |&(id, name): &(u32, &str)| ClipboardFormat {
        id,
        name: name.to_owned(),
    };
    PhaseEvent::ClipboardBlocked {
        direction,
        formats: formats.iter().map(format).collect(),
    }
}

/// Capabilities of both, Monitor Ready: long names from here on.
fn greeted(rights: ChannelRights) -> Phases {
    let mut phases = session(rights);
    for (direction, message) in [
        (ToClient, caps(0x1E)),
        (ToClient, clip(1, 0, &[])),
        (ToDesktop, caps(0x1E)),
    ] {
        send(&mut phases, direction, CLIPRDR, &message);
    }
    phases
}

const OK_LIST: [u8; 8] = [3, 0, 1, 0, 0, 0, 0, 0];
const FAILED: [u8; 8] = [5, 0, 2, 0, 0, 0, 0, 0];

#[test]
fn a_clipboard_that_only_gives_to_the_client() {
    let mut phases = greeted(ChannelRights {
        clipboard_to_desktop: false,
        ..ChannelRights::default()
    });
    let text = [(13, ""), (1, "")];
    let told = blocked(ToDesktop, &text);
    // the desktop counts on a first list: it is empty; later ones would only take its own clipboard away
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &list(&text));
    assert_eq!((sent.forwarded, sent.answers), (vec![list(&[])], vec![]));
    assert_eq!(sent.events, std::slice::from_ref(&told));
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &list(&text));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![OK_LIST.to_vec()]));
    assert_eq!(sent.events, [told]);
    // a desktop that asks all the same is not left waiting, and the client hears nothing of it
    let sent = send(&mut phases, ToClient, CLIPRDR, &clip(4, 0, &13_u32.to_le_bytes()));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
    assert_eq!(sent.events, [blocked(ToDesktop, &[(13, "")])]);
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &clip(5, 1, b"what nobody asked for"));
    assert_eq!(sent, Sent::default());
    let sent = send(&mut phases, ToClient, CLIPRDR, &clip(8, 0, &[9; 28]));
    assert_eq!(sent.answers, [clip(9, 2, &[9; 4])], "a part of a file, its stream id");

    // the other direction works
    for (direction, message) in [
        (ToClient, list(&text)),
        (ToDesktop, clip(3, 1, &[])),
        (ToDesktop, clip(4, 0, &13_u32.to_le_bytes())),
        (ToClient, clip(5, 1, b"t\0e\0x\0t\0\0\0")),
        (ToDesktop, clip(8, 0, &[9; 28])),
        (ToClient, clip(9, 1, &[9; 28])),
    ] {
        assert_eq!(send(&mut phases, direction, CLIPRDR, &message), forwarded(&message));
    }
    // and after the desktop's clipboard started anew, so does the rule
    send(&mut phases, ToClient, CLIPRDR, &clip(1, 0, &[]));
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &list(&text));
    assert_eq!(sent.forwarded, [list(&[])]);
}

#[test]
fn a_clipboard_that_only_gives_to_the_desktop() {
    let mut phases = greeted(ChannelRights {
        clipboard_to_client: false,
        ..ChannelRights::default()
    });
    let html = [(0xC001, "HTML Format")];
    let sent = send(&mut phases, ToClient, CLIPRDR, &list(&html));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![OK_LIST.to_vec()]));
    assert_eq!(sent.events, [blocked(ToClient, &html)]);
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &clip(4, 0, &1_u32.to_le_bytes()));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
    for (direction, message) in [
        (ToDesktop, list(&html)),
        (ToClient, clip(3, 1, &[])),
        (ToClient, clip(4, 0, &0xC001_u32.to_le_bytes())),
        (ToDesktop, clip(5, 1, b"<b>")),
    ] {
        assert_eq!(send(&mut phases, direction, CLIPRDR, &message), forwarded(&message));
    }
}

#[test]
fn a_clipboard_without_files() {
    let rights = ChannelRights {
        clipboard_files: false,
        ..ChannelRights::default()
    };
    let mut phases = session(rights);
    let sent = send(&mut phases, ToClient, CLIPRDR, &caps(0x3E));
    assert_eq!(sent.forwarded, [caps(0x02)], "no streams, paths, locks, huge files");
    let mut phases = greeted(rights);
    for direction in [ToDesktop, ToClient] {
        let files = [(0xC0DE, "FileGroupDescriptorW"), (15, ""), (0xC0DF, "FileContents")];
        let all = [&files[..], &[(13, "")]].concat();
        let sent = send(&mut phases, direction, CLIPRDR, &list(&all));
        assert_eq!((sent.forwarded, sent.answers), (vec![list(&[(13, "")])], vec![]));
        assert_eq!(sent.events, [blocked(direction, &files)]);
        let back = direction.opposite();
        for id in [0xC0DE_u32, 15, 0xC0DF] {
            let sent = send(&mut phases, back, CLIPRDR, &clip(4, 0, &id.to_le_bytes()));
            assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
        }
        let text = clip(4, 0, &13_u32.to_le_bytes());
        assert_eq!(send(&mut phases, back, CLIPRDR, &text), forwarded(&text));
        let sent = send(&mut phases, back, CLIPRDR, &clip(8, 0, &[7; 28]));
        assert_eq!((sent.forwarded, sent.answers), (vec![], vec![clip(9, 2, &[7; 4])]));
        assert_eq!(send(&mut phases, back, CLIPRDR, &clip(10, 0, &[0; 4])), Sent::default());
        // another list makes the old one's numbers free again
        let words = list(&[(0xC0DE, "Words")]);
        assert_eq!(send(&mut phases, direction, CLIPRDR, &words), forwarded(&words));
        let sent = send(&mut phases, back, CLIPRDR, &clip(4, 0, &0xC0DE_u32.to_le_bytes()));
        assert_eq!(sent.answers, [[0; 0]; 0]);
    }
    // short names are cut to 15 letters
    let mut phases = session(rights);
    let mut entry = 0xC0DE_u32.to_le_bytes().to_vec();
    entry.extend("FileGroupDescri\0".encode_utf16().flat_map(u16::to_le_bytes));
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &clip(2, 0, &entry));
    assert_eq!(sent.forwarded, [list(&[])]);
}

#[test]
fn a_clipboard_that_is_off() {
    let rights = ChannelRights {
        clipboard_to_client: false,
        clipboard_to_desktop: false,
        ..ChannelRights::default()
    };
    let mut phases = greeted(rights);
    for direction in [ToDesktop, ToClient] {
        let sent = send(&mut phases, direction, CLIPRDR, &list(&[(13, "")]));
        assert_eq!((sent.forwarded, sent.answers), (vec![], vec![OK_LIST.to_vec()]));
        let sent = send(&mut phases, direction, CLIPRDR, &clip(4, 0, &[13, 0, 0, 0]));
        assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
        for kind in [1, 3, 5, 6, 7, 9, 10, 11, 77] {
            let sent = send(&mut phases, direction, CLIPRDR, &clip(kind, 0, &[1; 16]));
            assert_eq!((sent.forwarded.len(), sent.answers.len()), (0, 0), "{kind}");
        }
    }
}

/// The clipboard of real sessions in one direction only: no error, and every list of the client is empty or answered.
#[test]
fn real_sessions_with_half_a_clipboard() {
    for (name, _) in CAPTURES {
        let options = FilterOptions {
            rights: Some(ChannelRights {
                clipboard_to_desktop: false,
                ..ChannelRights::default()
            }),
            ..options()
        };
        let mut phases = Phases::new(options);
        for step in play(&mut phases, &records(name)) {
            let Some((CLIPRDR, bytes)) = payload(&step.before) else {
                continue;
            };
            let kind = bytes.get(8).copied().unwrap_or_default();
            if step.direction == ToDesktop && kind == 2 {
                assert_eq!(step.verdict.forward, step.verdict.reply.is_none());
                if step.verdict.forward {
                    assert_eq!(messages(&step.after, CLIPRDR), [list(&[])]);
                }
            } else if step.verdict.forward {
                assert_eq!(step.before, step.after);
            }
        }
    }
}

//! Drives as their desktops use them, and bytes of strangers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod hostile;

use sha2::{Digest, Sha256};

use super::*;
use Direction::{ToClient, ToDesktop};

const DRIVE: u32 = 3;
const FIRST: u32 = 1;
const LAST: u32 = 2;
const OPEN: u32 = 1;
const CREATE: u32 = 2;
const OVERWRITE_IF: u32 = 5;

type Message = (Direction, Vec<u8>);

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn core(packet: u16, rest: &[u8]) -> Vec<u8> {
    [&[0x72, 0x44], &packet.to_le_bytes()[..], rest].concat()
}

fn announce(kind: u32, id: u32, name: &[u8; 8], data: &[u8]) -> Message {
    let rest = [&words(&[1, kind, id])[..], name, &words(&[data.len() as u32]), data].concat();
    (ToDesktop, core(packet::DEVICE_LIST_ANNOUNCE, &rest))
}

fn reply(id: u32, status: u32) -> Message {
    (ToClient, core(packet::DEVICE_REPLY, &words(&[id, status])))
}

fn ask(file: u32, completion: u32, major: u32, minor: u32, rest: &[u8]) -> Message {
    let head = words(&[DRIVE, file, completion, major, minor]);
    (ToClient, core(packet::IO_REQUEST, &[&head[..], rest].concat()))
}

fn answer(completion: u32, status: u32, rest: &[u8]) -> Message {
    let head = words(&[DRIVE, completion, status]);
    (ToDesktop, core(packet::IO_COMPLETION, &[&head[..], rest].concat()))
}

fn open(completion: u32, path: &str, access: u32, disposition: u32, options: u32) -> Message {
    let path = wide(path);
    let mut rest = words(&[access, 0, 0, 0, 7, disposition, options, path.len() as u32]);
    rest.extend(path);
    ask(0, completion, rdpdr::major::CREATE, 0, &rest)
}

fn opened(completion: u32, file: u32) -> Message {
    answer(completion, 0, &[&words(&[file])[..], &[1]].concat())
}

fn read(file: u32, completion: u32, offset: u32, length: u32) -> Message {
    let rest = [words(&[length, offset, 0]), vec![0; 20]].concat();
    ask(file, completion, rdpdr::major::READ, 0, &rest)
}

fn bytes(completion: u32, data: &[u8]) -> Message {
    answer(completion, 0, &[&words(&[data.len() as u32])[..], data].concat())
}

fn write(file: u32, completion: u32, offset: u32, data: &[u8]) -> Message {
    let rest = [words(&[data.len() as u32, offset, 0]), vec![0; 20], data.to_vec()].concat();
    ask(file, completion, rdpdr::major::WRITE, 0, &rest)
}

fn wrote(completion: u32, length: u32) -> Message {
    answer(completion, 0, &[&words(&[length])[..], &[0]].concat())
}

fn close(file: u32, completion: u32) -> [Message; 2] {
    [
        ask(file, completion, rdpdr::major::CLOSE, 0, &[0; 32]),
        answer(completion, 0, &[0; 5]),
    ]
}

fn set(file: u32, completion: u32, class: u32, data: &[u8]) -> [Message; 2] {
    let rest = [&words(&[class, data.len() as u32])[..], &[0; 24], data].concat();
    [
        ask(file, completion, rdpdr::major::SET_INFORMATION, 0, &rest),
        answer(completion, 0, &words(&[data.len() as u32])),
    ]
}

fn list(completion: u32, first: bool, pattern: &str) -> Message {
    let pattern = wide(pattern);
    let mut rest = words(&[3]);
    rest.push(first.into());
    rest.extend(words(&[pattern.len() as u32]));
    rest.extend([0; 23]);
    rest.extend(pattern);
    ask(9, completion, rdpdr::major::DIRECTORY_CONTROL, 1, &rest)
}

fn entry(completion: u32, name: &str, size: u32) -> Message {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut entry = words(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, size, 0, 0, 0, 0x80, name.len() as u32, 0]);
    entry.extend([0; 25]);
    entry.extend(name);
    answer(completion, 0, &[words(&[entry.len() as u32]), entry].concat())
}

/// A drive that the desktop has taken.
fn shared() -> Drives {
    let mut drives = Drives::new(true);
    let events = feed(
        &mut drives,
        &[announce(8, DRIVE, b"home\0\0\0\0", b"home\0"), reply(DRIVE, 0)],
    );
    let name = "home".to_owned();
    assert_eq!(events, [DriveAction::Shared { name, status: 0 }]);
    drives
}

fn chunks(drives: &mut Drives, direction: Direction, message: &[u8], size: usize, out: &mut Vec<TapEvent>) {
    let mut sink = Sink::new(out, 1000, false);
    let count = message.chunks(size).count();
    for (index, chunk) in message.chunks(size).enumerate() {
        let mut flags = 0x10;
        if index == 0 {
            flags |= FIRST;
        }
        if index + 1 == count {
            flags |= LAST;
        }
        drives.chunk(direction, flags, chunk, &mut sink);
    }
}

fn feed_cut(drives: &mut Drives, messages: &[Message], size: usize) -> Vec<DriveAction> {
    let mut out = Vec::new();
    for (direction, message) in messages {
        chunks(drives, *direction, message, size, &mut out);
    }
    out.into_iter()
        .map(|event| match event {
            TapEvent::Drive(DriveEvent { drive: DRIVE, action }) => action,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn feed(drives: &mut Drives, messages: &[Message]) -> Vec<DriveAction> {
    feed_cut(drives, messages, 1600)
}

fn was_opened(path: &str, made: bool) -> DriveAction {
    DriveAction::Opened {
        path: path.to_owned(),
        made,
        folder: false,
        status: 0,
    }
}

fn was_read(path: &str, offset: u64, length: u64) -> DriveAction {
    DriveAction::Read {
        file: 9,
        path: path.to_owned(),
        offset,
        length,
        status: 0,
    }
}

fn was_written(path: &str, offset: u64, length: u64) -> DriveAction {
    DriveAction::Written {
        file: 9,
        path: path.to_owned(),
        offset,
        length,
        status: 0,
    }
}

fn was_closed(path: &str, read: u64, written: u64, read_all: Option<&[u8]>, written_all: Option<&[u8]>) -> DriveAction {
    DriveAction::Closed {
        file: 9,
        path: path.to_owned(),
        read,
        written,
        read_sha256: read_all.map(|data| Sha256::digest(data).into()),
        written_sha256: written_all.map(|data| Sha256::digest(data).into()),
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// A file that is read in two pieces and closed, as the desktop sees its length in a listing.
fn a_read(data: &[u8]) -> Vec<Message> {
    let half = data.len() / 2;
    let mut messages = vec![
        list(1, true, "\\docs\\a.txt"),
        entry(1, "a.txt", data.len() as u32),
        open(2, "\\docs\\a.txt", 0x8000_0000, OPEN, 0x40),
        opened(2, 9),
        read(9, 3, 0, half as u32),
        // the next question comes before the answer to the first
        read(9, 4, half as u32, (data.len() - half) as u32),
        bytes(3, &data[..half]),
        bytes(4, &data[half..]),
    ];
    messages.extend(close(9, 5));
    messages
}

#[test]
fn a_file_is_read() {
    let data = content(10_000);
    let told = [
        was_opened("home/docs/a.txt", false),
        was_read("home/docs/a.txt", 0, 5000),
        was_read("home/docs/a.txt", 5000, 5000),
        was_closed("home/docs/a.txt", 10_000, 0, Some(&data), None),
    ];
    for size in [1, 7, 20, 56, 57, 1600, 1 << 20] {
        assert_eq!(feed_cut(&mut shared(), &a_read(&data), size), told, "{size}");
    }
}

/// Wherever two chunks meet, what is told is the same.
#[test]
fn chunks_may_meet_anywhere() {
    let data = content(70);
    let mut messages = a_read(&data);
    messages.extend(a_write(&data));
    let whole = feed(&mut shared(), &messages);
    assert_eq!(whole.len(), 8);
    for (number, (direction, message)) in messages.iter().enumerate() {
        for cut in 0..message.len() {
            let mut drives = shared();
            let mut events = feed(&mut drives, &messages[..number]);
            let mut out = Vec::new();
            let mut sink = Sink::new(&mut out, 1000, false);
            drives.chunk(*direction, FIRST, &message[..cut], &mut sink);
            drives.chunk(*direction, LAST, &message[cut..], &mut sink);
            events.extend(out.into_iter().map(|event| match event {
                TapEvent::Drive(event) => event.action,
                other => panic!("message {number} cut at {cut}: {other:?}"),
            }));
            events.extend(feed(&mut drives, &messages[number + 1..]));
            assert_eq!(events, whole, "message {number} cut at {cut}");
        }
    }
}

fn a_write(data: &[u8]) -> Vec<Message> {
    let half = data.len() / 2;
    let mut messages = vec![
        open(2, "\\out.txt", 0x4000_0000, OVERWRITE_IF, 0x40),
        opened(2, 9),
        write(9, 3, 0, &data[..half]),
        write(9, 4, half as u32, &data[half..]),
        wrote(3, half as u32),
        wrote(4, (data.len() - half) as u32),
    ];
    messages.extend(close(9, 5));
    messages
}

#[test]
fn a_file_is_written() {
    let data = content(100_000);
    let told = [
        was_opened("home/out.txt", true),
        was_written("home/out.txt", 0, 50_000),
        was_written("home/out.txt", 50_000, 50_000),
        was_closed("home/out.txt", 0, 100_000, None, Some(&data)),
    ];
    for size in [63, 1600, 1 << 20] {
        assert_eq!(feed_cut(&mut shared(), &a_write(&data), size), told, "{size}");
    }
}

/// A digest is stated only of what was seen from start to end.
#[test]
fn no_digest_of_a_part() {
    let data = content(100);
    let reading = |size: Option<u32>, pieces: &[(u32, u32, &[u8])]| {
        let mut messages = Vec::new();
        if let Some(size) = size {
            messages.extend([list(1, true, "\\a"), entry(1, "a", size)]);
        }
        messages.extend([open(2, "\\a", 1, OPEN, 0), opened(2, 9)]);
        for (offset, length, data) in pieces {
            messages.extend([read(9, 3, *offset, *length), bytes(3, data)]);
        }
        messages.extend(close(9, 5));
        match feed(&mut shared(), &messages).pop() {
            Some(DriveAction::Closed { read_sha256, .. }) => read_sha256 == Some(Sha256::digest(&data).into()),
            other => panic!("{other:?}"),
        }
    };
    assert!(!reading(None, &[(0, 100, &data)]), "there may be more");
    assert!(reading(None, &[(0, 100, &data), (100, 100, &[])]), "the end was met");
    assert!(reading(None, &[(0, 4096, &data)]), "a short read meets the end");
    assert!(reading(Some(100), &[(0, 100, &data)]));
    assert!(!reading(Some(101), &[(0, 100, &data)]));
    assert!(!reading(Some(100), &[(1, 99, &data[1..])]), "the first byte is missing");
    assert!(
        !reading(Some(100), &[(0, 40, &data[..40]), (50, 50, &data[50..])]),
        "a hole"
    );
    let early: &[(u32, u32, &[u8])] = &[(60, 40, &data[60..]), (40, 20, &data[40..60]), (0, 40, &data[..40])];
    assert!(reading(Some(100), early), "requests overtake each other");
    assert!(!reading(Some(100), &early[..2]), "its begin never came");
    let again: &[(u32, u32, &[u8])] = &[(0, 60, &data[..60]), (0, 30, &data[..30]), (50, 50, &data[50..])];
    assert!(reading(Some(100), again), "what is read again counts once");

    let writing = |messages: &[Message]| {
        let mut all = vec![open(2, "\\a", 2, CREATE, 0), opened(2, 9)];
        all.extend_from_slice(messages);
        all.extend(close(9, 5));
        match feed(&mut shared(), &all).pop() {
            Some(DriveAction::Closed { written_sha256, .. }) => written_sha256.is_some(),
            other => panic!("{other:?}"),
        }
    };
    let all = [write(9, 3, 0, &data), wrote(3, 100)];
    assert!(writing(&all));
    assert!(!writing(&[write(9, 3, 0, &data), wrote(3, 99)]), "the client took less");
    assert!(
        !writing(&[write(9, 3, 0, &data), answer(3, 0xC000_007F, &[0; 5])]),
        "or nothing"
    );
    assert!(
        !writing(&[&all[..], &[write(9, 3, 0, &data), wrote(3, 100)]].concat()),
        "written twice"
    );
    assert!(!writing(&[write(9, 3, 1, &data), wrote(3, 100)]), "a hole");
    let early = [
        write(9, 3, 50, &data[50..]),
        wrote(3, 50),
        write(9, 3, 0, &data[..50]),
        wrote(3, 50),
    ];
    assert!(writing(&early), "requests overtake each other");
    assert!(!writing(&early[..2]), "its begin never came");
    let over = [
        write(9, 3, 50, &data[..50]),
        wrote(3, 50),
        write(9, 3, 0, &data[..60]),
        wrote(3, 60),
    ];
    assert!(!writing(&over), "written over");
    let resize = |length: u32| set(9, 4, 20, &words(&[length, 0]));
    assert!(
        writing(&[&resize(100)[..], &all].concat()),
        "as Windows copies: length first"
    );
    assert!(
        !writing(&[&resize(200)[..], &all].concat()),
        "longer than what was written"
    );
    assert!(!writing(&[&all[..], &resize(50)].concat()), "cut afterwards");
    let begun_anew = [&all[..], &resize(0), &all].concat();
    assert!(writing(&begun_anew), "emptied and written anew");

    let mut opened_only = vec![open(2, "\\a", 2, OPEN, 0), opened(2, 9)];
    opened_only.extend(all);
    opened_only.extend(close(9, 5));
    let told = feed(&mut shared(), &opened_only).pop().unwrap();
    assert_eq!(
        told,
        was_closed("home/a", 0, 100, None, None),
        "there was a file before"
    );
}

#[test]
fn names_lists_and_refusals() {
    let mut drives = shared();
    let mut messages = vec![
        // a look at attributes, and at what isn't there, says nothing
        open(1, "\\x", 0x80, OPEN, 0),
        opened(1, 8),
        open(1, "\\nothing", 1, OPEN, 0),
        answer(1, 0xC000_0034, &[0; 5]),
        // a folder is listed, asked for in two steps
        open(1, "\\docs", 1, OPEN, 1),
        opened(1, 9),
        list(2, true, "\\docs\\*"),
        entry(2, "a", 1),
        list(2, false, ""),
        answer(2, 0x8000_0006, &[0; 5]),
    ];
    messages.extend(close(9, 3));
    messages.extend([
        open(1, "\\new", 1, CREATE, 1),
        opened(1, 9),
        open(1, "\\locked", 0x4000_0000, OVERWRITE_IF, 0),
        answer(1, 0xC000_0022, &[0; 5]),
        open(1, "\\gone", 0x1_0000, OPEN, 0x1000),
        opened(1, 7),
    ]);
    messages.extend(set(8, 4, 10, &[&[0, 0][..], &words(&[10]), &wide("\\yyy")].concat()));
    messages.extend(set(8, 4, 13, &[]));
    messages.extend(set(8, 4, 13, &[0]));
    messages.extend(set(8, 4, 13, &[1]));
    messages.push(read(8, 6, 0, 10));
    messages.push(answer(6, 0xC000_0022, &[0; 5]));
    let status = 0;
    assert_eq!(
        feed(&mut drives, &messages),
        [
            DriveAction::Listed {
                path: "home/docs".into(),
                status
            },
            DriveAction::Opened {
                path: "home/new".into(),
                made: true,
                folder: true,
                status
            },
            DriveAction::Opened {
                path: "home/locked".into(),
                made: true,
                folder: false,
                status: 0xC000_0022
            },
            DriveAction::Deleted {
                path: "home/gone".into(),
                status
            },
            DriveAction::Renamed {
                path: "home/x".into(),
                new_path: "home/yyy".into(),
                status
            },
            DriveAction::Deleted {
                path: "home/yyy".into(),
                status
            },
            DriveAction::Deleted {
                path: "home/yyy".into(),
                status
            },
            DriveAction::Read {
                file: 8,
                path: "home/yyy".into(),
                offset: 0,
                length: 0,
                status: 0xC000_0022
            },
        ]
    );
}

#[test]
fn other_devices_and_gone_drives() {
    let mut drives = Drives::new(true);
    let printer = [
        announce(4, DRIVE, b"PRN1\0\0\0\0", &[]),
        reply(DRIVE, 0),
        write(1, 2, 0, &[1; 100]),
        wrote(2, 100),
    ];
    assert_eq!(feed(&mut drives, &printer), []);

    let mut drives = shared();
    let data = content(10);
    let mut messages = vec![
        open(2, "\\a", 1, OPEN, 0),
        opened(2, 9),
        read(9, 3, 0, 20),
        bytes(3, &data),
    ];
    messages.push((ToDesktop, core(packet::DEVICE_LIST_REMOVE, &words(&[1, DRIVE]))));
    // nobody is there any more
    messages.extend([read(9, 3, 0, 20), bytes(3, &data)]);
    assert_eq!(
        feed(&mut drives, &messages),
        [
            was_opened("home/a", false),
            was_read("home/a", 0, 10),
            was_closed("home/a", 10, 0, Some(&data), None),
            DriveAction::Removed { name: "home".into() },
        ]
    );

    let mut drives = Drives::new(true);
    let refused = [announce(8, DRIVE, b"a/b\\c\0\0\0", &[]), reply(DRIVE, 0xC000_0001)];
    let name = "a_b_c".to_owned();
    let status = 0xC000_0001;
    assert_eq!(feed(&mut drives, &refused), [DriveAction::Shared { name, status }]);
}

/// What a gap hides is not guessed.
#[test]
fn after_a_gap() {
    let data = content(100);
    let mut drives = shared();
    let messages = a_read(&data);
    feed(&mut drives, &messages[..7]);
    let mut out = Vec::new();
    let mut sink = Sink::new(&mut out, 1000, false);
    drives.chunk(ToDesktop, FIRST, &messages[7].1[..10], &mut sink);
    drives.lose();
    drives.chunk(ToDesktop, LAST, &messages[7].1[10..], &mut sink);
    assert_eq!(out, [], "the rest of a message whose begin was lost");
    assert_eq!(
        feed(&mut drives, &messages[7..8]),
        [],
        "nor is it known what is answered here"
    );
    let mut more = vec![read(9, 1, 50, 50), bytes(1, &data[50..])];
    more.extend(close(9, 2));
    assert_eq!(
        feed(&mut drives, &more),
        [
            was_read("home/docs/a.txt", 50, 50),
            was_closed("home/docs/a.txt", 100, 0, None, None),
        ]
    );
    let unseen = [read(77, 1, 0, 4), bytes(1, b"abcd")];
    let DriveAction::Read { path, .. } = feed(&mut drives, &unseen).remove(0) else {
        panic!()
    };
    assert_eq!(path, "home/?");
}

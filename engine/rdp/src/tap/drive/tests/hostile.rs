//! Bytes of strangers, and more of them than there should be.

use proptest::prelude::*;

use super::*;

/// What waits for bytes before it is bounded, in a file and in all of them, and what is given up is free again.
#[test]
fn early_bytes_are_bounded() {
    let mut drives = shared();
    let piece = content(700_000);
    for number in 0..40 {
        let path = format!("\\{number}");
        let ahead = [
            open(1, &path, 1, OPEN, 0),
            opened(1, number),
            read(number, 2, 10, 700_000),
            bytes(2, &piece),
        ];
        feed_cut(&mut drives, &ahead, 1 << 20);
    }
    assert!(
        drives.room < piece.len(),
        "eight megabytes wait: {} are left",
        drives.room
    );
    feed_cut(&mut drives, &[read(0, 2, 1 << 20, 700_000), bytes(2, &piece)], 1600);
    assert!(
        drives.room >= piece.len(),
        "too much for one file: all of it is given up"
    );
    for number in 0..40 {
        feed(&mut drives, &close(number, 2));
    }
    assert_eq!(drives.room, 8 << 20);
    let mut one = vec![open(1, "\\a", 1, OPEN, 0), opened(1, 9)];
    one.extend([read(9, 2, 10, 700_000), bytes(2, &piece)]);
    feed(&mut drives, &one);
    assert_eq!(drives.room, (8 << 20) - piece.len());
    feed(&mut drives, &[read(9, 2, 1 << 20, 700_000), bytes(2, &piece)]);
    assert_eq!(drives.room, 8 << 20, "a megabyte a file");
}

#[test]
fn memory_is_bounded() {
    let mut drives = shared();
    for number in 0..1100_u32 {
        let path = format!("\\{number}{}", "x".repeat(30_000));
        feed(&mut drives, &[open(1, &path, 1, OPEN, 0), opened(1, number)]);
    }
    let mut out = Vec::new();
    for number in 0..3000 {
        let (direction, message) = read(1, number, 0, 10);
        chunks(&mut drives, direction, &message, 1600, &mut out);
    }
    for id in 0..1000 {
        let (direction, message) = announce(8, 100 + id, b"X\0\0\0\0\0\0\0", &[]);
        chunks(&mut drives, direction, &message, 1600, &mut out);
    }
    assert_eq!(drives.requests.len(), PENDING_REQUESTS_MAX);
    assert_eq!(drives.files.len(), FILES_MAX);
    assert_eq!(drives.drives.len(), DRIVES_MAX);
    assert!(drives.files.values().all(|file| file.path.len() < 2100));
    assert_eq!(out.len(), 1000, "each request too many is told");
    // a message without an end
    let mut sink = Sink::new(&mut out, 1000, false);
    drives.chunk(
        ToDesktop,
        FIRST,
        &core(packet::DEVICE_LIST_ANNOUNCE, &[0xFF; 100]),
        &mut sink,
    );
    for _ in 0..1000 {
        drives.chunk(ToDesktop, 0, &[0xFF; 1600], &mut sink);
    }
    assert!(matches!(drives.side(ToDesktop), Assembly::Kept(kept, _) if kept.len() <= 80 << 10));
}

fn samples() -> Vec<Message> {
    let data = content(300);
    let mut messages = vec![announce(8, DRIVE, b"home\0\0\0\0", b"home\0"), reply(DRIVE, 0)];
    messages.extend(a_read(&data));
    messages.extend(a_write(&data));
    messages.extend([list(1, true, "\\*"), entry(1, "a", 1)]);
    messages.extend([open(2, "\\x", 1, OPEN, 0), opened(2, 9)]);
    messages.extend(set(9, 4, 10, &[&[0, 0][..], &words(&[10]), &wide("\\yyy")].concat()));
    messages.extend(set(9, 4, 20, &words(&[5, 0])));
    messages.extend(set(9, 4, 13, &[1]));
    messages.push((ToDesktop, core(packet::DEVICE_LIST_REMOVE, &words(&[1, DRIVE]))));
    messages
}

proptest! {
    /// Whatever bytes are changed, added or cut, and wherever chunks meet: no panic, bounded, no bytes of a file told.
    #[test]
    fn strangers(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
        size in 1_usize..400,
        flags in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..4), 0..4),
        lost in any::<prop::sample::Index>(),
    ) {
        let mut messages = samples();
        for (message, at, value) in &changes {
            let (_, bytes) = message.get(&messages).clone();
            let index = message.index(messages.len());
            let at = at.index(bytes.len());
            messages[index].1[at] = *value;
        }
        for (message, at) in &cuts {
            let index = message.index(messages.len());
            let at = at.index(messages[index].1.len());
            messages[index].1.truncate(at.max(1));
        }
        let mut pieces: Vec<(Direction, u32, Vec<u8>)> = Vec::new();
        for (direction, message) in &messages {
            let count = message.chunks(size).count();
            for (index, chunk) in message.chunks(size).enumerate() {
                let place = u32::from(index == 0) | u32::from(index + 1 == count) << 1;
                pieces.push((*direction, place, chunk.to_vec()));
            }
        }
        for (piece, place) in &flags {
            let index = piece.index(pieces.len());
            pieces[index].1 = *place;
        }
        let mut drives = Drives::new(true);
        let mut out = Vec::new();
        for (index, (direction, place, chunk)) in pieces.iter().enumerate() {
            if index == lost.index(pieces.len() * 4) {
                drives.lose();
            }
            drives.chunk(*direction, *place, chunk, &mut Sink::new(&mut out, 1000, false));
        }
        prop_assert!(drives.files.len() <= FILES_MAX && drives.requests.len() <= PENDING_REQUESTS_MAX);
        prop_assert!(drives.drives.len() <= DRIVES_MAX);
        drives.lose();
        prop_assert_eq!(drives.room, file::EARLY_MAX_BYTES_OF_ALL);
        for event in &out {
            if let TapEvent::Undecoded(undecoded) = event {
                prop_assert!(undecoded.data.is_empty());
            }
        }
    }

    /// However a session is cut into chunks, it tells the same.
    #[test]
    fn cuts_make_no_difference(size in 1_usize..500) {
        let all = |size| feed_cut(&mut Drives::new(true), &samples(), size);
        prop_assert_eq!(all(size), all(1600));
    }
}

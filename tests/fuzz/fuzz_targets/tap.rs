//! The tap without the graphics pipeline: fast-path and slow-path updates, bitmaps, surface bits, pointers, bulk compression and
//! input. Records: a byte, length (u16, little endian), bytes. The byte's low three bits: 0 a PDU of the desktop as it is, 1 one
//! of the client; 2 fast-path updates, 3 fast-path input; 4 a share data PDU of the desktop (its type, its compression, its
//! body), 5 one of the client; 6 the bits of a bitmap, after a byte with its depth; 7 the bits of a surface command, after a byte
//! with the codec's number. A record with bit 7 comes in a gap, which ends with the next one that doesn't. A second tap
//! decodes later, at the records with bit 6: then both must show the same. Damage must lie inside the picture, and no decoder of
//! ours may panic.
#![no_main]

use deskreel_rdp::Direction::{self, ToClient, ToDesktop};
use deskreel_rdp::tap::{InputLevel, Tap, TapConfig, TapEvent};
use deskreel_rdp::wire::mcs;

const IO_CHANNEL: u16 = 1003;
const SHARE_ID: u32 = 0x0001_03EA;
/// Edge of the desktop, and of what the made-up bitmaps paint.
const EDGE: u16 = 256;
const TILE: u16 = 64;

fn fields(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn share_control(direction: Direction, kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 6).unwrap_or(u16::MAX);
    let head = fields(&[length, kind | 0x10, 1002]);
    mcs::send_data(direction, 1002, IO_CHANNEL, &[&head, body].concat())
}

/// Demand Active ([MS-RDPBCGR] 2.2.1.13.1) and Confirm Active (2.2.1.13.2) alike: `head`, then sets.
fn activation(direction: Direction, kind: u16, head: &[u8], sets: &[Vec<u8>]) -> Vec<u8> {
    let all = sets.concat();
    let lengths = fields(&[4, u16::try_from(all.len() + 4).unwrap_or(u16::MAX)]);
    let count = fields(&[u16::try_from(sets.len()).unwrap_or(u16::MAX), 0]);
    let body = [&SHARE_ID.to_le_bytes(), head, &lengths, b"RDP\0", &count, &all, &[0; 4]].concat();
    share_control(direction, kind, &body)
}

fn set(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    [&fields(&[kind, length]), body].concat()
}

fn share_data(direction: Direction, data: &[u8]) -> Vec<u8> {
    let [kind, compression, body @ ..] = data else {
        return Vec::new();
    };
    let length = fields(&[u16::try_from(body.len()).unwrap_or(u16::MAX)]);
    let head = [&SHARE_ID.to_le_bytes()[..], &[0, 1], &length, &[*kind, *compression, 0, 0]].concat();
    share_control(direction, 7, &[&head, body].concat())
}

fn fast_path(action: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 3).unwrap_or(0x7FFF).min(0x7FFF) | 0x8000;
    [&[action][..], &length.to_be_bytes(), data].concat()
}

fn update(code: u8, data: &[u8]) -> Vec<u8> {
    let length = fields(&[u16::try_from(data.len()).unwrap_or(u16::MAX)]);
    fast_path(0, &[&[code][..], &length, data].concat())
}

/// One rectangle ([MS-RDPBCGR] 2.2.9.1.1.3.1.2.2); the depth's highest bit: not compressed.
fn bitmap(data: &[u8]) -> Vec<u8> {
    let [depth, bits @ ..] = data else { return Vec::new() };
    let flags = if depth & 0x80 == 0 { 0x0401 } else { 0 };
    let length = u16::try_from(bits.len()).unwrap_or(u16::MAX);
    let edge = TILE - 1;
    let head = [1, 1, 0, 0, edge, edge, TILE, TILE, u16::from(depth & 0x3F), flags, length];
    update(1, &[&fields(&head), bits].concat())
}

/// Set Surface Bits ([MS-RDPBCGR] 2.2.9.2.1).
fn surface(data: &[u8]) -> Vec<u8> {
    let [codec, bits @ ..] = data else { return Vec::new() };
    let length = u32::try_from(bits.len()).unwrap_or_default().to_le_bytes();
    let head = [&fields(&[1, 0, 0, TILE, TILE])[..], &[32, 0, 0, *codec], &fields(&[TILE, TILE]), &length].concat();
    update(4, &[&head, bits].concat())
}

fn check(tap: &Tap, out: &mut Vec<TapEvent>) {
    let last = out.iter().rposition(|event| matches!(event, TapEvent::Resized { .. }));
    // what came before lies on another picture
    for event in out.drain(..).skip(last.unwrap_or(0)) {
        match event {
            TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) => {
                let (width, height) = tap.size().expect("painted on a picture");
                assert!(rect.width > 0 && rect.height > 0);
                assert!(u32::from(rect.x) + u32::from(rect.width) <= u32::from(width));
                assert!(u32::from(rect.y) + u32::from(rect.height) <= u32::from(height));
            }
            TapEvent::Undecoded(undecoded) => assert!(!undecoded.error.contains("tap panicked"), "{undecoded:?}"),
            _ => {}
        }
    }
}

fn settle(later: &mut Tap, now: &Tap, out: &mut Vec<TapEvent>) {
    later.settle(out);
    check(later, out);
    let (later, now) = (later.picture(), now.picture());
    assert!(later.map(|picture| picture.rgba) == now.map(|picture| picture.rgba));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let config = TapConfig {
        input: InputLevel::All,
        // a picture of any size that a peer may ask for would be filled again and again
        screen_max_pixels: 1 << 20,
        max_request_size: 1 << 20,
        ..TapConfig::default()
    };
    let (mut tap, mut later) = (Tap::new(config.clone()), Tap::new(config));
    let mut out = Vec::new();
    let screen = fields(&[32, 1, 1, 1, EDGE, EDGE, 0, 1, 1, 0, 1, 0]);
    // RemoteFX is 3, NSCodec 1
    let codec = |id: u8, guid: u32| [&guid.to_le_bytes()[..], &[0; 12], &[id, 0, 0]].concat();
    let codecs = [&[2][..], &codec(3, 0x7677_2F12), &codec(1, 0xCA8D_1BB9)].concat();
    let demand = activation(ToClient, 1, &[], &[set(2, &screen)]);
    let confirm = activation(ToDesktop, 3, &fields(&[1002]), &[set(2, &screen), set(0x1D, &codecs)]);
    for tap in [&mut tap, &mut later] {
        tap.pdu(ToClient, &demand, &mut out);
        tap.pdu(ToDesktop, &confirm, &mut out);
        assert!(tap.picture().is_some(), "{out:?}");
    }
    let mut bytes = bytes;
    let mut in_gap = false;
    while let [kind, a, b, rest @ ..] = bytes {
        let (data, rest) = rest.split_at(usize::from(u16::from_le_bytes([*a, *b])).min(rest.len()));
        bytes = rest;
        let (direction, pdu) = match kind & 7 {
            0 => (ToClient, data.to_vec()),
            1 => (ToDesktop, data.to_vec()),
            2 => (ToClient, fast_path(0, data)),
            3 => (ToDesktop, fast_path(kind >> 1 & 0x3C, data)),
            4 => (ToClient, share_data(ToClient, data)),
            5 => (ToDesktop, share_data(ToDesktop, data)),
            6 => (ToClient, bitmap(data)),
            _ => (ToClient, surface(data)),
        };
        if kind & 0x80 != 0 {
            in_gap = true;
            tap.skip(direction, &pdu);
            later.skip(direction, &pdu);
            continue;
        }
        if std::mem::take(&mut in_gap) {
            tap.restart(&mut out);
            check(&tap, &mut out);
            later.restart(&mut out);
            check(&later, &mut out);
        }
        tap.pdu(direction, &pdu, &mut out);
        check(&tap, &mut out);
        later.defer(direction, &pdu, &mut out);
        check(&later, &mut out);
        if kind & 0x40 != 0 {
            settle(&mut later, &tap, &mut out);
        }
    }
    settle(&mut later, &tap, &mut out);
});

//! The graphics pipeline in the tap. Records: a byte, length (u16, little endian), bytes. The byte's low bits: 0 a whole message
//! as it is, compressed or not; 1 commands, wrapped, or with the highest bit a message of the client; 2 bits of a codec for a
//! surface, the codec in the next four bits, with the highest bit after four edges; 3 a progressive stream. A record with bit 6
//! comes in a gap, which ends with the next one that doesn't. Damage must lie inside the picture, no decoder of ours may panic, and no message may make more than a
//! bounded number of events.
#![no_main]

use deskreel_rdp::Direction;
use deskreel_rdp::tap::{StaticChannel, Tap, TapConfig, TapEvent};
use deskreel_rdp::wire::channel::single_chunk;
use deskreel_rdp::wire::egfx::{self, command, encode};
use deskreel_rdp::wire::{dvc, mcs};

const CHANNEL: u16 = 1006;
const ID: u32 = 5;
/// Edge of the surface and of the picture.
const EDGE: u16 = 128;
/// Most rectangles and ends of frames of a PDU, and one more for each picture of a new size.
const PAINTED_MAX: usize = 4096;
/// Most undecoded commands of a message, and one for the rest of it.
const UNDECODED_MAX: usize = 257;

fn pdus(direction: Direction, message: &[u8]) -> Vec<Vec<u8>> {
    let parts = dvc::data(ID, message);
    let pdu = |part: &Vec<u8>| mcs::send_data(direction, 1002, CHANNEL, &single_chunk(part));
    parts.iter().map(pdu).collect()
}

fn send(tap: &mut Tap, direction: Direction, message: &[u8], out: &mut Vec<TapEvent>) {
    for pdu in pdus(direction, message) {
        tap.pdu(direction, &pdu, out);
    }
    check(tap, out);
}

fn check(tap: &Tap, out: &mut Vec<TapEvent>) {
    let resized = out
        .iter()
        .filter(|event| matches!(event, TapEvent::Resized { .. }))
        .count();
    let painted = out
        .iter()
        .filter(|event| matches!(event, TapEvent::Damage(_) | TapEvent::DamageWithin(_) | TapEvent::FrameEnd))
        .count();
    let undecoded = out
        .iter()
        .filter(|event| matches!(event, TapEvent::Undecoded(_)))
        .count();
    // a message is one PDU here, or the last of several
    assert!(painted <= PAINTED_MAX + 1 + resized, "{painted} painted");
    assert!(undecoded <= UNDECODED_MAX, "{undecoded} undecoded");
    let first = out.iter().rposition(|event| matches!(event, TapEvent::Resized { .. }));
    // what came before lies on another picture
    for event in out.drain(..).skip(first.unwrap_or(0)) {
        match event {
            TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) => {
                let picture = tap.picture().expect("painted on a picture");
                assert!(rect.width > 0 && rect.height > 0);
                assert!(u32::from(rect.x) + u32::from(rect.width) <= u32::from(picture.width));
                assert!(u32::from(rect.y) + u32::from(rect.height) <= u32::from(picture.height));
            }
            TapEvent::Undecoded(undecoded) => assert!(!undecoded.error.contains("tap panicked"), "{undecoded:?}"),
            _ => {}
        }
    }
}

/// A single segment without compression.
fn wrapped(commands: &[u8]) -> Vec<u8> {
    [&[0xE0, 0x04][..], commands].concat()
}

fn fields(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let config = TapConfig {
        graphics: true,
        channels: vec![StaticChannel {
            id: CHANNEL,
            name: "drdynvc".to_owned(),
        }],
        ..TapConfig::default()
    };
    let mut tap = Tap::new(config);
    let mut out = Vec::new();
    let create = [&[0x12][..], &ID.to_le_bytes(), egfx::CHANNEL.as_bytes(), &[0]].concat();
    let pdu = mcs::send_data(Direction::ToClient, 1002, CHANNEL, &single_chunk(&create));
    tap.pdu(Direction::ToClient, &pdu, &mut out);
    let mut reset = [u32::from(EDGE), u32::from(EDGE)].map(u32::to_le_bytes).concat();
    reset.resize(332, 0);
    let begin = [
        encode(command::RESET_GRAPHICS, &reset),
        encode(
            command::CREATE_SURFACE,
            &[fields(&[0, EDGE, EDGE]), vec![0x20]].concat(),
        ),
        encode(command::MAP_SURFACE_TO_OUTPUT, &[0; 12]),
    ];
    send(&mut tap, Direction::ToClient, &wrapped(&begin.concat()), &mut out);
    let mut bytes = bytes;
    let mut in_gap = false;
    while let [kind, a, b, rest @ ..] = bytes {
        let (data, rest) = rest.split_at(usize::from(u16::from_le_bytes([*a, *b])).min(rest.len()));
        bytes = rest;
        let (edges, data) = match data {
            [left, top, right, bottom, rest @ ..] if kind & 0x83 == 0x82 => ([*left, *top, *right, *bottom], rest),
            _ => ([0, 0, 64, 64], data),
        };
        let length = u32::try_from(data.len()).unwrap_or_default().to_le_bytes();
        let direction = match kind & 0x83 {
            0x81 => Direction::ToDesktop,
            _ => Direction::ToClient,
        };
        let message = match kind & 3 {
            0 => data.to_vec(),
            1 if direction == Direction::ToDesktop => data.to_vec(),
            1 => wrapped(data),
            2 => {
                let head = fields(&[0, u16::from(kind >> 2 & 0xF)]);
                let body = [&head[..], &[0x20], &fields(&edges.map(u16::from)), &length, data].concat();
                wrapped(&encode(command::WIRE_TO_SURFACE_1, &body))
            }
            _ => {
                let body = [&fields(&[0, 9, 0, 0])[..], &[0x20], &length, data].concat();
                wrapped(&encode(command::WIRE_TO_SURFACE_2, &body))
            }
        };
        if kind & 0x40 != 0 {
            in_gap = true;
            for pdu in pdus(direction, &message) {
                tap.skip(direction, &pdu);
            }
            continue;
        }
        if std::mem::take(&mut in_gap) {
            tap.restart(&mut out);
            check(&tap, &mut out);
        }
        send(&mut tap, direction, &message, &mut out);
    }
});

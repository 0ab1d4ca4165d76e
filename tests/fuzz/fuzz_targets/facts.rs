//! Devices and the clipboard. Each record: a byte, length (u16, little endian), the data of one channel chunk. Bits of the
//! byte: 0 from the desktop, 1 clipboard (else devices), 2 first chunk of a message, 3 last one. What the tap of a recorded
//! session and that of one that isn't tell must be the same, hashes and text aside.
#![no_main]

use deskreel_rdp::Direction;
use deskreel_rdp::tap::{ClipboardContent, DriveAction, FactsTap, StaticChannel, Tap, TapConfig, TapEvent};

const DEVICES: u16 = 1004;
const CLIPBOARD: u16 = 1005;

/// One chunk as it passes: TPKT, X.224, MCS, channel header.
fn pdu(direction: Direction, channel: u16, flags: u8, data: &[u8]) -> Vec<u8> {
    let kind = if direction == Direction::ToClient { 0x68 } else { 0x64 };
    let inner = u16::try_from(data.len() + 8).unwrap_or_default();
    let total = (inner + 15).to_be_bytes();
    let length = (inner | 0x8000).to_be_bytes();
    let mut pdu = vec![3, 0, total[0], total[1], 2, 0xF0, 0x80, kind, 0, 3];
    pdu.extend(channel.to_be_bytes());
    pdu.extend([0x70, length[0], length[1]]);
    pdu.extend(u32::from(inner).to_le_bytes());
    pdu.extend([flags, 0, 0, 0]);
    pdu.extend(data);
    pdu
}

/// Without what only a recorded session has.
fn bare(mut event: TapEvent) -> Option<TapEvent> {
    match &mut event {
        TapEvent::Drive(drive) => {
            if let DriveAction::Closed {
                read_sha256,
                written_sha256,
                ..
            } = &mut drive.action
            {
                (*read_sha256, *written_sha256) = (None, None);
            }
        }
        TapEvent::Clipboard(clipboard) => match &mut clipboard.content {
            ClipboardContent::Data { sha256, text, .. } => (*sha256, *text) = (None, None),
            ClipboardContent::FileData { sha256, .. } => *sha256 = None,
            _ => {}
        },
        _ => return None,
    }
    Some(event)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let channel = |id, name: &str| StaticChannel {
        id,
        name: name.to_owned(),
    };
    let config = TapConfig {
        channels: vec![channel(DEVICES, "rdpdr"), channel(CLIPBOARD, "cliprdr")],
        ..TapConfig::default()
    };
    let (mut facts, mut tap) = (FactsTap::new(&config), Tap::new(config));
    let mut out = Vec::new();
    let mut bytes = bytes;
    while let [way, a, b, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*a, *b]) & 0x1FFF).min(rest.len());
        let (data, rest) = rest.split_at(length);
        bytes = rest;
        let direction = if way & 1 == 0 {
            Direction::ToDesktop
        } else {
            Direction::ToClient
        };
        let channel = if way & 2 == 0 { DEVICES } else { CLIPBOARD };
        let pdu = pdu(direction, channel, way >> 2 & 3, data);
        let told: Vec<TapEvent> = facts.pdus(direction, &pdu).into_iter().filter_map(bare).collect();
        tap.pdu(direction, &pdu, &mut out);
        let recorded: Vec<TapEvent> = out.drain(..).filter_map(bare).collect();
        assert_eq!(told, recorded);
    }
});

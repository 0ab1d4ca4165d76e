//! Streams of real desktops, decoded and compared with what the real client showed at their end.
//!
//! `fixtures/README.md` says how they were made.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use deskreel_rdp::Direction;
use deskreel_rdp::tap::{InputEvent, PointerEvent, StaticChannel, Tap, TapConfig, TapEvent};

struct Fixture {
    config: TapConfig,
    pdus: Vec<(Direction, Vec<u8>)>,
    screenshot: Screenshot,
}

struct Screenshot {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

fn load(name: &str) -> Fixture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let bytes = zstd::decode_all(fs::File::open(folder.join(format!("{name}.pdus.zst"))).unwrap()).unwrap();
    let mut config = TapConfig::default();
    let mut pdus = Vec::new();
    let mut rest = &bytes[..];
    while let [direction, a, b, c, d, tail @ ..] = rest {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap();
        let (pdu, after) = tail.split_at(length);
        rest = after;
        match direction {
            0 => pdus.push((Direction::ToDesktop, pdu.to_vec())),
            1 => pdus.push((Direction::ToClient, pdu.to_vec())),
            _ => channels(&mut config, std::str::from_utf8(pdu).unwrap()),
        }
    }
    let png = fs::File::open(folder.join(format!("{name}.png"))).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(png)).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!(
        (info.color_type, info.bit_depth),
        (png::ColorType::Rgb, png::BitDepth::Eight)
    );
    Fixture {
        config,
        pdus,
        screenshot: Screenshot {
            width: usize::try_from(info.width).unwrap(),
            height: usize::try_from(info.height).unwrap(),
            rgb,
        },
    }
}

/// `io=1003,cliprdr=1006,...`
fn channels(config: &mut TapConfig, text: &str) {
    for (name, id) in text.split(',').map(|entry| entry.split_once('=').unwrap()) {
        match name {
            "io" => config.io_channel = id.parse().unwrap(),
            name => config.channels.push(StaticChannel {
                id: id.parse().unwrap(),
                name: name.to_owned(),
            }),
        }
    }
}

/// A second picture that takes only what the damage events cover.
fn copy_damage(tap: &Tap, events: &[TapEvent], copy: &mut Vec<u8>) {
    for event in events {
        let picture = tap.picture().unwrap();
        match event {
            TapEvent::Resized { .. } => *copy = [0, 0, 0, 255].repeat(picture.rgba.len() / 4),
            TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) => {
                for y in rect.y..rect.y + rect.height {
                    let start = usize::from(y) * picture.stride + usize::from(rect.x) * 4;
                    let span = start..start + usize::from(rect.width) * 4;
                    copy[span.clone()].copy_from_slice(&picture.rgba[span]);
                }
            }
            _ => {}
        }
    }
}

/// A second tap, which decodes only now and then.
struct Deferred {
    tap: Tap,
    /// Chooses the moments.
    state: u64,
}

impl Deferred {
    fn new(config: TapConfig) -> Self {
        Self {
            tap: Tap::new(config),
            state: 1,
        }
    }

    fn pdu(&mut self, direction: Direction, pdu: &[u8], expected: &[TapEvent], other: &Tap) {
        let mut events = Vec::new();
        self.tap.defer(direction, pdu, &mut events);
        assert_eq!(events, expected);
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if self.state >> 59 == 0 {
            self.compare(other);
        }
    }

    fn compare(&mut self, other: &Tap) {
        let mut events = Vec::new();
        self.tap.settle(&mut events);
        assert_eq!(events, []);
        let rgba = |tap: &Tap| tap.picture().map(|picture| picture.rgba.to_vec());
        assert!(rgba(&self.tap) == rgba(other), "decoded later it is another picture");
    }

    fn finish(mut self, other: &Tap) {
        self.compare(other);
        let count = |tap: &Tap| {
            let decoded = tap.decoded();
            decoded.raw + decoded.rle + decoded.planar + decoded.remote_fx
        };
        assert!(count(&self.tap) <= count(other));
    }
}

/// Decodes a fixture; no channel of any pixel may be off by more than `tolerance`.
#[track_caller]
fn check(name: &str, tolerance: u8) -> Vec<TapEvent> {
    let Fixture {
        config,
        pdus,
        screenshot,
    } = load(name);
    let config_again = config.clone();
    let mut tap = Tap::new(config);
    let mut events = Vec::new();
    let mut copy = Vec::new();
    let mut deferred = Deferred::new(config_again);
    for (direction, pdu) in &pdus {
        let mut new = Vec::new();
        tap.pdu(*direction, pdu, &mut new);
        copy_damage(&tap, &new, &mut copy);
        deferred.pdu(*direction, pdu, &new, &tap);
        events.append(&mut new);
    }
    let undecoded: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, TapEvent::Undecoded(_)))
        .collect();
    assert!(
        undecoded.is_empty(),
        "{} undecoded, first {:?}",
        undecoded.len(),
        undecoded[0]
    );
    let picture = tap.picture().unwrap();
    assert_eq!(
        (usize::from(picture.width), usize::from(picture.height)),
        (screenshot.width, screenshot.height)
    );
    let (mut worst, mut different) = (0, 0);
    for (ours, theirs) in picture.rgba.chunks(4).zip(screenshot.rgb.chunks(3)) {
        let off = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        worst = worst.max(off);
        different += usize::from(off > 0);
    }
    assert!(
        worst <= tolerance,
        "worst difference {worst}, {different} pixels differ"
    );
    assert!(copy == picture.rgba, "something was painted without a damage event");
    deferred.finish(&tap);
    events
}

fn count(events: &[TapEvent], what: impl Fn(&TapEvent) -> bool) -> usize {
    events.iter().filter(|event| what(event)).count()
}

#[track_caller]
fn assert_lively(events: &[TapEvent]) {
    assert_eq!(count(events, |event| matches!(event, TapEvent::Resized { .. })), 1);
    assert!(count(events, |event| matches!(event, TapEvent::Damage(_))) > 10);
    assert!(
        count(events, |event| matches!(
            event,
            TapEvent::Input(InputEvent::Move { .. })
        )) >= 3
    );
    assert!(
        count(events, |event| matches!(
            event,
            TapEvent::Pointer(PointerEvent::Shape(_))
        )) >= 1
    );
}

/// RemoteFX decoders may round differently: 2 % of 255.
const CLOSE: u8 = 5;

#[test]
fn xrdp_planar_with_bulk_compression() {
    assert_lively(&check("xrdp-planar", 0));
}

#[test]
fn xrdp_24_bpp() {
    assert_lively(&check("xrdp-24", 0));
}

#[test]
fn xrdp_16_bpp() {
    assert_lively(&check("xrdp-16", 0));
}

#[test]
fn xrdp_remote_fx() {
    let events = check("xrdp-rfx", CLOSE);
    assert_lively(&events);
    assert!(count(&events, |event| matches!(event, TapEvent::FrameEnd)) > 5);
}

#[test]
fn freerdp_shadow_remote_fx() {
    let events = check("shadow-rfx", CLOSE);
    assert_lively(&events);
    assert!(count(&events, |event| matches!(event, TapEvent::FrameEnd)) > 5);
}

#[test]
fn freerdp_shadow_planar() {
    assert_lively(&check("shadow-planar", 0));
}

#[test]
fn freerdp_shadow_16_bpp() {
    assert_lively(&check("shadow-16", 0));
}

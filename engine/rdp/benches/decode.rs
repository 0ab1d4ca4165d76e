//! CPU time of decoding: the streams of the bridge benchmark (tests/benches/bridge), a screen of 1024x768 that changes everywhere,
//! through the tap, beside ironrdp-graphics on the same bytes and beside copying the screen's pixels.
//! `cargo bench -p deskreel-rdp --bench decode`
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../../../tests/benches/bridge/streams.rs"]
#[allow(dead_code, unreachable_pub, reason = "the round trips of the other benchmark")]
mod streams;

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use deskreel_rdp::Direction;
use deskreel_rdp::tap::{Tap, TapConfig, TapEvent};
use deskreel_rdp::wire::find_pdu;
use ironrdp_graphics::rdp6::BitmapStreamDecoder;
use ironrdp_graphics::rfx::{MessageDecoder, TileDecoder};
use rustix::time::{ClockId, clock_gettime};

use streams::{Replies, SCREENS, SIZE};

/// Rounds over all screens; the median counts.
const ROUNDS: usize = 21;
/// Bytes of a fast-path PDU before its update, and of surface bits before their data.
const FAST_PATH_HEADER: usize = 6;
const SURFACE_BITS_HEADER: usize = 22;
/// A `TS_BITMAP_DATA` before its data.
const BITMAP_HEADER: usize = 18;

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not and must not start a long run.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let replies = Replies::new();
    let planar = split(&replies.all[replies.planar]);
    let remote_fx = split(&replies.all[replies.remote_fx]);
    println!("| a screen of {}x{} | CPU ms |\n|---|---|", SIZE.0, SIZE.1);
    print("planar, the tap", tap(&planar));
    print("planar, ironrdp-graphics", their_planar(&planar));
    print("RemoteFX, the tap", tap(&remote_fx));
    print("RemoteFX, ironrdp-graphics", their_remote_fx(&remote_fx));
    for screens in [1, 5, 20] {
        let times = [
            ("planar", later(&planar, screens)),
            ("RemoteFX", later(&remote_fx, screens)),
        ];
        for (stream, time) in times {
            print(
                &format!("{stream}, the tap, looked at after every {screens} screens"),
                time,
            );
        }
    }
    let pixels = vec![1_u8; usize::from(SIZE.0) * usize::from(SIZE.1) * 4];
    let mut copy = vec![0; pixels.len()];
    let copying = median(|| (0..SCREENS).for_each(|_| black_box(&mut copy).copy_from_slice(black_box(&pixels))));
    print("copying its pixels", copying);
}

fn print(what: &str, time: Duration) {
    println!("| {what} | {:.2} |", time.as_secs_f64() * 1000.0);
}

/// CPU time of a screen.
fn median(mut round: impl FnMut()) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let before = cpu_time();
        round();
        cpu_time() - before
    });
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[ROUNDS / 2] / u32::try_from(SCREENS).unwrap()
}

/// CPU time of this thread: other work on the machine does not count.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pdus = Vec::new();
    while let Some(length) = find_pdu(bytes).unwrap().filter(|length| *length > 0) {
        let (pdu, rest) = bytes.split_at(length);
        pdus.push(pdu);
        bytes = rest;
    }
    pdus
}

fn tap(pdus: &[&[u8]]) -> Duration {
    let mut tap = Tap::new(TapConfig::default());
    let mut events = Vec::new();
    for (direction, pdu) in activation() {
        tap.pdu(direction, &pdu, &mut events);
    }
    let picture = tap.picture().unwrap();
    assert_eq!((picture.width, picture.height), SIZE);
    median(|| {
        for pdu in pdus {
            tap.pdu(Direction::ToClient, pdu, &mut events);
            let undecoded = events.drain(..).find(|event| matches!(event, TapEvent::Undecoded(_)));
            assert_eq!(undecoded, None);
        }
    })
}

/// Decodes only what is seen when the picture is looked at, after so many screens: 20 are 500 a second.
fn later(pdus: &[&[u8]], screens: usize) -> Duration {
    let mut tap = Tap::new(TapConfig::default());
    let mut events = Vec::new();
    for (direction, pdu) in activation() {
        tap.defer(direction, &pdu, &mut events);
    }
    let a_screen = pdus.len().div_ceil(SCREENS);
    let mut count = 0;
    let round = median(|| {
        // each round looks as often as all others
        for pdu in (0..screens).flat_map(|_| pdus) {
            tap.defer(Direction::ToClient, pdu, &mut events);
            count += 1;
            if count % (a_screen * screens) == 0 {
                tap.settle(&mut events);
            }
            let undecoded = events.drain(..).find(|event| matches!(event, TapEvent::Undecoded(_)));
            assert_eq!(undecoded, None);
        }
    });
    round / u32::try_from(screens).unwrap()
}

/// The activation of a captured session, with the size of ours.
fn activation() -> Vec<(Direction, Vec<u8>)> {
    /// Bitmap capabilities: their type and length, and where the size stands.
    const BITMAPS: [u8; 4] = [2, 0, 28, 0];
    const SIZE_AT: usize = 12;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/xrdp-planar.pdus.zst");
    let bytes = zstd::decode_all(fs::File::open(file).unwrap()).unwrap();
    let mut rest = &bytes[..];
    let mut pdus = Vec::new();
    while let [direction, a, b, c, d, tail @ ..] = rest {
        let (pdu, after) = tail.split_at(u32::from_le_bytes([*a, *b, *c, *d]).try_into().unwrap());
        rest = after;
        match (direction, pdu) {
            (0, [3, ..]) => pdus.push((Direction::ToDesktop, pdu.to_vec())),
            (1, [3, ..]) => pdus.push((Direction::ToClient, pdu.to_vec())),
            // the first fast-path PDU
            (0 | 1, _) => break,
            _ => {}
        }
    }
    for (_, pdu) in &mut pdus {
        if let Some(at) = pdu.windows(BITMAPS.len()).position(|bytes| bytes == BITMAPS) {
            let size = [SIZE.0.to_le_bytes(), SIZE.1.to_le_bytes()].concat();
            pdu[at + SIZE_AT..][..4].copy_from_slice(&size);
        }
    }
    pdus
}

fn their_planar(pdus: &[&[u8]]) -> Duration {
    let mut bitmaps = Vec::new();
    for pdu in pdus {
        // its type and the number of bitmaps
        let mut rest = &pdu[FAST_PATH_HEADER + 4..];
        while rest.len() >= BITMAP_HEADER {
            let field = |index: usize| usize::from(u16::from_le_bytes([rest[index * 2], rest[index * 2 + 1]]));
            let end = BITMAP_HEADER + field(8);
            bitmaps.push((field(4), field(5), &rest[BITMAP_HEADER..end]));
            rest = &rest[end..];
        }
    }
    let mut decoder = BitmapStreamDecoder::default();
    let mut rgb = Vec::new();
    median(|| {
        for &(width, height, data) in &bitmaps {
            rgb.clear();
            decoder
                .decode_bitmap_stream_to_rgb24(data, &mut rgb, width, height)
                .unwrap();
            black_box(&rgb);
        }
    })
}

fn their_remote_fx(pdus: &[&[u8]]) -> Duration {
    let mut messages = Vec::new();
    let mut whole: Vec<u8> = Vec::new();
    for pdu in pdus {
        let (last, first) = match pdu[3] >> 4 & 3 {
            0 => (true, true),
            1 => (true, false),
            2 => (false, true),
            _ => (false, false),
        };
        if first {
            whole.clear();
        }
        whole.extend_from_slice(&pdu[FAST_PATH_HEADER..]);
        // frame markers are no messages
        if last && whole.len() > SURFACE_BITS_HEADER {
            messages.push(whole[SURFACE_BITS_HEADER..].to_vec());
        }
    }
    let mut decoder = TileDecoder::new();
    median(|| {
        let mut parser = MessageDecoder::new();
        for message in &messages {
            for frame in parser.parse(message).unwrap().frames {
                let set = &frame.tile_set;
                for tile in &set.tiles {
                    black_box(decoder.decode(tile, &set.quants, set.entropy_algorithm).unwrap());
                }
            }
        }
    })
}

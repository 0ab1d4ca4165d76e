//! The graphics pipeline, from whole PDUs to pixels.

use ironrdp_graphics::clearcodec::ClearCodecEncoder;
use ironrdp_graphics::zgfx::{CompressionMode, Compressor, compress_and_wrap_egfx, wrap_uncompressed};

use super::*;
use crate::wire::channel::single_chunk;
use crate::wire::dvc;
use crate::wire::egfx::{self, codec, command, encode};

mod clear;
mod limits;
mod passes;
mod reuse;
mod state;
mod tiles;

use tiles::{all_bands, area, progressive};

const DRDYNVC: u16 = 1006;
const ID: u32 = 9;

pub(super) fn graphics_config() -> TapConfig {
    TapConfig {
        graphics: true,
        channels: vec![StaticChannel {
            id: DRDYNVC,
            name: "drdynvc".to_owned(),
        }],
        ..TapConfig::default()
    }
}

/// A session whose graphics channel is open.
pub(super) fn opened(width: u16, height: u16) -> Tap {
    let mut tap = Tap::new(graphics_config());
    feed(&mut tap, TO_CLIENT, &demand_active(width, height));
    feed(&mut tap, TO_DESKTOP, &confirm_active(&[]));
    open(&mut tap, ID);
    tap
}

fn create(id: u32) -> Vec<u8> {
    let mut create = vec![0x12];
    create.extend(id.to_le_bytes());
    create.extend(egfx::CHANNEL.as_bytes());
    create.push(0);
    mcs(TO_CLIENT, DRDYNVC, &single_chunk(&create))
}

fn open(tap: &mut Tap, id: u32) {
    feed(tap, TO_CLIENT, &create(id));
    let response = dvc::create_response(id, 0);
    feed(tap, TO_DESKTOP, &mcs(TO_DESKTOP, DRDYNVC, &single_chunk(&response)));
}

/// A packed message as PDUs.
pub(super) fn packed(message: &[u8]) -> Vec<Vec<u8>> {
    let parts = dvc::data(ID, message);
    parts
        .iter()
        .map(|part| mcs(TO_CLIENT, DRDYNVC, &single_chunk(part)))
        .collect()
}

fn send(tap: &mut Tap, commands: &[Vec<u8>]) -> Vec<TapEvent> {
    let pdus = packed(&wrap_uncompressed(&commands.concat()));
    pdus.iter().flat_map(|pdu| feed(tap, TO_CLIENT, pdu)).collect()
}

fn fields(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn reset(width: u32, height: u32) -> Vec<u8> {
    let mut body = [width.to_le_bytes(), height.to_le_bytes(), [0; 4]].concat();
    body.resize(332, 0);
    encode(command::RESET_GRAPHICS, &body)
}

pub(super) fn create_surface(id: u16, width: u16, height: u16) -> Vec<u8> {
    let mut body = fields(&[id, width, height]);
    body.push(0x20);
    encode(command::CREATE_SURFACE, &body)
}

pub(super) fn map(id: u16, x: u16, y: u16) -> Vec<u8> {
    encode(command::MAP_SURFACE_TO_OUTPUT, &fields(&[id, 0, x, 0, y, 0]))
}

fn map_scaled(id: u16, x: u16, y: u16, width: u16, height: u16) -> Vec<u8> {
    let body = fields(&[id, 0, x, 0, y, 0, width, 0, height, 0]);
    encode(command::MAP_SURFACE_TO_SCALED_OUTPUT, &body)
}

/// Left, top, right, bottom.
pub(super) type Edges = [u16; 4];

pub(super) fn fill(id: u16, [red, green, blue]: [u8; 3], rects: &[Edges]) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.extend([blue, green, red, 0]);
    body.extend(u16::try_from(rects.len()).unwrap().to_le_bytes());
    rects.iter().for_each(|rect| body.extend(fields(rect)));
    encode(command::SOLID_FILL, &body)
}

fn bits(id: u16, kind: u16, rect: Edges, data: &[u8]) -> Vec<u8> {
    let mut body = fields(&[id, kind]);
    body.push(0x20);
    body.extend(fields(&rect));
    body.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    body.extend(data);
    encode(command::WIRE_TO_SURFACE_1, &body)
}

fn progressive_bits(id: u16, data: &[u8]) -> Vec<u8> {
    let mut body = fields(&[id, codec::PROGRESSIVE, 1, 0]);
    body.push(0x20);
    body.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    body.extend(data);
    encode(command::WIRE_TO_SURFACE_2, &body)
}

fn points(points: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = u16::try_from(points.len()).unwrap().to_le_bytes().to_vec();
    points.iter().for_each(|(x, y)| bytes.extend(fields(&[*x, *y])));
    bytes
}

fn to_cache(id: u16, slot: u16, rect: Edges) -> Vec<u8> {
    let mut body = fields(&[id, 1, 2, 3, 4, slot]);
    body.extend(fields(&rect));
    encode(command::SURFACE_TO_CACHE, &body)
}

fn from_cache(slot: u16, id: u16, to: &[(u16, u16)]) -> Vec<u8> {
    encode(command::CACHE_TO_SURFACE, &[fields(&[slot, id]), points(to)].concat())
}

fn copy(from: u16, rect: Edges, id: u16, to: &[(u16, u16)]) -> Vec<u8> {
    let body = [fields(&[from, id]), fields(&rect), points(to)].concat();
    encode(command::SURFACE_TO_SURFACE, &body)
}

fn bgrx(rgb: &[u8]) -> Vec<u8> {
    rgb.as_chunks::<3>()
        .0
        .iter()
        .flat_map(|[red, green, blue]| [*blue, *green, *red, 0x77])
        .collect()
}

fn damage(events: &[TapEvent]) -> Vec<(u16, u16, u16, u16)> {
    let rect = |event: &TapEvent| match event {
        TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) => Some((rect.x, rect.y, rect.width, rect.height)),
        _ => None,
    };
    events.iter().filter_map(rect).collect()
}

#[track_caller]
fn assert_shows(tap: &Tap, (left, top): (usize, usize), (width, height): (usize, usize), rgb: &[u8]) {
    for (index, expected) in rgb.as_chunks::<3>().0.iter().enumerate() {
        let (x, y) = (left + index % width, top + index / width);
        assert_eq!(pixel(tap, x, y), *expected, "{x}, {y}");
    }
    assert_eq!(rgb.len(), width * height * 3);
}

/// A picture in which some colours come often.
fn picture(width: u32, height: u32, seed: u32) -> Vec<u8> {
    pattern(width, height, seed).iter().map(|byte| byte & 0xC0).collect()
}

#[test]
fn lossless_codecs_show_what_was_encoded() {
    let mut tap = opened(100, 80);
    let events = send(&mut tap, &[reset(100, 80), create_surface(1, 90, 70), map(1, 5, 6)]);
    assert_eq!(events, [], "nobody knows yet what the surface shows");
    let mut clear = ClearCodecEncoder::new();
    for (seed, kind) in [codec::UNCOMPRESSED, codec::PLANAR, codec::CLEAR]
        .into_iter()
        .enumerate()
    {
        for (width, height, x, y) in [(33, 17, 4, 9), (5, 6, 60, 3), (90, 70, 0, 0)] {
            let rgb = picture(width, height, u32::try_from(seed).unwrap() + width);
            let data = match kind {
                codec::UNCOMPRESSED => bgrx(&rgb),
                codec::PLANAR => planar(width as usize, height as usize, &rgb),
                _ => clear.encode(
                    &bgrx(&rgb),
                    u16::try_from(width).unwrap(),
                    u16::try_from(height).unwrap(),
                ),
            };
            let (width, height) = (u16::try_from(width).unwrap(), u16::try_from(height).unwrap());
            let command = bits(1, kind, [x, y, x + width, y + height], &data);
            let events = send(&mut tap, &[command]);
            assert_eq!(events, [rect(5 + x, 6 + y, width, height)], "codec {kind}");
            let at = (usize::from(5 + x), usize::from(6 + y));
            assert_shows(&tap, at, (width.into(), height.into()), &rgb);
        }
    }
    assert_eq!(pixel(&tap, 4, 6), [0, 0, 0], "beside the surface");
    let decoded = tap.decoded();
    assert_eq!((decoded.raw, decoded.planar, decoded.clear), (3, 3, 3));
}

#[test]
fn clear_codec_keeps_what_no_layer_paints() {
    let mut tap = opened(8, 8);
    let fills = [
        create_surface(0, 8, 8),
        map(0, 0, 0),
        fill(0, [1, 2, 3], &[[0, 0, 8, 8]]),
    ];
    send(&mut tap, &fills);
    // no residual, no bands, one subcodec region of raw pixels at 2, 3
    let mut stream = vec![0, 0];
    stream.extend([0; 8]);
    let mut subcodec = fields(&[2, 3, 2, 1]);
    subcodec.extend([6, 0, 0, 0, 0]);
    subcodec.extend([9, 8, 7, 6, 5, 4]);
    stream.extend(u32::try_from(subcodec.len()).unwrap().to_le_bytes());
    stream.extend(&subcodec);
    let events = send(&mut tap, &[bits(0, codec::CLEAR, [0, 0, 8, 8], &stream)]);
    assert_eq!(damage(&events), [(0, 0, 8, 8)], "{events:?}");
    assert_eq!((pixel(&tap, 2, 3), pixel(&tap, 3, 3)), ([7, 8, 9], [4, 5, 6]));
    assert_eq!((pixel(&tap, 1, 3), pixel(&tap, 0, 0)), ([1, 2, 3], [1, 2, 3]));
}

#[test]
fn remote_fx_is_placed_by_its_rectangle() {
    let mut tap = opened(300, 200);
    let message = remote_fx(
        128,
        64,
        &[(0, 0, 100, 40)],
        &[(0, 0, [200, 10, 10]), (1, 0, [10, 200, 10])],
    );
    let commands = [
        create_surface(2, 300, 200),
        map(2, 0, 0),
        bits(2, codec::REMOTE_FX, [50, 60, 150, 100], &message),
    ];
    let events = send(&mut tap, &commands);
    assert_eq!(damage(&events), [(50, 60, 100, 40)]);
    let near =
        |[red, green, _]: [u8; 3], expected: (u8, u8)| red.abs_diff(expected.0) < 8 && green.abs_diff(expected.1) < 8;
    assert!(near(pixel(&tap, 55, 65), (200, 10)) && near(pixel(&tap, 149, 99), (10, 200)));
    assert_eq!((pixel(&tap, 49, 60), pixel(&tap, 150, 99)), ([0; 3], [0; 3]));
}

#[test]
fn fills_copies_and_the_cache() {
    let mut tap = opened(64, 64);
    let rgb = picture(8, 8, 3);
    let commands = [
        create_surface(1, 64, 64),
        create_surface(2, 16, 16),
        map(1, 0, 0),
        fill(1, [10, 20, 30], &[[0, 0, 4, 4], [60, 60, 64, 64]]),
        bits(2, codec::UNCOMPRESSED, [4, 4, 12, 12], &bgrx(&rgb)),
        copy(2, [4, 4, 12, 12], 1, &[(20, 20), (60, 0)]),
        to_cache(2, 7, [4, 4, 8, 8]),
        fill(2, [0, 0, 0], &[[0, 0, 16, 16]]),
        from_cache(7, 1, &[(0, 40)]),
        // the same surface, overlapping
        copy(1, [20, 20, 28, 28], 1, &[(22, 23)]),
    ];
    let events = send(&mut tap, &commands);
    let expected = [
        (0, 0, 4, 4),
        (60, 60, 4, 4),
        (20, 20, 8, 8),
        (60, 0, 4, 8),
        (0, 40, 4, 4),
        (22, 23, 8, 8),
    ];
    assert_eq!(damage(&events), expected, "{events:?}");
    assert_eq!((pixel(&tap, 3, 3), pixel(&tap, 63, 63)), ([10, 20, 30], [10, 20, 30]));
    assert_shows(&tap, (22, 23), (8, 8), &rgb);
    for y in 0..4 {
        assert_shows(&tap, (0, 40 + y), (4, 1), &rgb[y * 24..y * 24 + 12]);
    }
    let events = send(
        &mut tap,
        &[encode(command::EVICT_CACHE_ENTRY, &[7, 0]), from_cache(7, 1, &[(0, 0)])],
    );
    assert_eq!(undecoded(&events).error, "nothing in slot 7");
    let events = send(
        &mut tap,
        &[
            encode(command::DELETE_SURFACE, &[2, 0]),
            copy(2, [0, 0, 1, 1], 1, &[(0, 0)]),
        ],
    );
    assert_eq!(undecoded(&events).error, "unknown surface 2");
}

#[test]
fn a_surface_is_shown_when_it_is_mapped() {
    let mut tap = opened(40, 40);
    let rgb = picture(20, 10, 5);
    let commands = [
        create_surface(1, 20, 10),
        bits(1, codec::UNCOMPRESSED, [0, 0, 20, 10], &bgrx(&rgb)),
    ];
    assert_eq!(send(&mut tap, &commands), []);
    assert_eq!(send(&mut tap, &[map(1, 10, 30)]), [rect(10, 30, 20, 10)]);
    assert_shows(&tap, (10, 30), (20, 10), &rgb);
    // partly outside of the output
    assert_eq!(send(&mut tap, &[map(1, 30, 35)]), [rect(30, 35, 10, 5)]);
    // twice as large
    assert_eq!(send(&mut tap, &[map_scaled(1, 0, 0, 40, 20)]), [rect(0, 0, 40, 20)]);
    assert_eq!(pixel(&tap, 39, 19), <[u8; 3]>::try_from(&rgb[rgb.len() - 3..]).unwrap());
    assert_eq!(
        send(&mut tap, &[fill(1, [9, 9, 9], &[[19, 9, 20, 10]])]),
        [rect(38, 18, 2, 2)]
    );
    assert_eq!((pixel(&tap, 39, 19), pixel(&tap, 38, 18)), ([9; 3], [9; 3]));
}

#[test]
fn the_output_has_the_size_that_reset_says() {
    let mut tap = opened(40, 40);
    let events = send(&mut tap, &[create_surface(1, 8, 8), map(1, 0, 0), reset(40, 40)]);
    assert_eq!(events, []);
    // surfaces stay, and so does their place
    let events = send(&mut tap, &[fill(1, [1, 1, 1], &[[0, 0, 8, 8]])]);
    assert_eq!(events, [rect(0, 0, 8, 8)]);
    let events = send(&mut tap, &[reset(60, 50)]);
    assert_eq!(events, [TapEvent::Resized { width: 60, height: 50 }]);
    let events = send(&mut tap, &[fill(1, [1, 1, 1], &[[0, 0, 8, 8]])]);
    assert_eq!(events, [rect(0, 0, 8, 8)]);
    let events = send(&mut tap, &[reset(70_000, 50)]);
    assert_eq!(undecoded(&events).error, "output of 70000x50");
    // one that is none: what is shown stays, and goes on
    let events = send(&mut tap, &[reset(0, 50)]);
    assert_eq!(undecoded(&events).error, "output of 0x50");
    let events = send(
        &mut tap,
        &[
            create_surface(2, 8, 8),
            map(2, 0, 0),
            fill(2, [1, 1, 1], &[[0, 0, 8, 8]]),
        ],
    );
    assert_eq!(events, [rect(0, 0, 8, 8)]);
}

#[test]
fn what_is_not_known_is_evidence_and_harms_nothing_else() {
    let mut tap = opened(16, 16);
    let setup = [create_surface(1, 16, 16), map(1, 0, 0)];
    send(&mut tap, &setup);
    let events = send(
        &mut tap,
        &[
            encode(0x19, &[1, 2, 3]),
            bits(1, codec::AVC420, [0, 0, 16, 16], &[5; 9]),
            fill(1, [5, 6, 7], &[[0, 0, 2, 2]]),
            encode(command::END_FRAME, &[0; 4]),
        ],
    );
    let [
        TapEvent::Undecoded(unknown),
        TapEvent::Undecoded(avc),
        painted,
        TapEvent::FrameEnd,
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(unknown.error, "unknown graphics command 0x0019");
    assert_eq!((unknown.kind, unknown.length), (UndecodedKind::GraphicsCommand, 11));
    assert_eq!((avc.error.as_str(), avc.codec_id), ("no decoder for H.264", Some(0x0B)));
    assert_eq!(avc.rect.map(|rect| rect.width), Some(16));
    assert_eq!(*painted, rect(0, 0, 2, 2));
}

#[test]
fn compression_has_a_history() {
    let mut tap = opened(64, 64);
    let mut compressor = Compressor::new();
    let mut send = |tap: &mut Tap, commands: &[Vec<u8>]| -> Vec<TapEvent> {
        let message = compress_and_wrap_egfx(&commands.concat(), &mut compressor, CompressionMode::Always).unwrap();
        packed(&message)
            .iter()
            .flat_map(|pdu| feed(tap, TO_CLIENT, pdu))
            .collect()
    };
    send(&mut tap, &[create_surface(1, 64, 64), map(1, 0, 0)]);
    for seed in 0..5 {
        let rgb = picture(40, 40, seed % 2);
        let events = send(&mut tap, &[bits(1, codec::UNCOMPRESSED, [3, 4, 43, 44], &bgrx(&rgb))]);
        assert_eq!(events, [rect(3, 4, 40, 40)]);
        assert_shows(&tap, (3, 4), (40, 40), &rgb);
    }
    // one that can't be undone takes the history with it
    let broken = packed(&[0xE0, 0x24, 0xFF, 0xFF, 9]);
    let events = feed(&mut tap, TO_CLIENT, &broken[0]);
    assert!(undecoded(&events).error.starts_with("ZGFX: "), "{events:?}");
    assert!(!tap.is_right());
    let events = send(&mut tap, &[fill(1, [1, 1, 1], &[[0, 0, 1, 1]])]);
    assert_eq!(undecoded(&events).error, "what it refers to is lost");
    // until the channel is opened anew
    open(&mut tap, ID);
    assert!(tap.is_right());
}

/// Each command may be cut anywhere, and so may a message, into PDUs of dynamic channels and chunks of the static one.
#[test]
fn messages_are_put_together_wherever_they_are_split() {
    let rgb = picture(6, 6, 8);
    let commands = [
        create_surface(1, 32, 32),
        map(1, 1, 1),
        bits(1, codec::UNCOMPRESSED, [0, 0, 6, 6], &bgrx(&rgb)),
        encode(command::END_FRAME, &[0; 4]),
    ];
    let message = wrap_uncompressed(&commands.concat());
    let length = u32::try_from(message.len()).unwrap().to_le_bytes();
    let first = [&[0x2A][..], &ID.to_le_bytes(), &length].concat();
    let next = [&[0x32][..], &ID.to_le_bytes()].concat();
    let chunk = |data: &[u8], total: usize, flags: u8| {
        let head = [u32::try_from(total).unwrap().to_le_bytes(), [flags, 0, 0, 0]].concat();
        mcs(TO_CLIENT, DRDYNVC, &[&head[..], data].concat())
    };
    for at in 0..=message.len() {
        let (one, two) = message.split_at(at);
        let parts = [[&first[..], one].concat(), [&next[..], two].concat()];
        let mut tap = opened(40, 40);
        let events: Vec<TapEvent> = parts
            .iter()
            .flat_map(|part| {
                let half = part.len() / 2;
                let total = part.len();
                let chunks = [chunk(&part[..half], total, 1), chunk(&part[half..], total, 2)];
                chunks
                    .iter()
                    .flat_map(|pdu| feed(&mut tap, TO_CLIENT, pdu))
                    .collect::<Vec<_>>()
            })
            .collect();
        let expected = [rect(1, 1, 6, 6), TapEvent::FrameEnd];
        if at < message.len() {
            assert_eq!(events, expected, "split at {at}");
        } else {
            // the first part was all of it; the second is an empty message
            assert_eq!(events[..2], expected);
            assert_eq!(undecoded(&events[2..]).kind, UndecodedKind::Graphics);
        }
        assert_shows(&tap, (1, 1), (6, 6), &rgb);
    }
}

#[test]
fn a_gap_that_was_skipped_leaves_the_surfaces_right() {
    let mut tap = opened(32, 32);
    let rgb = picture(32, 32, 2);
    send(&mut tap, &[create_surface(1, 32, 32), map(1, 0, 0)]);
    let unseen = bits(1, codec::UNCOMPRESSED, [0, 0, 32, 32], &bgrx(&rgb));
    for pdu in packed(&wrap_uncompressed(&unseen)) {
        tap.skip(TO_CLIENT, &pdu);
    }
    let mut events = Vec::new();
    tap.restart(&mut events);
    assert!(matches!(events[0], TapEvent::Resized { .. }), "{events:?}");
    assert_eq!(damage(&events), [(0, 0, 32, 32)]);
    assert_shows(&tap, (0, 0), (32, 32), &rgb);
}

#[test]
fn what_was_dropped_is_missed_until_the_channel_is_opened_anew() {
    let mut tap = opened(32, 32);
    send(&mut tap, &[create_surface(1, 32, 32), map(1, 0, 0)]);
    let config = graphics_config();
    let data = packed(&wrap_uncompressed(&fill(1, [1, 1, 1], &[[0, 0, 1, 1]])));
    let loss = Loss::of(&config, &data[0]);
    assert_eq!(
        loss,
        Loss {
            messages: true,
            ..Loss::default()
        }
    );
    assert!(!loss.is_vital() && Loss::of(&config, &create(3)).is_vital());
    assert_eq!(
        Loss::of(
            &TapConfig {
                graphics: false,
                ..config
            },
            &create(3)
        ),
        Loss {
            channels: true,
            ..Loss::default()
        }
    );
    tap.lost(loss);
    assert!(!tap.is_right());
    let mut events = Vec::new();
    tap.restart(&mut events);
    assert_eq!(damage(&events), [], "nobody knows what the surface shows");
    tap.skip(TO_CLIENT, &create(ID));
    assert!(tap.is_right());
    // without a channel only the opening of one matters
    let mut tap = Tap::new(graphics_config());
    tap.lost(loss);
    assert!(tap.is_right());
    tap.lost(Loss { channels: true, ..loss });
    assert!(!tap.is_right());
}

#[test]
fn the_channel_is_not_followed_where_it_may_not_be_used() {
    let mut tap = Tap::new(TapConfig {
        graphics: false,
        ..graphics_config()
    });
    feed(&mut tap, TO_CLIENT, &demand_active(16, 16));
    open(&mut tap, ID);
    assert_eq!(send(&mut tap, &[reset(99, 99)]), []);
}

#[test]
fn limits_hold() {
    let mut tap = opened(16, 16);
    let events = send(
        &mut tap,
        &(0..9).map(|id| create_surface(id, 8192, 1024)).collect::<Vec<_>>(),
    );
    assert_eq!(undecoded(&events).error, "surface of 8192x1024 beside 8 others");
    let many = vec![(0, 0); 65];
    let events = send(&mut tap, &[copy(0, [0, 0, 8192, 512], 1, &many)]);
    assert!(undecoded(&events).error.starts_with("command of "), "{events:?}");
    let slots: Vec<_> = (0..6).map(|slot| to_cache(0, slot, [0, 0, 8192, 1024])).collect();
    let events = send(&mut tap, &slots);
    assert!(
        undecoded(&events[..1]).error.starts_with("cache of more than"),
        "{events:?}"
    );
    let command = bits(0, codec::UNCOMPRESSED, [8000, 0, 8193, 1], &[0; 4000]);
    let events = send(&mut tap, &[command]);
    assert!(
        undecoded(&events).error.contains("not inside of 8192x1024"),
        "{events:?}"
    );
}

proptest! {
    #[test]
    fn noise_in_commands_does_no_harm(commands in prop::collection::vec((0_u16..0x1B, prop::collection::vec(any::<u8>(), 0..60)), 1..20)) {
        let mut tap = opened(40, 40);
        send(&mut tap, &[create_surface(1, 40, 40), map(1, 0, 0), create_surface(0, 3, 3)]);
        for (kind, mut body) in commands {
            // small numbers, so that surfaces are found
            if let Some(byte) = body.first_mut() {
                *byte &= 1;
            }
            if let Some(byte) = body.get_mut(1) {
                *byte = 0;
            }
            let events = send(&mut tap, &[encode(kind, &body)]);
            for event in &events {
                if let TapEvent::Undecoded(undecoded) = event {
                    prop_assert!(!undecoded.error.contains("tap panicked"), "{undecoded:?}");
                }
            }
        }
    }

    #[test]
    fn noise_in_codecs_does_no_harm(kind in prop::sample::select(vec![0_u16, 3, 8, 9, 10, 12]), flip in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut tap = opened(64, 64);
        send(&mut tap, &[create_surface(1, 64, 64), map(1, 0, 0)]);
        let rgb = picture(64, 64, 1);
        let mut data = match kind {
            3 => remote_fx(64, 64, &[(0, 0, 64, 64)], &[(0, 0, [90, 9, 90])]),
            8 => ClearCodecEncoder::new().encode(&bgrx(&rgb), 64, 64),
            9 => progressive(true, &[(&[area(0, 0, 64, 64)], &[(0, 0, 20)])]),
            10 => planar(64, 64, &rgb),
            _ => bgrx(&rgb),
        };
        for (index, value) in flip {
            let at = index.index(data.len());
            data[at] = value;
        }
        data.truncate(cut.index(data.len()) + 1);
        let command = if kind == 9 { progressive_bits(1, &data) } else { bits(1, kind, [0, 0, 64, 64], &data) };
        for event in send(&mut tap, &[command]) {
            if let TapEvent::Undecoded(undecoded) = event {
                prop_assert!(!undecoded.error.contains("tap panicked"), "{undecoded:?}");
            }
        }
    }
}

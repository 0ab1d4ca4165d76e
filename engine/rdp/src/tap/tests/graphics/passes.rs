//! Passes of progressive tiles: layouts of bands, refinements, differences, and what is forgotten after an error.

use ironrdp_graphics::progressive::{TileState, encode_first_pass, encode_upgrade_pass, rgba_to_ycbcr};
use ironrdp_pdu::codecs::rfx::progressive::{
    ComponentCodecQuant, ProgressiveBlock, ProgressiveCodecQuant, ProgressiveContextPdu, ProgressiveFrameBeginPdu,
    ProgressiveFrameEndPdu, ProgressiveRegion, ProgressiveSyncPdu, ProgressiveTile, TileFirst, TileUpgrade,
    encode_progressive_stream,
};

use super::*;

/// Bits that a first pass leaves out.
const MISSING: u8 = 2;
/// Quality of the table that says so.
const COARSE: u8 = 0;
const WHOLE: u8 = 0xFF;

/// A grey that grows to the right and down.
fn grey(x: usize, y: usize) -> u8 {
    (40 + 2 * x + y) as u8
}

/// The components of that, `missing` bits short.
fn coded(base: &ComponentCodecQuant, missing: u8, extrapolate: bool) -> [Vec<u8>; 3] {
    let pixels: Vec<u8> = (0..4096)
        .flat_map(|index| {
            let grey = grey(index % 64, index / 64);
            [grey, grey, grey, 255]
        })
        .collect();
    let mut planes = [vec![0_i16; 4096], vec![0; 4096], vec![0; 4096]];
    let [y, cb, cr] = &mut planes;
    rgba_to_ycbcr(&pixels, y, cb, cr);
    planes.map(|mut plane| {
        let mut out = vec![0; 65_536];
        let length = encode_first_pass(&mut plane, &mut out, base, &all_bands(missing), extrapolate).unwrap();
        out.truncate(length);
        out
    })
}

/// What a tile that is [`MISSING`] bits short needs to be whole: by component, in both of an upgrade's streams.
fn refinement() -> [(Vec<u8>, Vec<u8>); 3] {
    let base = all_bands(6);
    let decoded = |missing: u8| {
        let planes = coded(&base, missing, true);
        let data = planes.each_ref().map(Vec::as_slice);
        let mut state = TileState::new();
        state
            .decode_first(data, [&base; 3], [all_bands(missing); 3], [0; 3], 0, true)
            .unwrap();
        state
    };
    let (whole, first) = (decoded(0), decoded(MISSING));
    std::array::from_fn(|plane| {
        let (from, to) = (&first.coefficients[plane], &whole.coefficients[plane]);
        encode_upgrade_pass(to, from, &all_bands(MISSING), &all_bands(0), &first.sign[plane], true).unwrap()
    })
}

/// A stream of one region of 64 by 64 pixels.
fn stream(context: Option<u8>, flags: u8, base: ComponentCodecQuant, tiles: Vec<ProgressiveTile<'_>>) -> Vec<u8> {
    let coarse = all_bands(MISSING);
    let mut blocks = Vec::new();
    if let Some(flags) = context {
        blocks.push(ProgressiveBlock::Sync(ProgressiveSyncPdu));
        blocks.push(ProgressiveBlock::Context(ProgressiveContextPdu {
            context_id: 0,
            tile_size: 64,
            flags,
        }));
    }
    blocks.push(ProgressiveBlock::FrameBegin(ProgressiveFrameBeginPdu {
        frame_index: 1,
        region_count: 1,
    }));
    blocks.push(ProgressiveBlock::Region(ProgressiveRegion {
        tile_size: 64,
        rects: vec![area(0, 0, 64, 64)],
        quant_vals: vec![base],
        quant_prog_vals: vec![ProgressiveCodecQuant {
            quality: 50,
            y_quant: coarse,
            cb_quant: coarse,
            cr_quant: coarse,
        }],
        flags,
        tiles,
    }));
    blocks.push(ProgressiveBlock::FrameEnd(ProgressiveFrameEndPdu));
    progressive_bits(1, &encode_progressive_stream(&blocks).unwrap())
}

fn first(data: &[Vec<u8>; 3], quality: u8, flags: u8) -> ProgressiveTile<'_> {
    let [y_data, cb_data, cr_data] = data;
    ProgressiveTile::First(TileFirst {
        quant_idx_y: 0,
        quant_idx_cb: 0,
        quant_idx_cr: 0,
        x_idx: 0,
        y_idx: 0,
        flags,
        quality,
        y_data,
        cb_data,
        cr_data,
        tail_data: &[],
    })
}

fn upgrade(data: &[(Vec<u8>, Vec<u8>); 3]) -> ProgressiveTile<'_> {
    let [y, cb, cr] = data;
    ProgressiveTile::Upgrade(TileUpgrade {
        quant_idx_y: 0,
        quant_idx_cb: 0,
        quant_idx_cr: 0,
        x_idx: 0,
        y_idx: 0,
        quality: WHOLE,
        y_srl_data: &y.0,
        y_raw_data: &y.1,
        cb_srl_data: &cb.0,
        cb_raw_data: &cb.1,
        cr_srl_data: &cr.0,
        cr_raw_data: &cr.1,
    })
}

/// A session that shows one surface of one tile.
fn shown() -> Tap {
    let mut tap = opened(64, 64);
    send(&mut tap, &[create_surface(1, 64, 64), map(1, 0, 0)]);
    tap
}

/// How far a channel of a pixel is off at most.
fn off_by(tap: &Tap) -> u8 {
    let off = |index: usize| {
        let (x, y) = (index % 64, index / 64);
        pixel(tap, x, y)
            .map(|channel| channel.abs_diff(grey(x, y)))
            .into_iter()
            .max()
    };
    (0..4096).filter_map(off).max().unwrap()
}

#[test]
fn the_region_says_how_its_bands_lie() {
    let base = all_bands(6);
    for (context, flags) in [
        (Some(0), 1),
        (Some(1), 0),
        (Some(0), 0),
        (Some(1), 1),
        (None, 0),
        (None, 1),
    ] {
        let mut tap = shown();
        let data = coded(&base, 0, flags == 1);
        let events = send(&mut tap, &[stream(context, flags, base, vec![first(&data, WHOLE, 0)])]);
        assert_eq!(events, [rect(0, 0, 64, 64)], "{context:?} {flags}");
        assert!(off_by(&tap) <= 12, "{context:?} {flags}: {}", off_by(&tap));
    }
    // the test can tell them apart
    let mut tap = shown();
    let data = coded(&base, 0, true);
    send(&mut tap, &[stream(Some(1), 0, base, vec![first(&data, WHOLE, 0)])]);
    assert!(off_by(&tap) > 24, "{}", off_by(&tap));
}

#[test]
fn a_refinement_adds_what_was_missing() {
    let base = all_bands(6);
    let (coarse, fine) = (coded(&base, MISSING, true), refinement());
    let mut tap = shown();
    send(&mut tap, &[stream(Some(1), 1, base, vec![first(&coarse, COARSE, 0)])]);
    let before = off_by(&tap);
    let events = send(&mut tap, &[stream(None, 1, base, vec![upgrade(&fine)])]);
    assert_eq!(events, [rect(0, 0, 64, 64)]);
    assert!(
        off_by(&tap) <= 12 && off_by(&tap) <= before,
        "{} after {before}",
        off_by(&tap)
    );
}

#[test]
fn a_difference_adds_to_the_tile_before() {
    let base = all_bands(6);
    // twice nothing but a grey of its own
    let plane = |value: i16| {
        let mut out = vec![0; 65_536];
        let length = encode_first_pass(
            &mut vec![value; 4096],
            &mut out,
            &base,
            &ComponentCodecQuant::LOSSLESS,
            true,
        )
        .unwrap();
        out.truncate(length);
        out
    };
    let (dark, more) = ([plane(-60), plane(0), plane(0)], [plane(30), plane(0), plane(0)]);
    let mut tap = shown();
    send(&mut tap, &[stream(Some(1), 1, base, vec![first(&dark, WHOLE, 0)])]);
    let [before, ..] = pixel(&tap, 9, 9);
    send(&mut tap, &[stream(Some(1), 1, base, vec![first(&more, WHOLE, 1)])]);
    let [after, ..] = pixel(&tap, 9, 9);
    assert!(after > before, "{before} {after}");
    let [again, ..] = {
        send(&mut tap, &[stream(Some(1), 1, base, vec![first(&more, WHOLE, 1)])]);
        pixel(&tap, 9, 9)
    };
    assert!(
        again > after && (again - after).abs_diff(after - before) <= 2,
        "{before} {after} {again}"
    );
}

#[test]
fn what_there_is_nothing_to_add_to_is_evidence() {
    let base = all_bands(6);
    let (coarse, fine) = (coded(&base, MISSING, true), refinement());
    let never = "progressive tile 0, 0: refines a tile that never came";
    let mut tap = shown();
    let events = send(&mut tap, &[stream(None, 1, base, vec![upgrade(&fine)])]);
    assert_eq!(undecoded(&events).error, never);
    let events = send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, COARSE, 1)])]);
    assert_eq!(
        undecoded(&events).error,
        "progressive tile 0, 0: difference to a tile that never came"
    );
    // a first pass that fails takes the tile before it along
    send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, COARSE, 0)])]);
    let events = send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, 7, 0)])]);
    assert_eq!(
        undecoded(&events).error,
        "progressive tile 0, 0: no progressive quantisation 7"
    );
    let events = send(&mut tap, &[stream(None, 1, base, vec![upgrade(&fine)])]);
    assert_eq!(undecoded(&events).error, never);
    // and so does a stream that is none
    send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, COARSE, 0)])]);
    let events = send(&mut tap, &[progressive_bits(1, &[0xC4, 0xCC, 9, 0, 0, 0, 1, 2, 3])]);
    assert!(!undecoded(&events).error.is_empty());
    let events = send(&mut tap, &[stream(None, 1, base, vec![upgrade(&fine)])]);
    assert_eq!(undecoded(&events).error, never);
}

#[test]
fn other_quantisations_and_bands_cannot_be_added() {
    let base = all_bands(6);
    let (coarse, fine) = (coded(&base, MISSING, true), refinement());
    for (flags, later) in [(1, all_bands(7)), (0, base)] {
        for tile in [upgrade(&fine), first(&coarse, COARSE, 1)] {
            let mut tap = shown();
            send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, COARSE, 0)])]);
            let events = send(&mut tap, &[stream(None, flags, later, vec![tile])]);
            assert_eq!(
                undecoded(&events).error,
                "progressive tile 0, 0: its quantisation or its bands are others than before"
            );
        }
    }
}

#[test]
fn a_reset_of_the_output_leaves_tiles_to_be_refined() {
    let base = all_bands(6);
    let (coarse, fine) = (coded(&base, MISSING, true), refinement());
    let mut tap = shown();
    send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, COARSE, 0)])]);
    let events = send(&mut tap, &[reset(80, 80), stream(None, 1, base, vec![upgrade(&fine)])]);
    let resized = TapEvent::Resized { width: 80, height: 80 };
    assert_eq!(events, [resized, rect(0, 0, 64, 64)]);
    assert!(off_by(&tap) <= 12, "{}", off_by(&tap));
}

#[test]
fn streams_that_clients_ignore_are_evidence() {
    let coarse = all_bands(5);
    let data = coded(&coarse, 0, true);
    let mut tap = shown();
    let events = send(&mut tap, &[stream(None, 1, coarse, vec![first(&data, WHOLE, 0)])]);
    assert_eq!(undecoded(&events).error, "progressive quantisation of 5");
    let fine = progressive(false, &[(&[area(0, 0, 64, 64)], &[(0, 0, 30)])]);
    let twice = send(&mut tap, &[progressive_bits(1, &fine.repeat(2))]);
    assert_eq!(damage(&twice), [(0, 0, 64, 64)]);
    assert_eq!(undecoded(&twice[1..]).error, "second progressive frame");
    let mut second = progressive_bits(1, &fine);
    let at = egfx::HEADER + 2;
    assert_eq!(second[at], 9);
    second[at] = 13;
    assert_eq!(undecoded(&send(&mut tap, &[second])).error, "no decoder for codec 0xd");
}

#[test]
fn a_region_outside_of_a_frame_is_passed_over() {
    let base = all_bands(6);
    let (coarse, fine) = (coded(&base, MISSING, true), refinement());
    let mut tap = shown();
    send(&mut tap, &[stream(None, 1, base, vec![first(&coarse, COARSE, 0)])]);
    // the frame's beginning has 12 bytes, its end 6
    let other = progressive(false, &[(&[area(0, 0, 64, 64)], &[(0, 0, -60)])]);
    let outside = &other[12..other.len() - 6];
    let events = send(&mut tap, &[progressive_bits(1, outside)]);
    assert_eq!(undecoded(&events).error, "progressive region outside of a frame");
    // the tile is what it was
    let events = send(&mut tap, &[stream(None, 1, base, vec![upgrade(&fine)])]);
    assert_eq!(events, [rect(0, 0, 64, 64)]);
    assert!(off_by(&tap) <= 12, "{}", off_by(&tap));
}

/// One rectangle for each tile, as large screens have them.
#[test]
fn rectangles_cost_what_they_show() {
    let (columns, rows) = (33, 34);
    let mut tap = opened(columns * 64, rows * 64);
    send(&mut tap, &[create_surface(1, columns * 64, rows * 64), map(1, 0, 0)]);
    let places: Vec<(u16, u16)> = (0..columns).flat_map(|x| (0..rows).map(move |y| (x, y))).collect();
    let tiles: Vec<_> = places.iter().map(|(x, y)| (*x, *y, 40)).collect();
    let rects: Vec<_> = places.iter().map(|(x, y)| area(64 * x, 64 * y, 64, 64)).collect();
    let events = send(
        &mut tap,
        &[progressive_bits(1, &progressive(true, &[(&rects, &tiles)]))],
    );
    let shown: usize = damage(&events)
        .iter()
        .map(|(_, _, width, height)| usize::from(*width) * usize::from(*height))
        .sum();
    assert_eq!(shown, 64 * 64 * places.len(), "{:?}", events.first());
    assert!(tap.is_right());
}

/// A desktop that counts on the end of all surfaces fills no memory with their tiles.
#[test]
fn tiles_of_old_surfaces_make_room() {
    let edge = 46;
    let mut tap = opened(64, 64);
    let tiles: Vec<_> = (0..edge).flat_map(|x| (0..edge).map(move |y| (x, y, 20))).collect();
    let full = progressive(false, &[(&[area(0, 0, 1, 1)], &tiles)]);
    for id in 1..=3 {
        assert_eq!(
            send(
                &mut tap,
                &[create_surface(id, edge * 64, edge * 64), progressive_bits(id, &full)]
            ),
            []
        );
    }
    send(&mut tap, &[create_surface(4, edge * 64, edge * 64)]);
    let events = send(&mut tap, &[progressive_bits(4, &full)]);
    assert_eq!(undecoded(&events).error, "more than 8192 progressive tiles");
    assert_eq!(send(&mut tap, &[reset(64, 64), progressive_bits(4, &full)]), []);
    let events = send(&mut tap, &[progressive_bits(4, &full)]);
    assert_eq!(events, []);
}

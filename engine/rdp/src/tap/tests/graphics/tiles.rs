//! Progressive streams of tiles of one grey, and where they are painted.

use ironrdp_graphics::progressive::encode_first_pass;
use ironrdp_pdu::codecs::rfx::RfxRectangle;
use ironrdp_pdu::codecs::rfx::progressive::{
    ComponentCodecQuant, ProgressiveBlock, ProgressiveContextPdu, ProgressiveFrameBeginPdu, ProgressiveFrameEndPdu,
    ProgressiveRegion, ProgressiveSyncPdu, ProgressiveTile, TileSimple, encode_progressive_stream,
};

use super::*;

/// A quantisation with one value for all bands.
pub(super) fn all_bands(value: u8) -> ComponentCodecQuant {
    let [ll3, hl3, lh3, hh3, hl2, lh2, hh2, hl1, lh1, hh1] = [value; 10];
    ComponentCodecQuant {
        ll3,
        hl3,
        lh3,
        hh3,
        hl2,
        lh2,
        hh2,
        hl1,
        lh1,
        hh1,
    }
}

/// Loses little.
fn quant() -> ComponentCodecQuant {
    all_bands(6)
}

/// One component of one value, encoded.
fn component(value: i16) -> Vec<u8> {
    let mut coefficients = vec![value; 4096];
    let mut out = vec![0; 65_536];
    let zero = ComponentCodecQuant::LOSSLESS;
    let length = encode_first_pass(&mut coefficients, &mut out, &quant(), &zero, true).unwrap();
    out.truncate(length);
    out
}

/// What is shown, and tiles: column, row, grey.
pub(super) type Region<'a> = (&'a [RfxRectangle], &'a [(u16, u16, i16)]);

/// A progressive stream whose regions each have tiles of one grey.
pub(super) fn progressive(with_context: bool, regions: &[Region<'_>]) -> Vec<u8> {
    let coded: Vec<Vec<[Vec<u8>; 3]>> = regions
        .iter()
        .map(|(_, tiles)| {
            tiles
                .iter()
                .map(|tile| [component(tile.2), component(0), component(0)])
                .collect()
        })
        .collect();
    let mut blocks = vec![ProgressiveBlock::Sync(ProgressiveSyncPdu)];
    if with_context {
        blocks.push(ProgressiveBlock::Context(ProgressiveContextPdu {
            context_id: 0,
            tile_size: 64,
            flags: 1,
        }));
    } else {
        blocks.clear();
    }
    blocks.push(ProgressiveBlock::FrameBegin(ProgressiveFrameBeginPdu {
        frame_index: 1,
        region_count: u16::try_from(regions.len()).unwrap(),
    }));
    for ((rects, tiles), coded) in regions.iter().zip(&coded) {
        let tile = |((x_idx, y_idx, _), [y, cb, cr]): (&(u16, u16, i16), &'static [Vec<u8>; 3])| {
            ProgressiveTile::Simple(TileSimple {
                quant_idx_y: 0,
                quant_idx_cb: 0,
                quant_idx_cr: 0,
                x_idx: *x_idx,
                y_idx: *y_idx,
                flags: 0,
                y_data: y,
                cb_data: cb,
                cr_data: cr,
                tail_data: &[],
            })
        };
        let coded: &'static Vec<[Vec<u8>; 3]> = Box::leak(Box::new(coded.clone()));
        blocks.push(ProgressiveBlock::Region(ProgressiveRegion {
            tile_size: 64,
            rects: rects.to_vec(),
            quant_vals: vec![quant()],
            quant_prog_vals: Vec::new(),
            flags: 1,
            tiles: tiles.iter().zip(coded).map(tile).collect(),
        }));
    }
    blocks.push(ProgressiveBlock::FrameEnd(ProgressiveFrameEndPdu));
    encode_progressive_stream(&blocks).unwrap()
}

pub(super) fn area(x: u16, y: u16, width: u16, height: u16) -> RfxRectangle {
    RfxRectangle { x, y, width, height }
}

#[test]
fn progressive_tiles_are_painted_where_their_regions_are() {
    let mut tap = opened(200, 150);
    send(&mut tap, &[create_surface(1, 200, 150), map(1, 0, 0)]);
    let two = progressive(
        true,
        &[
            (&[area(0, 0, 64, 64), area(64, 0, 20, 30)], &[(0, 0, 30), (1, 0, -30)]),
            (&[area(128, 64, 64, 64)], &[(2, 1, 62)]),
        ],
    );
    let events = send(&mut tap, &[progressive_bits(1, &two)]);
    assert_eq!(
        damage(&events),
        [(0, 0, 64, 64), (64, 0, 20, 30), (128, 64, 64, 64)],
        "{events:?}"
    );
    let grey = |x, y| {
        let [red, green, blue] = pixel(&tap, x, y);
        assert!(red.abs_diff(green) < 3 && green.abs_diff(blue) < 3);
        red
    };
    let (first, second, third) = (grey(10, 10), grey(70, 10), grey(130, 100));
    assert!(
        second < first && first < third && third > 150,
        "{first} {second} {third}"
    );
    assert_eq!(
        (pixel(&tap, 90, 10), pixel(&tap, 70, 40)),
        ([0; 3], [0; 3]),
        "beyond the rectangles"
    );
    // a context may be left out
    let later = progressive(false, &[(&[area(0, 0, 10, 10)], &[(0, 0, 62)])]);
    let events = send(&mut tap, &[progressive_bits(1, &later)]);
    assert_eq!(damage(&events), [(0, 0, 10, 10)], "{events:?}");
    let commands = [create_surface(1, 200, 150), map(1, 0, 0), progressive_bits(1, &later)];
    assert_eq!(damage(&send(&mut tap, &commands)), [(0, 0, 10, 10)]);
    assert_eq!(tap.decoded().progressive, 3);
}

#[test]
fn many_regions_cannot_fill_the_memory() {
    let mut tap = opened(1024, 1024);
    send(&mut tap, &[create_surface(1, 1024, 1024), map(1, 0, 0)]);
    let whole = [area(0, 0, 1024, 1024)];
    let tiles: Vec<_> = (0..256).map(|index| (index % 16, index / 16, 60)).collect();
    // each region shows all tiles of the frame again: 200 times 16 MB, were they all unpacked at once
    let mut regions: Vec<Region<'_>> = vec![(&whole, &tiles)];
    regions.extend(std::iter::repeat_n((&whole[..], &[][..]), 20));
    let events = send(&mut tap, &[progressive_bits(1, &progressive(true, &regions))]);
    assert!(
        events.iter().all(|event| !matches!(event, TapEvent::Undecoded(_))),
        "{events:?}"
    );
    assert_ne!(pixel(&tap, 1023, 1023), [0; 3]);
    // beside most of the tiles
    let many = vec![area(0, 0, 1, 1); 5000];
    let events = send(&mut tap, &[progressive_bits(1, &progressive(true, &[(&many, &tiles)]))]);
    assert_eq!(damage(&events).len(), 4097);
    assert!(tap.is_right());
    let many = vec![whole[0].clone(); 5000];
    let events = send(&mut tap, &[progressive_bits(1, &progressive(true, &[(&many, &tiles)]))]);
    assert!(events.iter().any(
        |event| matches!(event, TapEvent::Undecoded(undecoded) if undecoded.error == "message that asks for too much")
    ));
}

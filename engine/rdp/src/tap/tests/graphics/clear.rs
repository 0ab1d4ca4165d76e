//! `ClearCodec` streams that clients and decoders take otherwise.

use super::*;

const GLYPH_INDEX: u8 = 1;
const GLYPH_HIT: u8 = 2;
const CACHE_RESET: u8 = 4;
const RLEX: u8 = 2;
const LOST: &str = "the columns that it refers to are lost";

/// A session that shows one grey surface.
fn shown(width: u16, height: u16) -> Tap {
    let mut tap = opened(width, height);
    let whole = [0, 0, width, height];
    let commands = [
        create_surface(1, width, height),
        map(1, 0, 0),
        fill(1, [9; 3], &[whole]),
    ];
    send(&mut tap, &commands);
    tap
}

fn layers(head: &[u8], residual: &[u8], bands: &[u8], subcodecs: &[u8]) -> Vec<u8> {
    let lengths = [residual, bands, subcodecs].map(|layer| u32::try_from(layer.len()).unwrap().to_le_bytes());
    [head, &lengths.concat(), residual, bands, subcodecs].concat()
}

fn band(edges: [u16; 4], columns: &[u8]) -> Vec<u8> {
    [&fields(&edges)[..], &[0; 3], columns].concat()
}

/// A column of a band of one row: one pixel, which is kept.
fn new(grey: u8) -> Vec<u8> {
    vec![0, 1, grey, grey, grey]
}

/// One that was kept.
fn kept(index: u16) -> Vec<u8> {
    (0x8000 | index).to_le_bytes().to_vec()
}

/// Some columns of the first row.
fn row(flags: u8, columns: &[Vec<u8>]) -> Vec<u8> {
    let right = u16::try_from(columns.len()).unwrap() - 1;
    layers(&[flags, 0], &[], &band([0, right, 0, 0], &columns.concat()), &[])
}

fn paint(tap: &mut Tap, data: &[u8]) -> Vec<TapEvent> {
    send(tap, &[bits(1, codec::CLEAR, [0, 0, 8, 8], data)])
}

fn region(rect: [u16; 4], codec: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&fields(&rect)[..], &length, &[codec], data].concat()
}

#[test]
fn regions_that_cover_each_other_end() {
    let mut tap = shown(1024, 1024);
    // a palette of one colour, and a run of all pixels
    let run = [
        &[1, 5, 6, 7, 0, 0xFF, 0xFF, 0xFF][..],
        &(1024_u32 * 1024 - 1).to_le_bytes(),
    ]
    .concat();
    let once = region([0, 0, 1024, 1024], RLEX, &run);
    let whole = [0, 0, 1024, 1024];
    let events = send(
        &mut tap,
        &[bits(
            1,
            codec::CLEAR,
            whole,
            &layers(&[0, 0], &[], &[], &once.repeat(8)),
        )],
    );
    assert_eq!(events, [rect(0, 0, 1024, 1024)]);
    assert_eq!(pixel(&tap, 1023, 1023), [7, 6, 5]);
    let events = send(
        &mut tap,
        &[bits(
            1,
            codec::CLEAR,
            whole,
            &layers(&[0, 0], &[], &[], &once.repeat(200)),
        )],
    );
    assert_eq!(undecoded(&events).error, "message that asks for too much");
    assert!(!tap.is_right());
    // so do bands
    let mut tap = shown(1024, 8);
    let hits = band([0, 1023, 0, 0], &kept(0).repeat(1024));
    let bands = [band([0, 0, 0, 0], &new(3)), hits.repeat(2100)].concat();
    let stream = bits(1, codec::CLEAR, [0, 0, 1024, 8], &layers(&[0, 0], &[], &bands, &[]));
    assert_eq!(
        undecoded(&send(&mut tap, &[stream])).error,
        "message that asks for too much"
    );
    // a region beside the rectangle is an error of its own
    let mut tap = shown(8, 8);
    let events = paint(
        &mut tap,
        &layers(&[0, 0], &[], &[], &region([4, 0, 65_535, 65_535], RLEX, &run)),
    );
    assert_eq!(
        undecoded(&events).error,
        "ClearCodec region of 65535x65535 at 4, 0 in 8x8"
    );
    assert!(tap.is_right());
}

#[test]
fn a_glyph_with_layers_is_evidence() {
    let mut tap = shown(8, 8);
    let white = layers(&[GLYPH_INDEX, 0, 5, 0], &[255, 255, 255, 64], &[], &[]);
    assert_eq!(paint(&mut tap, &white), [rect(0, 0, 8, 8)]);
    let hit = [GLYPH_INDEX | GLYPH_HIT, 0, 5, 0];
    assert_eq!(paint(&mut tap, &hit), [rect(0, 0, 8, 8)]);
    let payload = layers(&hit, &[1, 1, 1, 64], &band([0, 0, 0, 0], &new(3)), &[]);
    assert_eq!(
        undecoded(&paint(&mut tap, &payload)).error,
        "ClearCodec glyph with layers"
    );
    // clients have kept its column
    assert_eq!(undecoded(&paint(&mut tap, &row(0, &[new(4)]))).error, LOST);
    assert_eq!(paint(&mut tap, &hit), [rect(0, 0, 8, 8)]);
}

#[test]
fn bands_beyond_the_rectangle_lose_the_columns() {
    for edges in [[7, 8, 0, 0], [8, 8, 0, 0], [0, 0, 8, 8]] {
        let mut tap = shown(16, 16);
        let columns = new(3).repeat(usize::from(edges[1] - edges[0]) + 1);
        let events = paint(&mut tap, &layers(&[0, 0], &[], &band(edges, &columns), &[]));
        assert!(
            undecoded(&events).error.starts_with("ClearCodec band of columns"),
            "{events:?}"
        );
        assert_eq!(undecoded(&paint(&mut tap, &row(0, &[new(4)]))).error, LOST);
    }
    // a column of one row for a band of two
    let mut tap = shown(8, 8);
    assert_eq!(paint(&mut tap, &row(0, &[new(3)])), [rect(0, 0, 8, 8)]);
    let events = paint(&mut tap, &layers(&[0, 0], &[], &band([1, 1, 0, 1], &kept(0)), &[]));
    assert_eq!(undecoded(&events).error, "column 0 of 1 rows in a band of 2");
    assert_eq!(undecoded(&paint(&mut tap, &row(0, &[kept(0)]))).error, LOST);
}

#[test]
fn after_a_loss_nothing_that_was_kept_before_is_right() {
    let mut tap = shown(8, 8);
    paint(&mut tap, &row(0, &[new(10), new(11)]));
    // a client makes something up for 999, and keeps the other one under 0
    let events = paint(&mut tap, &row(CACHE_RESET, &[kept(999), new(12)]));
    assert_eq!(undecoded(&events).error, "column 999 was never kept");
    let events = paint(&mut tap, &row(CACHE_RESET, &[kept(0)]));
    assert_eq!(undecoded(&events).error, "column 0 was never kept");
    // what is new since the last reset is known
    assert_eq!(
        paint(&mut tap, &row(CACHE_RESET, &[new(13), kept(0)])),
        [rect(0, 0, 8, 8)]
    );
    assert_eq!(pixel(&tap, 1, 0), [13; 3]);
    // without a loss a reset takes nothing away
    let mut tap = shown(8, 8);
    paint(&mut tap, &row(0, &[new(10), new(11)]));
    assert_eq!(
        paint(&mut tap, &row(CACHE_RESET, &[kept(1), new(12)])),
        [rect(0, 0, 8, 8)]
    );
    assert_eq!((pixel(&tap, 0, 0), pixel(&tap, 1, 0)), ([11; 3], [12; 3]));
}

#[test]
fn streams_that_are_not_decoded_may_have_changed_the_client() {
    let columns = row(0, &[new(10)]);
    for refused in [
        bits(1, codec::CLEAR, [0, 0, 0, 8], &columns),
        bits(1, codec::CLEAR, [0, 0, 8, 17], &columns),
        bits(7, codec::CLEAR, [0, 0, 8, 8], &columns),
        bits(1, codec::CLEAR, [0, 0, 0, 8], &[CACHE_RESET, 0]),
        bits(1, codec::CLEAR, [0, 0, 8, 8], &[0]),
        encode(command::WIRE_TO_SURFACE_1, &[1, 0, 8, 0]),
    ] {
        let mut tap = shown(8, 8);
        paint(&mut tap, &columns);
        undecoded(&send(&mut tap, &[refused]));
        assert_eq!(undecoded(&paint(&mut tap, &row(0, &[kept(0)]))).error, LOST);
    }
    // a glyph
    let mut tap = shown(8, 8);
    let glyph = |grey: u8| layers(&[GLYPH_INDEX, 0, 5, 0], &[grey, grey, grey, 64], &[], &[]);
    paint(&mut tap, &glyph(1));
    undecoded(&send(&mut tap, &[bits(7, codec::CLEAR, [0, 0, 8, 8], &glyph(2))]));
    let events = paint(&mut tap, &[GLYPH_INDEX | GLYPH_HIT, 0, 5, 0]);
    assert_eq!(undecoded(&events).error, "glyph that isn't known whole");
    // what keeps nothing is of no concern
    let plain = layers(&[0, 0], &[1, 1, 1, 64], &[], &[]);
    undecoded(&send(&mut tap, &[bits(7, codec::CLEAR, [0, 0, 8, 8], &plain)]));
    assert_eq!(paint(&mut tap, &columns), [rect(0, 0, 8, 8)]);
}

/// Surfaces of clients have a multiple of 16 pixels a side.
#[test]
fn what_lies_inside_is_painted_of_bits_that_do_not() {
    let mut tap = shown(20, 20);
    let rgb = picture(12, 12, 4);
    let mut encoder = ClearCodecEncoder::new();
    for (kind, data) in [
        (codec::UNCOMPRESSED, bgrx(&rgb)),
        (codec::PLANAR, planar(12, 12, &rgb)),
        (codec::CLEAR, encoder.encode(&bgrx(&rgb), 12, 12)),
    ] {
        send(&mut tap, &[fill(1, [9; 3], &[[0, 0, 20, 20]])]);
        let events = send(&mut tap, &[bits(1, kind, [15, 16, 27, 28], &data)]);
        assert_eq!(events, [rect(15, 16, 5, 4)], "codec {kind}");
        for y in 0..4 {
            assert_shows(&tap, (15, 16 + y), (5, 1), &rgb[y * 36..y * 36 + 15]);
        }
        assert_eq!((pixel(&tap, 14, 19), pixel(&tap, 19, 15)), ([9; 3], [9; 3]));
    }
    for edges in [[15, 16, 33, 28], [20, 0, 32, 12]] {
        let events = send(&mut tap, &[bits(1, codec::UNCOMPRESSED, edges, &bgrx(&rgb))]);
        assert!(undecoded(&events).error.contains("not inside of 20x20"), "{events:?}");
    }
    // fills are cut
    let events = send(&mut tap, &[fill(1, [7; 3], &[[10, 12, 60, 32]])]);
    assert_eq!(events, [rect(10, 12, 10, 8)]);
    let events = send(&mut tap, &[fill(1, [7; 3], &[[20, 0, 60, 32]])]);
    assert!(undecoded(&events).error.contains("beside the surface"), "{events:?}");
}

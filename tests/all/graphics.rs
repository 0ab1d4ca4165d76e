//! The graphics pipeline: what an independent client shows of it is in the recording.

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use deskreel_rdp::wire::egfx::{codec, command, encode};
use ironrdp_graphics::clearcodec::ClearCodecEncoder;
use ironrdp_graphics::progressive::{TileState, encode_first_pass, encode_upgrade_pass, rgba_to_ycbcr};
use ironrdp_graphics::rdp6::{BitmapStreamEncoder, RgbAChannels};
use ironrdp_pdu::codecs::rfx::RfxRectangle;
use ironrdp_pdu::codecs::rfx::progressive::{
    ComponentCodecQuant, ProgressiveBlock, ProgressiveCodecQuant, ProgressiveContextPdu, ProgressiveFrameBeginPdu,
    ProgressiveFrameEndPdu, ProgressiveRegion, ProgressiveSyncPdu, ProgressiveTile, TileFirst, TileSimple, TileUpgrade,
    encode_progressive_stream,
};
use peers::Peers;
use peers::client::Client;
use peers::gateway::{Gateway, Settings};
use peers::graphics::{GraphicsDesktop, SIZE, USER};

use crate::sessions::Moment;

fn fields(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn create_surface(id: u16, width: u16, height: u16) -> Vec<u8> {
    encode(
        command::CREATE_SURFACE,
        &[fields(&[id, width, height]), vec![0x20]].concat(),
    )
}

fn map(id: u16, x: u16, y: u16) -> Vec<u8> {
    encode(command::MAP_SURFACE_TO_OUTPUT, &fields(&[id, 0, x, 0, y, 0]))
}

pub(crate) fn fill(id: u16, [red, green, blue]: [u8; 3], rect: [u16; 4]) -> Vec<u8> {
    let body = [fields(&[id]), vec![blue, green, red, 0xFF, 1, 0], fields(&rect)].concat();
    encode(command::SOLID_FILL, &body)
}

fn length(data: &[u8]) -> Vec<u8> {
    u32::try_from(data.len()).unwrap().to_le_bytes().to_vec()
}

fn bits(id: u16, kind: u16, rect: [u16; 4], data: &[u8]) -> Vec<u8> {
    let body = [
        fields(&[id, kind]),
        vec![0x20],
        fields(&rect),
        length(data),
        data.to_vec(),
    ];
    encode(command::WIRE_TO_SURFACE_1, &body.concat())
}

fn progressive_bits(id: u16, data: &[u8]) -> Vec<u8> {
    let body = [
        fields(&[id, codec::PROGRESSIVE, 1, 0]),
        vec![0x20],
        length(data),
        data.to_vec(),
    ];
    encode(command::WIRE_TO_SURFACE_2, &body.concat())
}

fn to_cache(id: u16, slot: u16, rect: [u16; 4]) -> Vec<u8> {
    let body = [fields(&[id, slot, 0, 0, 0, slot]), fields(&rect)].concat();
    encode(command::SURFACE_TO_CACHE, &body)
}

fn from_cache(slot: u16, id: u16, points: &[u16]) -> Vec<u8> {
    let count = u16::try_from(points.len() / 2).unwrap();
    encode(
        command::CACHE_TO_SURFACE,
        &[fields(&[slot, id, count]), fields(points)].concat(),
    )
}

fn copy(from: u16, rect: [u16; 4], id: u16, points: &[u16]) -> Vec<u8> {
    let count = u16::try_from(points.len() / 2).unwrap();
    let body = [fields(&[from, id]), fields(&rect), fields(&[count]), fields(points)].concat();
    encode(command::SURFACE_TO_SURFACE, &body)
}

/// Commands of one frame.
pub(crate) fn frame(id: u8, commands: &[Vec<u8>]) -> Vec<u8> {
    let start = encode(command::START_FRAME, &[0, 0, 0, 0, id, 0, 0, 0]);
    let end = encode(command::END_FRAME, &[id, 0, 0, 0]);
    [start, commands.concat(), end].concat()
}

/// Stripes, a gradient and some noise, four bytes a pixel.
fn picture(width: u16, height: u16, seed: u32) -> Vec<u8> {
    let mut pixels = Vec::new();
    for y in 0..u32::from(height) {
        for x in 0..u32::from(width) {
            let noise = (x * 31 + y * 17 + seed).wrapping_mul(2_654_435_761) >> 29;
            let stripe = if (x / 9 + y / 7 + seed).is_multiple_of(3) {
                200
            } else {
                40
            };
            let gradient = (x + y + seed * 40) % 256;
            pixels.extend([stripe + noise as u8, gradient as u8, (seed * 70) as u8, 0xFF]);
        }
    }
    pixels
}

fn planar(width: u16, height: u16, rgba: &[u8]) -> Vec<u8> {
    let mut data = vec![0; rgba.len() * 2];
    let length = BitmapStreamEncoder::new(width.into(), height.into())
        .encode_bitmap::<RgbAChannels>(rgba, &mut data, true)
        .unwrap();
    data.truncate(length);
    data
}

/// A ClearCodec picture of 60 by 40 pixels with all its layers: one colour, columns in bands (new ones, some that were kept whole
/// and some that were kept in part), and a rectangle of two colours.
fn layers(sequence: u8) -> Vec<u8> {
    // 2400 times the same colour
    let mut residual = vec![200, 180, 160, 0xFF];
    residual.extend(2400_u16.to_le_bytes());
    let mut bands = Vec::new();
    for (first, last, top, bottom) in [(4_u16, 9_u16, 3_u16, 22_u16), (20, 23, 10, 29)] {
        bands.extend(fields(&[first, last, top, bottom]));
        bands.extend([10, 20, 30]);
        let kept = u16::from(first == 20) * 6;
        for column in 0..=last - first {
            match column {
                // a new one: pixels 2 to 8 of the column
                0 | 1 => {
                    bands.extend(0x0802_u16.to_le_bytes());
                    bands.extend((0..18).map(|byte| byte * 9 + column as u8 * 40));
                }
                // pixels that were kept, elsewhere in the column
                2 => bands.extend([0x01, 0x40, 7]),
                // a whole column that was kept
                _ => bands.extend((0x8000_u16 | ((kept + column) % 3)).to_le_bytes()),
            }
        }
    }
    let mut palette = vec![2, 250, 10, 20, 5, 240, 230];
    // stop index and depth of the suite, length of the run before it
    palette.extend([0, 10, 0b11, 5, 0b01, 13]);
    let mut subcodecs = fields(&[40, 30, 8, 4]);
    subcodecs.extend(length(&palette));
    subcodecs.push(2);
    subcodecs.extend(&palette);
    let lengths = [length(&residual), length(&bands), length(&subcodecs)].concat();
    [vec![0, sequence], lengths, residual, bands, subcodecs].concat()
}

/// Codecs without a loss, fills, glyphs that come again.
pub(crate) fn lossless() -> Vec<Vec<u8>> {
    let (width, height) = SIZE;
    let mut reset = [u32::from(width), u32::from(height), 0].map(u32::to_le_bytes).concat();
    reset.resize(332, 0);
    let mut commands = vec![create_surface(1, width, height), map(1, 0, 0)];
    commands.push(fill(1, [32, 74, 135], [0, 0, width, height]));
    for index in 0..6 {
        let left = 40 + u16::from(index) * 150;
        commands.push(fill(
            1,
            [index * 40, 255 - index * 30, 90],
            [left, 600, left + 100, 700],
        ));
    }
    let (columns, rows) = (200, 150);
    let mut clear = ClearCodecEncoder::new();
    for (seed, left, kind) in [
        (1, 50, codec::UNCOMPRESSED),
        (2, 300, codec::PLANAR),
        (3, 550, codec::CLEAR),
    ] {
        let pixels = picture(columns, rows, seed);
        let data = match kind {
            codec::PLANAR => planar(columns, rows, &pixels),
            codec::CLEAR => clear.encode(&pixels, columns, rows),
            _ => pixels,
        };
        commands.push(bits(1, kind, [left, 50, left + columns, 50 + rows], &data));
    }
    for index in 0..8 {
        let glyph = clear.encode(&picture(20, 20, 7 + u32::from(index % 2)), 20, 20);
        let left = 800 + 24 * index;
        commands.push(bits(1, codec::CLEAR, [left, 60, left + 20, 80], &glyph));
    }
    for (index, left) in [(0_u8, 800), (1, 880)] {
        // the encoder has counted nine streams
        commands.push(bits(1, codec::CLEAR, [left, 100, left + 60, 140], &layers(9 + index)));
    }
    vec![encode(command::RESET_GRAPHICS, &reset), frame(1, &commands)]
}

/// Pixels that are there already.
pub(crate) fn copies() -> Vec<Vec<u8>> {
    let pixels = picture(100, 80, 5);
    vec![
        frame(
            2,
            &[
                to_cache(1, 4, [50, 50, 114, 114]),
                from_cache(4, 1, &[50, 300, 150, 300, 250, 310]),
                // it scrolls onto itself
                copy(1, [300, 50, 500, 200], 1, &[310, 62]),
            ],
        ),
        frame(
            3,
            &[
                create_surface(2, 100, 80),
                // xfreerdp shows nothing of what was painted before
                map(2, 700, 450),
                bits(2, codec::UNCOMPRESSED, [0, 0, 100, 80], &pixels),
                copy(2, [10, 10, 60, 60], 1, &[500, 400]),
                fill(2, [250, 0, 0], [40, 40, 60, 50]),
            ],
        ),
    ]
}

/// The same number for all bands.
fn all_bands(value: u8) -> ComponentCodecQuant {
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

/// Quantisation of the test's tiles.
fn quant() -> ComponentCodecQuant {
    let [hl2, lh2, hh2, hl1, lh1, hh1] = [7, 7, 8, 8, 8, 9];
    ComponentCodecQuant {
        hl2,
        lh2,
        hh2,
        hl1,
        lh1,
        hh1,
        ..all_bands(6)
    }
}

/// The components of one tile, `missing` bits short.
fn coded(seed: u32, missing: u8, extrapolate: bool) -> [Vec<u8>; 3] {
    let pixels = picture(64, 64, seed % 3);
    let mut planes = [vec![0_i16; 4096], vec![0; 4096], vec![0; 4096]];
    let [y, cb, cr] = &mut planes;
    rgba_to_ycbcr(&pixels, y, cb, cr);
    planes.map(|mut plane| {
        let mut out = vec![0; 65_536];
        let length = encode_first_pass(&mut plane, &mut out, &quant(), &all_bands(missing), extrapolate).unwrap();
        out.truncate(length);
        out
    })
}

/// What a tile that is `missing` bits short needs to be whole: by component, in both of an upgrade's streams.
fn upgrade(seed: u32, missing: u8) -> [(Vec<u8>, Vec<u8>); 3] {
    let decoded = |missing: u8| {
        let planes = coded(seed, missing, true);
        let data = planes.each_ref().map(Vec::as_slice);
        let base = quant();
        let mut state = TileState::new();
        state
            .decode_first(data, [&base; 3], [all_bands(missing); 3], [0; 3], 0, true)
            .unwrap();
        state
    };
    let (whole, first) = (decoded(0), decoded(missing));
    std::array::from_fn(|plane| {
        let (from, to) = (&first.coefficients[plane], &whole.coefficients[plane]);
        let (before, after) = (all_bands(missing), all_bands(0));
        encode_upgrade_pass(to, from, &before, &after, &first.sign[plane], true).unwrap()
    })
}

/// Flags of a stream's context and of its region: the same bit has two meanings.
const EXTRAPOLATED: (u8, u8) = (1, 1);

/// A stream of one region, in a frame of its own.
fn progressive_stream(
    id: u8,
    rect: RfxRectangle,
    tiles: Vec<ProgressiveTile<'_>>,
    missing: u8,
    (context, region): (u8, u8),
) -> Vec<u8> {
    let whole = all_bands(missing);
    let blocks = [
        ProgressiveBlock::Sync(ProgressiveSyncPdu),
        ProgressiveBlock::Context(ProgressiveContextPdu {
            context_id: 0,
            tile_size: 64,
            flags: context,
        }),
        ProgressiveBlock::FrameBegin(ProgressiveFrameBeginPdu {
            frame_index: id.into(),
            region_count: 1,
        }),
        ProgressiveBlock::Region(ProgressiveRegion {
            tile_size: 64,
            rects: vec![rect],
            quant_vals: vec![quant()],
            quant_prog_vals: vec![ProgressiveCodecQuant {
                quality: 50,
                y_quant: whole,
                cb_quant: whole,
                cr_quant: whole,
            }],
            flags: region,
            tiles,
        }),
        ProgressiveBlock::FrameEnd(ProgressiveFrameEndPdu),
    ];
    frame(id, &[progressive_bits(1, &encode_progressive_stream(&blocks).unwrap())])
}

/// A progressive picture of 4 by 3 tiles, whole at once.
fn progressive() -> Vec<Vec<u8>> {
    let planes: Vec<_> = (0..12).map(|index| coded(index, 0, true)).collect();
    let tiles = (0_u16..).zip(&planes).map(|(index, [y_data, cb_data, cr_data])| {
        ProgressiveTile::Simple(TileSimple {
            quant_idx_y: 0,
            quant_idx_cb: 0,
            quant_idx_cr: 0,
            x_idx: index % 4 + 1,
            y_idx: index / 4 + 5,
            flags: 0,
            y_data,
            cb_data,
            cr_data,
            tail_data: &[],
        })
    });
    let rect = RfxRectangle {
        x: 64,
        y: 320,
        width: 250,
        height: 180,
    };
    vec![progressive_stream(4, rect, tiles.collect(), 0, EXTRAPOLATED)]
}

/// Bits that the first pass of [`coarse`] leaves out.
const MISSING: u8 = 2;
/// Where its two tiles stand.
const COARSE: RfxRectangle = RfxRectangle {
    x: 384,
    y: 320,
    width: 128,
    height: 64,
};

/// Two tiles of little detail.
fn coarse() -> Vec<Vec<u8>> {
    let planes = [coded(0, MISSING, true), coded(1, MISSING, true)];
    let tiles = (6_u16..).zip(&planes).map(|(x_idx, [y_data, cb_data, cr_data])| {
        ProgressiveTile::First(TileFirst {
            quant_idx_y: 0,
            quant_idx_cb: 0,
            quant_idx_cr: 0,
            x_idx,
            y_idx: 5,
            flags: 0,
            quality: 0,
            y_data,
            cb_data,
            cr_data,
            tail_data: &[],
        })
    });
    vec![progressive_stream(5, COARSE, tiles.collect(), MISSING, EXTRAPOLATED)]
}

/// What was missing of them.
fn fine() -> Vec<Vec<u8>> {
    let planes = [upgrade(0, MISSING), upgrade(1, MISSING)];
    let tiles = (6_u16..).zip(&planes).map(|(x_idx, [y, cb, cr])| {
        ProgressiveTile::Upgrade(TileUpgrade {
            quant_idx_y: 0,
            quant_idx_cb: 0,
            quant_idx_cr: 0,
            x_idx,
            y_idx: 5,
            quality: 0xFF,
            y_srl_data: &y.0,
            y_raw_data: &y.1,
            cb_srl_data: &cb.0,
            cb_raw_data: &cb.1,
            cr_srl_data: &cr.0,
            cr_raw_data: &cr.1,
        })
    });
    vec![progressive_stream(6, COARSE, tiles.collect(), MISSING, EXTRAPOLATED)]
}

/// One tile for each way to set the flags of context and region.
fn layouts() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (index, flags) in (0_u16..).zip([(0, 1), (1, 0), (0, 0)]) {
        let [y_data, cb_data, cr_data] = &coded(index.into(), 0, flags.1 == 1);
        let tile = ProgressiveTile::Simple(TileSimple {
            quant_idx_y: 0,
            quant_idx_cb: 0,
            quant_idx_cr: 0,
            x_idx: 10 + index,
            y_idx: 6,
            flags: 0,
            y_data,
            cb_data,
            cr_data,
            tail_data: &[],
        });
        let rect = RfxRectangle {
            x: 640 + 64 * index,
            y: 384,
            width: 64,
            height: 64,
        };
        frames.push(progressive_stream(7 + index as u8, rect, vec![tile], 0, flags));
    }
    frames
}

/// Most that a channel of a pixel may differ, of 255, where a codec loses something: colours are rounded otherwise by one.
const LOSSY_TOLERANCE: u8 = 1;

#[test]
fn what_a_client_shows_of_the_pipeline_is_recorded() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("what_a_client_shows_of_the_pipeline_is_recorded") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let desktop = GraphicsDesktop::start(vec![lossless(), copies(), progressive(), coarse(), fine(), layouts()])?;
    let settings = Settings {
        gateway: ", graphics: gfx".to_owned(),
        more: "log: {level: debug}\n".to_owned(),
        ..Settings::of(desktop.port, "sync")
    };
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &["/gfx"])?;
    client.display.wait_painted(8)?;
    let mut moments = vec![(Moment::now(&client, "codecs without a loss")?, 0)];
    for (place, what, tolerance) in [
        ((900, 730), "copies and the cache", 0),
        ((902, 732), "progressive tiles", LOSSY_TOLERANCE),
        ((904, 734), "a first pass", LOSSY_TOLERANCE),
        ((906, 736), "what was missing of it", LOSSY_TOLERANCE),
        ((908, 738), "both layouts of bands", LOSSY_TOLERANCE),
    ] {
        client.click(place.0, place.1)?;
        let (before, _) = moments.last().context("the moment before")?;
        moments.push((Moment::after(&client, &before.screen, what)?, tolerance));
    }
    for pair in moments.windows(2) {
        let changed = pair[1].0.screen.differing(&pair[0].0.screen, 0);
        assert!(changed > 1000, "{}: {changed} pixels changed", pair[1].0.what);
    }
    client.process.end();

    let offered = desktop.offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(!offered.is_empty());
    for (version, flags) in offered {
        let avc = match version {
            0x0008_0004 => false,
            0x0008_0105 => flags & 0x10 != 0,
            _ => flags & 0x20 == 0,
        };
        assert!(!avc, "H.264 was offered: version {version:#x}, flags {flags:#x}");
    }
    let recording = gateway.wait_recording(0, &["complete"])?;
    let id = recording["id"].as_str().unwrap_or_default();
    for (moment, tolerance) in moments {
        let shown = gateway.frame(id, moment.offset(&recording)?)?;
        let differing: Vec<_> = [0, 1, 2, 4, 8, 12, 20]
            .map(|level| moment.screen.differing(&shown, level))
            .into();
        eprintln!(
            "{}: pixels that differ by more than 0, 1, 2, 4, 8, 12, 20: {differing:?}",
            moment.what
        );
        if moment.screen.differing(&shown, tolerance) > 0 {
            let keep = std::env::temp_dir();
            moment.screen.write_png(&keep.join("deskreel-client.png"))?;
            shown.write_png(&keep.join("deskreel-recording.png"))?;
            panic!(
                "{}: the recording differs; see deskreel-*.png in {}",
                moment.what,
                keep.display()
            );
        }
    }
    let report = gateway.run(&["recordings", "verify", id])?;
    assert_eq!(
        report.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&report.stdout)
    );
    Ok(())
}

#[test]
fn legacy_keeps_the_pipeline_shut() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("legacy_keeps_the_pipeline_shut") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let desktop = GraphicsDesktop::start(vec![lossless()])?;
    let settings = Settings {
        gateway: ", graphics: legacy".to_owned(),
        ..Settings::of(desktop.port, "sync")
    };
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &["/gfx"])?;
    let refused = || Ok(gateway.process.log().contains("dynamic channel refused"));
    peers::process::wait_for(Duration::from_secs(20), "the channel to be refused", refused)?;
    client.process.end();
    let offered = desktop.offered.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert_eq!(offered, 0);
    Ok(())
}

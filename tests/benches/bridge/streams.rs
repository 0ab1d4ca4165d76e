//! What the desktop sends: an office screen that changes, as RDP 6 planar bitmaps and as RemoteFX, in fast-path updates.

use std::ops::Range;

use ironrdp_core::encode_vec;
use ironrdp_graphics::color_conversion::to_64x64_ycbcr_tile;
use ironrdp_graphics::image_processing::PixelFormat;
use ironrdp_graphics::rdp6::{BitmapStreamEncoder, RgbAChannels};
use ironrdp_graphics::rfx_encode_component;
use ironrdp_pdu::codecs::rfx::{
    Block, ChannelsPdu, CodecChannel, CodecVersionsPdu, ContextPdu, EntropyAlgorithm, FrameBeginPdu, FrameEndPdu,
    OperatingMode, Quant, RegionPdu, RfxChannel, RfxRectangle, SyncPdu, Tile, TileSetPdu,
};

/// The desktop's size: whole tiles.
pub(crate) const SIZE: (u16, u16) = (1024, 768);
const TILE: u16 = 64;
/// Screens, one after the other, of a stream.
pub(crate) const SCREENS: usize = 6;
/// Bytes of updates in a PDU, as desktops fill them.
const PDU_BYTES: usize = 15_000;
/// Answers of each kind that the round trips take in turn.
const VARIANTS: usize = 16;
/// Pixels a side of the small answer.
const SMALL: u16 = 16;
/// Bytes of the large answer.
const BURST_BYTES: usize = 64 * 1024;

/// Fast-path update codes ([MS-RDPBCGR] 2.2.9.1.2.1) and where a fragment stands.
const BITMAP: u8 = 1;
const SURFACE_COMMANDS: u8 = 4;
const SINGLE: u8 = 0;
const LAST: u8 = 1 << 4;
const FIRST: u8 = 2 << 4;
const NEXT: u8 = 3 << 4;
/// Bitmap flags: compressed, without the header that says how long it would be otherwise.
const COMPRESSED_WITHOUT_HEADER: u16 = 0x0401;
/// The number that `ironrdp-connector` gives RemoteFX.
const REMOTE_FX: u8 = 3;

/// All that a client can ask for, by number.
pub(crate) struct Replies {
    pub(crate) all: Vec<Vec<u8>>,
    pub(crate) small: Range<usize>,
    pub(crate) burst: Range<usize>,
    pub(crate) planar: usize,
    pub(crate) remote_fx: usize,
}

impl Replies {
    pub(crate) fn new() -> Self {
        let screens: Vec<Screen> = (0..).take(SCREENS).map(Screen::new).collect();
        let planar: Vec<Vec<u8>> = screens.iter().flat_map(planar_pdus).collect();
        let mut all: Vec<Vec<u8>> = (0..VARIANTS).map(|variant| small(&screens, variant)).collect();
        for variant in 0..VARIANTS {
            let mut burst = Vec::new();
            for pdu in planar.iter().cycle().skip(variant * 5) {
                if burst.len() + pdu.len() > BURST_BYTES {
                    break;
                }
                burst.extend_from_slice(pdu);
            }
            all.push(burst);
        }
        all.push(planar.concat());
        all.push(remote_fx(&screens));
        Self {
            all,
            small: 0..VARIANTS,
            burst: VARIANTS..VARIANTS * 2,
            planar: VARIANTS * 2,
            remote_fx: VARIANTS * 2 + 1,
        }
    }
}

/// Pixels of the whole desktop, four bytes each.
struct Screen(Vec<u8>);

impl Screen {
    /// A window of text below its title, with a picture in a corner; each seed has another text and another picture.
    fn new(seed: u32) -> Self {
        let (width, height) = (u32::from(SIZE.0), u32::from(SIZE.1));
        let mut pixels = Vec::with_capacity(usize::from(SIZE.0) * usize::from(SIZE.1) * 4);
        for y in 0..height {
            for x in 0..width {
                let [red, green, blue] = if y < 28 {
                    [30, 60, (x / 8 + seed * 20).min(255) as u8]
                } else if x > width * 3 / 4 && y > height * 3 / 4 {
                    let noise = (hash(x, y, seed) & 7) as u8;
                    let slope = |a: u32, b: u32| (((a * 2 + b + seed * 30) / 3) % 240) as u8 + noise;
                    [slope(x, y), slope(y, x), slope(x + y, seed)]
                } else if is_ink(x, y, seed) {
                    [20, 20, 20]
                } else {
                    [250, 250, 250]
                };
                pixels.extend([red, green, blue, 255]);
            }
        }
        Self(pixels)
    }

    fn crop(&self, left: u16, top: u16, side: u16) -> Vec<u8> {
        let mut pixels = Vec::new();
        for y in top..top + side {
            let at = (usize::from(y) * usize::from(SIZE.0) + usize::from(left)) * 4;
            pixels.extend_from_slice(&self.0[at..at + usize::from(side) * 4]);
        }
        pixels
    }
}

/// Glyphs of 5 by 7 in cells of 8 by 14, words of some length in lines of some length.
fn is_ink(x: u32, y: u32, seed: u32) -> bool {
    let (column, line) = (x / 8, y / 14);
    let (left, top) = (x % 8, y % 14);
    let written = column < 30 + hash(line, 7, seed) % 60 && !hash(column, line, seed + 1).is_multiple_of(6);
    written && left < 5 && (3..10).contains(&top) && {
        let letter = hash(column, line, seed) % 64;
        (hash(letter, 3, 0) >> ((top - 3) * 4 + left)) & 1 == 1
    }
}

fn hash(a: u32, b: u32, c: u32) -> u32 {
    let mixed = a
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add(b.wrapping_mul(0x85EB_CA77))
        .wrapping_add(c.wrapping_mul(0xC2B2_AE3D));
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2C1B_3C6D);
    mixed ^ (mixed >> 13)
}

/// One `TS_BITMAP_DATA`, planar.
fn bitmap(screen: &Screen, left: u16, top: u16, side: u16) -> Vec<u8> {
    // bottom row first
    let pixels: Vec<u8> = screen
        .crop(left, top, side)
        .chunks(usize::from(side) * 4)
        .rev()
        .flatten()
        .copied()
        .collect();
    let mut data = vec![0; pixels.len() * 2 + 64];
    let length = BitmapStreamEncoder::new(side.into(), side.into())
        .encode_bitmap::<RgbAChannels>(&pixels, &mut data, true)
        .unwrap();
    let (right, bottom) = (left + side - 1, top + side - 1);
    let fields = [left, top, right, bottom, side, side, 32, COMPRESSED_WITHOUT_HEADER];
    let mut bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
    bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
    bytes.extend_from_slice(&data[..length]);
    bytes
}

fn bitmap_pdu(bitmaps: &[Vec<u8>]) -> Vec<u8> {
    let mut update = vec![1, 0];
    update.extend(u16::try_from(bitmaps.len()).unwrap().to_le_bytes());
    update.extend(bitmaps.concat());
    fast_path(BITMAP | SINGLE, &update)
}

/// A PDU with one update.
fn fast_path(header: u8, update: &[u8]) -> Vec<u8> {
    let length = u16::try_from(update.len() + 6).unwrap() | 0x8000;
    let mut pdu = vec![0];
    pdu.extend(length.to_be_bytes());
    pdu.push(header);
    pdu.extend(u16::try_from(update.len()).unwrap().to_le_bytes());
    pdu.extend_from_slice(update);
    pdu
}

/// Where its tiles begin.
fn tiles() -> impl Iterator<Item = (u16, u16)> {
    let columns = SIZE.0 / TILE;
    (0..columns * (SIZE.1 / TILE)).map(move |tile| (tile % columns * TILE, tile / columns * TILE))
}

fn planar_pdus(screen: &Screen) -> Vec<Vec<u8>> {
    let (mut pdus, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (left, top) in tiles() {
        let bitmap = bitmap(screen, left, top, TILE);
        if bytes + bitmap.len() > PDU_BYTES {
            pdus.push(bitmap_pdu(&std::mem::take(&mut waiting)));
            bytes = 0;
        }
        bytes += bitmap.len();
        waiting.push(bitmap);
    }
    pdus.push(bitmap_pdu(&waiting));
    pdus
}

/// A letter or two at one place.
fn small(screens: &[Screen], variant: usize) -> Vec<u8> {
    let screen = &screens[variant % screens.len()];
    bitmap_pdu(&[bitmap(screen, 96, 112, SMALL)])
}

/// A message a row of tiles, a surface command a message, in fragments; a frame a screen.
fn remote_fx(screens: &[Screen]) -> Vec<u8> {
    let (width, height) = SIZE;
    let header = [
        Block::Sync(SyncPdu),
        Block::CodecVersions(CodecVersionsPdu),
        Block::Channels(ChannelsPdu(vec![RfxChannel {
            width: i16::try_from(width).unwrap(),
            height: i16::try_from(height).unwrap(),
        }])),
        Block::CodecChannel(CodecChannel::Context(ContextPdu {
            flags: OperatingMode::IMAGE_MODE,
            entropy_algorithm: EntropyAlgorithm::Rlgr3,
        })),
    ];
    let header: Vec<u8> = header.iter().flat_map(|block| encode_vec(block).unwrap()).collect();
    let mut stream = Vec::new();
    for (frame, screen) in (0_u32..).zip(screens) {
        stream.extend(fast_path(SURFACE_COMMANDS | SINGLE, &frame_marker(0, frame)));
        for row in 0..height / TILE {
            let message = [header.clone(), remote_fx_row(screen, frame, row)].concat();
            let command = surface_bits(&message);
            let last = command.len().div_ceil(PDU_BYTES) - 1;
            for (index, fragment) in command.chunks(PDU_BYTES).enumerate() {
                let place = match index {
                    0 if last == 0 => SINGLE,
                    0 => FIRST,
                    _ if index == last => LAST,
                    _ => NEXT,
                };
                stream.extend(fast_path(SURFACE_COMMANDS | place, fragment));
            }
        }
        stream.extend(fast_path(SURFACE_COMMANDS | SINGLE, &frame_marker(1, frame)));
    }
    stream
}

fn remote_fx_row(screen: &Screen, frame: u32, row: u16) -> Vec<u8> {
    let quant = Quant::default();
    let encoded: Vec<[Vec<u8>; 3]> = (0..SIZE.0 / TILE)
        .map(|column| encode_tile(&screen.crop(column * TILE, row * TILE, TILE), &quant))
        .collect();
    let tiles = (0..).zip(&encoded).map(|(x, [y_data, cb_data, cr_data])| Tile {
        y_quant_index: 0,
        cb_quant_index: 0,
        cr_quant_index: 0,
        x,
        y: row,
        y_data,
        cb_data,
        cr_data,
    });
    let blocks = [
        CodecChannel::FrameBegin(FrameBeginPdu {
            index: frame,
            number_of_regions: 1,
        }),
        CodecChannel::Region(RegionPdu {
            rectangles: vec![RfxRectangle {
                x: 0,
                y: row * TILE,
                width: SIZE.0,
                height: TILE,
            }],
        }),
        CodecChannel::TileSet(TileSetPdu {
            entropy_algorithm: EntropyAlgorithm::Rlgr3,
            quants: vec![quant.clone()],
            tiles: tiles.collect(),
        }),
        CodecChannel::FrameEnd(FrameEndPdu),
    ];
    let blocks = blocks.into_iter().map(Block::CodecChannel);
    blocks.flat_map(|block| encode_vec(&block).unwrap()).collect()
}

fn encode_tile(pixels: &[u8], quant: &Quant) -> [Vec<u8>; 3] {
    let (mut y, mut cb, mut cr) = ([0; 4096], [0; 4096], [0; 4096]);
    to_64x64_ycbcr_tile(pixels, 64, 64, 256, PixelFormat::RgbA32, &mut y, &mut cb, &mut cr).unwrap();
    [y, cb, cr].map(|mut plane| {
        let mut data = vec![0; 16_384];
        let length = rfx_encode_component(&mut plane, &mut data, quant, EntropyAlgorithm::Rlgr3).unwrap();
        data.truncate(length);
        data
    })
}

/// Set Surface Bits over the whole desktop ([MS-RDPBCGR] 2.2.9.2.1).
fn surface_bits(message: &[u8]) -> Vec<u8> {
    let (width, height) = SIZE;
    let mut command: Vec<u8> = [1, 0, 0, width, height]
        .iter()
        .flat_map(|field: &u16| field.to_le_bytes())
        .collect();
    command.extend([32, 0, 0, REMOTE_FX]);
    command.extend(width.to_le_bytes());
    command.extend(height.to_le_bytes());
    command.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
    command.extend_from_slice(message);
    command
}

fn frame_marker(action: u8, frame: u32) -> Vec<u8> {
    let mut command = vec![4, 0, action, 0];
    command.extend(frame.to_le_bytes());
    command
}

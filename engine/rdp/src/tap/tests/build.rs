//! PDUs for tests.

use std::collections::BTreeMap;

use ironrdp_core::encode_vec;
use ironrdp_graphics::color_conversion::to_64x64_ycbcr_tile;
use ironrdp_graphics::image_processing::PixelFormat;
use ironrdp_graphics::rdp6::{BitmapStreamEncoder, RgbChannels};
use ironrdp_graphics::rfx_encode_component;
use ironrdp_pdu::codecs::rfx::{
    Block, ChannelsPdu, CodecChannel, CodecVersionsPdu, ContextPdu, EntropyAlgorithm, FrameBeginPdu, FrameEndPdu,
    OperatingMode, Quant, RegionPdu, RfxChannel, RfxRectangle, SyncPdu, Tile, TileSetPdu,
};

use crate::Direction;

fn le16(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap().to_le_bytes()
}

/// TPKT, X.224 and MCS around the data of a channel.
pub(crate) fn mcs(direction: Direction, channel: u16, data: &[u8]) -> Vec<u8> {
    let total = u16::try_from(data.len() + 15).unwrap().to_be_bytes();
    let kind = if direction == Direction::ToClient { 0x68 } else { 0x64 };
    let length = (u16::try_from(data.len()).unwrap() | 0x8000).to_be_bytes();
    let mut pdu = vec![3, 0, total[0], total[1], 2, 0xF0, 0x80, kind, 0, 3];
    pdu.extend(channel.to_be_bytes());
    pdu.extend([0x70, length[0], length[1]]);
    pdu.extend(data);
    pdu
}

pub(crate) fn share_control_body(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut pdu = le16(body.len() + 6).to_vec();
    pdu.extend([0x10 | kind, 0, 0xEA, 3]);
    pdu.extend(body);
    pdu
}

pub(crate) fn share_control(kind: u8, body: &[u8]) -> Vec<u8> {
    mcs(Direction::ToClient, 1003, &share_control_body(kind, body))
}

/// Share data without its share control header.
pub(crate) fn data_body(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut data = vec![1, 0, 1, 0, 0, 1, 0, 0, kind, flags, 0, 0];
    data.extend(body);
    data
}

pub(crate) fn share_data(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    share_control(7, &data_body(kind, flags, body))
}

pub(crate) fn share_data_to_desktop(kind: u8, body: &[u8]) -> Vec<u8> {
    mcs(
        Direction::ToDesktop,
        1003,
        &share_control_body(7, &data_body(kind, 0, body)),
    )
}

pub(crate) fn demand_active(width: u16, height: u16) -> Vec<u8> {
    // Share id, length of the source, length of the sets with their count.
    let mut body = vec![1, 0, 1, 0, 4, 0, 38, 0];
    body.extend(b"RDP\0");
    body.extend([2, 0, 0, 0]);
    // A general set, then the bitmap set.
    body.extend([1, 0, 6, 0, 0, 0, 2, 0, 28, 0, 32, 0, 1, 0, 1, 0, 1, 0]);
    body.extend(width.to_le_bytes());
    body.extend(height.to_le_bytes());
    body.extend([0; 12]);
    // Session id.
    body.extend([0; 4]);
    share_control(1, &body)
}

/// With codecs: first four bytes of the GUID, and id.
pub(crate) fn confirm_active(codecs: &[(u32, u8)]) -> Vec<u8> {
    let mut set = vec![u8::try_from(codecs.len()).unwrap()];
    for (guid, id) in codecs {
        set.extend(guid.to_le_bytes());
        set.extend([0; 12]);
        set.extend([*id, 2, 0, 7, 7]);
    }
    let mut body = vec![1, 0, 1, 0, 0xEA, 3, 4, 0];
    body.extend(le16(set.len() + 8));
    body.extend(b"MSTS");
    body.extend([1, 0, 0, 0, 0x1D, 0]);
    body.extend(le16(set.len() + 4));
    body.extend(set);
    mcs(Direction::ToDesktop, 1003, &share_control_body(3, &body))
}

/// Updates: code, fragment bits, compression flags, data.
pub(crate) fn fast_path(updates: &[(u8, u8, u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, fragment, flags, data) in updates {
        let compression = if *flags == 0 { 0 } else { 0x80 };
        body.push(code | fragment << 4 | compression);
        if *flags != 0 {
            body.push(*flags);
        }
        body.extend(le16(data.len()));
        body.extend(*data);
    }
    framed(0, &body)
}

/// Input events with the header's upper bits and count.
pub(crate) fn fast_path_input(bits: u8, count: u8, events: &[u8]) -> Vec<u8> {
    framed(bits | count << 2, events)
}

fn framed(header: u8, body: &[u8]) -> Vec<u8> {
    let length = (u16::try_from(body.len() + 3).unwrap() | 0x8000).to_be_bytes();
    let mut pdu = vec![header, length[0], length[1]];
    pdu.extend(body);
    pdu
}

/// One `TS_BITMAP_DATA`.
#[derive(Clone)]
pub(crate) struct Bitmap<'a> {
    pub(crate) left: u16,
    pub(crate) top: u16,
    pub(crate) right: u16,
    pub(crate) bottom: u16,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) bits: u16,
    pub(crate) flags: u16,
    pub(crate) data: &'a [u8],
}

impl<'a> Bitmap<'a> {
    pub(crate) fn new(left: u16, top: u16, width: u16, height: u16, bits: u16, flags: u16, data: &'a [u8]) -> Self {
        Self {
            left,
            top,
            right: left + width - 1,
            bottom: top + height - 1,
            width,
            height,
            bits,
            flags,
            data,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let fields = [
            self.left,
            self.top,
            self.right,
            self.bottom,
            self.width,
            self.height,
            self.bits,
            self.flags,
        ];
        let mut bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        bytes.extend(le16(self.data.len()));
        bytes.extend(self.data);
        bytes
    }
}

/// A bitmap update with its type.
pub(crate) fn bitmap_update(bitmaps: &[Bitmap<'_>]) -> Vec<u8> {
    let mut update = vec![1, 0];
    update.extend(le16(bitmaps.len()));
    for bitmap in bitmaps {
        update.extend(bitmap.bytes());
    }
    update
}

/// Pixels with structure and a bit of noise, three bytes each.
pub(crate) fn pattern(width: u32, height: u32, seed: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|index| {
            let (x, y) = (index % width, index / width);
            let value = (x / 3).wrapping_mul(y + seed).wrapping_mul(2_654_435_761).to_le_bytes();
            [value[3], value[2], u8::try_from(seed & 0xFF).unwrap()]
        })
        .collect()
}

pub(crate) fn planar(width: usize, height: usize, rgb: &[u8]) -> Vec<u8> {
    let mut data = vec![0; rgb.len() * 2 + 64];
    let length = BitmapStreamEncoder::new(width, height)
        .encode_bitmap::<RgbChannels>(rgb, &mut data, true)
        .unwrap();
    data.truncate(length);
    data
}

pub(crate) fn surface_bits(x: u16, y: u16, width: u16, height: u16, codec: u8, bits: u8, data: &[u8]) -> Vec<u8> {
    let mut command: Vec<u8> = [1, x, y, x + width, y + height]
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect();
    command.extend([bits, 0, 0, codec]);
    command.extend(width.to_le_bytes());
    command.extend(height.to_le_bytes());
    command.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    command.extend(data);
    command
}

pub(crate) fn frame_marker(action: u8, id: u8) -> Vec<u8> {
    vec![4, 0, action, 0, id, 0, 0, 0]
}

/// A shape update after its header; with a depth it is a new pointer.
pub(crate) fn pointer_shape(
    bits: Option<u16>,
    cache_index: u16,
    hotspot: (u16, u16),
    (width, height): (u16, u16),
    xor: &[u8],
    and: &[u8],
) -> Vec<u8> {
    let mut update = bits.map_or(Vec::new(), |bits| bits.to_le_bytes().to_vec());
    for field in [cache_index, hotspot.0, hotspot.1, width, height] {
        update.extend(field.to_le_bytes());
    }
    update.extend(le16(and.len()));
    update.extend(le16(xor.len()));
    update.extend(xor);
    update.extend(and);
    update
}

/// A RemoteFX message of tiles (column, row, colour), valid in the rectangles.
pub(crate) fn remote_fx(
    width: u16,
    height: u16,
    rectangles: &[(u16, u16, u16, u16)],
    tiles: &[(u16, u16, [u8; 3])],
) -> Vec<u8> {
    let quant = Quant::default();
    let mut encoded = BTreeMap::new();
    for (_, _, color) in tiles {
        encoded.entry(color).or_insert_with(|| encode_tile(*color, &quant));
    }
    let tiles = tiles.iter().map(|(x, y, color)| {
        let [luma, blue, red] = &encoded[color];
        Tile {
            y_quant_index: 0,
            cb_quant_index: 0,
            cr_quant_index: 0,
            x: *x,
            y: *y,
            y_data: luma,
            cb_data: blue,
            cr_data: red,
        }
    });
    let blocks = [
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
        Block::CodecChannel(CodecChannel::FrameBegin(FrameBeginPdu {
            index: 0,
            number_of_regions: 1,
        })),
        Block::CodecChannel(CodecChannel::Region(RegionPdu {
            rectangles: rectangles
                .iter()
                .map(|&(x, y, width, height)| RfxRectangle { x, y, width, height })
                .collect(),
        })),
        Block::CodecChannel(CodecChannel::TileSet(TileSetPdu {
            entropy_algorithm: EntropyAlgorithm::Rlgr3,
            quants: vec![quant.clone()],
            tiles: tiles.collect(),
        })),
        Block::CodecChannel(CodecChannel::FrameEnd(FrameEndPdu)),
    ];
    blocks.iter().flat_map(|block| encode_vec(block).unwrap()).collect()
}

fn encode_tile([red, green, blue]: [u8; 3], quant: &Quant) -> [Vec<u8>; 3] {
    let rgba = [red, green, blue, 255].repeat(64 * 64);
    let (mut y, mut cb, mut cr) = ([0; 4096], [0; 4096], [0; 4096]);
    to_64x64_ycbcr_tile(&rgba, 64, 64, 256, PixelFormat::RgbA32, &mut y, &mut cb, &mut cr).unwrap();
    [y, cb, cr].map(|mut plane| {
        let mut out = vec![0; 8192];
        let length = rfx_encode_component(&mut plane, &mut out, quant, EntropyAlgorithm::Rlgr3).unwrap();
        out.truncate(length);
        out
    })
}

//! Surface commands, [MS-RDPBCGR] 2.2.9.2: split here, decoded one by one.

use super::bitmap::paint_raw;
use super::color::{Depth, Palette};
use super::event::{Decoded, UndecodedKind};
use super::framebuffer::Framebuffer;
use super::nsc::NsCodec;
use super::reader::Reader;
use super::rfx::RemoteFx;
use super::sink::Sink;
use super::work::Work;

const SET_BITS: u16 = 0x0001;
const FRAME_MARKER: u16 = 0x0004;
const STREAM_BITS: u16 = 0x0006;
const MARKER_END: u16 = 0x0001;
const HAS_EXTENDED_HEADER: u8 = 0x01;
const EXTENDED_HEADER_BYTES: usize = 24;

/// A codec of surface bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// RemoteFX, classic and image.
    RemoteFx,
    Nsc,
    /// One that this tap does not decode.
    Other(&'static str),
}

/// Which codec an id means. The client chooses the ids, in every Confirm Active.
pub(super) struct Codecs([Option<Codec>; 256]);

impl Default for Codecs {
    fn default() -> Self {
        Self([None; 256])
    }
}

impl Codecs {
    /// Reads the body of a Bitmap Codecs set (0x1D). Entries beyond the count are read too: a filter lowers the count in
    /// place, and some desktops send the codec all the same.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut codecs = Self::default();
        let mut reader = Reader::new(body);
        // One byte of count.
        if reader.skip(1).is_none() {
            return codecs;
        }
        while let Some((guid, id)) = codecs_entry(&mut reader) {
            let codec = match guid {
                0x7677_2F12 | 0x2744_CCD4 => Codec::RemoteFx,
                0xCA8D_1BB9 => Codec::Nsc,
                0x1BAF_4CE6 => Codec::Other("JPEG"),
                0x9C43_51A6 => Codec::Other("Ignore"),
                _ => Codec::Other("unknown codec"),
            };
            codecs.0[usize::from(id)] = Some(codec);
        }
        codecs
    }

    /// The codec of surface bits, by id; without an entry by the look of the data.
    fn of(&self, id: u8, data: &[u8]) -> Option<Codec> {
        match (id, self.0[usize::from(id)]) {
            (1.., Some(codec)) => Some(codec),
            _ => RemoteFx::is_message(data).then_some(Codec::RemoteFx),
        }
    }
}

fn codecs_entry(reader: &mut Reader<'_>) -> Option<(u32, u8)> {
    let guid = reader.u32()?;
    reader.skip(12)?;
    let id = reader.u8()?;
    let length = reader.len16()?;
    reader.skip(length)?;
    Some((guid, id))
}

/// Surface bits after their command type.
struct Bits<'a> {
    left: u16,
    top: u16,
    bits: u8,
    codec_id: u8,
    width: usize,
    height: usize,
    data: &'a [u8],
}

impl<'a> Bits<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let left = reader.u16()?;
        let top = reader.u16()?;
        // Right and lower edge (exclusive) only repeat the size.
        reader.skip(4)?;
        let bits = reader.u8()?;
        let flags = reader.u8()?;
        reader.skip(1)?;
        let codec_id = reader.u8()?;
        let width = reader.len16()?;
        let height = reader.len16()?;
        let length = reader.len32()?;
        if flags & HAS_EXTENDED_HEADER != 0 {
            reader.skip(EXTENDED_HEADER_BYTES)?;
        }
        let data = reader.take(length)?;
        Some(Self {
            left,
            top,
            bits,
            codec_id,
            width,
            height,
            data,
        })
    }
}

/// Decoders of surface commands.
#[derive(Default)]
pub(super) struct Surfaces {
    pub(super) codecs: Codecs,
    remote_fx: RemoteFx,
    ns_codec: NsCodec,
    pub(super) decoded: Decoded,
}

/// How many pixels could be copied while NSCodec makes one, of which a few bytes fill as many as they like.
const NS_CODEC_PIXEL: u64 = 8;

impl Surfaces {
    /// Takes the commands of one surface update.
    pub(super) fn update(&mut self, screen: &mut Framebuffer, palette: &Palette, data: &[u8], sink: &mut Sink<'_>) {
        let mut reader = Reader::new(data);
        let mut work = Work::of_update(screen);
        while !reader.is_empty() {
            let start = reader.rest();
            let whole = match reader.u16() {
                Some(FRAME_MARKER) => reader.u16().map(|action| {
                    // Some desktops leave the frame id out at the end of an update.
                    let _ = reader.u32();
                    if action == MARKER_END {
                        sink.frame_end();
                    }
                }),
                Some(SET_BITS | STREAM_BITS) => Bits::read(&mut reader).map(|bits| {
                    let unit = &start[..start.len() - reader.rest().len()];
                    self.bits(screen, palette, (&bits, unit), &mut work, sink);
                }),
                Some(kind) => {
                    // Its length is unknown, so all that follows is lost with it.
                    sink.undecoded(
                        UndecodedKind::SurfaceCommand,
                        format!("surface command {kind:#06x}"),
                        start,
                    );
                    return;
                }
                None => None,
            };
            if whole.is_none() {
                sink.undecoded(UndecodedKind::SurfaceCommand, "surface command ends too early", start);
                return;
            }
        }
    }

    /// Takes surface bits, and the whole command that they stand in; `work` is for what else comes of the update, too.
    fn bits(
        &mut self,
        screen: &mut Framebuffer,
        palette: &Palette,
        (bits, unit): (&Bits<'_>, &[u8]),
        work: &mut Work,
        sink: &mut Sink<'_>,
    ) {
        let rect = screen.clip(bits.left.into(), bits.top.into(), bits.width, bits.height);
        let result = match self.codecs.of(bits.codec_id, bits.data) {
            Some(Codec::RemoteFx) => {
                self.decoded.remote_fx += 1;
                let mut damage = |rect| sink.damage(rect);
                let at = (bits.left, bits.top);
                self.remote_fx.paint(screen, at, bits.data, (work, &mut damage))
            }
            Some(Codec::Nsc) => match rect {
                // wholly beyond the picture, or empty
                None => Ok(()),
                Some(rect) => {
                    let size = (bits.width, bits.height);
                    let paid = work.spend(NS_CODEC_PIXEL * (size.0 * size.1) as u64);
                    let painted = paid.and_then(|()| {
                        self.decoded.ns_codec += 1;
                        self.ns_codec.paint(screen, rect, size, bits.data)
                    });
                    painted.map(|()| sink.damage(rect))
                }
            },
            Some(Codec::Other(name)) => Err(format!("no decoder for {name}")),
            None if bits.codec_id == 0 => match (rect, Depth::from_bits(bits.bits.into())) {
                (_, None) => Err(format!("surface bits of {} bpp", bits.bits)),
                (None, _) if bits.width == 0 || bits.height == 0 => Err("empty surface bits".to_owned()),
                // Wholly beyond the picture.
                (None, _) => Ok(()),
                (Some(_), Some(Depth::Rgb8)) if palette.check().is_err() => palette.check(),
                (Some(rect), Some(depth)) => {
                    self.decoded.raw += 1;
                    let stride = bits.width * depth.bytes();
                    paint_raw(screen, palette, rect, depth, (bits.height, stride), bits.data)
                        .map(|()| sink.damage(rect))
                }
            },
            None => Err("codec that the client did not announce".to_owned()),
        };
        if let Err(error) = result {
            sink.undecoded_at(UndecodedKind::SurfaceCommand, Some(bits.codec_id), rect, error, unit);
        }
    }
}

//! Surface commands, [MS-RDPBCGR] 2.2.9.2: split here, decoded one by one.

use super::bitmap::{has_rows, paint_raw};
use super::color::{Depth, Palette};
use super::event::{Decoded, Rect, UndecodedKind};
use super::framebuffer::Framebuffer;
use super::nsc::NsCodec;
use super::pending::Stage;
use super::reader::Reader;
use super::rfx::{Context, RemoteFx};
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
    pub(super) fn of(&self, id: u8, data: &[u8]) -> Option<Codec> {
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
pub(super) struct Bits<'a> {
    left: u16,
    top: u16,
    bits: u8,
    pub(super) codec_id: u8,
    width: usize,
    height: usize,
    pub(super) data: &'a [u8],
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

    /// The bits of a whole command.
    pub(super) fn of_command(unit: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(unit);
        reader.skip(2)?;
        Self::read(&mut reader)
    }

    /// What of the picture lies in their rectangle.
    pub(super) fn place(&self, screen: &Framebuffer) -> Option<Rect> {
        screen.clip(self.left.into(), self.top.into(), self.width, self.height)
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

/// Takes the commands of one surface update apart: surface bits, and the whole command that they stand in.
pub(super) fn commands<'a>(
    data: &'a [u8],
    sink: &mut Sink<'_>,
    mut each: impl FnMut(&Bits<'a>, &'a [u8], &mut Sink<'_>),
) {
    let mut reader = Reader::new(data);
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
                each(&bits, &start[..start.len() - reader.rest().len()], sink);
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

impl Surfaces {
    /// What the next RemoteFX message refers to.
    pub(super) fn context(&self) -> Context {
        self.remote_fx.context()
    }

    /// Paints surface bits, or with [`Stage::Look`] only looks at their headers, and tells what they paint; `work` is for what
    /// else comes of the update, too.
    pub(super) fn paint(
        &mut self,
        screen: &mut Framebuffer,
        palette: &Palette,
        (bits, codec): (&Bits<'_>, Option<Codec>),
        stage: Stage<'_>,
        (work, damage): (&mut Work, &mut impl FnMut(Rect)),
    ) -> Result<(), String> {
        let look = matches!(stage, Stage::Look);
        let rect = bits.place(screen);
        let size = (bits.width, bits.height);
        match codec {
            Some(Codec::RemoteFx) => {
                self.decoded.remote_fx += u64::from(!look);
                let at = (bits.left, bits.top);
                return self.remote_fx.go(screen, at, bits.data, stage, (work, damage));
            }
            Some(Codec::Nsc) => {
                // wholly beyond the picture, or empty
                let Some(rect) = rect else { return Ok(()) };
                work.spend(NS_CODEC_PIXEL * (size.0 * size.1) as u64)?;
                if !look {
                    self.decoded.ns_codec += 1;
                    self.ns_codec.paint(screen, rect, size, bits.data)?;
                }
            }
            Some(Codec::Other(name)) => return Err(format!("no decoder for {name}")),
            None if bits.codec_id == 0 => {
                let depth = Depth::from_bits(bits.bits.into());
                let depth = depth.ok_or_else(|| format!("surface bits of {} bpp", bits.bits))?;
                if size.0 == 0 || size.1 == 0 {
                    return Err("empty surface bits".to_owned());
                }
                // Wholly beyond the picture.
                let Some(rect) = rect else { return Ok(()) };
                if depth == Depth::Rgb8 {
                    palette.check()?;
                }
                let stride = size.0 * depth.bytes();
                has_rows(rect, depth, (size.1, stride), bits.data)?;
                if !look {
                    self.decoded.raw += 1;
                    paint_raw(screen, palette, rect, depth, (size.1, stride), bits.data)?;
                }
            }
            None => return Err("codec that the client did not announce".to_owned()),
        }
        rect.into_iter().for_each(damage);
        Ok(())
    }
}

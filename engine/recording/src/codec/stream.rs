//! The zstd stream of a span.

use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

use super::WINDOW_LOG;
use crate::{Error, Result};

/// The cheapest match finder. Long-distance matching finds what repeats on a desktop, so a better one costs a third more time and
/// gains nothing on office work; measured with `benches/screen.rs` and the streams of `tests/benches/bridge`.
const LEVEL: i32 = 1;
/// Table of the match finder: a little larger than the level's own, for pictures that are noisy from a lossy codec.
const HASH_LOG: u32 = 15;
/// One place in so many (as a power of two) is remembered by long-distance matching: twice as many as by default.
const LONG_RATE_LOG: u32 = 6;
/// And so few places for a hash, of which each has to be looked at: a quarter of the default.
const LONG_BUCKET_LOG: u32 = 2;
/// Room that is made for output at least.
const STEP: usize = 64 << 10;

/// Compresses frames; about 10 MiB once it is in use.
pub(super) struct Compressor(Encoder<'static>);

impl Compressor {
    pub(super) fn new() -> Result<Self> {
        let failed = |error| Error::internal("start compressor", error);
        let mut encoder = Encoder::new(LEVEL).map_err(failed)?;
        for parameter in [
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::HashLog(HASH_LOG),
            CParameter::EnableLongDistanceMatching(true),
            CParameter::LdmHashRateLog(LONG_RATE_LOG),
            CParameter::LdmBucketSizeLog(LONG_BUCKET_LOG),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
        ] {
            encoder.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self(encoder))
    }

    /// Begins a new stream; what was before is forgotten.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.0
            .reinit()
            .map_err(|error| Error::internal("restart compressor", error))
    }

    /// Compresses a part of a frame and appends to `out` what that gives by now.
    pub(super) fn part(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let mut input = InBuffer::around(raw);
        while input.pos() < raw.len() {
            out.reserve(STEP);
            let filled = out.len();
            self.0
                .run(&mut input, &mut OutBuffer::around_pos(out, filled))
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Ends a frame: appends all that is left of it.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<()> {
        loop {
            out.reserve(STEP);
            let filled = out.len();
            if self.0.flush(&mut OutBuffer::around_pos(out, filled)).map_err(failed)? == 0 {
                return Ok(());
            }
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::internal("compress frame", error)
}

/// Decompresses frames; the window is bounded by the format.
pub(super) struct Decompressor(Decoder<'static>);

impl Decompressor {
    pub(super) fn new() -> Result<Self> {
        let failed = |error| Error::internal("start decompressor", error);
        let mut decoder = Decoder::new().map_err(failed)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .map_err(failed)?;
        Ok(Self(decoder))
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        self.0
            .reinit()
            .map_err(|error| Error::internal("restart decompressor", error))
    }

    /// Decompresses a message into `out`. `limit` tells, from the bytes so far, how many there may be in all; it is asked
    /// before memory is taken, and one byte more is an error.
    pub(super) fn message(
        &mut self,
        message: &[u8],
        out: &mut Vec<u8>,
        limit: impl Fn(&[u8]) -> Result<usize>,
    ) -> Result<()> {
        out.clear();
        let mut input = InBuffer::around(message);
        loop {
            let filled = out.len();
            let allowed = limit(out)?;
            // One byte of room beyond the limit, so that too long a frame is noticed.
            let room = (allowed + 1).saturating_sub(filled).min(STEP.max(filled)).max(1);
            out.reserve(room);
            let before = input.pos();
            let full = {
                let mut buffer = OutBuffer::around_pos(out, filled);
                let run = self.0.run(&mut input, &mut buffer);
                run.map_err(|error| Error::malformed(format!("screen message: {error}")))?;
                buffer.pos() == buffer.capacity()
            };
            if out.len() > limit(out)? {
                return Err(Error::malformed("screen message: frame is longer than it states"));
            }
            let consumed = input.pos() == message.len();
            if consumed && !full {
                return Ok(());
            }
            if input.pos() == before && out.len() == filled {
                return Err(Error::malformed("screen message: no progress"));
            }
        }
    }
}

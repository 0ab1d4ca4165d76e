//! Bulk compression: one history a direction, shared by the fast and the slow path and by compressed channel chunks.

use ironrdp_bulk::{BulkCompressor, CompressionType};

use super::guard::guarded;
use super::mppc::{Mppc, Variant};

pub(super) const COMPRESSED: u8 = 0x20;
pub(super) const AT_FRONT: u8 = 0x40;
pub(super) const FLUSHED: u8 = 0x80;

/// The decompressor of one direction.
#[derive(Default)]
pub(super) struct Bulk {
    /// The history of types 0 and 1, made on first use.
    mppc: Option<Mppc>,
    /// Those of the other types: some megabytes, so made on first use.
    others: Option<Box<BulkCompressor>>,
    /// Something failed: what follows refers to a history that is not there, until the sender starts a new one.
    lost: bool,
}

/// Decompressed bytes, and whether they are the first after a loss.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain<'a> {
    pub(super) data: &'a [u8],
    pub(super) restored: bool,
}

impl Bulk {
    /// Compressed data was dropped unseen: the history is not the sender's any more.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// Whether compressed data can be decompressed. A history that was never used can't have been lost; should the first
    /// compressed data come behind a loss, it is refused all the same.
    pub(super) fn is_right(&self) -> bool {
        !self.lost || self.mppc.is_none() && self.others.is_none()
    }

    /// `flags` as on the wire: the type in the low four bits, then compressed, at front and flushed.
    pub(super) fn decompress<'a>(&'a mut self, flags: u8, data: &'a [u8]) -> Result<Plain<'a>, String> {
        if flags & (COMPRESSED | AT_FRONT | FLUSHED) == 0 {
            return Ok(Plain { data, restored: false });
        }
        let Self { mppc, others, lost } = self;
        let kind = flags & 0x0F;
        let restored = *lost && flags & FLUSHED != 0;
        if restored {
            *lost = false;
        }
        if *lost {
            // Bytes that are not compressed don't need the history.
            return match flags & COMPRESSED {
                0 => Ok(Plain { data, restored: false }),
                _ => Err(format!("type {kind}: history is lost since an earlier failure")),
            };
        }
        let error = if let Some(variant) = Variant::of(kind) {
            match mppc.get_or_insert_default().decompress(variant, flags, data) {
                Ok(data) => return Ok(Plain { data, restored }),
                Err(error) => error.to_owned(),
            }
        } else {
            let others = others.get_or_insert_with(|| Box::new(BulkCompressor::new(CompressionType::Rdp6)));
            match guarded("decompressor", || others.decompress(data, u32::from(flags))) {
                Ok(Ok(data)) => return Ok(Plain { data, restored }),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error,
            }
        };
        *lost = true;
        Err(format!("type {kind}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn compress(sender: &mut BulkCompressor, text: &[u8]) -> (u8, Vec<u8>) {
        let (length, flags) = sender.compress(text).unwrap();
        assert_ne!(flags & 0x20, 0, "did not compress");
        (u8::try_from(flags).unwrap(), sender.compressed_data(length).to_vec())
    }

    fn text(number: usize) -> Vec<u8> {
        format!("line {number}: the quick brown fox jumps over the lazy dog, the lazy dog, the dog. ")
            .repeat(3)
            .into_bytes()
    }

    #[test]
    fn all_types_keep_their_history() {
        for kind in [
            CompressionType::Rdp4,
            CompressionType::Rdp5,
            CompressionType::Rdp6,
            CompressionType::Rdp61,
        ] {
            let mut sender = BulkCompressor::new(kind);
            let mut bulk = Bulk::default();
            for number in 0..200 {
                let (flags, data) = compress(&mut sender, &text(number));
                assert_eq!(
                    bulk.decompress(flags, &data).unwrap().data,
                    text(number),
                    "{kind:?} {number}"
                );
            }
        }
    }

    #[test]
    fn what_was_dropped_is_missed_until_a_flush() {
        let mut sender = BulkCompressor::new(CompressionType::Rdp5);
        let mut bulk = Bulk::default();
        bulk.lose();
        assert!(bulk.is_right(), "nothing was ever compressed");
        let (flags, data) = compress(&mut sender, &text(1));
        assert!(bulk.decompress(flags & !FLUSHED, &data).is_err());
        assert!(bulk.decompress(flags | FLUSHED, &data).unwrap().restored);
        // This one is dropped; the next one refers to it and would come out as garbage without an error.
        compress(
            &mut sender,
            b"another text that stands where no other one has stood before, before, before",
        );
        bulk.lose();
        assert!(!bulk.is_right());
        let (flags, data) = compress(&mut sender, &text(1));
        assert!(bulk.decompress(flags, &data).unwrap_err().contains("lost"));
        let (flags, data) = compress(&mut BulkCompressor::new(CompressionType::Rdp5), &text(3));
        assert_eq!(bulk.decompress(flags | FLUSHED, &data).unwrap().data, text(3));
        assert!(bulk.is_right());
    }

    #[test]
    fn plain_data_passes() {
        assert_eq!(
            Bulk::default().decompress(0x01, b"abc").unwrap(),
            Plain {
                data: b"abc",
                restored: false
            }
        );
    }

    #[test]
    fn after_a_failure_only_a_flush_helps() {
        let mut sender = BulkCompressor::new(CompressionType::Rdp5);
        let mut bulk = Bulk::default();
        let (flags, data) = compress(&mut sender, &text(1));
        assert!(bulk.decompress(flags, &data).is_ok());
        // Type 9 does not exist.
        assert!(bulk.decompress(0x29, b"xxxx").unwrap_err().starts_with("type 9: "));
        let (flags, data) = compress(&mut sender, &text(2));
        assert!(bulk.decompress(flags, &data).unwrap_err().contains("lost"));
        assert!(!bulk.decompress(0x01, b"plain").unwrap().restored);
        let (flags, data) = compress(&mut BulkCompressor::new(CompressionType::Rdp5), &text(3));
        let plain = bulk.decompress(flags | 0x80, &data).unwrap();
        assert_eq!((plain.data, plain.restored), (text(3).as_slice(), true));
        assert!(!bulk.decompress(0x01, b"plain").unwrap().restored);
    }
}

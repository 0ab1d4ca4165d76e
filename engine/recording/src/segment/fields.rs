//! Records and their fields, checked against the bytes that are there.

use std::ops::Range;

use crate::{Error, Result};

/// Opcode and length of a record.
const RECORD_HEADER: usize = 9;

/// A record: its kind, its contents, and where the whole record is.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) opcode: u8,
    pub(super) body: &'a [u8],
    pub(super) place: Range<usize>,
}

/// The record at an offset; `None` where the bytes end before it does.
pub(super) fn record(bytes: &[u8], at: usize) -> Result<Option<Record<'_>>> {
    let Some(header) = bytes.get(at..).and_then(<[u8]>::first_chunk::<RECORD_HEADER>) else {
        return Ok(None);
    };
    let [opcode, length @ ..] = *header;
    if opcode == 0 {
        return Err(Error::malformed(format!("record of kind 0 at {at}")));
    }
    let start = at + RECORD_HEADER;
    let end = usize::try_from(u64::from_le_bytes(length))
        .ok()
        .and_then(|length| start.checked_add(length));
    let Some(end) = end else { return Ok(None) };
    Ok(bytes.get(start..end).map(|body| Record {
        opcode,
        body,
        place: at..end,
    }))
}

/// The records of a range of the bytes, up to the first that is not whole.
pub(super) fn records(bytes: &[u8], range: Range<usize>) -> impl Iterator<Item = Result<Record<'_>>> {
    let bytes = bytes.get(..range.end).unwrap_or_default();
    let mut at = Some(range.start);
    std::iter::from_fn(move || {
        let here = at.take()?;
        match record(bytes, here) {
            Ok(Some(record)) => {
                at = Some(record.place.end);
                Some(Ok(record))
            }
            Ok(None) if here >= bytes.len() => None,
            Ok(None) => Some(Err(Error::malformed(format!("record at {here} is cut")))),
            Err(error) => Some(Err(error)),
        }
    })
}

/// Takes fields from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| Error::malformed("record is too short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| Error::malformed("record is too short"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.bytes(length)?).map_err(|error| Error::malformed(format!("record: {error}")))
    }

    /// A part with its length in bytes before it.
    pub(super) fn part(&mut self) -> Result<Self> {
        let length = self.u32()? as usize;
        self.bytes(length).map(Self)
    }

    pub(super) fn string_map(&mut self) -> Result<Vec<(&'a str, &'a str)>> {
        let mut part = self.part()?;
        let mut map: Vec<(&str, &str)> = Vec::new();
        while !part.0.is_empty() {
            let (key, value) = (part.string()?, part.string()?);
            if map.iter().any(|(other, _)| *other == key) {
                return Err(Error::malformed(format!("record has {key:?} twice")));
            }
            // Our records have a handful of entries; this also keeps the search above cheap.
            if map.len() == 64 {
                return Err(Error::too_large("record has more than 64 entries"));
            }
            map.push((key, value));
        }
        Ok(map)
    }
}

//! What a plugin's file says about itself, read from its ELF section without running any of it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use deskreel_sdk::abi::meta::{Meta, SECTION, SECTION_MAX_BYTES};

/// Most program and section headers that a library may have; real ones have dozens.
const HEADERS_MAX: u64 = 1024;
/// Largest table of section names.
const NAMES_MAX_BYTES: u64 = 1 << 20;

const ELF_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
const SECTION_HEADER_BYTES: u64 = 64;
const SHARED_OBJECT: u16 = 3;
const LOADED_SEGMENT: u32 = 1;
const SECTION_WITHOUT_BYTES: u32 = 8;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(target_arch = "riscv64")]
const MACHINE: u16 = 243;

/// Reads a plugin's metadata. A file that is cut off anywhere is refused: mapping it would end the process with SIGBUS.
pub(crate) fn read(path: &Path) -> Result<Meta, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let section = Elf { file: &file, size }.section(SECTION)?;
    // Linkers pad with zeros.
    let meta: Meta = serde_json::from_slice(trimmed(&section))
        .map_err(|error| format!("is not a Deskreel plugin: its section {SECTION} is not understood: {error}"))?;
    Ok(meta)
}

fn trimmed(section: &[u8]) -> &[u8] {
    let length = section.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    section.get(..length).unwrap_or_default()
}

struct Elf<'a> {
    file: &'a File,
    size: u64,
}

impl Elf<'_> {
    fn section(&self, wanted: &str) -> Result<Vec<u8>, String> {
        let header = self.bytes(0, ELF_HEADER_BYTES as u64).map_err(|_| not_a_library())?;
        // 64 bits, little-endian.
        if !header.starts_with(b"\x7fELF\x02\x01") || u16_at(&header, 16) != Some(SHARED_OBJECT) {
            return Err(not_a_library());
        }
        if u16_at(&header, 18) != Some(MACHINE) {
            return Err("is a library for another kind of processor".to_owned());
        }
        self.check_segments(&header)?;
        let (table, entry, count) = (u64_at(&header, 40), u16_at(&header, 58), u16_at(&header, 60));
        let sections = self.table(table, entry, count, SECTION_HEADER_BYTES)?;
        let names =
            u16_at(&header, 62).and_then(|index| sections.chunks(SECTION_HEADER_BYTES as usize).nth(index.into()));
        let names = names
            .and_then(span)
            .filter(|(_, length)| *length <= NAMES_MAX_BYTES)
            .ok_or_else(cut_off)?;
        let names = self.bytes(names.0, names.1)?;
        for section in sections.chunks(SECTION_HEADER_BYTES as usize) {
            let name = u32_at(section, 0)
                .and_then(|at| names.get(at as usize..))
                .unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if name != wanted.as_bytes() || u32_at(section, 4) == Some(SECTION_WITHOUT_BYTES) {
                continue;
            }
            let (offset, length) = span(section).ok_or_else(cut_off)?;
            if length > SECTION_MAX_BYTES as u64 {
                return Err(format!(
                    "is not a Deskreel plugin: its section {wanted} has {length} bytes"
                ));
            }
            return self.bytes(offset, length);
        }
        Err(format!(
            "is not a Deskreel plugin: a library without the section {wanted}"
        ))
    }

    /// Everything that the dynamic linker maps must be there.
    fn check_segments(&self, header: &[u8]) -> Result<(), String> {
        let (table, entry, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
        let segments = self.table(table, entry, count, PROGRAM_HEADER_BYTES)?;
        for segment in segments.chunks(PROGRAM_HEADER_BYTES as usize) {
            let end = u64_at(segment, 8)
                .zip(u64_at(segment, 32))
                .and_then(|(offset, length)| offset.checked_add(length));
            if u32_at(segment, 0) == Some(LOADED_SEGMENT) && end.is_none_or(|end| end > self.size) {
                return Err(cut_off());
            }
        }
        Ok(())
    }

    fn table(&self, offset: Option<u64>, entry: Option<u16>, count: Option<u16>, size: u64) -> Result<Vec<u8>, String> {
        let (offset, count) = offset.zip(count.map(u64::from)).ok_or_else(cut_off)?;
        if entry.map(u64::from) != Some(size) || count == 0 || count > HEADERS_MAX {
            return Err("is not a Deskreel plugin: a library with an odd table of headers".to_owned());
        }
        self.bytes(offset, count * size)
    }

    /// A stretch of the file; the caller has bounded its length.
    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, String> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(cut_off());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| cut_off())?];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

fn not_a_library() -> String {
    "is not a Deskreel plugin: not a shared library".to_owned()
}

fn cut_off() -> String {
    "is not a Deskreel plugin: a shared library that is damaged or cut off".to_owned()
}

/// Offset and length of a section.
fn span(section: &[u8]) -> Option<(u64, u64)> {
    u64_at(section, 24).zip(u64_at(section, 32))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

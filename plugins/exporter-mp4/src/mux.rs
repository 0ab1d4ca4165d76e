//! Encoded pictures into an MP4 file whose index comes first, so that a browser plays it while it loads.
//!
//! The index (`moov`) is only known at the end: pictures wait in a nameless temporary file beside the output.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use deskreel_sdk::video::Container;
use deskreel_sdk::{Error, ErrorContext as _, Output, Result};
use mp4_atom::{
    Avc1, Avcc, Co64, Colr, Compressor, Encode as _, FourCC, Ftyp, Mdhd, Mdia, Minf, Moov, Mvhd, Stbl, Stco, Stsc,
    StscEntry, Stsd, Stss, Stsz, StszSamples, Stts, SttsEntry, Tkhd, TrackReferenceTypeBox, Trak, Tref, Visual, Vmhd,
};

use crate::describe::{self, Chapter, Facts, boxes, handler, this_file};

/// Ticks a second of the movie and its video track.
const TIMESCALE: u32 = 90_000;
/// Number of the chapter track.
const CHAPTER_TRACK: u32 = 2;
/// Seconds from 1904-01-01, where MP4's times start, to 1970-01-01.
const EPOCH_1904: i64 = 2_082_844_800;

/// NAL unit types ([H.264] table 7-1).
const NAL_SLICE: u8 = 1;
const NAL_SEI: u8 = 6;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// When it is shown first, in ticks.
    start: u64,
    size: u32,
    key: bool,
}

/// An MP4 file under way.
pub struct Muxer {
    output: Output,
    facts: Facts,
    pictures: BufWriter<File>,
    samples: Vec<Sample>,
    chapters: Vec<Chapter>,
    parameters: Option<(Vec<u8>, Vec<u8>)>,
}

impl Muxer {
    pub(crate) fn new(output: Output, facts: Facts) -> Result<Self> {
        let folder = output.path().parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| ".".as_ref());
        let pictures = tempfile::tempfile_in(folder)
            .map_err(|error| Error::from(error).with_context(format!("temporary file in {}", folder.display())))?;
        Ok(Self {
            output,
            facts,
            pictures: BufWriter::with_capacity(1 << 20, pictures),
            samples: Vec::new(),
            chapters: Vec::new(),
            parameters: None,
        })
    }

    fn index(&self, avcc: &Avcc, end_ns: u64, first_offset: u64, wide: bool) -> Result<Moov> {
        let last_start = self.samples.last().map_or(0, |sample| sample.start);
        let duration = ticks(end_ns).max(last_start + 1);
        let created = self
            .facts
            .started_unix
            .and_then(|unix| u64::try_from(unix + EPOCH_1904).ok())
            .unwrap_or(0);
        let side = |side: u32| u16::try_from(side).map_err(|_| Error::internal("video too large"));
        let (width, height) = (side(self.facts.width)?, side(self.facts.height)?);
        let sample_entry = Avc1 {
            visual: Visual {
                data_reference_index: 1,
                width,
                height,
                compressor: Compressor::from("openh264"),
                ..Visual::default()
            },
            avcc: avcc.clone(),
            // BT.709, limited range: the same as in the stream.
            colr: Some(Colr::Nclx {
                colour_primaries: 1,
                transfer_characteristics: 1,
                matrix_coefficients: 1,
                full_range_flag: false,
            }),
            ..Avc1::default()
        };
        let track = Trak {
            tkhd: Tkhd {
                creation_time: created,
                modification_time: created,
                track_id: 1,
                duration,
                enabled: true,
                in_movie: true,
                width: width.into(),
                height: height.into(),
                ..Tkhd::default()
            },
            mdia: Mdia {
                mdhd: Mdhd {
                    creation_time: created,
                    modification_time: created,
                    timescale: TIMESCALE,
                    duration,
                    language: "und".into(),
                },
                hdlr: handler(b"vide", "screen"),
                minf: Minf {
                    vmhd: Some(Vmhd::default()),
                    dinf: this_file(),
                    stbl: self.table(sample_entry, duration, first_offset, wide),
                    ..Minf::default()
                },
            },
            tref: (!self.chapters.is_empty()).then(|| Tref {
                track_reference_type_boxes: vec![TrackReferenceTypeBox {
                    reference_type: FourCC::new(b"chap"),
                    track_ids: vec![CHAPTER_TRACK],
                }],
            }),
            ..Trak::default()
        };
        let mut tracks = vec![track];
        if !self.chapters.is_empty() {
            let pictures: u64 = self.samples.iter().map(|sample| u64::from(sample.size)).sum();
            let offset = first_offset + pictures;
            let movie = (created, duration);
            tracks.push(describe::track(
                &self.chapters,
                CHAPTER_TRACK,
                end_ns,
                movie,
                offset,
                wide,
            ));
        }
        Ok(Moov {
            mvhd: Mvhd {
                creation_time: created,
                modification_time: created,
                timescale: TIMESCALE,
                duration,
                rate: 1.into(),
                volume: 1.into(),
                next_track_id: CHAPTER_TRACK + 1,
                ..Mvhd::default()
            },
            trak: tracks,
            meta: self.facts.details(),
            udta: Some(self.facts.description(&self.chapters)?),
            ..Moov::default()
        })
    }

    /// Times, sizes and places of the pictures. One chunk a group of pictures.
    fn table(&self, sample_entry: Avc1, duration: u64, first_offset: u64, wide: bool) -> Stbl {
        let mut deltas: Vec<SttsEntry> = Vec::new();
        let mut keys = Vec::new();
        let mut chunks: Vec<(u64, u32)> = Vec::new();
        let mut offset = first_offset;
        let mut shown = 0;
        let ends = self.samples.iter().skip(1).map(|next| next.start).chain([duration]);
        for (number, (sample, end)) in (1_u32..).zip(self.samples.iter().zip(ends)) {
            // The first picture is shown from 0 on. None is shown too long for its field: the job repeats a picture that stays.
            let delta = u32::try_from(end.saturating_sub(shown)).unwrap_or(u32::MAX);
            shown = end.max(shown);
            match deltas.last_mut() {
                Some(last) if last.sample_delta == delta => last.sample_count += 1,
                _ => deltas.push(SttsEntry {
                    sample_count: 1,
                    sample_delta: delta,
                }),
            }
            if sample.key {
                keys.push(number);
            }
            match chunks.last_mut() {
                Some((_, count)) if !sample.key => *count += 1,
                _ => chunks.push((offset, 1)),
            }
            offset += u64::from(sample.size);
        }
        let mut runs: Vec<StscEntry> = Vec::new();
        for (number, (_, count)) in (1_u32..).zip(&chunks) {
            if runs.last().is_none_or(|last| last.samples_per_chunk != *count) {
                runs.push(StscEntry {
                    first_chunk: number,
                    samples_per_chunk: *count,
                    sample_description_index: 1,
                });
            }
        }
        let narrow = |offset: u64| u32::try_from(offset).unwrap_or(u32::MAX);
        Stbl {
            stsd: Stsd {
                codecs: vec![sample_entry.into()],
            },
            stts: Stts { entries: deltas },
            stss: Some(Stss { entries: keys }),
            stsc: Stsc { entries: runs },
            stsz: Stsz {
                samples: StszSamples::Different {
                    sizes: self.samples.iter().map(|sample| sample.size).collect(),
                },
            },
            stco: (!wide).then(|| Stco {
                entries: chunks.iter().map(|(offset, _)| narrow(*offset)).collect(),
            }),
            co64: wide.then(|| Co64 {
                entries: chunks.iter().map(|(offset, _)| *offset).collect(),
            }),
            ..Stbl::default()
        }
    }
}

impl Container for Muxer {
    /// Takes an Annex B byte stream. One without a slice (the encoder skipped it) adds
    /// nothing: the picture before it stays.
    fn push(&mut self, time_ns: u64, key: bool, annex_b: Vec<u8>) -> Result<()> {
        let mut size = 0_u32;
        let mut sps = None;
        let mut pps = None;
        for unit in nal_units(&annex_b) {
            match unit.first().map(|header| header & 0x1f) {
                Some(NAL_SPS) => sps = Some(unit),
                Some(NAL_PPS) => pps = Some(unit),
                Some(NAL_SLICE..=NAL_SEI) => {
                    let length = u32::try_from(unit.len()).map_err(|_| Error::internal("picture over 4 GiB"))?;
                    self.pictures
                        .write_all(&length.to_be_bytes())
                        .context("write pictures")?;
                    self.pictures.write_all(unit).context("write pictures")?;
                    size = size.saturating_add(length).saturating_add(4);
                }
                _ => {}
            }
        }
        if let (Some(sps), Some(pps)) = (sps, pps) {
            match &self.parameters {
                None => self.parameters = Some((sps.to_vec(), pps.to_vec())),
                Some((known_sps, known_pps)) if known_sps == sps && known_pps == pps => {}
                Some(_) => return Err(Error::internal("the encoder changed its parameters")),
            }
        }
        if size > 0 {
            self.samples.push(Sample {
                start: ticks(time_ns),
                size,
                key,
            });
        }
        Ok(())
    }

    /// Adds a chapter; calls come in time order.
    fn chapter(&mut self, time_ns: u64, title: &str) {
        describe::add(&mut self.chapters, time_ns, title);
    }

    /// Writes the file; the last picture is shown until `end_ns`. Returns pictures and bytes.
    fn finish(mut self, end_ns: u64) -> Result<(u64, u64)> {
        self.pictures.flush().context("write pictures")?;
        let (sps, pps) = self
            .parameters
            .take()
            .ok_or_else(|| Error::invalid_input("nothing to export: the recording has no picture in this stretch"))?;
        let pictures_size: u64 = self.samples.iter().map(|sample| u64::from(sample.size)).sum();
        let mut head = Vec::new();
        brand().encode(&mut head).map_err(boxes)?;
        // No chapter begins after the end.
        self.chapters
            .retain(|chapter| chapter.start_ns == 0 || chapter.start_ns < end_ns);
        let texts = describe::samples(&self.chapters);
        let samples_size = pictures_size + texts.len() as u64;
        // The offsets depend on the size of the index, its size on their width alone.
        let wide = samples_size > u64::from(u32::MAX) - (64 << 20);
        let avcc = Avcc::new(&sps, &pps).map_err(boxes)?;
        let index_size = {
            let mut index = Vec::new();
            self.index(&avcc, end_ns, 0, wide)?.encode(&mut index).map_err(boxes)?;
            index.len()
        };
        let mdat_header: u64 = if wide { 16 } else { 8 };
        let first = (head.len() + index_size) as u64 + mdat_header;
        self.index(&avcc, end_ns, first, wide)?
            .encode(&mut head)
            .map_err(boxes)?;
        if wide {
            head.extend_from_slice(&1_u32.to_be_bytes());
            head.extend_from_slice(b"mdat");
            head.extend_from_slice(&(samples_size + mdat_header).to_be_bytes());
        } else {
            let size = u32::try_from(samples_size + mdat_header).unwrap_or(u32::MAX);
            head.extend_from_slice(&size.to_be_bytes());
            head.extend_from_slice(b"mdat");
        }
        let mut pictures = self
            .pictures
            .into_inner()
            .map_err(|error| Error::from(error.into_error()))?;
        pictures.seek(SeekFrom::Start(0)).context("read pictures")?;
        let mut file = self.output.create()?;
        let written = file
            .write_all(&head)
            .and_then(|()| std::io::copy(&mut BufReader::new(pictures).take(pictures_size), &mut file))
            .and_then(|copied| file.write_all(&texts).map(|()| copied));
        match written {
            Ok(copied) if copied == pictures_size => {}
            Ok(_) => return Err(Error::internal("the temporary file got shorter")),
            Err(error) => return Err(Error::from(error).with_context(self.output.path().display())),
        }
        file.sync_all()
            .with_context(|| self.output.path().display().to_string())?;
        Ok((self.samples.len() as u64, head.len() as u64 + samples_size))
    }
}

fn brand() -> Ftyp {
    Ftyp {
        major_brand: FourCC::new(b"isom"),
        minor_version: 512,
        compatible_brands: [b"isom", b"iso2", b"avc1", b"mp41"].map(FourCC::new).to_vec(),
    }
}

fn ticks(time_ns: u64) -> u64 {
    // Rounded once, from the start: errors don't add up.
    let ticks = (u128::from(time_ns) * u128::from(TIMESCALE) + 500_000_000) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The NAL units of an Annex B byte stream, without their start codes.
fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = skip_start_code(stream).unwrap_or(&[]);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = (0..rest.len())
            .find(|at| rest[*at..].starts_with(&[0, 0, 1]))
            .unwrap_or(rest.len());
        let (unit, after) = rest.split_at(end);
        rest = after.get(3..).unwrap_or(&[]);
        // Zeros before a start code belong to it; a unit never ends with one.
        let length = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Some(&unit[..length])
    })
}

fn skip_start_code(stream: &[u8]) -> Option<&[u8]> {
    let at = (0..stream.len()).find(|at| stream[*at..].starts_with(&[0, 0, 1]))?;
    stream.get(at + 3..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_split_at_both_start_codes() {
        let stream = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 0, 0, 3, 1, 9];
        let units: Vec<&[u8]> = nal_units(&stream).collect();
        assert_eq!(units, [&[0x67, 1][..], &[0x68, 2], &[0x65, 0, 0, 3, 1, 9]]);
        assert_eq!(nal_units(&[]).count(), 0);
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
        assert_eq!(nal_units(&[0, 0, 1]).count(), 0);
    }

    #[test]
    fn ticks_are_rounded_from_the_start() {
        assert_eq!(ticks(0), 0);
        assert_eq!(ticks(1_000_000_000), 90_000);
        assert_eq!(ticks(33_333_333), 3_000);
        // A frame at every 7 ms: no drift after a day.
        let day = 86_400_000_000_000 / 7_000_000 * 7_000_000;
        assert_eq!(ticks(day), day * 9 / 100_000);
    }
}

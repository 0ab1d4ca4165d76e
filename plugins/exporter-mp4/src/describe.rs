//! What the file says beside the pictures: facts of the session, and chapters in both ways that players know, a list (`chpl`) and
//! a track of texts that QuickTime reads.

use deskreel_sdk::{Error, Result, VideoParams};
use mp4_atom::{
    Chpl, ChplEntry, Co64, Codec, Desc, Dinf, Dref, DrefEntry, FourCC, Hdlr, Ilst, IlstData, IlstDataValue, KeyEntry,
    Keys, Mdhd, Mdia, Meta, Minf, Nmhd, RgbaColor, Stbl, Stco, Stsc, StscEntry, Stsd, Stsz, StszSamples, Stts,
    SttsEntry, Tkhd, Tool, Trak, Tx3g, Udta, Url,
};

/// Ticks a second of the chapter track: a chapter's length has 32 bits, 49 days.
const CHAPTER_TIMESCALE: u32 = 1000;
/// Chapters that the list takes: their number has 8 bits.
const LIST_MAX: usize = 255;
/// Bytes of a chapter's title: its length has 8 bits.
const TITLE_MAX_BYTES: usize = 255;
/// Chapters that begin within so long are one: nobody can choose between them.
const APART_NS: u64 = 500_000_000;

/// What the file says beside the pictures.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) title: String,
    /// Seconds since 1970 of time 0.
    pub(crate) started_unix: Option<i64>,
    /// Names and values for those who look closer.
    pub(crate) details: Vec<(&'static str, String)>,
}

impl Facts {
    /// The facts of an export whose video has this size.
    pub(crate) fn new(video: &VideoParams, (width, height): (u32, u32)) -> Self {
        Self {
            width,
            height,
            title: video.title.clone(),
            started_unix: video.started.as_deref().and_then(crate::unix_seconds),
            details: video.details(),
        }
    }

    /// Title, program and the chapter list.
    pub(crate) fn description(&self, chapters: &[Chapter]) -> Result<Udta> {
        let mut meta = Meta {
            hdlr: handler(b"mdir", ""),
            items: Vec::new(),
        };
        let program = format!("Deskreel exporter-mp4 {}", env!("CARGO_PKG_VERSION"));
        let titled = !self.title.is_empty();
        meta.push(Ilst {
            desc: titled.then(|| Desc {
                country_indicator: 0,
                language_indicator: 0,
                text: self.title.clone(),
            }),
            ctoo: Some(Tool::new(0, 0, program).map_err(boxes)?),
            ..Ilst::default()
        });
        let entries = chapters.iter().take(LIST_MAX).map(|chapter| ChplEntry {
            start: chapter.start_ns / 100,
            title: chapter.title.clone(),
        });
        Ok(Udta {
            meta: Some(meta),
            chpl: (!chapters.is_empty()).then(|| Chpl {
                entries: entries.collect(),
            }),
            ..Udta::default()
        })
    }

    /// The details, as QuickTime keeps such.
    pub(crate) fn details(&self) -> Option<Meta> {
        if self.details.is_empty() {
            return None;
        }
        let mut meta = Meta {
            hdlr: handler(b"mdta", ""),
            items: Vec::new(),
        };
        let keys = self.details.iter().map(|(name, _)| KeyEntry {
            key_namespace: FourCC::new(b"mdta"),
            key_value: format!("com.deskreel.{name}"),
        });
        meta.push(Keys {
            entries: keys.collect(),
        });
        let values = (1_u32..).zip(&self.details).map(|(number, (_, value))| {
            let value = IlstData {
                country_indicator: 0,
                language_indicator: 0,
                value: IlstDataValue::Utf8(value.clone()),
            };
            (number, value)
        });
        meta.push(Ilst {
            mdta: values.collect(),
            ..Ilst::default()
        });
        Some(meta)
    }
}

pub(crate) fn handler(kind: &[u8; 4], name: &str) -> Hdlr {
    Hdlr {
        handler: FourCC::new(kind),
        name: name.into(),
    }
}

/// The error of a box that can't be written.
#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
pub(crate) fn boxes(error: mp4_atom::Error) -> Error {
    Error::internal(format!("MP4 boxes: {error}"))
}

/// Where the samples of a track lie, all in this file.
pub(crate) fn this_file() -> Dinf {
    Dinf {
        dref: Dref {
            entries: vec![DrefEntry::Url(Url::default())],
        },
    }
}

/// A place to jump to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chapter {
    pub(crate) start_ns: u64,
    pub(crate) title: String,
}

impl Chapter {
    /// The sample of the chapter track.
    fn sample(&self) -> Vec<u8> {
        let length = u16::try_from(self.title.len()).unwrap_or(0);
        [&length.to_be_bytes(), self.title.as_bytes()].concat()
    }
}

/// Adds a chapter; one that begins with the last one joins it. Calls come in time order.
pub(crate) fn add(chapters: &mut Vec<Chapter>, start_ns: u64, title: &str) {
    if chapters.is_empty() && start_ns > 0 {
        // A track of chapters covers all of the video.
        add(chapters, 0, "begin");
    }
    match chapters.last_mut() {
        Some(last) if start_ns < last.start_ns.saturating_add(APART_NS) => {
            last.title = shortened(&format!("{}; {title}", last.title));
        }
        _ => chapters.push(Chapter {
            start_ns,
            title: shortened(title),
        }),
    }
}

fn shortened(title: &str) -> String {
    title[..title.floor_char_boundary(TITLE_MAX_BYTES)].to_owned()
}

/// The samples of the chapter track, one after the other.
pub(crate) fn samples(chapters: &[Chapter]) -> Vec<u8> {
    chapters.iter().flat_map(Chapter::sample).collect()
}

/// The chapter track; its samples begin at `offset`, `end_ns` is where the video ends.
pub(crate) fn track(
    chapters: &[Chapter],
    number: u32,
    end_ns: u64,
    movie: (u64, u64),
    offset: u64,
    wide: bool,
) -> Trak {
    let (created, movie_duration) = movie;
    let ms = |ns: u64| ns / 1_000_000;
    let ends = chapters.iter().skip(1).map(|next| next.start_ns).chain([end_ns]);
    let lengths = chapters.iter().zip(ends).map(|(chapter, end_ns)| {
        let length = ms(end_ns).saturating_sub(ms(chapter.start_ns)).max(1);
        SttsEntry {
            sample_count: 1,
            sample_delta: u32::try_from(length).unwrap_or(u32::MAX),
        }
    });
    let count = u32::try_from(chapters.len()).unwrap_or(u32::MAX);
    let sizes = chapters
        .iter()
        .map(|chapter| u32::try_from(chapter.sample().len()).unwrap_or(0));
    let table = Stbl {
        stsd: Stsd {
            codecs: vec![Codec::Tx3g(text())],
        },
        stts: Stts {
            entries: lengths.collect(),
        },
        stsc: Stsc {
            entries: vec![StscEntry {
                first_chunk: 1,
                samples_per_chunk: count,
                sample_description_index: 1,
            }],
        },
        stsz: Stsz {
            samples: StszSamples::Different { sizes: sizes.collect() },
        },
        stco: (!wide).then(|| Stco {
            entries: vec![u32::try_from(offset).unwrap_or(u32::MAX)],
        }),
        co64: wide.then(|| Co64 { entries: vec![offset] }),
        ..Stbl::default()
    };
    Trak {
        tkhd: Tkhd {
            creation_time: created,
            modification_time: created,
            track_id: number,
            duration: movie_duration,
            // Read by the track that refers to it, shown by none.
            enabled: false,
            in_movie: true,
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                creation_time: created,
                modification_time: created,
                timescale: CHAPTER_TIMESCALE,
                duration: ms(end_ns),
                language: "und".into(),
            },
            hdlr: handler(b"text", "chapters"),
            minf: Minf {
                nmhd: Some(Nmhd {}),
                dinf: this_file(),
                stbl: table,
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}

fn text() -> Tx3g {
    Tx3g {
        data_reference_index: 1,
        display_flags: 0,
        horizontal_justification: 0,
        vertical_justification: -1,
        bg_color_rgba: RgbaColor::default(),
        box_record: [0; 4],
        // No range of characters; font 1, 18 points, white.
        style_record: [0, 0, 0, 0, 0, 1, 0, 18, 255, 255, 255, 255],
        ftab: None,
        disp: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_cover_the_video_and_stand_apart() {
        let mut chapters = Vec::new();
        add(&mut chapters, 3_000_000_000, "logon");
        add(&mut chapters, 3_100_000_000, "drive");
        add(&mut chapters, 9_000_000_000, &"é".repeat(200));
        let starts: Vec<u64> = chapters
            .iter()
            .map(|chapter| chapter.start_ns / 1_000_000_000)
            .collect();
        assert_eq!(starts, [0, 3, 9]);
        assert_eq!(chapters[1].title, "logon; drive");
        assert_eq!(chapters[2].title.len(), 254, "cut between characters");
        assert_eq!(samples(&chapters[..1]), b"\0\x05begin");
    }
}

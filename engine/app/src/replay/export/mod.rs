//! A stretch of a recording through an exporter.
//!
//! [`TimeMap`] says when what is shown, [`Stage`] how it looks; exporters get finished frames and need to know of neither.

mod bar;
pub(super) mod keys;
mod options;
mod run;
mod stage;
mod text;
mod time_map;
pub(super) mod words;

use std::path::Path;

use deskreel_sdk::{Summary, VideoParams};

pub(crate) use options::{Options, Overlay, Speed};

use super::{Index, Source};
use crate::host::ExporterHandle;
use run::Run;
use stage::Stage;
use time_map::TimeMap;

/// From when to when, in nanoseconds since the session's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Begin.
    pub(crate) from_ns: u64,
    /// End; the last picture stays until then.
    pub(crate) to_ns: u64,
}

impl Stretch {
    /// All of a recording.
    pub(crate) fn whole(index: &Index) -> Self {
        Self {
            from_ns: 0,
            to_ns: index.duration_ns,
        }
    }

    /// A moment, for formats that are one picture; without one the first that there is a picture of.
    pub(crate) fn moment(index: &Index, from_ns: Option<u64>) -> Self {
        let from_ns = from_ns.or_else(|| index.first_key()).unwrap_or(0);
        Self {
            from_ns,
            to_ns: from_ns.saturating_add(1),
        }
    }
}

/// What to export, and where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// The exporter's word for it.
    pub(crate) format: &'a str,
    /// Which part of the session.
    pub(crate) stretch: Stretch,
    /// How it differs from the session as it was.
    pub(crate) options: &'a Options,
    /// A path where nothing is yet; an empty folder for a folder format.
    pub(crate) output: &'a Path,
}

/// What an export came to.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    /// What the exporter says.
    pub(crate) summary: Summary,
    /// How long the export is.
    pub(crate) length_ns: u64,
    /// Gaps in the stretch that the recording tells of.
    pub(crate) gaps: u64,
    /// PDUs in the stretch that could not be decoded.
    pub(crate) undecoded: u64,
    /// What is damaged or missing, each shown as a gap.
    pub(crate) damage: Vec<String>,
}

/// Exports a stretch. `progress` is told how far it is, in nanoseconds of the stretch, and answers whether to go on; when it
/// doesn't, the answer is `None`. Segments that are damaged or missing are left out and shown as gaps.
///
/// The caller removes the output unless this succeeds.
///
/// # Errors
/// Objects that can't be read at all, a stretch without any picture, what the exporter says.
pub(crate) fn export(
    source: &Source,
    index: &Index,
    exporter: &ExporterHandle,
    plan: &Plan<'_>,
    progress: impl FnMut(u64) -> bool,
) -> anyhow::Result<Option<Exported>> {
    let Plan { stretch, options, .. } = *plan;
    let size = index.size_between(source, stretch.from_ns, stretch.to_ns);
    let size = match size {
        Some((width, height)) => (u32::from(width), u32::from(height)),
        None if exporter.wants_frames => anyhow::bail!(
            "nothing to export: there is no picture before {}",
            super::clock(stretch.to_ns)
        ),
        None => (0, 0),
    };
    let idle = if options.skip_idle {
        time_map::idle(source, index, stretch)
    } else {
        Vec::new()
    };
    let map = TimeMap::new(stretch, options.speed, &idle);
    let stage = Stage::new(options, size, index.start.as_ref());
    let mut video = facts(index, plan);
    (video.width, video.height) = stage.size();
    video.duration_ns = Some(map.at(stretch.to_ns));
    let job = exporter.start(plan.format, &video, plan.output)?;
    let wants = (exporter.wants_frames, exporter.wants_events);
    Run::new(source, index, plan, (job, wants), (map, stage)).go(progress)
}

/// All that a format may want to keep.
fn facts(index: &Index, plan: &Plan<'_>) -> VideoParams {
    let mut video = VideoParams::default();
    let Plan { stretch, options, .. } = *plan;
    video.session_from_ns = stretch.from_ns;
    video.session_to_ns = stretch.to_ns;
    video.digest.clone_from(&index.manifest_sha256);
    video.lossless = options.lossless;
    video.threads = options.threads;
    video.product = concat!("Deskreel ", env!("CARGO_PKG_VERSION")).to_owned();
    let Some(start) = &index.start else { return video };
    let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    video.title = format!("{} on {} ({})", start.user.name, start.desktop.name, start.recording);
    video.started = words::wall_rfc3339(start, stretch.from_ns);
    video.recording = Some(start.recording.to_string());
    video.user = named(&start.user.name);
    video.login = named(&start.login);
    video.desktop = named(&start.desktop.name);
    if let Ok(serde_json::Value::Object(mut facts)) = serde_json::to_value(start) {
        // The decision lists rules that matched: it is the auditor's, not that of who gets a video.
        facts.remove("decision");
        video.facts = facts;
    }
    video
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

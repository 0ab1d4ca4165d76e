//! A configured exporter, open.

use std::path::Path;

use deskreel_sdk::abi::host::{ExporterInstance, JobInstance};
use deskreel_sdk::abi::meta::{FormatInfo, Info};
use deskreel_sdk::{Error, Frame, Marker, Result, Summary, VideoParams};

/// A configured exporter, open. Its calls block and use the processor: run them on a thread of their own.
pub(crate) struct ExporterHandle {
    /// Name in the configuration.
    pub(crate) name: String,
    /// What it can make.
    pub(crate) formats: Vec<FormatInfo>,
    /// Whether its jobs need frames.
    pub(crate) wants_frames: bool,
    /// Whether its jobs get all events.
    pub(crate) wants_events: bool,
    instance: ExporterInstance,
}

impl ExporterHandle {
    pub(super) fn new(name: &str, info: &Info, instance: ExporterInstance) -> Self {
        Self {
            name: name.to_owned(),
            formats: info.formats.clone(),
            wants_frames: info.wants_frames,
            wants_events: info.wants_events,
            instance,
        }
    }

    /// The format of this id, if the exporter makes it.
    pub(crate) fn format(&self, id: &str) -> Option<&FormatInfo> {
        self.formats.iter().find(|format| format.id == id)
    }

    /// Starts an export into `output`: a path where nothing is yet, or for a folder format an empty folder.
    pub(crate) fn start(&self, format: &str, video: &VideoParams, output: &Path) -> Result<ExportJob> {
        let named = |error: Error| error.with_context(format_args!("exporter {}", self.name));
        if self.format(format).is_none() {
            let known: Vec<&str> = self.formats.iter().map(|format| format.id.as_str()).collect();
            return Err(named(Error::invalid_input(format!(
                "no format `{format}`, it makes {}",
                known.join(", ")
            ))));
        }
        let job = self.instance.start(format, video, output).map_err(named)?;
        Ok(ExportJob {
            exporter: self.name.clone(),
            job,
        })
    }
}

/// An export under way. Dropped unfinished, it is cancelled, and the caller removes the output.
pub(crate) struct ExportJob {
    exporter: String,
    job: JobInstance,
}

impl deskreel_sdk::ExportJob for ExportJob {
    /// Pixels aren't copied on the way to the plugin.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.job.frame(frame).map_err(|error| named(&self.exporter, error))
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.job.marker(marker).map_err(|error| named(&self.exporter, error))
    }

    fn finish(self) -> Result<Summary> {
        self.job.finish().map_err(|error| named(&self.exporter, error))
    }
}

fn named(exporter: &str, error: Error) -> Error {
    error.with_context(format_args!("exporter {exporter}"))
}

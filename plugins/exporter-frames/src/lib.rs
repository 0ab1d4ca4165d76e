//! Exports recordings as PNG pictures in a folder, with an index. README.md tells the rest.

#![deny(unsafe_code)]

mod interval;
mod job;
mod picture;
mod still;

use deskreel_sdk::prelude::*;

pub use job::FramesJob;
pub use still::StillJob;

/// What the operator can set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Time from one picture to the next, such as `500ms`, `1s` or `1m`; without it there is a picture for each change.
    #[schemars(pattern(r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"))]
    pub interval: Option<String>,
}

/// The exporter.
#[derive(Debug)]
pub struct Frames {
    interval_ns: Option<u64>,
}

impl Exporter for Frames {
    type Settings = Settings;
    type Job = Job;

    const FORMATS: &'static [Format] = &[
        Format {
            id: "frames",
            extension: "",
            mime: "image/png",
            needs_seek: false,
            folder: true,
        },
        Format {
            id: "png",
            extension: "png",
            mime: "image/png",
            needs_seek: false,
            folder: false,
        },
    ];
    const LOSSLESS: &'static [&'static str] = &["frames", "png"];
    const STILL: &'static [&'static str] = &["png"];

    fn open(settings: Settings, _context: Context) -> Result<Self> {
        let interval_ns = settings.interval.as_deref().map(interval::parse).transpose()?;
        Ok(Self { interval_ns })
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<Job> {
        match format {
            "frames" => Ok(Job::Frames(Box::new(FramesJob::new(self.interval_ns, video, output)))),
            "png" => StillJob::new(video, &output).map(Job::Still),
            _ => Err(Error::invalid_input(format!(
                "format {format:?}: this exporter makes frames and png"
            ))),
        }
    }
}

/// One export under way.
#[derive(Debug)]
pub enum Job {
    /// A folder of pictures.
    Frames(Box<FramesJob>),
    /// One picture.
    Still(StillJob),
}

impl ExportJob for Job {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        match self {
            Self::Frames(job) => job.frame(frame),
            Self::Still(job) => {
                job.show(frame);
                Ok(())
            }
        }
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        match self {
            Self::Frames(job) => job.marker(marker),
            Self::Still(_) => Ok(()),
        }
    }

    fn finish(self) -> Result<Summary> {
        match self {
            Self::Frames(job) => job.finish(),
            Self::Still(job) => job.finish(),
        }
    }
}

deskreel_sdk::export_exporter!(Frames);

#[cfg(test)]
mod contract {
    use super::*;
    use deskreel_sdk::serde_json::json;

    deskreel_sdk::exporter_tests! {
        exporter: Frames,
        settings: json!({}),
        sample: json!({"interval": "1s"}),
    }
}

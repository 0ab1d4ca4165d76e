//! Exports recordings as PNG pictures in a folder, with an index. README.md tells the rest.

#![deny(unsafe_code)]

mod interval;
mod job;

use deskreel_sdk::prelude::*;

pub use job::FramesJob;

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
    type Job = FramesJob;

    const FORMATS: &'static [Format] = &[Format {
        id: "frames",
        extension: "",
        mime: "image/png",
        needs_seek: false,
        folder: true,
    }];

    fn open(settings: Settings, _context: Context) -> Result<Self> {
        let interval_ns = settings.interval.as_deref().map(interval::parse).transpose()?;
        Ok(Self { interval_ns })
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<FramesJob> {
        if format != "frames" {
            return Err(Error::invalid_input(format!(
                "format {format:?}: this exporter makes frames"
            )));
        }
        Ok(FramesJob::new(self.interval_ns, video, output))
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

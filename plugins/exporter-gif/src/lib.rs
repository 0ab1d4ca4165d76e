//! Exports short stretches of recordings as animated GIFs. README.md tells the rest.

#![deny(unsafe_code)]

mod canvas;
mod job;
mod palette;

use deskreel_sdk::prelude::*;

pub use job::GifJob;

/// Pictures a second, at most, unless told otherwise.
const FPS: u32 = 10;
/// GIF counts hundredths, and players take less than two for ten.
const FPS_MAX: u32 = 50;
/// Longest export unless told otherwise.
const SECONDS_MAX: u32 = 120;
/// Longest export: one picture can stay 655 seconds.
const SECONDS_LIMIT: u32 = 600;

/// What the operator can set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Pictures a second at most.
    #[schemars(range(min = 1, max = 50))]
    pub fps: Option<u32>,
    /// Longest export in seconds.
    #[schemars(range(min = 1, max = 600))]
    pub seconds_max: Option<u32>,
}

/// The exporter.
#[derive(Debug)]
pub struct Gif {
    interval_ns: u64,
    seconds_max: u32,
}

impl Exporter for Gif {
    type Settings = Settings;
    type Job = GifJob;

    const FORMATS: &'static [Format] = &[Format {
        id: "gif",
        extension: "gif",
        mime: "image/gif",
        needs_seek: false,
        folder: false,
    }];

    fn open(settings: Settings, _context: Context) -> Result<Self> {
        let fps = settings.fps.unwrap_or(FPS);
        let seconds_max = settings.seconds_max.unwrap_or(SECONDS_MAX);
        for (key, value, max) in [("fps", fps, FPS_MAX), ("seconds_max", seconds_max, SECONDS_LIMIT)] {
            if !(1..=max).contains(&value) {
                return Err(Error::invalid_settings(format!(
                    "{key}: {value} is not within 1 to {max}"
                )));
            }
        }
        Ok(Self {
            interval_ns: 1_000_000_000 / u64::from(fps),
            seconds_max,
        })
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<GifJob> {
        if format != "gif" {
            return Err(Error::invalid_input(format!(
                "format {format:?}: this exporter makes gif"
            )));
        }
        GifJob::new(self.interval_ns, self.seconds_max, video, &output)
    }
}

deskreel_sdk::export_exporter!(Gif);

#[cfg(test)]
mod contract {
    use super::*;
    use deskreel_sdk::serde_json::json;

    deskreel_sdk::exporter_tests! {
        exporter: Gif,
        settings: json!({}),
        sample: json!({"fps": 10, "seconds_max": 120}),
    }
}

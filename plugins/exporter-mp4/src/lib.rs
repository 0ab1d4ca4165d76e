//! Exports recordings as MP4: H.264 with variable frame rate, the pointer drawn in, the index first. README.md tells the rest.

#![forbid(unsafe_code)]

mod color;
mod describe;
mod h264;
mod job;
mod mux;
mod size;

use deskreel_sdk::prelude::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use color::Yuv420;
pub use h264::H264;
pub use job::Mp4Job;
pub use mux::Muxer;

/// What the operator can set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most pictures a second: changes that come faster are shown together.
    #[schemars(range(min = 1, max = 60))]
    pub fps_max: u32,
    /// Quantizer of H.264: lower is better and larger.
    #[schemars(range(min = 12, max = 40))]
    pub quantizer: u8,
    /// Encoder threads; 0 is one a processor, at most 4.
    #[schemars(range(max = 16))]
    pub threads: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fps_max: 30,
            quantizer: 20,
            threads: 0,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidSettings, message));
        if !(1..=60).contains(&self.fps_max) {
            return wrong(format!("fps_max: {} is not between 1 and 60", self.fps_max));
        }
        if !(12..=40).contains(&self.quantizer) {
            return wrong(format!("quantizer: {} is not between 12 and 40", self.quantizer));
        }
        if self.threads > 16 {
            return wrong(format!("threads: {} is more than 16", self.threads));
        }
        Ok(())
    }
}

/// The exporter.
#[derive(Debug)]
pub struct Mp4 {
    settings: Settings,
}

impl Exporter for Mp4 {
    type Settings = Settings;
    type Job = Mp4Job;

    const FORMATS: &'static [Format] = &[Format {
        id: "mp4",
        extension: "mp4",
        mime: "video/mp4",
        needs_seek: false,
        folder: false,
    }];

    fn open(settings: Settings, _context: Context) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings })
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<Mp4Job> {
        if format != "mp4" {
            return Err(Error::invalid_input(format!(
                "format {format:?}: this exporter makes mp4"
            )));
        }
        job::start(&self.settings, video, output)
    }
}

deskreel_sdk::export_exporter!(Mp4);

/// Seconds since 1970 of an RFC 3339 time; `None` where it isn't one: the file then keeps no time.
fn unix_seconds(text: &str) -> Option<i64> {
    Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp())
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod contract {
    use super::*;
    use deskreel_sdk::serde_json::json;

    deskreel_sdk::exporter_tests! {
        exporter: Mp4,
        settings: json!({}),
        sample: json!({"fps_max": 30, "quantizer": 20, "threads": 0}),
    }
}

//! Exports recordings as WebM: VP9 in full colour, lossless where asked, variable frame rate. README.md tells the rest.

mod color;
mod ebml;
mod job;
mod matroska;
mod vp9;

use deskreel_sdk::prelude::*;

pub use color::Gbr;
pub use job::WebmJob;
pub use matroska::Muxer;
pub use vp9::Vp9;

/// What the operator can set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most pictures a second: changes that come faster are shown together.
    #[schemars(range(min = 1, max = 60))]
    pub fps_max: u32,
    /// Quantizer of VP9: lower is better and larger; 0 is lossless.
    #[schemars(range(max = 63))]
    pub quantizer: u8,
    /// Encoder threads; 0 is one a processor, at most 4.
    #[schemars(range(max = 16))]
    pub threads: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fps_max: 30,
            quantizer: 32,
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
        if self.quantizer > 63 {
            return wrong(format!("quantizer: {} is more than 63", self.quantizer));
        }
        if self.threads > 16 {
            return wrong(format!("threads: {} is more than 16", self.threads));
        }
        Ok(())
    }
}

/// The exporter.
#[derive(Debug)]
pub struct Webm {
    settings: Settings,
}

impl Exporter for Webm {
    type Settings = Settings;
    type Job = WebmJob;

    const FORMATS: &'static [Format] = &[Format {
        id: "webm",
        extension: "webm",
        mime: "video/webm",
        needs_seek: false,
        folder: false,
    }];

    const LOSSLESS: &'static [&'static str] = &["webm"];

    fn open(settings: Settings, _context: Context) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings })
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<WebmJob> {
        if format != "webm" {
            return Err(Error::invalid_input(format!(
                "format {format:?}: this exporter makes webm"
            )));
        }
        job::start(&self.settings, video, &output)
    }
}

deskreel_sdk::export_exporter!(Webm);

#[cfg(test)]
mod tests;

#[cfg(test)]
mod contract {
    use super::*;
    use deskreel_sdk::serde_json::json;

    deskreel_sdk::exporter_tests! {
        exporter: Webm,
        settings: json!({}),
        sample: json!({"fps_max": 30, "quantizer": 32, "threads": 0}),
    }
}

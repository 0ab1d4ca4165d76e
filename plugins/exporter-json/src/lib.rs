//! Exports what happened in a session besides the picture: a log of JSON lines for search tools. README.md tells the rest.

#![deny(unsafe_code)]

mod job;

use std::collections::BTreeSet;

use deskreel_sdk::prelude::*;

pub use job::JsonJob;

/// What the log may have.
const CHANNELS: [&str; 8] = [
    "session",
    "input",
    "typed",
    "clipboard",
    "drive",
    "gap",
    "undecoded",
    "pointer",
];
/// What it has unless told otherwise leaves this out.
const NOT_BY_DEFAULT: &str = "pointer";

/// What the operator can set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Channels that the log has; without it all but the pointer's.
    pub channels: Option<Vec<String>>,
    /// Whether moves of mouse, fingers and pens are in it.
    pub moves: bool,
}

/// The exporter.
#[derive(Debug)]
pub struct Json {
    /// `None`: all but a few.
    channels: Option<BTreeSet<String>>,
    moves: bool,
}

impl Json {
    fn wants(channels: Option<&BTreeSet<String>>, channel: &str) -> bool {
        match channels {
            Some(channels) => channels.contains(channel),
            // Also those of a newer engine.
            None => channel != NOT_BY_DEFAULT,
        }
    }
}

impl Exporter for Json {
    type Settings = Settings;
    type Job = JsonJob;

    const FORMATS: &'static [Format] = &[Format {
        id: "json",
        extension: "jsonl",
        mime: "application/x-ndjson",
        needs_seek: false,
        folder: false,
    }];
    const WANTS_FRAMES: bool = false;
    const WANTS_EVENTS: bool = true;

    fn open(settings: Settings, _context: Context) -> Result<Self> {
        for channel in settings.channels.iter().flatten() {
            if !CHANNELS.contains(&channel.as_str()) {
                return Err(Error::invalid_settings(format!(
                    "channels: no channel {channel:?}, there are {}",
                    CHANNELS.join(", ")
                )));
            }
        }
        Ok(Self {
            channels: settings.channels.map(|channels| channels.into_iter().collect()),
            moves: settings.moves,
        })
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<JsonJob> {
        if format != "json" {
            return Err(Error::invalid_input(format!(
                "format {format:?}: this exporter makes json"
            )));
        }
        JsonJob::new(self.channels.clone(), self.moves, video, &output)
    }
}

deskreel_sdk::export_exporter!(Json);

#[cfg(test)]
mod contract {
    use super::*;
    use deskreel_sdk::serde_json::json;

    deskreel_sdk::exporter_tests! {
        exporter: Json,
        settings: json!({}),
        sample: json!({
            "channels": ["session", "input", "typed", "clipboard", "drive", "gap", "undecoded"], "moves": false,
        }),
    }

    /// What sample.yaml shows is what there is without it.
    #[test]
    fn the_sample_lists_all_but_the_pointer() {
        let listed = "channels: [session, input, typed, clipboard, drive, gap, undecoded]";
        assert!(include_str!("../sample.yaml").contains(listed));
        let names: Vec<&str> = CHANNELS.into_iter().filter(|name| *name != NOT_BY_DEFAULT).collect();
        assert_eq!(format!("channels: [{}]", names.join(", ")), listed);
    }
}

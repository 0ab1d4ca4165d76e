//! One export: a header, then a line for each event.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};

use deskreel_sdk::prelude::*;
use deskreel_sdk::{Typed, Typing};
use serde_json::{Map, Value, json};

use crate::Json;

/// Version of the log.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize)]
struct Header<'a> {
    deskreel_log: u32,
    recording: &'a Option<String>,
    title: &'a str,
    started: &'a Option<String>,
    user: &'a Option<String>,
    login: &'a Option<String>,
    desktop: &'a Option<String>,
    digest: &'a Option<String>,
    width: u32,
    height: u32,
    from: Seconds,
    to: Seconds,
    product: &'a str,
    facts: &'a Map<String, Value>,
}

/// One export under way.
#[derive(Debug)]
pub struct JsonJob {
    channels: Option<BTreeSet<String>>,
    moves: bool,
    file: BufWriter<File>,
    path: PathBuf,
    typing: Typing,
    /// The time of the last event, since the session's start.
    session_ns: u64,
    from_ns: u64,
    lines: u64,
    bytes: u64,
}

impl JsonJob {
    pub(crate) fn new(
        channels: Option<BTreeSet<String>>,
        moves: bool,
        video: &VideoParams,
        output: &Output,
    ) -> Result<Self> {
        let mut job = Self {
            channels,
            moves,
            file: BufWriter::new(output.create()?),
            path: output.path().to_owned(),
            typing: Typing::default(),
            session_ns: video.session_from_ns,
            from_ns: video.session_from_ns,
            lines: 0,
            bytes: 0,
        };
        let header = Header {
            deskreel_log: VERSION,
            recording: &video.recording,
            title: &video.title,
            started: &video.started,
            user: &video.user,
            login: &video.login,
            desktop: &video.desktop,
            digest: &video.digest,
            width: video.width,
            height: video.height,
            from: Seconds(video.session_from_ns),
            to: Seconds(video.session_to_ns),
            product: &video.product,
            facts: &video.facts,
        };
        job.line(&header)?;
        Ok(job)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|error| Error::internal(format!("JSON: {error}")))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| self.path.display().to_string())?;
        self.lines += 1;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn wants(&self, channel: &str) -> bool {
        Json::wants(self.channels.as_ref(), channel)
    }

    fn typed(&mut self, typed: impl IntoIterator<Item = Typed>) -> Result<()> {
        for typed in typed {
            let (at_ns, data) = match typed {
                Typed::Text {
                    from_ns,
                    until_ns,
                    text,
                } => (from_ns, json!({"text": text, "until": Seconds(until_ns)})),
                Typed::Key { at_ns, key } => (at_ns, json!({"key": key})),
            };
            if self.wants("typed") {
                self.line(&(Seconds(at_ns), "typed", data))?;
            }
        }
        Ok(())
    }
}

impl ExportJob for JsonJob {
    fn frame(&mut self, _frame: &Frame<'_>) -> Result<()> {
        Ok(())
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        match &marker.kind {
            MarkerKind::Event {
                session_ns,
                channel,
                event,
            } => {
                // A stretch may begin with what was so before.
                self.session_ns = self.session_ns.max(*session_ns).max(self.from_ns);
                let kind = event.get("kind").and_then(Value::as_str).unwrap_or_default();
                let input = channel == "input";
                let is_contact = matches!(kind, "touch" | "pen");
                let state = event.get("state").and_then(Value::as_str).unwrap_or_default();
                let is_move = input && (kind == "mouse_move" || is_contact && matches!(state, "move" | "hover"));
                if input && (matches!(kind, "mouse_button" | "wheel") || is_contact && state == "down") {
                    let typed = self.typing.end();
                    self.typed(typed)?;
                }
                if self.wants(channel) && (self.moves || !is_move) {
                    self.line(&(Seconds(self.session_ns), channel, event))?;
                }
            }
            MarkerKind::Key { text } => {
                let typed = self.typing.key(self.session_ns, text);
                self.typed(typed)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        let typed = self.typing.end();
        self.typed(typed)?;
        let shown = self.path.display().to_string();
        self.file.flush().with_context(|| shown.clone())?;
        self.file
            .get_ref()
            .sync_all()
            .with_context(|| format!("fsync {shown}"))?;
        let mut summary = Summary::default();
        summary.files = 1;
        summary.bytes = self.bytes;
        summary.notes = vec![format!("{} lines", self.lines)];
        Ok(summary)
    }
}

/// Nanoseconds, written as seconds: to the nanosecond for 104 days.
#[derive(Debug, Clone, Copy)]
struct Seconds(u64);

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 nanoseconds are 104 days")]
        let seconds = self.0 as f64 / 1e9;
        serializer.serialize_f64(seconds)
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;

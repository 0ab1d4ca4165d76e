//! Reads what the events of closed recordings say, and the facts of sessions, so that both can be searched: one recording after the other, beside all
//! else, and again at the next start for what is left. What a storage tells of other nodes' recordings is read as well.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deskreel_recording::event::SessionEvent;
use deskreel_recording::{Event, Segment};
use serde_json::Value;
use uuid::Uuid;

use super::Site;
use super::answer::Failure;
use super::desk::{Desk, Gateway};
use crate::catalog::State;
use crate::event_row;
use crate::replay::{Index, Source};

/// Between two looks for recordings that were closed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Recordings of one look.
const BATCH_MAX: u32 = 50;
/// Sessions whose facts are taken at once: nobody else writes meanwhile.
const WORDS_BATCH: u32 = 200;
/// After a recording could not be read.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Bytes of one recording's text; what comes later is not found.
const TEXT_MAX_BYTES: usize = 256 << 10;
/// Channels whose events say something. Keys that were typed are not among them: they may be passwords.
const CHANNELS: &[&str] = &["session", "clipboard", "drive", "gap", "undecoded"];
/// Members of events that say nothing to people.
const MUTE: &[&str] = &["time", "sha256", "pdu"];

/// Goes on until it is dropped.
pub(super) async fn run(site: Arc<Site>) {
    let mut failed: HashMap<Uuid, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let worker = Arc::clone(&site);
        let before = failed.clone();
        let looked = tokio::task::spawn_blocking(move || match &worker.desk {
            Desk::Gateway(gateway) => look(gateway, before),
            Desk::Alone(_) => Ok(before),
        });
        match looked.await {
            Ok(Ok(now)) => failed = now,
            Ok(Err(failure)) => tracing::warn!(?failure, "events can't be read for searching just now"),
            Err(error) => tracing::error!(%error, "reading events for searching ended early"),
        }
    }
}

/// One look; gives what could not be read, and when that was.
fn look(gateway: &Gateway, mut failed: HashMap<Uuid, Instant>) -> Result<HashMap<Uuid, Instant>, Failure> {
    while gateway.catalog.read_words(WORDS_BATCH)? > 0 {}
    failed.retain(|_, at| at.elapsed() < AGAIN_AFTER);
    for row in gateway.catalog.unread(BATCH_MAX)? {
        if failed.contains_key(&row.id) {
            continue;
        }
        let source = gateway.unshared(row.id)?;
        let said = match said(&source) {
            // Nothing more will ever be read of it.
            Err(_) if row.state == State::Damaged => String::new(),
            Err(error) => {
                tracing::debug!(recording = %row.id, error = format!("{error:#}"), "its events are read later");
                failed.insert(row.id, Instant::now());
                continue;
            }
            Ok(said) => said,
        };
        gateway.catalog.keep_text(row.id, &said)?;
    }
    Ok(failed)
}

/// What the events of a recording say, a line an event, no line twice. Segments without such events are not even read.
fn said(source: &Source) -> anyhow::Result<String> {
    let index = Index::read(source)?;
    let mut text = Text::default();
    for segment in &index.segments {
        if text.is_full || !CHANNELS.iter().any(|channel| segment.has(channel)) {
            continue;
        }
        // What is damaged says nothing.
        match source.open_segment(segment.number) {
            Ok(segment) => text.segment(&segment),
            Err(error) => match source.find_segment(segment.number)? {
                Some(_) => {}
                None => return Err(error),
            },
        }
    }
    Ok(text.lines)
}

#[derive(Default)]
struct Text {
    lines: String,
    known: HashSet<String>,
    is_full: bool,
}

impl Text {
    fn segment(&mut self, segment: &Segment) {
        for event in segment.events() {
            let Ok((time_ns, event)) = event else { return };
            // The facts of the start are the catalog's own.
            let is_start = matches!(
                &event,
                Event::Session(SessionEvent::Start(_) | SessionEvent::Network(_))
            );
            if is_start || !CHANNELS.contains(&event.channel().topic()) {
                continue;
            }
            let Ok(row) = event_row::row(time_ns, &event) else {
                continue;
            };
            let mut line = String::new();
            for (name, value) in &row {
                if !MUTE.contains(&name.as_str()) {
                    words(value, &mut line);
                }
            }
            self.add(line);
            if self.is_full {
                return;
            }
        }
    }

    fn add(&mut self, line: String) {
        if line.is_empty() || self.known.contains(&line) {
            return;
        }
        if self.lines.len() + line.len() >= TEXT_MAX_BYTES {
            self.is_full = true;
            return;
        }
        self.lines.push_str(&line);
        self.lines.push('\n');
        self.known.insert(line);
    }
}

/// All texts in a value.
fn words(value: &Value, line: &mut String) {
    match value {
        Value::String(text) => {
            line.push_str(text);
            line.push(' ');
        }
        Value::Array(values) => values.iter().for_each(|value| words(value, line)),
        Value::Object(members) => {
            for (name, value) in members {
                if !MUTE.contains(&name.as_str()) {
                    words(value, line);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

//! The verifier (docs/format.md section 8).

use std::collections::BTreeSet;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Channel, Error, Event, Manifest, ManifestBody, Result, ScreenDecoder, Seal, SealBody, Segment,
    event::{SessionEnd, SessionEvent, SessionStart},
    manifest::Tally,
    seal::{key_id, sha256},
};

/// What to verify against.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The recording that is asked for; `None` takes the id of the first segment or manifest.
    pub recording: Option<Uuid>,
    /// Keys that are trusted. With none, everything is `Broken`.
    pub trusted: Vec<VerifyingKey>,
    /// Decode the whole screen stream and every event as well.
    pub deep: bool,
}

/// The overall result; maps to the exit codes 0, 3 and 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is there and unchanged.
    Whole,
    /// True, but with gaps, undecoded PDUs, a recovered end, or not closed yet.
    Findings,
    /// Changed, incomplete, or not signed by a trusted key.
    Broken,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// There are gaps (finding).
    Gaps,
    /// There are undecoded PDUs (finding).
    Undecoded,
    /// Closed after a crash (finding).
    Recovered,
    /// No manifest: still open, or the gateway crashed (finding).
    StillOpen,
    /// A segment is missing (broken).
    Missing,
    /// A segment's bytes are damaged, cut or changed (broken).
    Damaged,
    /// A segment is in another place than it was written for (broken).
    Order,
    /// The chain of seals is interrupted: replaced or spliced (broken).
    Chain,
    /// Belongs to another recording (broken).
    OtherRecording,
    /// Not signed by a trusted key (broken).
    Signature,
    /// Contents contradict what the seal states (broken).
    Contents,
    /// The manifest is malformed or contradicts the segments (broken).
    Manifest,
    /// More segments exist than the manifest lists (broken).
    RolledBack,
    /// The screen stream or an event does not decode (broken, `deep` only).
    Undecodable,
    /// Not there, and the reason is known: still on its way, or never meant to be there (finding). The verifier itself does not
    /// find this; whoever knows adds it.
    Absent,
    /// Could not be read, so that nothing is known (finding). Likewise.
    Unchecked,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// True when it breaks the recording; false for a finding that leaves it true.
    pub broken: bool,
    /// The segment, where one is to blame.
    pub segment: Option<u32>,
    /// One line for people.
    pub text: String,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The recording.
    pub recording: Option<Uuid>,
    /// Overall result.
    pub outcome: Outcome,
    /// Segments that were looked at.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time of the last event.
    pub duration_ns: u64,
    /// Screen messages decoded (`deep`).
    pub frames: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Findings that a report lists; more are dropped after one that says so.
const FINDINGS_MAX: usize = 1000;

/// Verifies a recording, one segment at a time, in bounded memory (one segment, its decoder, and a line a segment).
pub struct Verifier {
    options: VerifyOptions,
    /// See [`Verifier::known_absent`].
    absent: BTreeSet<u32>,
    recording: Option<Uuid>,
    next: u32,
    /// The seal before the next segment; `None` at the begin and behind a segment that is missing or damaged.
    last_seal: Option<Seal>,
    last_ns: u64,
    seen: Vec<Seen>,
    bytes: u64,
    tally: Tally,
    start: Option<SessionStart>,
    end: Option<SessionEnd>,
    decoder: ScreenDecoder,
    /// The screen can't be decoded before the next key, and a finding says so already.
    screen_lost: bool,
    frames: u64,
    findings: Vec<Finding>,
}

/// A segment object as it was given, to hold the manifest against.
struct Seen {
    number: u32,
    bytes: u64,
    sha256: String,
    /// Text and signature of the seal; `None` when the segment could not be opened.
    seal: Option<(String, String)>,
}

impl Verifier {
    /// A verifier that has seen nothing yet.
    #[must_use]
    pub fn new(options: VerifyOptions) -> Self {
        let recording = options.recording;
        Self {
            options,
            absent: BTreeSet::new(),
            recording,
            next: 0,
            last_seal: None,
            last_ns: 0,
            seen: Vec::new(),
            bytes: 0,
            tally: Tally::default(),
            start: None,
            end: None,
            decoder: ScreenDecoder::new(),
            screen_lost: false,
            frames: 0,
            findings: Vec::new(),
        }
    }

    /// Names segments that are known not to be there, such as those still on their way: their absence is no finding, whoever
    /// knows the reason tells it. One that is there is verified all the same.
    pub fn known_absent(&mut self, numbers: BTreeSet<u32>) {
        self.absent = numbers;
    }

    /// Looks at a segment object; call it in order of the numbers in the object keys.
    pub fn segment(&mut self, number: u32, bytes: &Bytes) {
        if number < self.next {
            let text = format!("segment {number} comes after segment {}", self.next - 1);
            return self.broken(FindingKind::Order, Some(number), text);
        }
        if number > self.next {
            self.missing(self.next, number - 1);
            self.last_seal = None;
            self.lose_screen();
        }
        self.next = number.saturating_add(1);
        self.bytes += bytes.len() as u64;
        let mut seen = Seen {
            number,
            bytes: bytes.len() as u64,
            sha256: hex::encode(sha256(bytes)),
            seal: None,
        };
        match Segment::open(bytes.clone()) {
            Ok(segment) => {
                if let Some(seal) = segment.seal().cloned() {
                    seen.seal = Some((seal.text().to_owned(), seal.signature_hex()));
                    self.sealed(number, &segment, seal);
                }
            }
            Err(error) => {
                self.broken(FindingKind::Damaged, Some(number), format!("segment {number}: {error}"));
                self.last_seal = None;
                self.lose_screen();
            }
        }
        self.seen.push(seen);
    }

    fn sealed(&mut self, number: u32, segment: &Segment, seal: Seal) {
        let body = seal.body();
        let recording = *self.recording.get_or_insert(body.recording);
        if body.recording != recording {
            let text = format!(
                "segment {number} belongs to recording {}, not {recording}",
                body.recording
            );
            self.broken(FindingKind::OtherRecording, Some(number), text);
        }
        if body.number != number {
            let text = format!("segment {number} was written as segment {}", body.number);
            self.broken(FindingKind::Order, Some(number), text);
        }
        if (segment.header().recording, segment.header().number) != (body.recording, body.number) {
            let text = format!("segment {number}: its begin and its seal name different places");
            self.broken(FindingKind::Contents, Some(number), text);
        }
        if let Err(text) = self.trusted(&body.key_id, |key| seal.verify(key)) {
            self.broken(
                FindingKind::Signature,
                Some(number),
                format!("segment {number}: {text}"),
            );
        }
        let chained = match &self.last_seal {
            Some(last) => body.previous.as_deref() == Some(last.digest().as_str()),
            // Behind a hole nothing can be said; the hole is a finding already.
            None => number != 0 || body.previous.is_none(),
        };
        if !chained {
            let text = format!("segment {number} does not continue the segment before it");
            self.broken(FindingKind::Chain, Some(number), text);
        }
        for result in [
            segment.check_crcs(),
            segment.check_summary(),
            self.contents(segment, body),
        ] {
            if let Err(error) = result {
                self.broken(
                    FindingKind::Contents,
                    Some(number),
                    format!("segment {number}: {error}"),
                );
            }
        }
        self.tally.segment(&seal, segment.bytes());
        self.last_seal = Some(seal);
    }

    /// Walks the events and compares them with what the seal states.
    fn contents(&mut self, segment: &Segment, body: &SealBody) -> Result<()> {
        let mut events = std::collections::BTreeMap::<String, u64>::new();
        let mut unknown = 0_u64;
        let mut keys_ns = Vec::new();
        let mut starts_with_key = None;
        let (mut first_ns, mut expected_sequence) = (None, 0_u32);
        let mut ordered = true;
        for message in segment.messages() {
            let message = message?;
            ordered &= message.time_ns >= self.last_ns && message.sequence == expected_sequence;
            expected_sequence = expected_sequence.wrapping_add(1);
            self.last_ns = self.last_ns.max(message.time_ns);
            first_ns.get_or_insert(message.time_ns);
            let Some(channel) = message.channel else {
                unknown += 1;
                continue;
            };
            *events.entry(channel.topic().to_owned()).or_default() += 1;
            match channel {
                Channel::Key => {
                    starts_with_key.get_or_insert(true);
                    keys_ns.push(message.time_ns);
                }
                Channel::Screen => {
                    starts_with_key.get_or_insert(false);
                }
                _ => {}
            }
            self.event(body.number, channel, message.time_ns, message.payload);
        }
        let stated_unknown: u64 = body
            .events
            .iter()
            .filter(|(topic, _)| Channel::from_topic(topic).is_none())
            .fold(0, |sum, (_, count)| sum.saturating_add(*count));
        let counts_agree = stated_unknown == unknown
            && events
                .iter()
                .all(|(topic, count)| body.events.get(topic) == Some(count))
            && body
                .events
                .keys()
                .all(|topic| Channel::from_topic(topic).is_none() || events.contains_key(topic));
        for (agrees, what) in [
            (ordered, "events are out of order"),
            (counts_agree, "its seal counts other events"),
            (
                first_ns.is_none_or(|first| first == body.first_ns),
                "its seal states another first time",
            ),
            (
                first_ns.is_none() || self.last_ns == body.last_ns,
                "its seal states another last time",
            ),
            (keys_ns == body.keys_ns, "its seal states other keys"),
            (
                body.starts_with_key == (starts_with_key == Some(true)),
                "its seal is wrong about starting with a key",
            ),
        ] {
            if !agrees {
                return Err(Error::malformed(what));
            }
        }
        Ok(())
    }

    fn event(&mut self, number: u32, channel: Channel, time_ns: u64, payload: Bytes) {
        if !(self.options.deep || matches!(channel, Channel::Gap | Channel::Session)) {
            return;
        }
        let result = match Event::from_payload(channel, payload) {
            Ok(Event::Screen(message)) => {
                if message.key {
                    self.screen_lost = false;
                }
                if self.screen_lost {
                    return;
                }
                self.frames += 1;
                let result = self.decoder.apply(&message).map(|_| ());
                self.screen_lost = result.is_err();
                result
            }
            Ok(Event::Session(SessionEvent::Start(start))) => {
                self.start.get_or_insert(*start);
                Ok(())
            }
            Ok(Event::Session(SessionEvent::End(end))) => {
                self.end = Some(end);
                Ok(())
            }
            Ok(event) => {
                self.tally.event(&event);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let text = format!("segment {number}, {:.3} s: {error}", time_ns as f64 / 1e9);
            self.broken(FindingKind::Undecodable, Some(number), text);
        }
    }

    /// Looks at the manifest (`None` when there is none) and reports.
    #[must_use]
    pub fn finish(mut self, manifest: Option<&[u8]>) -> Report {
        match manifest.map(Manifest::parse) {
            Some(Ok(manifest)) => self.manifest(&manifest),
            Some(Err(error)) => self.broken(FindingKind::Manifest, None, error.to_string()),
            None if self.seen.is_empty() => {
                self.broken(FindingKind::Missing, None, "there is neither a segment nor a manifest");
            }
            None => {
                let text = "there is no manifest: the session still runs, or the gateway crashed";
                self.note(FindingKind::StillOpen, text);
            }
        }
        let (gaps, gaps_ns) = self.tally.gaps();
        if gaps > 0 {
            self.note(
                FindingKind::Gaps,
                format!("{gaps} gaps, {:.3} s unrecorded", gaps_ns as f64 / 1e9),
            );
        }
        let undecoded = self.tally.undecoded();
        if undecoded > 0 {
            self.note(
                FindingKind::Undecoded,
                format!("{undecoded} PDUs could not be decoded and are kept raw"),
            );
        }
        let outcome = if self.findings.iter().any(|finding| finding.broken) {
            Outcome::Broken
        } else if self.findings.is_empty() {
            Outcome::Whole
        } else {
            Outcome::Findings
        };
        Report {
            recording: self.recording,
            outcome,
            segments: self.seen.len() as u64,
            bytes: self.bytes,
            duration_ns: self.tally.last_ns(),
            frames: self.frames,
            findings: self.findings,
        }
    }

    fn manifest(&mut self, manifest: &Manifest) {
        let body = manifest.body();
        let recording = *self.recording.get_or_insert(body.recording);
        if body.recording != recording {
            let text = format!("the manifest is of recording {}, not {recording}", body.recording);
            self.broken(FindingKind::OtherRecording, None, text);
        }
        if let Err(text) = self.trusted(&body.key_id, |key| manifest.verify(key)) {
            self.broken(FindingKind::Signature, None, format!("manifest: {text}"));
        }
        let listed = u32::try_from(body.segments.len()).unwrap_or(u32::MAX);
        if listed == 0 {
            self.broken(FindingKind::Manifest, None, "the manifest lists no segments");
        }
        if self.next < listed {
            self.missing(self.next, listed - 1);
        }
        for seen in std::mem::take(&mut self.seen) {
            self.listed(body, &seen);
            self.seen.push(seen);
        }
        let all_read = self.seen.len() == body.segments.len() && self.seen.iter().all(|seen| seen.seal.is_some());
        if all_read {
            for what in self.tally.disagreements(body) {
                self.broken(
                    FindingKind::Manifest,
                    None,
                    format!("the manifest disagrees with the segments: {what}"),
                );
            }
            let decision = body.start.as_ref().and_then(|start| start.decision.as_ref());
            if body.start != self.start || body.decision.as_ref() != decision {
                self.broken(
                    FindingKind::Manifest,
                    None,
                    "the manifest disagrees with the segments: start facts",
                );
            }
            if !body.recovered && self.end.as_ref() != Some(&body.end) {
                self.broken(
                    FindingKind::Manifest,
                    None,
                    "the manifest disagrees with the segments: end",
                );
            }
        }
        if body.recovered {
            let text = "closed after a crash: what followed the last event is unknown";
            self.note(FindingKind::Recovered, text);
        }
    }

    /// Holds a segment against the manifest's entry for it.
    fn listed(&mut self, body: &ManifestBody, seen: &Seen) {
        let number = seen.number;
        let Some(entry) = body.segments.get(number as usize) else {
            let text = format!(
                "segment {number} exists but the manifest lists only {}",
                body.segments.len()
            );
            return self.broken(FindingKind::RolledBack, Some(number), text);
        };
        let same_seal = seen
            .seal
            .as_ref()
            .is_none_or(|(text, signature)| (text, signature) == (&entry.seal, &entry.signature));
        if entry.bytes != seen.bytes || entry.sha256 != seen.sha256 || !same_seal {
            let text = format!("segment {number} is not the one that the manifest lists");
            self.broken(FindingKind::Manifest, Some(number), text);
        }
    }

    /// Whether any trusted key verifies; else why not.
    fn trusted(&self, key_id_hint: &str, verify: impl Fn(&VerifyingKey) -> Result<()>) -> Result<(), String> {
        if self.options.trusted.is_empty() {
            return Err("no key is trusted".to_owned());
        }
        if self.options.trusted.iter().any(|key| verify(key).is_ok()) {
            return Ok(());
        }
        let known = self.options.trusted.iter().any(|key| key_id(key) == key_id_hint);
        Err(if known {
            "the signature is wrong".to_owned()
        } else {
            // The hint is the writer's claim; it is shown only so that an operator finds the key to look at.
            let hint: String = key_id_hint.chars().filter(char::is_ascii_hexdigit).take(64).collect();
            format!("it is not signed by a trusted key (it claims key {hint})")
        })
    }

    fn lose_screen(&mut self) {
        self.decoder = ScreenDecoder::new();
        self.screen_lost = true;
    }

    /// Segments `first` to `last` are not there.
    fn missing(&mut self, first: u32, last: u32) {
        let known: Vec<u32> = self.absent.range(first..=last).copied().collect();
        let mut from = Some(first);
        for known in known {
            if let Some(first) = from.filter(|first| *first < known) {
                self.missing_run(first, known - 1);
            }
            from = known.checked_add(1);
        }
        if let Some(first) = from.filter(|first| *first <= last) {
            self.missing_run(first, last);
        }
    }

    fn missing_run(&mut self, first: u32, last: u32) {
        let text = if first == last {
            format!("segment {first} is missing")
        } else {
            format!("segments {first} to {last} are missing")
        };
        self.broken(FindingKind::Missing, Some(first), text);
    }

    fn broken(&mut self, kind: FindingKind, segment: Option<u32>, text: impl Into<String>) {
        self.find(Finding {
            kind,
            broken: true,
            segment,
            text: text.into(),
        });
    }

    fn note(&mut self, kind: FindingKind, text: impl Into<String>) {
        self.find(Finding {
            kind,
            broken: false,
            segment: None,
            text: text.into(),
        });
    }

    fn find(&mut self, mut finding: Finding) {
        match self.findings.len() {
            0..FINDINGS_MAX => {}
            FINDINGS_MAX => finding.text = "more findings are not listed".to_owned(),
            _ => return,
        }
        self.findings.push(finding);
    }
}

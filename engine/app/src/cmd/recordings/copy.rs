//! One storage's copy of a recording, held against what the catalog says of it.
//!
//! Objects move while this looks: from the recorder's memory or the spool to the storages. The order of the looks makes that
//! harmless: the catalog first, so that only what it called stored is expected; then the manifest, which comes last of all
//! objects; then the spool, whose objects leave it only after the storage has them; then the storage.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use deskreel_recording::{Finding, FindingKind, Outcome as Verdict, Report, Verifier, VerifyOptions};

use crate::catalog::{Object, PlacementRow};
use crate::replay::Source;

/// How many objects a finding or a list of findings names one by one.
const NAMED_MAX: usize = 10;

/// A place that may hold objects of one recording.
pub(super) trait Objects {
    /// The numbers of the segments that are there.
    fn segments(&self) -> anyhow::Result<BTreeSet<u32>>;
    /// A segment, if it is there.
    fn segment(&self, number: u32) -> anyhow::Result<Option<Bytes>>;
    /// The manifest, if it is there.
    fn manifest(&self) -> anyhow::Result<Option<Bytes>>;
}

impl Objects for Source {
    fn segments(&self) -> anyhow::Result<BTreeSet<u32>> {
        self.segments()
    }

    fn segment(&self, number: u32) -> anyhow::Result<Option<Bytes>> {
        self.find_segment(number)
    }

    fn manifest(&self) -> anyhow::Result<Option<Bytes>> {
        self.manifest()
    }
}

/// What one storage should have of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// The catalog knows the recording; else nothing is expected of anybody.
    known: bool,
    /// It is closed: there is a manifest somewhere.
    closed: bool,
    /// The recording is incomplete without this storage.
    pub(super) required: bool,
    /// The highest segment that was sealed.
    last: Option<u32>,
    /// What the storage has, by its own answer.
    stored: BTreeSet<Place>,
    /// What is on its way there.
    waiting: BTreeSet<Place>,
    /// What will not arrive there, and why.
    given_up: BTreeMap<Place, String>,
}

/// An object's place in a recording: segments by number, then the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Segment(u32),
    Manifest,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(number) => write!(formatter, "segment {number}"),
            Self::Manifest => formatter.write_str("the manifest"),
        }
    }
}

impl Expected {
    /// What `storage` should have by the catalog's rows of a recording.
    pub(super) fn of(storage: &str, placements: &[PlacementRow]) -> Self {
        let mut expected = Self {
            known: true,
            ..Self::default()
        };
        for placement in placements {
            let place = match placement.object {
                Object::Segment(number) => Place::Segment(number),
                Object::Manifest => Place::Manifest,
            };
            match place {
                Place::Segment(number) => expected.last = expected.last.max(Some(number)),
                Place::Manifest => expected.closed = true,
            }
            if placement.storage != storage {
                continue;
            }
            expected.required |= placement.required;
            match (&placement.stored, &placement.problem) {
                (Some(_), _) => drop(expected.stored.insert(place)),
                (None, Some(problem)) => drop(expected.given_up.insert(place, problem.clone())),
                (None, None) => drop(expected.waiting.insert(place)),
            }
        }
        expected
    }

    /// Whether any of the recording was meant for this storage.
    pub(super) fn anything(&self) -> bool {
        !(self.stored.is_empty() && self.waiting.is_empty() && self.given_up.is_empty())
    }

    /// Whether the spool's object may stand for the storage's: it will be that, once it is there.
    fn may_be_in_spool(&self, place: Place) -> bool {
        !self.stored.contains(&place) && !self.given_up.contains_key(&place)
    }
}

/// What was found of one copy.
#[derive(Debug)]
pub(super) struct Examined {
    /// The verifier's report, and what the catalog adds to it.
    pub(super) report: Report,
    /// Whether there was any object at all.
    pub(super) any: bool,
}

/// Verifies what is at `storage`, or in `spool` on its way there.
///
/// # Errors
/// A place that can't be read: nothing is known then.
pub(super) fn examine(
    storage: &impl Objects,
    spool: &impl Objects,
    expected: &Expected,
    options: VerifyOptions,
) -> anyhow::Result<Examined> {
    let look = |place: Place| {
        let of = |objects: &dyn Objects| match place {
            Place::Segment(number) => objects.segment(number),
            Place::Manifest => objects.manifest(),
        };
        match expected
            .may_be_in_spool(place)
            .then(|| of(spool))
            .transpose()?
            .flatten()
        {
            Some(bytes) => Ok(Some(bytes)),
            None => of(storage),
        }
    };
    let manifest = look(Place::Manifest)?;
    let mut numbers = spool.segments()?;
    numbers.extend(storage.segments()?);
    if expected.known && manifest.is_none() {
        // Sealed since the catalog was read: another one before it may still be on its way.
        numbers.retain(|number| Some(*number) <= expected.last);
    }
    numbers.extend(expected.stored.iter().filter_map(Place::number));
    let excused = expected.waiting.iter().chain(expected.given_up.keys());
    let excused: BTreeSet<u32> = excused.filter_map(Place::number).collect();
    numbers.extend(&excused);
    let recording = options.recording;
    let mut verifier = Verifier::new(options);
    verifier.known_absent(excused);
    let (mut seen, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for number in numbers {
        match look(Place::Segment(number))? {
            Some(bytes) => {
                verifier.segment(number, &bytes);
                seen.insert(Place::Segment(number));
            }
            None => drop(missing.insert(Place::Segment(number))),
        }
    }
    if manifest.is_none() {
        missing.insert(Place::Manifest);
    }
    let any = manifest.is_some() || !seen.is_empty();
    let mut report = if any {
        verifier.finish(manifest.as_deref())
    } else {
        empty(recording)
    };
    if expected.known {
        // Of holes the verifier knows, but not of an end that it can't know.
        let tail = |place: &Place| manifest.is_none() && seen.last().is_none_or(|last| place > last);
        report.findings.extend(expected.findings(&missing, tail));
        if expected.closed {
            report.findings.retain(|finding| finding.kind != FindingKind::StillOpen);
        } else if !any {
            let text = "nothing of it is here yet: the session still runs, or the gateway crashed";
            report
                .findings
                .push(finding(FindingKind::StillOpen, false, text.to_owned()));
        }
    }
    report.outcome = verdict(&report.findings);
    Ok(Examined { report, any })
}

impl Place {
    fn number(&self) -> Option<u32> {
        match self {
            Self::Segment(number) => Some(*number),
            Self::Manifest => None,
        }
    }
}

impl Expected {
    /// What is to be said of objects that are not there. `unseen` says of which the verifier can't know.
    fn findings(&self, missing: &BTreeSet<Place>, unseen: impl Fn(&Place) -> bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(list) = list(self.stored.intersection(missing).filter(|place| unseen(place))) {
            let text = format!("{list}: not there, but the catalog says that the storage has it");
            findings.push(finding(FindingKind::Missing, true, text));
        }
        if let Some(list) = list(self.waiting.intersection(missing)) {
            findings.push(finding(
                FindingKind::Absent,
                false,
                format!("{list}: still on the way to this storage"),
            ));
        }
        let mut given_up = self.given_up.iter().filter(|(place, _)| missing.contains(place));
        for (place, why) in given_up.by_ref().take(NAMED_MAX) {
            let text = format!("{place}: did not arrive at this storage: {why}");
            findings.push(finding(FindingKind::Missing, self.required, text));
        }
        match given_up.count() {
            0 => {}
            more => {
                let text = format!("{more} more objects did not arrive at this storage");
                findings.push(finding(FindingKind::Missing, self.required, text));
            }
        }
        if !self.anything() {
            let text = "nothing of it was meant for this storage";
            findings.push(finding(FindingKind::Absent, false, text.to_owned()));
        }
        findings
    }
}

/// Objects by name, and how many more; `None` for none.
fn list<'a>(places: impl Iterator<Item = &'a Place>) -> Option<String> {
    let mut places = places;
    let named: Vec<String> = places.by_ref().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = match places.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}

pub(super) fn finding(kind: FindingKind, broken: bool, text: String) -> Finding {
    Finding {
        kind,
        broken,
        segment: None,
        text,
    }
}

/// The report of a copy of which nothing is there.
pub(super) fn empty(recording: Option<uuid::Uuid>) -> Report {
    Report {
        recording,
        outcome: Verdict::Whole,
        segments: 0,
        bytes: 0,
        duration_ns: 0,
        frames: 0,
        findings: Vec::new(),
    }
}

fn verdict(findings: &[Finding]) -> Verdict {
    if findings.iter().any(|finding| finding.broken) {
        Verdict::Broken
    } else if findings.is_empty() {
        Verdict::Whole
    } else {
        Verdict::Findings
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
pub(super) mod tests;

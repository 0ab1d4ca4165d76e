//! What the desktop does with the client's drives, as events of the recording and for the audit log: touching ranges of a
//! file are one event.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deskreel_rdp::Direction;
use deskreel_rdp::tap::{DriveAction, DriveEvent, FactsTap, TapConfig, TapEvent};
use deskreel_recording::Event;
use deskreel_recording::event::{Drive, DriveOperation, Transfer};

use super::convert;
use super::trail::Trail;

/// Longest rest between two ranges that are told as one.
const REST_MAX: Duration = Duration::from_secs(3);
/// Longest time that such ranges may take in all.
const SPAN_MAX: Duration = Duration::from_secs(10);
/// Ranges that may grow at a time; with one more, the oldest is told.
const RANGES_MAX: usize = 256;

/// Ranges of files that may still grow.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Oldest first.
    growing: Vec<Range>,
}

/// A range of a file that is read or written.
#[derive(Debug)]
struct Range {
    drive: u32,
    file: u32,
    path: String,
    is_write: bool,
    from: u64,
    to: u64,
    first_ns: u64,
    last_ns: u64,
}

impl Range {
    fn is_due(&self, at_ns: u64) -> bool {
        at_ns >= self.due_ns()
    }

    fn due_ns(&self) -> u64 {
        let rest = self.last_ns.saturating_add(ns(REST_MAX));
        rest.min(self.first_ns.saturating_add(ns(SPAN_MAX)))
    }

    /// Whether another one continues it, or overlaps.
    fn takes(&self, other: &Self) -> bool {
        (self.drive, self.file, self.is_write) == (other.drive, other.file, other.is_write)
            && self.path == other.path
            && other.from <= self.to
            && self.from <= other.to
    }

    fn join(self, other: &Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            first_ns: self.first_ns.min(other.first_ns),
            last_ns: self.last_ns.max(other.last_ns),
            ..self
        }
    }

    fn event(self) -> Drive {
        Drive {
            drive: Some(self.drive),
            offset: Some(self.from),
            bytes: Some(self.to - self.from),
            since_ns: (self.first_ns < self.last_ns).then_some(self.first_ns),
            ..Drive::new(operation(self.is_write), self.path)
        }
    }
}

fn operation(is_write: bool) -> DriveOperation {
    if is_write {
        DriveOperation::Write
    } else {
        DriveOperation::Read
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Ranges {
    /// Takes what the tap tells at `at_ns`, and appends what is to be told now.
    pub(super) fn take(&mut self, at_ns: u64, event: DriveEvent, out: &mut Vec<Drive>) {
        self.due(at_ns, out);
        let drive = event.drive;
        let (file, path, is_write, from, length) = match event.action {
            DriveAction::Read {
                file,
                path,
                offset,
                length,
                status: 0,
            } => (file, path, false, offset, length),
            DriveAction::Written {
                file,
                path,
                offset,
                length,
                status: 0,
            } => (file, path, true, offset, length),
            other => {
                self.tell_file(drive, &other, out);
                out.push(told(drive, other));
                return;
            }
        };
        let range = Range {
            drive,
            file,
            path,
            is_write,
            from,
            to: from.saturating_add(length),
            first_ns: at_ns,
            last_ns: at_ns,
        };
        self.grow(range, out);
    }

    /// Adds a range to those that it touches; it may close the hole between two.
    fn grow(&mut self, range: Range, out: &mut Vec<Drive>) {
        let touching = self.growing.extract_if(.., |growing| growing.takes(&range));
        let all = touching.reduce(|all, range| all.join(&range));
        let last_ns = range.last_ns;
        let mut all = match all {
            Some(all) => all.join(&range),
            None => range,
        };
        all.last_ns = last_ns;
        if self.growing.len() >= RANGES_MAX {
            out.push(self.growing.remove(0).event());
        }
        let place = self.growing.partition_point(|growing| growing.first_ns <= all.first_ns);
        self.growing.insert(place, all);
    }

    /// Appends the ranges that may not grow any more.
    pub(super) fn due(&mut self, at_ns: u64, out: &mut Vec<Drive>) {
        self.tell(out, |range| range.is_due(at_ns));
    }

    /// When the next range is due.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.growing.iter().map(Range::due_ns).min()
    }

    /// Appends all ranges: the session is over.
    pub(super) fn finish(&mut self, out: &mut Vec<Drive>) {
        self.tell(out, |_| true);
    }

    /// What happened to a file before it was closed, renamed or the like, is told before.
    fn tell_file(&mut self, drive: u32, action: &DriveAction, out: &mut Vec<Drive>) {
        match action {
            DriveAction::Closed { file, .. } => self.tell(out, |range| (range.drive, range.file) == (drive, *file)),
            DriveAction::Removed { .. } => self.tell(out, |range| range.drive == drive),
            DriveAction::Renamed { path, .. }
            | DriveAction::Resized { path, .. }
            | DriveAction::Deleted { path, .. } => {
                self.tell(out, |range| range.drive == drive && range.path == *path);
            }
            _ => {}
        }
    }

    fn tell(&mut self, out: &mut Vec<Drive>, which: impl Fn(&Range) -> bool) {
        out.extend(self.growing.extract_if(.., |range| which(range)).map(Range::event));
    }
}

/// An event that stands for itself.
fn told(drive: u32, action: DriveAction) -> Drive {
    use DriveOperation::{Announce, Close, Delete, List, Open, Read, Remove, Rename, Resize, Write};
    let event = |operation, path, status: u32| Drive {
        drive: Some(drive),
        status: (status != 0).then_some(status),
        ..Drive::new(operation, path)
    };
    match action {
        DriveAction::Shared { name, status } => event(Announce, name, status),
        DriveAction::Removed { name } => event(Remove, name, 0),
        DriveAction::Opened { path, status, .. } => event(Open, path, status),
        DriveAction::Listed { path, status } => event(List, path, status),
        DriveAction::Read {
            path, offset, status, ..
        } => Drive {
            offset: Some(offset),
            ..event(Read, path, status)
        },
        DriveAction::Written {
            path, offset, status, ..
        } => Drive {
            offset: Some(offset),
            ..event(Write, path, status)
        },
        DriveAction::Renamed { path, new_path, status } => Drive {
            new_path: Some(new_path),
            ..event(Rename, path, status)
        },
        DriveAction::Resized { path, length, status } => Drive {
            bytes: Some(length),
            ..event(Resize, path, status)
        },
        DriveAction::Deleted { path, status } => event(Delete, path, status),
        DriveAction::Closed {
            path,
            read,
            written,
            read_sha256,
            written_sha256,
            ..
        } => {
            let (direction, sha256) = match (written_sha256, read_sha256) {
                (Some(digest), _) => (Some(Transfer::ToClient), Some(hex::encode(digest))),
                (None, Some(digest)) => (Some(Transfer::ToDesktop), Some(hex::encode(digest))),
                (None, None) => (None, None),
            };
            Drive {
                read: (read > 0).then_some(read),
                written: (written > 0).then_some(written),
                direction,
                sha256,
                ..event(Close, path, 0)
            }
        }
    }
}

/// Drives and clipboard of a session that isn't recorded: the audit log hears of them all the same.
pub(super) struct Unrecorded {
    started_at: Instant,
    state: Mutex<(FactsTap, Ranges)>,
}

impl Unrecorded {
    pub(super) fn new(started_at: Instant, config: &TapConfig) -> Self {
        Self {
            started_at,
            state: Mutex::new((FactsTap::new(config), Ranges::default())),
        }
    }

    /// Takes whole PDUs that follow each other. Only the channels of devices and clipboard are looked into, and nothing is
    /// hashed.
    pub(super) fn pdus(&self, direction: Direction, pdus: &[u8], trail: &Trail) {
        let at_ns = ns(self.started_at.elapsed());
        let (mut told, mut copied) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (tap, ranges) = &mut *state;
            for event in tap.pdus(direction, pdus) {
                match event {
                    TapEvent::Drive(drive) => ranges.take(at_ns, drive, &mut told),
                    TapEvent::Clipboard(clipboard) => copied.extend(convert::clipboard(clipboard)),
                    _ => {}
                }
            }
            ranges.due(at_ns, &mut told);
        }
        for clipboard in copied {
            trail.event(&Event::Clipboard(clipboard));
        }
        tell(trail, told);
    }

    /// The session is over.
    pub(super) fn finish(&self, trail: &Trail) {
        let mut told = Vec::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.finish(&mut told);
        drop(state);
        tell(trail, told);
    }
}

fn tell(trail: &Trail, told: Vec<Drive>) {
    for drive in told {
        trail.event(&Event::Drive(drive));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MS: u64 = 1_000_000;

    fn read(offset: u64, length: u64) -> DriveEvent {
        DriveEvent {
            drive: 1,
            action: DriveAction::Read {
                file: 7,
                path: "home/a".to_owned(),
                offset,
                length,
                status: 0,
            },
        }
    }

    fn written(offset: u64, length: u64) -> DriveEvent {
        DriveEvent {
            drive: 1,
            action: DriveAction::Written {
                file: 7,
                path: "home/a".to_owned(),
                offset,
                length,
                status: 0,
            },
        }
    }

    /// Feeds events at times in milliseconds; gives what was told when, as (operation, offset, bytes).
    fn feed(ranges: &mut Ranges, events: &[(u64, DriveEvent)]) -> Vec<(DriveOperation, u64, u64)> {
        let mut out = Vec::new();
        for (at, event) in events {
            ranges.take(at * MS, event.clone(), &mut out);
        }
        out.into_iter()
            .map(|drive| (drive.operation, drive.offset.unwrap(), drive.bytes.unwrap()))
            .collect()
    }

    #[test]
    fn touching_ranges_are_one() {
        let mut ranges = Ranges::default();
        let told = feed(
            &mut ranges,
            &[
                (0, read(0, 10)),
                (100, written(10, 5)),
                (200, read(10, 10)),
                (300, read(15, 10)),
                (400, read(100, 1)),
                (500, read(200, 50)),
                (600, read(300, 1)),
                (700, read(250, 50)),
            ],
        );
        assert_eq!(told, []);
        let mut out = Vec::new();
        ranges.finish(&mut out);
        let told: Vec<_> = out
            .iter()
            .map(|drive| (drive.operation, drive.offset, drive.bytes))
            .collect();
        assert_eq!(
            told,
            [
                (DriveOperation::Read, Some(0), Some(25)),
                (DriveOperation::Write, Some(10), Some(5)),
                (DriveOperation::Read, Some(100), Some(1)),
                (DriveOperation::Read, Some(200), Some(101)),
            ]
        );
        assert_eq!(out[0].since_ns, Some(0));
        assert_eq!(out[1].since_ns, None);
    }

    #[test]
    fn three_seconds_of_rest_and_ten_in_all() {
        let mut ranges = Ranges::default();
        assert_eq!(feed(&mut ranges, &[(0, read(0, 1)), (2999, read(1, 1))]), []);
        assert_eq!(ranges.deadline_ns(), Some(5999 * MS));
        assert_eq!(feed(&mut ranges, &[(5999, read(2, 1))]), [(DriveOperation::Read, 0, 2)]);
        let told = feed(
            &mut ranges,
            &[
                (8000, read(3, 1)),
                (10_000, read(4, 1)),
                (12_000, read(5, 1)),
                (14_000, read(6, 1)),
            ],
        );
        assert_eq!(told, []);
        assert_eq!(ranges.deadline_ns(), Some(15_999 * MS), "ten seconds since the first");
        let mut out = Vec::new();
        ranges.due(15_998 * MS, &mut out);
        assert!(out.is_empty());
        ranges.due(15_999 * MS, &mut out);
        assert_eq!((out[0].offset, out[0].bytes), (Some(2), Some(5)));
        assert_eq!(ranges.deadline_ns(), None);
    }

    #[test]
    fn a_close_comes_after_what_it_closes() {
        let mut ranges = Ranges::default();
        let close = DriveEvent {
            drive: 1,
            action: DriveAction::Closed {
                file: 7,
                path: "home/a".to_owned(),
                read: 3,
                written: 0,
                read_sha256: Some([0xAB; 32]),
                written_sha256: None,
            },
        };
        let mut out = Vec::new();
        ranges.take(0, read(0, 3), &mut out);
        ranges.take(MS, close, &mut out);
        let operations: Vec<_> = out.iter().map(|drive| drive.operation).collect();
        assert_eq!(operations, [DriveOperation::Read, DriveOperation::Close]);
        assert_eq!((out[1].read, out[1].written), (Some(3), None));
        assert_eq!(out[1].direction, Some(Transfer::ToDesktop));
        assert_eq!(out[1].sha256.as_deref(), Some("ab".repeat(32).as_str()));
    }

    #[test]
    fn ranges_are_bounded() {
        let mut ranges = Ranges::default();
        let mut out = Vec::new();
        for index in 0..1000 {
            ranges.take(0, read(index * 10, 1), &mut out);
        }
        assert_eq!((ranges.growing.len(), out.len()), (RANGES_MAX, 1000 - RANGES_MAX));
    }
}

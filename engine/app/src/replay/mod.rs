//! Playback: stored segments in, screen images and events out.
//!
//! [`Source`] reads a recording's objects, from storages, the spool or a folder; [`Objects`], on which it stands, does so
//! for many readers at once. [`Index`] knows what is where in it, from the
//! manifest or from the segments' seals. [`Player`] goes through the events from any moment on, one segment in memory at a
//! time, and keeps picture and pointer. The exporters, `recordings frame` and the verifier stand on these.

mod arrow;
mod export;
mod index;
mod library;
mod objects;
mod player;
mod pointer;
mod source;
mod teller;
mod timeline;

#[cfg(test)]
mod library_tests;
#[cfg(test)]
mod tests;

pub(crate) use export::{Exported, Options, Overlay, Plan, Speed, Stretch, export};
pub(crate) use index::{Index, IndexedSegment};
pub(crate) use library::{Library, Place};
pub(crate) use objects::Known;
pub(crate) use objects::Objects;
pub(crate) use player::{Player, Step};
pub(crate) use source::Source;
pub(crate) use teller::Teller;
pub(crate) use timeline::{Summary, Timeline};

use std::time::Duration;

/// A moment of a recording as people read and write it: `00:01:02.345`.
pub(crate) fn clock(time_ns: u64) -> String {
    let ms = time_ns / 1_000_000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}

/// Nanoseconds of a duration; more than 584 years are cut.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

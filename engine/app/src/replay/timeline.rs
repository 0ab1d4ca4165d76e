//! What a player shows of a whole recording at once: where something happened, where nothing did, and the events.

use std::collections::BTreeMap;

use deskreel_recording::event::{ContactState, Gap, Input, SessionEvent};
use deskreel_recording::{Event, Result, Segment};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::event_row;

/// Events that one recording's list holds at most.
const EVENTS_MAX: usize = 20_000;
/// Layouts of monitors that a segment's part holds at most: a client can ask for others as often as it likes.
const LAYOUTS_MAX: usize = 100;
/// Bytes of the screen's stream within a second below which nothing worth watching happens: a caret blinks, a clock ticks.
const QUIET_BYTES: u64 = 400;
/// A shorter stretch of quiet is no idling, in seconds.
const IDLE_MIN: u64 = 6;
/// What is shown of an idle stretch before and after it is skipped, in seconds.
const IDLE_MARGIN: u64 = 1;
const SECOND: u64 = 1_000_000_000;

/// What happened within a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Second {
    screen_bytes: u64,
    clicks: u64,
    keys: u64,
    /// Other input: movement, wheel.
    moves: u64,
}

impl Second {
    fn is_quiet(self) -> bool {
        self.screen_bytes < QUIET_BYTES && self.clicks + self.keys + self.moves == 0
    }
}

/// One segment's part of a [`Timeline`], and what an index says of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    /// Time of the first event.
    pub(crate) first_ns: u64,
    /// Time of the last event.
    pub(crate) last_ns: u64,
    /// Times of the keyframes.
    pub(crate) keys_ns: Vec<u64>,
    /// Stretches that are known to be unrecorded.
    pub(crate) gaps: Vec<Gap>,
    seconds: BTreeMap<u64, Second>,
    events: Vec<Map<String, Value>>,
    layouts: usize,
    is_complete: bool,
}

impl Summary {
    /// Walks a segment.
    ///
    /// # Errors
    /// A damaged segment.
    pub(crate) fn of(segment: &Segment) -> Result<Self> {
        let mut summary = Self {
            is_complete: true,
            ..Self::default()
        };
        let mut is_first = true;
        for event in segment.events() {
            let (time_ns, event) = event?;
            if is_first {
                summary.first_ns = time_ns;
                is_first = false;
            }
            summary.last_ns = time_ns;
            summary.take(time_ns, &event);
        }
        Ok(summary)
    }

    fn take(&mut self, time_ns: u64, event: &Event) {
        let second = self.seconds.entry(time_ns / SECOND).or_default();
        match event {
            Event::Screen(message) => {
                if message.key {
                    self.keys_ns.push(time_ns);
                } else {
                    // A key repeats what is there already: it is no sign that something happened.
                    second.screen_bytes += message.bytes.len() as u64;
                }
                return;
            }
            Event::Pointer(_) => return,
            Event::Input(input) => {
                match input {
                    Input::MouseButton { down: true, .. } => second.clicks += 1,
                    Input::Touch(contact) | Input::Pen(contact) if contact.state == ContactState::Down => {
                        second.clicks += 1;
                    }
                    Input::Key { down: true, .. } => second.keys += 1,
                    _ => second.moves += 1,
                }
                return;
            }
            Event::Gap(gap) => self.gaps.push(gap.clone()),
            _ => {}
        }
        let is_layout = matches!(event, Event::Session(SessionEvent::Monitors { .. }));
        self.layouts += usize::from(is_layout);
        if self.events.len() >= EVENTS_MAX || is_layout && self.layouts > LAYOUTS_MAX {
            self.is_complete = false;
            return;
        }
        // An event without a JSON form can't be: it was read from one.
        if let Ok(mut row) = event_row::row(time_ns, event) {
            row.remove("time");
            row.remove("decision");
            self.events.push(row);
        }
    }
}

/// What a player shows of a whole recording at once.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Timeline {
    /// Seconds in which something happened: number, bytes of the screen's stream, clicks, keys, other input.
    activity: Vec<[u64; 5]>,
    /// Stretches in which nothing did, in nanoseconds.
    idle: Vec<[u64; 2]>,
    /// Everything but the screen, the pointer and input, by time.
    events: Vec<Map<String, Value>>,
    /// Whether no event was left out.
    complete: bool,
}

impl Timeline {
    /// Puts the parts together, in order. `duration_ns`: where the recording ends.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a Summary>, duration_ns: u64) -> Self {
        let mut seconds: BTreeMap<u64, Second> = BTreeMap::new();
        let mut timeline = Self {
            complete: true,
            ..Self::default()
        };
        for part in parts {
            for (number, second) in &part.seconds {
                let sum = seconds.entry(*number).or_default();
                sum.screen_bytes += second.screen_bytes;
                sum.clicks += second.clicks;
                sum.keys += second.keys;
                sum.moves += second.moves;
            }
            let room = EVENTS_MAX.saturating_sub(timeline.events.len());
            timeline.complete &= part.is_complete && part.events.len() <= room;
            timeline.events.extend(part.events.iter().take(room).cloned());
        }
        let busy = seconds.iter().filter(|(_, second)| !second.is_quiet());
        timeline.idle = idle(busy.map(|(number, _)| *number), duration_ns);
        let happened = seconds.iter().filter(|(_, second)| **second != Second::default());
        timeline.activity = happened
            .map(|(number, second)| [*number, second.screen_bytes, second.clicks, second.keys, second.moves])
            .collect();
        timeline
    }

    /// Stretches in which nothing happens, in nanoseconds, in order.
    pub(crate) fn idle(&self) -> &[[u64; 2]] {
        &self.idle
    }
}

/// The stretches between busy seconds that are long enough to be skipped.
fn idle(busy: impl Iterator<Item = u64>, duration_ns: u64) -> Vec<[u64; 2]> {
    let mut stretches = Vec::new();
    let mut quiet_from = 0;
    let mut close = |from: u64, until: u64| {
        if until.saturating_sub(from) >= IDLE_MIN {
            stretches.push([(from + IDLE_MARGIN) * SECOND, (until - IDLE_MARGIN) * SECOND]);
        }
    };
    for second in busy {
        close(quiet_from, second);
        quiet_from = second + 1;
    }
    close(quiet_from, duration_ns / SECOND);
    stretches
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn part(seconds: &[(u64, u64, u64)]) -> Summary {
        let second = |(number, screen_bytes, keys): &(u64, u64, u64)| {
            let second = Second {
                screen_bytes: *screen_bytes,
                keys: *keys,
                ..Second::default()
            };
            (*number, second)
        };
        Summary {
            seconds: seconds.iter().map(second).collect(),
            is_complete: true,
            ..Summary::default()
        }
    }

    #[test]
    fn quiet_stretches_are_idle_and_a_blinking_caret_is_quiet() {
        let parts = [
            part(&[(0, 5000, 0), (1, 60, 0), (2, 60, 0)]),
            part(&[(2, 60, 0), (20, 9000, 0), (22, 0, 1)]),
        ];
        let timeline = Timeline::of(&parts, 40 * SECOND);
        let stretch = |from: u64, to: u64| [from * SECOND, to * SECOND];
        assert_eq!(timeline.idle, [stretch(2, 19), stretch(24, 39)]);
        assert_eq!(timeline.activity[2], [2, 120, 0, 0, 0], "both halves of a second count");
        assert!(timeline.complete);
    }
}

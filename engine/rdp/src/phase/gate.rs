//! Messages of several chunks: what is decided about a message holds for all its chunks, and what must be judged whole is
//! held back until it is.

use std::fmt;

use super::Direction;
use crate::wire::channel::{Chunk, FLAG_FIRST, FLAG_LAST};
use crate::wire::mcs;

/// Most bytes of a message that has to be judged whole. Lists of formats and devices have a few kilobytes.
const HELD_MAX_BYTES: usize = 1 << 20;
/// Most bytes in a chunk of ours ([MS-RDPBCGR] CHANNEL_CHUNK_LENGTH, which every peer takes).
const CHUNK_DATA_MAX: usize = 1600;

/// What becomes of a message, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It goes on as it is.
    Pass,
    /// It ends here.
    Drop,
    /// It ends here, and this goes back to its sender.
    Answer(Vec<u8>),
    /// Not known yet; asked again when the message is whole. Never the answer to a whole message.
    Hold,
    /// This goes on instead.
    Replace(Vec<u8>),
}

/// What becomes of one chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passage {
    /// The PDU (or what it was replaced with) goes on.
    pub(super) forward: bool,
    /// A message for the sender.
    pub(super) answer: Option<Vec<u8>>,
}

/// A message is longer than what can be held back.
#[derive(Debug)]
pub(super) struct TooLong {
    pub(super) limit: usize,
}

/// One direction of a channel.
#[derive(Debug, Default)]
pub(super) struct Gate {
    course: Course,
}

/// How the current message goes on.
#[derive(Debug, Default)]
enum Course {
    /// There is none.
    #[default]
    Idle,
    Passing,
    Dropping,
    Holding(Held),
}

/// A message that is held back.
#[derive(Default)]
struct Held {
    /// The PDUs as they came, back to back.
    pdus: Vec<u8>,
    message: Vec<u8>,
    /// Flags of the first chunk.
    flags: u32,
}

/// The bytes may be somebody's clipboard.
impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.message.len())
    }
}

impl Gate {
    /// Takes a chunk, asks `judge` (what is known of the message, and whether that is all of it) and puts what goes on
    /// into `pdu`: several PDUs back to back where a message was held back.
    pub(super) fn chunk(
        &mut self,
        data: &mcs::Data,
        pdu: &mut Vec<u8>,
        mut judge: impl FnMut(&[u8], bool) -> Judgement,
    ) -> Result<Passage, TooLong> {
        let payload = pdu.get(data.payload.clone()).unwrap_or_default();
        let Ok(chunk) = Chunk::parse(payload) else {
            return Ok(Passage::default());
        };
        let (first, last) = (chunk.is_first(), chunk.is_last());
        let going = Passage {
            forward: true,
            answer: None,
        };
        let (judgement, held) = if first {
            let held = Held {
                flags: chunk.flags,
                ..Held::default()
            };
            self.course = Course::Idle;
            (judge(chunk.data, last), held)
        } else {
            match std::mem::take(&mut self.course) {
                // nothing but a wish to pause or go on ([MS-RDPBCGR] CHANNEL_FLAG_SUSPEND) comes outside of messages
                Course::Idle if chunk.data.is_empty() => return Ok(going),
                Course::Idle => return Ok(Passage::default()),
                Course::Passing => {
                    self.course = if last { Course::Idle } else { Course::Passing };
                    return Ok(going);
                }
                Course::Dropping => {
                    self.course = if last { Course::Idle } else { Course::Dropping };
                    return Ok(Passage::default());
                }
                Course::Holding(held) if last => {
                    let message = [&held.message, chunk.data].concat();
                    (judge(&message, true), held)
                }
                Course::Holding(held) => (Judgement::Hold, held),
            }
        };
        self.follow(judgement, held, last, data, pdu)
    }

    fn follow(
        &mut self,
        judgement: Judgement,
        mut held: Held,
        last: bool,
        data: &mcs::Data,
        pdu: &mut Vec<u8>,
    ) -> Result<Passage, TooLong> {
        let mut passage = Passage::default();
        let course = match judgement {
            Judgement::Hold if !last => {
                let chunk = pdu.get(data.payload.clone()).and_then(|payload| payload.get(8..));
                held.message.extend_from_slice(chunk.unwrap_or_default());
                held.pdus.extend_from_slice(pdu);
                if held.pdus.len() > HELD_MAX_BYTES {
                    return Err(TooLong { limit: HELD_MAX_BYTES });
                }
                self.course = Course::Holding(held);
                return Ok(passage);
            }
            Judgement::Hold | Judgement::Drop => Course::Dropping,
            Judgement::Answer(answer) => {
                passage.answer = Some(answer);
                Course::Dropping
            }
            Judgement::Pass => {
                passage.forward = true;
                if !held.pdus.is_empty() {
                    held.pdus.extend_from_slice(pdu);
                    *pdu = held.pdus;
                }
                Course::Passing
            }
            Judgement::Replace(message) => {
                passage.forward = true;
                *pdu = chunked(data.direction, data.initiator, data.channel, held.flags, &message);
                Course::Dropping
            }
        };
        self.course = if last { Course::Idle } else { course };
        Ok(passage)
    }

    /// Whether the receiver has the beginning of a message but not its end.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.course, Course::Passing)
    }
}

/// A message as PDUs back to back; of `flags` only those that say nothing about its place are kept.
pub(super) fn chunked(direction: Direction, initiator: u16, channel: u16, flags: u32, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let count = message.len().div_ceil(CHUNK_DATA_MAX).max(1);
    let mut pdus = Vec::with_capacity(message.len() + count * 32);
    for index in 0..count {
        let start = index * CHUNK_DATA_MAX;
        let part = message.get(start..).unwrap_or_default();
        let part = part.get(..CHUNK_DATA_MAX).unwrap_or(part);
        let mut place = flags & !(FLAG_FIRST | FLAG_LAST);
        if index == 0 {
            place |= FLAG_FIRST;
        }
        if index + 1 == count {
            place |= FLAG_LAST;
        }
        let mut payload = Vec::with_capacity(8 + part.len());
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&place.to_le_bytes());
        payload.extend_from_slice(part);
        pdus.extend_from_slice(&mcs::send_data(direction, initiator, channel, &payload));
    }
    pdus
}

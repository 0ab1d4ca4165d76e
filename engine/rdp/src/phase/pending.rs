//! Requests to the client's devices that have no answer yet ([MS-RDPEFS] 2.2.1.4): a desktop may have only so many.
//!
//! Counted where the messages pass, in every session: no recorder and no log has to follow more of them than this.

use std::collections::BTreeSet;

use super::Direction;
use crate::wire::channel::Chunk;
use crate::wire::rdpdr::{self, CORE, CompletionHead, PENDING_REQUESTS_MAX, REQUEST_HEAD, RequestHead, packet};

/// The requests of one session, by device and number.
#[derive(Debug, Default)]
pub(super) struct Pending {
    requests: BTreeSet<(u32, u32)>,
    /// The begin of the current message towards the desktop and towards the client; `None` once it is judged.
    heads: [Option<Vec<u8>>; 2],
    /// There was a request too many; the session ends.
    over: bool,
}

impl Pending {
    /// Takes note of what a chunk says. False: it begins a request too many.
    pub(super) fn note(&mut self, direction: Direction, chunk: &Chunk<'_>) -> bool {
        self.over |= !self.fits(direction, chunk);
        !self.over
    }

    fn fits(&mut self, direction: Direction, chunk: &Chunk<'_>) -> bool {
        let head = match direction {
            Direction::ToDesktop => &mut self.heads[0],
            Direction::ToClient => &mut self.heads[1],
        };
        if chunk.is_first() {
            *head = Some(Vec::new());
        }
        let Some(mut begun) = head.take() else { return true };
        if begun.is_empty() && chunk.data.len() >= REQUEST_HEAD {
            return self.judge(direction, chunk.data);
        }
        let missing = REQUEST_HEAD - begun.len();
        begun.extend_from_slice(chunk.data.get(..missing).unwrap_or(chunk.data));
        if begun.len() >= REQUEST_HEAD || chunk.is_last() {
            return self.judge(direction, &begun);
        }
        *head = Some(begun);
        true
    }

    /// The gateway itself has answered a request with this message.
    pub(super) fn answered(&mut self, answer: &[u8]) {
        if let Ok(head) = CompletionHead::parse(answer) {
            self.requests.remove(&(head.device, head.completion));
        }
    }

    /// `message`: at least its head, if it has one.
    fn judge(&mut self, direction: Direction, message: &[u8]) -> bool {
        match (rdpdr::kind(message), direction) {
            (Some((CORE, packet::IO_REQUEST)), Direction::ToClient) => {
                let Ok(head) = RequestHead::parse(message) else {
                    return true;
                };
                let request = (head.device, head.completion);
                if self.requests.len() >= PENDING_REQUESTS_MAX && !self.requests.contains(&request) {
                    return false;
                }
                self.requests.insert(request);
            }
            (Some((CORE, packet::IO_COMPLETION)), Direction::ToDesktop) => self.answered(message),
            (Some((CORE, packet::DEVICE_LIST_REMOVE)), Direction::ToDesktop) => {
                // a list that is cut leaves some of them counted
                for id in rdpdr::removed(message).unwrap_or_default() {
                    self.requests.retain(|(device, _)| *device != id);
                }
            }
            (Some((CORE, packet::SERVER_ANNOUNCE)), Direction::ToClient) => self.requests.clear(),
            _ => {}
        }
        true
    }
}

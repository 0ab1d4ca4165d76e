//! The device channel rdpdr ([MS-RDPEFS]) of a session that may use some kinds of devices.
//!
//! A denied device is never announced to the desktop. Should the desktop use its number all the same, it gets the answer
//! that there is no such device.

use std::collections::BTreeSet;

use super::gate::Judgement;
use super::{ChannelRights, Direction, PhaseEvent, Right};
use crate::wire::WireError;
use crate::wire::rdpdr::{self, CORE, CompletionHead, HEADER, PRINTING, RequestHead, packet};

const STATUS_NO_SUCH_DEVICE: u32 = 0xC000_000E;
/// Room behind a failed completion for what some receivers read without looking at the status.
const COMPLETION_TAIL: [u8; 5] = [0; 5];

/// Devices that are denied at a time. A client has a few dozen.
const DENIED_MAX: usize = 4096;
/// Events of one session.
const EVENTS_MAX: u32 = 1000;

/// What the filter knows of the channel.
#[derive(Debug)]
pub(super) struct Filter {
    rights: ChannelRights,
    /// Numbers of announced devices that the desktop didn't hear of.
    denied: BTreeSet<u32>,
    events: u32,
}

impl Filter {
    pub(super) fn new(rights: ChannelRights) -> Self {
        Self {
            rights,
            denied: BTreeSet::new(),
            events: 0,
        }
    }

    /// Judges a message that the sender of `direction` sends.
    pub(super) fn judge(
        &mut self,
        direction: Direction,
        message: &[u8],
        whole: bool,
        events: &mut Vec<PhaseEvent>,
    ) -> Judgement {
        let from_client = direction == Direction::ToDesktop;
        let undecided = if whole { Judgement::Drop } else { Judgement::Hold };
        let Some(kind) = rdpdr::kind(message) else {
            return undecided;
        };
        match kind {
            (CORE, packet::DEVICE_LIST_ANNOUNCE | packet::DEVICE_LIST_REMOVE) if from_client && !whole => {
                Judgement::Hold
            }
            // what can't be read holds devices that can't be judged
            (CORE, packet::DEVICE_LIST_ANNOUNCE) if from_client => {
                self.announce(message, events).unwrap_or(Judgement::Drop)
            }
            (CORE, packet::DEVICE_LIST_REMOVE) if from_client => self.remove(message).unwrap_or(Judgement::Drop),
            (CORE, packet::IO_REQUEST) if !from_client => match RequestHead::parse(message) {
                Ok(head) => self.request(head),
                Err(_) => undecided,
            },
            (CORE, packet::IO_COMPLETION) if from_client => match CompletionHead::parse(message) {
                Ok(head) if self.denied.contains(&head.device) => Judgement::Drop,
                Ok(_) => Judgement::Pass,
                Err(_) => undecided,
            },
            (CORE, _) => Judgement::Pass,
            (PRINTING, _) if self.rights.printers => Judgement::Pass,
            _ => Judgement::Drop,
        }
    }

    /// Takes the devices of denied kinds out of a list.
    fn announce(&mut self, message: &[u8], events: &mut Vec<PhaseEvent>) -> Result<Judgement, WireError> {
        let devices = rdpdr::devices(message)?;
        let mut kept = Vec::new();
        let mut kept_count = 0_u32;
        for device in &devices {
            let right = ChannelRights::of_device(device.kind);
            if self.rights.has(right) {
                self.denied.remove(&device.id);
                kept.extend_from_slice(device.bytes);
                kept_count += 1;
                continue;
            }
            if self.denied.len() >= DENIED_MAX && !self.denied.contains(&device.id) {
                return Ok(Judgement::Drop);
            }
            self.denied.insert(device.id);
            self.deny(device, right, events);
        }
        if kept_count as usize == devices.len() {
            return Ok(Judgement::Pass);
        }
        let mut list = message.get(..HEADER).unwrap_or_default().to_vec();
        list.extend_from_slice(&kept_count.to_le_bytes());
        list.extend_from_slice(&kept);
        Ok(Judgement::Replace(list))
    }

    fn deny(&mut self, device: &rdpdr::Device<'_>, right: Right, events: &mut Vec<PhaseEvent>) {
        self.events = self.events.saturating_add(1);
        if self.events <= EVENTS_MAX {
            events.push(PhaseEvent::DeviceDenied {
                name: device.name.clone(),
                kind: device.kind,
                id: device.id,
                right,
            });
        }
    }

    /// Takes the devices that the desktop never heard of out of a list of removed ones.
    fn remove(&mut self, message: &[u8]) -> Result<Judgement, WireError> {
        let ids = rdpdr::removed(message)?;
        let count = ids.len();
        let kept: Vec<u32> = ids.into_iter().filter(|id| !self.denied.remove(id)).collect();
        if kept.len() == count {
            return Ok(Judgement::Pass);
        }
        if kept.is_empty() {
            return Ok(Judgement::Drop);
        }
        let mut list = message.get(..HEADER).unwrap_or_default().to_vec();
        list.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_le_bytes());
        list.extend(kept.iter().flat_map(|id| id.to_le_bytes()));
        Ok(Judgement::Replace(list))
    }

    fn request(&self, head: RequestHead) -> Judgement {
        if !self.denied.contains(&head.device) {
            return Judgement::Pass;
        }
        let mut answer = Vec::with_capacity(21);
        answer.extend_from_slice(&CORE.to_le_bytes());
        answer.extend_from_slice(&packet::IO_COMPLETION.to_le_bytes());
        answer.extend_from_slice(&head.device.to_le_bytes());
        answer.extend_from_slice(&head.completion.to_le_bytes());
        answer.extend_from_slice(&STATUS_NO_SUCH_DEVICE.to_le_bytes());
        answer.extend_from_slice(&COMPLETION_TAIL);
        Judgement::Answer(answer)
    }
}

//! The device channel rdpdr ([MS-RDPEFS]) of a session that may use some kinds of devices.
//!
//! A denied device is never announced to the desktop. Should the desktop use its number all the same, it gets the answer
//! that there is no such device.

use std::collections::BTreeSet;

use super::gate::Judgement;
use super::{ChannelRights, Direction, PhaseEvent, Right};
use crate::wire::{Cursor, WireError, printable};

const CORE: u16 = 0x4472;
const PRINTING: u16 = 0x5052;
const DEVICE_LIST_ANNOUNCE: u16 = 0x4441;
const DEVICE_LIST_REMOVE: u16 = 0x444D;
const IO_REQUEST: u16 = 0x4952;
const IO_COMPLETION: u16 = 0x4943;
const STATUS_NO_SUCH_DEVICE: u32 = 0xC000_000E;
/// Header, device, file, completion: what of a request its answer needs.
const IO_REQUEST_HEAD: usize = 16;
/// Room behind a failed completion for what some receivers read without looking at the status.
const COMPLETION_TAIL: [u8; 5] = [0; 5];
const HEADER: usize = 4;
const NAME_BYTES: usize = 8;

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

/// One announced device.
struct Device<'a> {
    bytes: &'a [u8],
    kind: u32,
    id: u32,
    name: String,
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
        let mut cursor = Cursor::new(message, "device message");
        let (Ok(component), Ok(packet)) = (cursor.u16(), cursor.u16()) else {
            return undecided;
        };
        match (component, packet) {
            (CORE, DEVICE_LIST_ANNOUNCE | DEVICE_LIST_REMOVE) if from_client && !whole => Judgement::Hold,
            // what can't be read holds devices that can't be judged
            (CORE, DEVICE_LIST_ANNOUNCE) if from_client => {
                self.announce(cursor, message, events).unwrap_or(Judgement::Drop)
            }
            (CORE, DEVICE_LIST_REMOVE) if from_client => self.remove(cursor, message).unwrap_or(Judgement::Drop),
            (CORE, IO_REQUEST) if !from_client => match message.get(HEADER..IO_REQUEST_HEAD) {
                Some(head) => self.request(head),
                None => undecided,
            },
            (CORE, IO_COMPLETION) if from_client => match cursor.u32() {
                Ok(device) if self.denied.contains(&device) => Judgement::Drop,
                Ok(_) => Judgement::Pass,
                Err(_) => undecided,
            },
            (CORE, _) => Judgement::Pass,
            (PRINTING, _) if self.rights.printers => Judgement::Pass,
            _ => Judgement::Drop,
        }
    }

    /// Takes the devices of denied kinds out of a list.
    fn announce<'a>(
        &mut self,
        mut cursor: Cursor<'a>,
        message: &'a [u8],
        events: &mut Vec<PhaseEvent>,
    ) -> Result<Judgement, WireError> {
        let count = cursor.u32()?;
        let mut devices = Vec::new();
        for _ in 0..count {
            devices.push(device(&mut cursor, message)?);
        }
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
        if kept_count == count {
            return Ok(Judgement::Pass);
        }
        let mut list = message.get(..HEADER).unwrap_or_default().to_vec();
        list.extend_from_slice(&kept_count.to_le_bytes());
        list.extend_from_slice(&kept);
        Ok(Judgement::Replace(list))
    }

    fn deny(&mut self, device: &Device<'_>, right: Right, events: &mut Vec<PhaseEvent>) {
        self.events = self.events.saturating_add(1);
        if self.events <= EVENTS_MAX {
            events.push(PhaseEvent::DeviceDenied {
                name: device.name.clone(),
                kind: device.kind,
                right,
            });
        }
    }

    /// Takes the devices that the desktop never heard of out of a list of removed ones.
    fn remove(&mut self, mut cursor: Cursor<'_>, message: &[u8]) -> Result<Judgement, WireError> {
        let count = cursor.u32()?;
        let mut kept = Vec::new();
        for _ in 0..count {
            let id = cursor.u32()?;
            if !self.denied.remove(&id) {
                kept.push(id);
            }
        }
        if kept.len() == count as usize {
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

    /// `head`: device, file and completion of a request.
    fn request(&self, head: &[u8]) -> Judgement {
        let number = |at: usize| {
            let bytes = head.get(at..).and_then(|rest| rest.first_chunk().copied());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let (device, completion) = (number(0), number(8));
        if !self.denied.contains(&device) {
            return Judgement::Pass;
        }
        let mut answer = Vec::with_capacity(21);
        answer.extend_from_slice(&CORE.to_le_bytes());
        answer.extend_from_slice(&IO_COMPLETION.to_le_bytes());
        answer.extend_from_slice(&device.to_le_bytes());
        answer.extend_from_slice(&completion.to_le_bytes());
        answer.extend_from_slice(&STATUS_NO_SUCH_DEVICE.to_le_bytes());
        answer.extend_from_slice(&COMPLETION_TAIL);
        Judgement::Answer(answer)
    }
}

fn device<'a>(cursor: &mut Cursor<'a>, message: &'a [u8]) -> Result<Device<'a>, WireError> {
    let start = cursor.position();
    let (kind, id) = (cursor.u32()?, cursor.u32()?);
    let name: [u8; NAME_BYTES] = cursor.array()?;
    let length = cursor.u32()? as usize;
    cursor.skip(length)?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(Device {
        bytes: message.get(start..cursor.position()).unwrap_or_default(),
        kind,
        id,
        name: printable(&String::from_utf8_lossy(name)),
    })
}

//! The IO channel from the first Demand Active on.

use std::ops::Range;

use super::{BitmapCodec, Direction, FilterError, Phase, PhaseEvent, Phases, Verdict, activity, malformed};
use crate::patch::{self, field, field_u16, field_u32};
use crate::wire::capability::{self, Active, set};
use crate::wire::redirection::Redirection;
use crate::wire::share::{ShareControl, control, data, share_controls, share_data};
use crate::wire::{Cursor, WireError, mcs};

/// More codecs than were ever defined.
const BITMAP_CODECS_MAX: usize = 32;
/// General: refreshRectSupport and suppressOutputSupport.
const REFRESH_RECT_SUPPORT_AT: usize = 18;
const SUPPRESS_OUTPUT_SUPPORT_AT: usize = 19;

/// Whether the low bits of a pduType are a kind that RDP has.
pub(super) fn is_control_kind(kind: u8) -> bool {
    matches!(
        kind,
        control::DEMAND_ACTIVE
            | control::CONFIRM_ACTIVE
            | control::DEACTIVATE_ALL
            | control::DATA
            | control::REDIRECTION
    )
}

/// Whether a payload holds share control PDUs to its very end, in contrast to a PDU with a security header.
pub(super) fn is_share(pdu: &[u8], payload: &Range<usize>) -> bool {
    let version = field_u16(pdu, payload, 2).unwrap_or_default() >> 4;
    version == 1 && share_controls(pdu, payload.clone()).all(|item| item.is_ok_and(|item| is_control_kind(item.kind)))
}

/// Whether a payload holds share data that passes unchanged and means nothing to the filter.
pub(super) fn is_plain(direction: Direction, pdu: &[u8], payload: Range<usize>) -> bool {
    share_controls(pdu, payload).all(|item| {
        item.is_ok_and(|item| {
            item.kind == control::DATA
                && share_data(pdu, &item).is_ok_and(|share_data| match direction {
                    Direction::ToClient => !matches!(share_data.kind, data::FONT_MAP | data::SET_ERROR_INFO),
                    Direction::ToDesktop => share_data.kind != data::SUPPRESS_OUTPUT,
                })
        })
    })
}

/// Whether share data may come before the first Demand Active: only the desktop's reason for giving up, and not in a
/// compressed PDU, whose history the tap would lack.
fn is_early(pdu: &[u8], item: &ShareControl) -> bool {
    share_data(pdu, item).is_ok_and(|data| data.kind == data::SET_ERROR_INFO && !data.is_compressed())
}

impl Phases {
    pub(super) fn share(&mut self, data: &mcs::Data, pdu: &mut [u8], verdict: &mut Verdict) -> Result<(), FilterError> {
        let direction = data.direction;
        if direction == Direction::ToDesktop && activity::in_share(pdu, data.payload.clone()) {
            self.inputs += 1;
        }
        let controls: Result<Vec<_>, _> = share_controls(pdu, data.payload.clone()).collect();
        for item in controls.map_err(malformed(direction))? {
            match (item.kind, direction) {
                (control::DATA, Direction::ToClient) if self.phase < Phase::Active && !is_early(pdu, &item) => {
                    // The tap has not begun: a picture would reach the client unseen.
                    return Err(self.unexpected(direction, "share data before the first Demand Active"));
                }
                (control::DATA, _) => self.share_data(direction, pdu, &item, verdict)?,
                (control::DEMAND_ACTIVE, Direction::ToClient) => {
                    self.desktop_initiator = data.initiator;
                    self.demand_active(pdu, &item, verdict)?;
                }
                (control::CONFIRM_ACTIVE, Direction::ToDesktop) => self.confirm_active(pdu, &item, verdict)?,
                (control::DEACTIVATE_ALL, Direction::ToClient) => {
                    self.confirmed = false;
                    verdict.events.push(PhaseEvent::Deactivated);
                }
                (control::REDIRECTION, Direction::ToClient) => {
                    // share control header and two bytes of padding
                    let start = (item.range.start + 8).min(item.range.end);
                    self.redirection(data, pdu, start..item.range.end, verdict)?;
                    if item.range != data.payload {
                        return Err(self.unexpected(direction, "redirection among other PDUs"));
                    }
                }
                (control::FLOW, _) => (),
                _ => return Err(self.unexpected(direction, "share control PDU")),
            }
        }
        verdict.tap = self.phase == Phase::Active;
        Ok(())
    }

    /// A redirection never passes: one that moves the client ends the session, one that doesn't is dropped. One that can't be
    /// read is taken for the former.
    pub(super) fn redirection(
        &self,
        data: &mcs::Data,
        pdu: &[u8],
        packet: Range<usize>,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        if data.direction == Direction::ToDesktop {
            return Err(self.unexpected(data.direction, "redirection"));
        }
        let redirection = Redirection::parse(pdu.get(packet).unwrap_or_default()).unwrap_or_default();
        if !redirection.is_informational {
            return Err(FilterError::Redirection(Box::new(redirection)));
        }
        let target = redirection.target().to_owned();
        verdict.forward = false;
        verdict.events.push(PhaseEvent::RedirectionDropped { target });
        Ok(())
    }

    fn demand_active(&mut self, pdu: &mut [u8], item: &ShareControl, verdict: &mut Verdict) -> Result<(), FilterError> {
        let active = capability::active(pdu, item).map_err(malformed(Direction::ToClient))?;
        single(&active, &[set::GENERAL, set::BITMAP], Direction::ToClient)?;
        let facts = &mut self.facts;
        facts.share_id = active.share_id;
        facts.originator = item.source;
        facts.activations = facts.activations.saturating_add(1);
        facts.output_suppressed = false;
        for body in active.of_kind(set::GENERAL) {
            let support = |at| field::<1>(pdu, &body, at).is_some_and(|[byte]| byte != 0);
            facts.refresh_rect_support = support(REFRESH_RECT_SUPPORT_AT);
            facts.suppress_output_support = support(SUPPRESS_OUTPUT_SUPPORT_AT);
        }
        for body in active.of_kind(set::BITMAP) {
            facts.desktop_color_depth = field_u16(pdu, &body, 0).unwrap_or_default();
            facts.desktop_width = field_u16(pdu, &body, 8).unwrap_or_default();
            facts.desktop_height = field_u16(pdu, &body, 10).unwrap_or_default();
        }
        let (width, height) = (facts.desktop_width.into(), facts.desktop_height.into());
        self.check_screen(Direction::ToClient, width, height)?;
        patch::demand_active(pdu, &active);
        self.phase = Phase::Active;
        self.confirmed = false;
        verdict.events.push(PhaseEvent::Activating {
            activation: self.facts.activations,
        });
        Ok(())
    }

    fn confirm_active(
        &mut self,
        pdu: &mut [u8],
        item: &ShareControl,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let active = capability::active(pdu, item).map_err(malformed(Direction::ToDesktop))?;
        single(&active, &[set::BITMAP_CODECS, set::MULTIFRAGMENT], Direction::ToDesktop)?;
        self.facts.bitmap_codecs = bitmap_codecs(pdu, &active);
        if !patch::confirm_active(pdu, &active, self.options.graphics, self.options.max_request_size) {
            return Err(FilterError::NoOrderSet);
        }
        self.facts.max_request_size = active
            .of_kind(set::MULTIFRAGMENT)
            .last()
            .and_then(|body| field_u32(pdu, &body, 0));
        self.confirmed = true;
        verdict.events.push(PhaseEvent::Confirmed {
            activation: self.facts.activations,
        });
        if !std::mem::replace(&mut self.reported, true) {
            verdict.events.extend(self.channels.report());
            verdict.events.extend(self.network.waiting());
        }
        Ok(())
    }

    fn share_data(
        &mut self,
        direction: Direction,
        pdu: &[u8],
        item: &ShareControl,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let share_data = share_data(pdu, item).map_err(malformed(direction))?;
        match (share_data.kind, direction) {
            (data::FONT_MAP, Direction::ToClient) => verdict.events.push(PhaseEvent::Active),
            (data::SET_ERROR_INFO, Direction::ToClient) if !share_data.is_compressed() => {
                match field_u32(pdu, &share_data.body, 0) {
                    None | Some(0) => (),
                    Some(code) => verdict.events.push(PhaseEvent::DesktopError { code }),
                }
            }
            (data::SUPPRESS_OUTPUT, Direction::ToDesktop) if !share_data.is_compressed() => {
                let allow = field::<1>(pdu, &share_data.body, 0).unwrap_or([1]);
                self.facts.output_suppressed = allow == [0];
            }
            _ => (),
        }
        Ok(())
    }
}

/// Refuses two sets of a kind whose values matter here: filter, tap, client and desktop might each go by another one.
fn single(active: &Active, kinds: &[u16], direction: Direction) -> Result<(), FilterError> {
    match kinds.iter().find(|kind| active.has_two(**kind)) {
        None => Ok(()),
        Some(&kind) => Err(malformed(direction)(WireError::Invalid {
            what: "capability sets",
            field: "second set of type",
            value: kind.into(),
            offset: 0,
        })),
    }
}

/// The client's codecs and their numbers; an entry that is cut short ends the list.
fn bitmap_codecs(pdu: &[u8], active: &Active) -> Vec<BitmapCodec> {
    let mut codecs = Vec::new();
    for body in active.of_kind(set::BITMAP_CODECS) {
        let mut cursor = Cursor::new(pdu.get(body).unwrap_or_default(), "BitmapCodecs");
        let count = usize::from(cursor.u8().unwrap_or_default());
        for _ in 0..count.min(BITMAP_CODECS_MAX) {
            let mut entry = || {
                let (guid, id) = (cursor.array()?, cursor.u8()?);
                let length = usize::from(cursor.u16()?);
                Ok::<_, WireError>(BitmapCodec {
                    guid,
                    id,
                    properties: cursor.take(length)?.to_vec(),
                })
            };
            match entry() {
                Ok(codec) => codecs.push(codec),
                Err(_) => break,
            }
        }
    }
    codecs.truncate(BITMAP_CODECS_MAX);
    codecs
}

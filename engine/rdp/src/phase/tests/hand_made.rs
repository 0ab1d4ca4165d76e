//! PDUs made by hand: what no peer at hand sends.

use super::*;
use crate::wire::mcs::send_data;
use crate::wire::share::control;
use Direction::{ToClient, ToDesktop};

pub(super) const IO: u16 = 1003;
pub(super) const USER: u16 = 1008;

/// Type, length, body.
pub(super) fn block(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut block = kind.to_le_bytes().to_vec();
    block.extend((body.len() as u16 + 4).to_le_bytes());
    block.extend(body);
    block
}

/// A share control PDU on the IO channel.
pub(super) fn share_control(direction: Direction, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = (body.len() as u16 + 6).to_le_bytes().to_vec();
    payload.extend([kind | 0x10, 0, 0xF0, 0x03]);
    payload.extend(body);
    send_data(direction, USER, IO, &payload)
}

pub(super) fn share_data(direction: Direction, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut inside = vec![0xEA, 3, 1, 0, 0, 1, 0, 0, kind, 0, 0, 0];
    inside.extend(body);
    share_control(direction, control::DATA, &inside)
}

pub(super) fn demand(sets: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0xEA, 3, 1, 0, 4, 0];
    let all = sets.concat();
    body.extend((all.len() as u16 + 4).to_le_bytes());
    body.extend(b"RDP\0");
    body.extend([sets.len() as u8, 0, 0, 0]);
    body.extend(all);
    body.extend([0; 4]);
    share_control(ToClient, control::DEMAND_ACTIVE, &body)
}

pub(super) fn confirm(sets: &[Vec<u8>]) -> Vec<u8> {
    confirm_counted(sets.len(), sets)
}

pub(super) fn confirm_counted(count: usize, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0xEA, 3, 1, 0, 0xEA, 3, 4, 0];
    let all = sets.concat();
    body.extend((all.len() as u16 + 4).to_le_bytes());
    body.extend(b"RDP\0");
    body.extend([count as u8, 0, 0, 0]);
    body.extend(all);
    share_control(ToDesktop, control::CONFIRM_ACTIVE, &body)
}

pub(super) fn order() -> Vec<u8> {
    block(0x03, &[0xFF; 84])
}

/// A session of xrdp_default's client in which the desktop has just demanded.
pub(super) fn activated() -> Phases {
    let (mut phases, _) = licensing();
    phases.pdu(ToClient, &mut demand(&[])).unwrap();
    phases
}

/// The same, just before the Demand Active.
pub(super) fn licensing() -> (Phases, Vec<Record>) {
    played_until("xrdp_default", options(), |(_, pdu)| {
        is_control(pdu, control::DEMAND_ACTIVE)
    })
}

pub(super) fn pass(phases: &mut Phases, direction: Direction, pdu: &[u8]) -> (Verdict, Vec<u8>) {
    let mut pdu = pdu.to_vec();
    let verdict = through(phases, direction, &mut pdu).unwrap();
    (verdict, pdu)
}

pub(super) fn refusal(phases: &mut Phases, direction: Direction, pdu: &[u8]) -> &'static str {
    let mut pdu = pdu.to_vec();
    phases.pdu(direction, &mut pdu).unwrap_err().reason()
}

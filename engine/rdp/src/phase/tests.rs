#![allow(clippy::unwrap_used, reason = "tests")]

mod activation;
mod captured;
mod channels;
mod graphics;
mod hand_made;
mod handshake;
mod hostile;
mod refusals;
mod rights;

use super::*;
use crate::wire::x224::protocol;

/// A recorded PDU and its direction.
type Record = (Direction, Vec<u8>);

/// The captured sessions, X.224 negotiation included.
pub(super) const CAPTURES: [(&str, &[u8]); 4] = [
    (
        "xrdp_default",
        include_bytes!("../../fixtures/handshakes/xrdp_default.bin"),
    ),
    (
        "xrdp_resize",
        include_bytes!("../../fixtures/handshakes/xrdp_resize.bin"),
    ),
    (
        "shadow_default",
        include_bytes!("../../fixtures/handshakes/shadow_default.bin"),
    ),
    ("shadow_rfx", include_bytes!("../../fixtures/handshakes/shadow_rfx.bin")),
];

/// The records of a capture from Connect Initial on.
fn records(name: &str) -> Vec<Record> {
    let mut bytes = CAPTURES.iter().find(|capture| capture.0 == name).unwrap().1;
    let mut records = Vec::new();
    while let [way, a, b, c, d, rest @ ..] = bytes {
        let (pdu, rest) = rest.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        records.push((
            if *way == 0 {
                Direction::ToDesktop
            } else {
                Direction::ToClient
            },
            pdu.to_vec(),
        ));
        bytes = rest;
    }
    records.split_off(2)
}

/// What the captures' legs have negotiated.
fn options() -> FilterOptions {
    FilterOptions {
        requested_protocols: protocol::SSL | protocol::HYBRID,
        selected_protocol: protocol::SSL,
        desktop: "lab".into(),
        ..FilterOptions::default()
    }
}

/// One PDU's way through the filter.
struct Step {
    direction: Direction,
    before: Vec<u8>,
    after: Vec<u8>,
    verdict: Verdict,
}

/// One PDU's way through the filter; a Client Info that is held back is let go with the client's own credentials.
fn through(phases: &mut Phases, direction: Direction, pdu: &mut Vec<u8>) -> Result<Verdict, FilterError> {
    let mut verdict = phases.pdu(direction, pdu)?;
    if verdict.logon.take().is_some() {
        assert!(!verdict.forward && verdict.sensitive && !verdict.tap);
        phases.log_on(pdu, None)?;
        verdict.forward = true;
    }
    Ok(verdict)
}

/// Plays records through the filter.
fn play(phases: &mut Phases, records: &[Record]) -> Vec<Step> {
    let step = |(index, (direction, before)): (usize, &Record)| {
        let mut after = before.clone();
        let verdict = through(phases, *direction, &mut after).unwrap_or_else(|error| panic!("record {index}: {error}"));
        Step {
            direction: *direction,
            before: before.clone(),
            after,
            verdict,
        }
    };
    records.iter().enumerate().map(step).collect()
}

/// Plays a capture up to (not including) the first PDU for which `until` holds.
fn played_until(name: &str, options: FilterOptions, until: impl Fn(&Record) -> bool) -> (Phases, Vec<Record>) {
    let mut records = records(name);
    let at = records.iter().position(until).unwrap();
    let rest = records.split_off(at);
    let mut phases = Phases::new(options);
    play(&mut phases, &records);
    (phases, rest)
}

/// Plays a whole capture.
fn played(name: &str) -> Phases {
    let mut phases = Phases::new(options());
    play(&mut phases, &records(name));
    phases
}

/// The payload of a PDU on an MCS channel.
fn payload(pdu: &[u8]) -> Option<(u16, &[u8])> {
    match mcs::domain_pdu(pdu) {
        Ok(DomainPdu::Data(data)) => Some((data.channel, &pdu[data.payload])),
        _ => None,
    }
}

/// Whether it is a share control PDU of this kind on the IO channel of the captures.
fn is_control(pdu: &[u8], kind: u8) -> bool {
    payload(pdu).is_some_and(|(channel, payload)| channel == 1003 && payload[2] == kind | 0x10)
}

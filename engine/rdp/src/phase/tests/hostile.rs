//! Nothing that a peer sends may panic, and what is forwarded unasked is forwarded unchanged.

use proptest::prelude::*;

use super::*;
use crate::wire::channel::{Chunk, Reassembler};
use crate::wire::client_info::{ClientInfo, Replacement};
use crate::wire::x224::{ConnectionConfirm, ConnectionRequest, find_opening};
use crate::wire::{capability, connect, dvc, fast_path, find_pdu, share};

/// All walkers over the same bytes.
fn walk(bytes: &[u8]) {
    let _ = find_pdu(bytes);
    let _ = find_opening(bytes);
    let _ = ConnectionRequest::parse(bytes).map(|request| crate::wire::x224::requested_desktop(&request).map(str::len));
    let _ = ConnectionConfirm::parse(bytes).map(|confirm| confirm.selected(3));
    for block in connect::connect_initial(bytes).into_iter().flatten() {
        assert!(bytes.get(block.body).is_some());
    }
    for block in connect::connect_response(bytes)
        .map(|response| response.blocks)
        .into_iter()
        .flatten()
    {
        assert!(bytes.get(block.body).is_some());
    }
    if let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(bytes) {
        assert!(bytes.get(data.payload.clone()).is_some());
    }
    for start in [0, 15] {
        for item in share::share_controls(bytes, start..bytes.len()).flatten() {
            assert!(bytes.get(item.range.clone()).is_some());
            let _ = share::share_data(bytes, &item).map(|data| assert!(bytes.get(data.body).is_some()));
            for set in capability::active(bytes, &item)
                .map(|active| active.sets)
                .into_iter()
                .flatten()
            {
                assert!(bytes.get(set.body).is_some());
            }
        }
    }
    if let Ok(info) = ClientInfo::parse(bytes) {
        assert_eq!(info.splice(bytes, &Replacement::default()).as_deref(), Ok(bytes));
    }
    let _ = fast_path::updates(bytes).map(|updates| updates.flatten().count());
    let _ = dvc::DvcPdu::parse(bytes, true);
    let _ = dvc::DvcPdu::parse(bytes, false);
    let mut reassembler = Reassembler::new(64);
    for part in bytes.chunks(11) {
        let _ = Chunk::parse(part).map(|chunk| reassembler.push(&chunk).map(|message| message.map(<[u8]>::len)));
    }
}

/// One change to a valid PDU.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Length16(prop::sample::Index, u16),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<prop::sample::Index>().prop_map(Change::Cut),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        2 => (any::<prop::sample::Index>(), prop_oneof![Just(0_u16), Just(0xFFFF), Just(0x8000), any::<u16>()])
            .prop_map(|(at, value)| Change::Length16(at, value)),
    ]
}

fn apply(pdu: &mut Vec<u8>, change: &Change) {
    if pdu.is_empty() {
        return;
    }
    match change {
        Change::Set(at, byte) => *at.get_mut(pdu) = *byte,
        Change::Cut(at) => pdu.truncate(at.index(pdu.len())),
        Change::Insert(at, byte) => pdu.insert(at.index(pdu.len()), *byte),
        Change::Length16(at, value) => {
            let at = at.index(pdu.len());
            for (place, byte) in pdu.iter_mut().skip(at).zip(value.to_le_bytes()) {
                *place = byte;
            }
        }
    }
}

/// Makes the outer length right again, so that what is inside gets looked at.
fn repair(pdu: &mut [u8]) {
    if pdu.first() == Some(&3) && pdu.len() > 15 {
        let length = pdu.len();
        pdu[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        if pdu[7] == 0x64 || pdu[7] == 0x68 {
            if pdu[13] & 0x80 != 0 {
                pdu[13..15].copy_from_slice(&(0x8000 | (length - 15) as u16).to_be_bytes());
            } else {
                pdu[13] = (length - 14) as u8 & 0x7F;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn walkers_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        walk(&bytes);
    }

    /// Random payloads in the frames that get them past the first checks.
    #[test]
    fn an_active_session_takes_anything(
        to_client in any::<bool>(),
        channel in prop_oneof![Just(1003_u16), Just(1004), Just(1006), Just(1007), any::<u16>()],
        head in prop_oneof![
            Just(vec![]),
            Just(vec![0x40, 0, 0x13, 0]),
            Just(vec![0x40, 0, 0x11, 0]),
            Just(vec![0x40, 0, 0x17, 0]),
            Just(vec![8, 0, 0, 0, 3, 0, 0, 0]),
        ],
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let direction = if to_client { Direction::ToClient } else { Direction::ToDesktop };
        let mut phases = played("xrdp_default");
        let mut payload = [head, tail].concat();
        if payload.get(2).is_some_and(|kind| kind & 0x10 != 0) {
            let length = payload.len() as u16;
            payload[..2].copy_from_slice(&length.to_le_bytes());
        }
        let mut pdu = mcs::send_data(direction, 1008, channel, &payload);
        let length = pdu.len();
        let before = pdu.clone();
        if let Ok(Some(_)) = phases.passes(direction, &pdu) {
            phases.pdu(direction, &mut pdu).unwrap();
            prop_assert_eq!(&pdu, &before);
        } else {
            let _ = phases.pdu(direction, &mut pdu);
        }
        prop_assert_eq!(pdu.len(), length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// A captured session with one PDU broken: the filter refuses or goes on, it never panics, and what it forwards
    /// without having a reason to patch is what came.
    #[test]
    fn broken_sessions(
        capture in 0..CAPTURES.len(),
        victim in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..4),
        repaired in any::<bool>(),
    ) {
        let mut records = records(CAPTURES[capture].0);
        let victim = victim.index(records.len());
        for change in &changes {
            apply(&mut records[victim].1, change);
        }
        if repaired {
            repair(&mut records[victim].1);
        }
        walk(&records[victim].1);
        let mut phases = Phases::new(options());
        for (direction, before) in &records {
            let mut pdu = before.clone();
            let quick = phases.passes(*direction, &pdu).unwrap();
            let Ok(verdict) = through(&mut phases, *direction, &mut pdu) else { return Ok(()) };
            if let Some(Pass { tap }) = quick {
                prop_assert_eq!(&pdu, before);
                prop_assert_eq!(&verdict, &Verdict { forward: true, tap, ..Verdict::default() });
            }
            let _ = (phases.error_info(1), phases.refresh(9, 9), phases.may_inject(*direction, &pdu));
        }
    }
}

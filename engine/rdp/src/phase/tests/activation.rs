//! Demand and Confirm Active, field by field, and the share control PDUs of other peers' dialects.

use super::hand_made::*;
use super::*;
use crate::wire::error_info::DENIED;
use crate::wire::mcs::send_data;
use crate::wire::share::{control, data};
use Direction::{ToClient, ToDesktop};

/// The values that changed in each block of 0xFF, as `offset: bytes now`.
fn changes(after: &[u8]) -> String {
    let mut out = String::new();
    let mut last = None;
    for (offset, byte) in after.iter().enumerate().filter(|(_, byte)| **byte != 0xFF) {
        if last != offset.checked_sub(1) || last.is_none() {
            out.push_str(&format!(" {offset}:"));
        }
        out.push_str(&format!("{byte:02x}"));
        last = Some(offset);
    }
    out.trim_start().to_owned()
}

/// Section 8.1 and 8.2 of the filter for Confirm Active: every set of all types, bodies all ones.
#[test]
fn every_set_of_a_confirm_active() {
    let mut phases = activated();
    let lengths = |kind: u16| match kind {
        0x03 => 84,
        0x10 => 48,
        _ => 20,
    };
    let sets: Vec<Vec<u8>> = (1..=0x20).map(|kind| block(kind, &vec![0xFF; lengths(kind)])).collect();
    let before = confirm(&sets);
    let (verdict, after) = pass(&mut phases, ToDesktop, &before);
    assert!(verdict.forward && verdict.tap);
    assert_eq!(before.len(), after.len());
    let start = before.len() - sets.concat().len();
    assert_eq!(before[..start], after[..start]);
    let mut at = start;
    let mut found = Vec::new();
    for (set, kind) in sets.iter().zip(1_u16..) {
        assert_eq!(after[at..at + 4], set[..4], "headers stay");
        let changes = changes(&after[at + 4..at + set.len()]);
        if !changes.is_empty() {
            found.push(format!("{kind:02x} {changes}"));
        }
        at += set.len();
    }
    let zeros = "00".repeat(32);
    let order = format!("03 30:0a00{zeros} 66:0000");
    let wanted = [
        order.as_str(),
        "0f 0:00000000",
        "10 44:0000",
        "11 0:00000000",
        "14 0:00000000",
        "15 0:00000000",
        "16 0:00000000",
        "17 0:00000000",
        "18 0:00000000",
        "19 0:0000",
        "1a 0:00000001",
        "1c 0:00000000",
        "1d 0:00",
    ];
    assert_eq!(found, wanted);
}

/// Sets of older layouts are cut short: what is there is patched, what is not there is not invented.
#[test]
fn short_sets_of_a_confirm_active() {
    let mut phases = activated();
    let sets = [
        order(),
        block(0x10, &[0xFF; 45]),
        block(0x14, &[0xFF; 2]),
        block(0x1D, &[]),
        block(0x1A, &[0xFF; 3]),
    ];
    let (_, after) = pass(&mut phases, ToDesktop, &confirm(&sets));
    let tail = after.len() - sets[1..].concat().len();
    let mut wanted = block(0x10, &[0xFF; 45]);
    wanted[48] = 0;
    wanted.extend(block(0x14, &[0; 2]));
    wanted.extend(block(0x1D, &[]));
    wanted.extend(block(0x1A, &[0xFF; 3]));
    assert_eq!(after[tail..], wanted);
}

#[test]
fn a_confirm_active_that_keeps_its_orders_ends_the_session() {
    let sets = |sets: &[Vec<u8>]| refusal(&mut activated(), ToDesktop, &confirm(sets));
    assert_eq!(sets(&[]), "no-order-set");
    assert_eq!(sets(&[block(0x02, &[0; 24])]), "no-order-set");
    assert_eq!(sets(&[block(0x03, &[0xFF; 63])]), "no-order-set");
    assert_eq!(sets(&[order(), block(0x03, &[0xFF; 8])]), "no-order-set");
    assert_eq!(sets(&[order(), vec![1, 0, 3, 0]]), "malformed-pdu");
    assert_eq!(sets(&[order(), vec![1, 0, 9, 0]]), "malformed-pdu");
    assert_eq!(
        refusal(&mut activated(), ToDesktop, &confirm_counted(2, &[order()])),
        "malformed-pdu"
    );
}

/// Desktops that walk to the end find patched sets there, too.
#[test]
fn sets_beyond_the_count_are_patched() {
    let sets = [order(), block(0x1C, &[0xFF; 8])];
    let (_, after) = pass(&mut activated(), ToDesktop, &confirm_counted(1, &sets));
    assert!(after.ends_with(&block(0x1C, &[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF])));
}

/// A Confirm Active behind another share control PDU, and one of a later activation.
#[test]
fn no_confirm_active_gets_by() {
    let mut phases = activated();
    let inside = |pdu: &[u8]| payload(pdu).unwrap().1.to_vec();
    let mut two = inside(&share_data(ToDesktop, data::INPUT, &[0; 4]));
    two.extend(inside(&confirm(&[order()])));
    for activation in 1..4 {
        let (verdict, after) = pass(&mut phases, ToDesktop, &send_data(ToDesktop, USER, IO, &two));
        assert_eq!(verdict.events[0], PhaseEvent::Confirmed { activation });
        // the static channels are told once
        assert_eq!(verdict.events.len(), if activation == 1 { 5 } else { 1 });
        assert!(after.windows(4).any(|bytes| bytes == [0x0A, 0, 0, 0]));
        pass(
            &mut phases,
            ToClient,
            &share_control(ToClient, control::DEACTIVATE_ALL, &[0; 6]),
        );
        pass(&mut phases, ToClient, &demand(&[]));
    }
}

#[test]
fn a_demand_active_allows_no_compressed_channels() {
    let (mut phases, _) = licensing();
    let mut general = [0; 20];
    general[18] = 1;
    let mut bitmap = [0; 24];
    bitmap[..2].copy_from_slice(&[32, 0]);
    bitmap[8..12].copy_from_slice(&[0x80, 7, 0x38, 4]);
    let sets = [
        block(0x01, &general),
        block(0x02, &bitmap),
        block(0x14, &[0xFF; 8]),
        block(0x03, &[0xFF; 84]),
    ];
    let before = demand(&sets);
    let (verdict, after) = pass(&mut phases, ToClient, &before);
    assert_eq!(verdict.events, [PhaseEvent::Activating { activation: 1 }]);
    let changed: Vec<_> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
    let flags = before.len() - 4 - 88 - 8;
    assert_eq!(changed, (flags..flags + 4).collect::<Vec<_>>());
    let facts = phases.facts();
    assert_eq!(
        (facts.desktop_width, facts.desktop_height, facts.desktop_color_depth),
        (1920, 1080, 32)
    );
    assert!(facts.refresh_rect_support && !facts.suppress_output_support);

    assert!(phases.refresh(1920, 1080).is_empty(), "not confirmed yet");
    pass(&mut phases, ToDesktop, &confirm(&[order()]));
    let refresh = phases.refresh(1920, 1080);
    let rectangle = [1, 0, 0, 0, 0, 0, 0, 0, 0x7F, 7, 0x37, 4];
    assert_eq!(refresh.len(), 1);
    assert!(refresh[0].ends_with(&rectangle) && payload(&refresh[0]).unwrap().1[14] == data::REFRESH_RECT);
}

/// Of two sets of a kind, filter, tap, client and desktop might each go by another one.
#[test]
fn two_sets_of_a_kind_that_matters_are_refused() {
    for kind in [0x01, 0x02] {
        let (mut phases, _) = licensing();
        let two = demand(&[block(kind, &[0; 24]), block(kind, &[1; 24])]);
        assert_eq!(refusal(&mut phases, ToClient, &two), "malformed-pdu", "{kind}");
    }
    for kind in [0x1A, 0x1D] {
        let two = confirm(&[order(), block(kind, &[0; 4]), block(kind, &[0; 4])]);
        assert_eq!(refusal(&mut activated(), ToDesktop, &two), "malformed-pdu", "{kind}");
    }
    // Sets that are only zeroed may come twice: each is.
    pass(
        &mut activated(),
        ToDesktop,
        &confirm(&[order(), block(0x1C, &[1; 8]), block(0x1C, &[1; 8])]),
    );
}

#[test]
fn share_control_dialects() {
    let mut phases = activated();
    let (verdict, _) = pass(&mut phases, ToClient, &send_data(ToClient, USER, IO, &[4, 0, 0x16, 0]));
    assert_eq!(
        verdict.events,
        [PhaseEvent::Deactivated],
        "Windows XP's is four bytes long"
    );
    pass(
        &mut phases,
        ToClient,
        &send_data(ToClient, USER, IO, &[0, 0x80, 0, 0x41, 0, 0, 0xEA, 3]),
    );
    for wrong in [
        &[][..],
        &[6, 0],
        &[3, 0, 0x17, 0],
        &[9, 0, 0x17, 0, 0, 0],
        &[6, 0, 0x17, 0, 0, 0],
        &[4, 0, 0x17, 0],
    ] {
        assert_eq!(
            refusal(&mut activated(), ToClient, &send_data(ToClient, USER, IO, wrong)),
            "malformed-pdu"
        );
    }
    assert_eq!(
        refusal(
            &mut activated(),
            ToClient,
            &send_data(ToClient, USER, IO, &[6, 0, 0x14, 0, 0, 0])
        ),
        "unexpected-pdu"
    );
}

#[test]
fn a_minimised_client_is_not_woken() {
    let mut phases = played("xrdp_default");
    assert_eq!(phases.refresh(1024, 768).len(), 2);
    let suppress = share_data(ToDesktop, data::SUPPRESS_OUTPUT, &[0, 0, 0, 0]);
    assert_eq!(phases.passes(ToDesktop, &suppress), Ok(None));
    pass(&mut phases, ToDesktop, &suppress);
    assert!(phases.facts().output_suppressed && phases.refresh(1024, 768).is_empty());
    pass(
        &mut phases,
        ToDesktop,
        &share_data(ToDesktop, data::SUPPRESS_OUTPUT, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0]),
    );
    assert_eq!(phases.refresh(1024, 768).len(), 2);
}

#[test]
fn redirection_is_refused() {
    let mut phases = activated();
    assert_eq!(
        refusal(
            &mut phases,
            ToClient,
            &share_control(ToClient, control::REDIRECTION, &[0; 30])
        ),
        "redirection"
    );
    let (mut phases, _) = licensing();
    assert_eq!(
        refusal(
            &mut phases,
            ToClient,
            &send_data(ToClient, USER, IO, &[0, 4, 0, 0, 0, 0])
        ),
        "redirection"
    );
    let (mut phases, _) = licensing();
    assert_eq!(
        refusal(
            &mut phases,
            ToClient,
            &share_control(ToClient, control::REDIRECTION, &[0; 30])
        ),
        "redirection"
    );
    assert_eq!(FilterError::Redirection(Box::default()).error_info_code(), DENIED);
}

/// A redirection packet with these flags and one name, behind the padding of the enhanced form.
fn redirection(flags: u32, name: &str) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut packet = vec![0, 4];
    packet.extend((16 + name.len() as u16).to_le_bytes());
    packet.extend([0; 4]);
    packet.extend(flags.to_le_bytes());
    packet.extend((name.len() as u32).to_le_bytes());
    packet.extend(name);
    packet
}

#[test]
fn a_redirection_says_where_to() {
    let enhanced = |flags| {
        share_control(
            ToClient,
            control::REDIRECTION,
            &[&[0, 0], &redirection(flags, "host7")[..]].concat(),
        )
    };
    let error = |phases: &mut Phases, pdu: &[u8]| phases.pdu(ToClient, &mut pdu.to_vec()).unwrap_err().to_string();
    assert!(error(&mut activated(), &enhanced(0x100)).contains("to host7"));
    let standard = send_data(ToClient, USER, IO, &redirection(0x100, "host7"));
    assert!(error(&mut licensing().0, &standard).contains("to host7"));
    // it only tells the client something: dropped, and the session goes on
    for mut phases in [activated(), licensing().0] {
        let (verdict, _) = pass(&mut phases, ToClient, &enhanced(0x180));
        assert!(!verdict.forward && verdict.reply.is_none());
        let target = "host7".to_owned();
        assert_eq!(verdict.events, [PhaseEvent::RedirectionDropped { target }]);
    }
    // hidden among others
    let whole = enhanced(0x180);
    let several = send_data(ToClient, USER, IO, &[&whole[15..], &whole[15..]].concat());
    assert_eq!(refusal(&mut activated(), ToClient, &several), "unexpected-pdu");
}

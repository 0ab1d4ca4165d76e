//! What must not come yet, and what is refused until the first Demand Active.

use super::hand_made::*;
use super::handshake::*;
use super::*;
use crate::wire::channel::single_chunk;
use crate::wire::mcs::send_data;
use crate::wire::share::{control, data};
use crate::wire::{FrameError, WireError};
use Direction::{ToClient, ToDesktop};

#[test]
fn standard_security_is_refused() {
    let (mut phases, mut pdu) = client_info("ann", options());
    pdu[15] = 0x48;
    assert_eq!(refusal(&mut phases, ToDesktop, &pdu), "encrypted-pdu");
    pdu[15] = 0x01;
    assert_eq!(refusal(&mut phases, ToDesktop, &pdu), "encrypted-pdu");
    pdu[15] = 0x80;
    assert_eq!(refusal(&mut phases, ToDesktop, &pdu), "unexpected-pdu");
    let (mut phases, _) = licensing();
    assert_eq!(
        refusal(
            &mut phases,
            ToClient,
            &send_data(ToClient, USER, IO, &[0x88, 2, 2, 3, 9])
        ),
        "encrypted-pdu"
    );
    assert_eq!(
        refusal(&mut activated(), ToClient, &[0x80, 5, 0, 0, 0]),
        "encrypted-pdu"
    );
    assert!(
        pass(&mut activated(), ToDesktop, &[0xC4, 4, 0, 0]).0.tap,
        "a client for macOS"
    );
}

/// Nobody has been heard yet, and the tap sees nothing yet.
#[test]
fn no_input_and_no_channel_before_the_first_activation() {
    let key = [4, 4, 0, 30];
    let goes_nowhere = |phases: &mut Phases| {
        let (verdict, _) = pass(phases, ToDesktop, &key);
        !verdict.forward && !verdict.tap
    };
    let records = records("xrdp_default");
    let mut phases = Phases::new(options());
    let mut begun = 0;
    for (direction, pdu) in &records {
        if is_control(pdu, control::DEMAND_ACTIVE) {
            break;
        }
        assert!(goes_nowhere(&mut phases), "after {begun} PDUs");
        pass(&mut phases, *direction, pdu);
        begun += 1;
    }
    assert!(begun > 10, "{begun}");
    assert!(goes_nowhere(&mut phases));
    assert_eq!(phases.inputs(), 0);
    for channel in ["rdpdr", "cliprdr"] {
        let id = phases
            .facts()
            .static_channels
            .iter()
            .find(|fixed| fixed.name == channel);
        let id = id.expect("the client has it").id;
        for direction in [ToClient, ToDesktop] {
            let pdu = send_data(direction, USER, id, &single_chunk(&[1, 0, 0, 0, 0, 0, 0, 0]));
            assert_eq!(refusal(&mut phases, direction, &pdu), "unexpected-pdu", "{channel}");
        }
    }
    phases.pdu(ToClient, &mut demand(&[])).unwrap();
    assert!(pass(&mut phases, ToDesktop, &key).0.tap);
}

#[test]
fn a_client_must_not_begin() {
    let (mut phases, _) = licensing();
    assert_eq!(refusal(&mut phases, ToDesktop, &confirm(&[order()])), "unexpected-pdu");
    // the same behind a security header that says licensing
    let (mut phases, _) = licensing();
    assert_eq!(
        refusal(
            &mut phases,
            ToDesktop,
            &send_data(ToDesktop, USER, IO, &[0x80, 0, 0x13, 0])
        ),
        "unexpected-pdu"
    );
    let (mut phases, pdu) = client_info("ann", options());
    pass(&mut phases, ToDesktop, &pdu);
    assert_eq!(
        refusal(&mut phases, ToDesktop, &pdu),
        "unexpected-pdu",
        "a second Client Info"
    );
    assert_eq!(
        refusal(
            &mut Phases::new(options()),
            ToDesktop,
            &[3, 0, 0, 8, 2, 0xF0, 0x80, 0x28]
        ),
        "malformed-pdu"
    );
    assert_eq!(
        refusal(
            &mut Phases::new(options()),
            ToClient,
            &[3, 0, 0, 8, 2, 0xF0, 0x80, 0x28]
        ),
        "unexpected-pdu"
    );
    let (mut phases, _) = licensing();
    assert_eq!(
        refusal(&mut phases, ToClient, &[0, 4, 0, 0]),
        "unexpected-pdu",
        "a picture before the tap"
    );
    let demand = demand(&[]);
    assert_eq!(
        refusal(&mut activated(), ToDesktop, &demand),
        "unexpected-pdu",
        "indication from the client"
    );
    let demand = share_control(ToDesktop, control::DEMAND_ACTIVE, &[0; 30]);
    assert_eq!(refusal(&mut activated(), ToDesktop, &demand), "unexpected-pdu");
    let indication = share_data(ToClient, data::UPDATE, &[0; 8]);
    assert_eq!(activated().passes(ToClient, &indication), Ok(Some(Pass { tap: true })));
    assert_eq!(activated().passes(ToDesktop, &indication), Ok(None));
    assert_eq!(refusal(&mut activated(), ToDesktop, &indication), "unexpected-pdu");
}

/// Licensing of Windows has leftovers in the second half of its security header.
#[test]
fn licensing_with_leftovers_passes() {
    for high in [0, 0x10, 0x0302, 0x0011, 0x0017_u16] {
        let (mut phases, _) = licensing();
        let mut bytes = vec![0x80, 0];
        bytes.extend(high.to_le_bytes());
        bytes.extend([0xFF, 3, 0x10, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0]);
        let (verdict, _) = pass(&mut phases, ToClient, &send_data(ToClient, USER, IO, &bytes));
        assert!(verdict.forward && !verdict.tap && verdict.sensitive);
    }
}

#[test]
fn the_desktop_may_give_up_before_it_starts() {
    let (mut phases, _) = licensing();
    let (verdict, _) = pass(
        &mut phases,
        ToClient,
        &share_data(ToClient, data::SET_ERROR_INFO, &[0x0C, 1, 0, 0]),
    );
    assert_eq!(verdict.events, [PhaseEvent::DesktopError { code: 0x10C }]);
    assert!(verdict.forward && !verdict.tap);
    let (verdict, _) = pass(&mut phases, ToClient, &mcs::disconnect_ultimatum());
    assert_eq!(verdict.events, [PhaseEvent::Disconnected { reason: 3 }]);
    let (verdict, _) = pass(&mut phases, ToDesktop, &[3, 0, 0, 11, 6, 0x80, 0, 0, 0, 0, 0]);
    assert_eq!(verdict.events, [PhaseEvent::Disconnected { reason: 0 }]);
}

/// Nothing shows a picture before the tap has begun, and nothing feeds the compressor's history.
#[test]
fn no_picture_before_the_first_demand_active() {
    for kind in [data::UPDATE, data::POINTER, data::FONT_MAP, data::SAVE_SESSION_INFO] {
        let (mut phases, _) = licensing();
        let pdu = share_data(ToClient, kind, &[0; 8]);
        assert_eq!(refusal(&mut phases, ToClient, &pdu), "unexpected-pdu", "{kind}");
    }
    let (mut phases, _) = licensing();
    let mut compressed = share_data(ToClient, data::SET_ERROR_INFO, &[0; 4]);
    let at = compressed.len() - 4 - 3;
    compressed[at] = 0x20;
    assert_eq!(refusal(&mut phases, ToClient, &compressed), "unexpected-pdu");
}

#[test]
fn screens_above_the_limit_are_refused() {
    let limited = |screen_max_pixels| FilterOptions {
        screen_max_pixels,
        ..options()
    };
    let offer = |blocks: &[Vec<u8>]| {
        let mut phases = Phases::new(limited(1920 * 1080));
        let pdu = phases.pdu(ToDesktop, &mut connect_initial(&blocks.concat()));
        pdu.map(|_| ()).map_err(|error| error.reason())
    };
    let core = |width: u16, height: u16| {
        let mut body = vec![0; 216];
        body[4..6].copy_from_slice(&width.to_le_bytes());
        body[6..8].copy_from_slice(&height.to_le_bytes());
        block(0xC001, &body)
    };
    let monitors = |left: i32, right: i32| {
        let mut body = vec![0, 0, 0, 0, 2, 0, 0, 0];
        for edges in [[0, 0, 959, 1079, 1], [left, 0, right, 1079, 0_i32]] {
            body.extend(edges.iter().flat_map(|edge| edge.to_le_bytes()));
        }
        block(0xC005, &body)
    };
    assert_eq!(offer(&[core(1920, 1080)]), Ok(()));
    assert_eq!(offer(&[core(1921, 1080)]), Err("screen-too-large"));
    assert_eq!(offer(&[core(960, 1080), monitors(960, 1919)]), Ok(()));
    assert_eq!(offer(&[core(960, 1080), monitors(-1, 958)]), Ok(()));
    assert_eq!(offer(&[core(960, 1080), monitors(961, 1920)]), Err("screen-too-large"));
    assert_eq!(
        offer(&[core(960, 1080), monitors(i32::MIN, i32::MAX)]),
        Err("screen-too-large")
    );

    // The desktop decides in the end, at every resize.
    let demand = |phases: &mut Phases, width: u16, height: u16| {
        let mut bitmap = [0; 24];
        bitmap[8..10].copy_from_slice(&width.to_le_bytes());
        bitmap[10..12].copy_from_slice(&height.to_le_bytes());
        phases.pdu(ToClient, &mut demand(&[block(0x02, &bitmap)]))
    };
    let (mut phases, _) = played_until("xrdp_default", limited(1024 * 768), |(_, pdu)| {
        is_control(pdu, control::DEMAND_ACTIVE)
    });
    demand(&mut phases, 1024, 768).unwrap();
    let error = demand(&mut phases, 1024, 769).unwrap_err();
    assert_eq!(
        error.to_string(),
        "screen of 1024x769 from the desktop is above the limit of 786432 pixels"
    );
}

#[test]
fn refusals_have_distinct_reasons() {
    let direction = ToClient;
    let error = WireError::Short {
        what: "x",
        offset: 0,
        needed: 1,
        left: 0,
    };
    let all = [
        FilterError::Frame {
            direction,
            error: FrameError::NotAPdu(1),
        },
        FilterError::Malformed { direction, error },
        FilterError::Unexpected {
            direction,
            pdu: "x",
            phase: "y",
        },
        FilterError::StandardSecurity(2),
        FilterError::Encrypted(direction),
        FilterError::ConnectRefused(1),
        FilterError::Downgrade { offered: 3, read: 1 },
        FilterError::Redirection(Box::default()),
        FilterError::NoOrderSet,
        FilterError::CompressedChannel {
            direction,
            channel: "x".into(),
        },
        FilterError::DynamicChannel {
            direction,
            command: 1,
            problem: "x",
        },
        FilterError::UnknownChannel { direction, channel: 1 },
        FilterError::OtherDesktop {
            wanted: "a".into(),
            bound: "b".into(),
        },
        FilterError::TooMany {
            direction,
            what: "x",
            limit: 1,
        },
        FilterError::ScreenTooLarge {
            direction,
            width: 1,
            height: 1,
            limit: 0,
        },
    ];
    let reasons: std::collections::BTreeSet<_> = all.iter().map(FilterError::reason).collect();
    assert_eq!(reasons.len(), all.len());
    assert_eq!(refusal(&mut activated(), ToClient, b"\x16\x03\x01"), "not-a-pdu");
    assert_eq!(refusal(&mut activated(), ToClient, &[]), "not-a-pdu");
}

//! Static and dynamic channels, and the message channel.

use super::hand_made::*;
use super::*;
use crate::wire::dvc;
use crate::wire::mcs::send_data;
use Direction::{ToClient, ToDesktop};

const DRDYNVC: u16 = 1007;
const CLIPRDR: u16 = 1006;

fn chunk(direction: Direction, channel: u16, length: u32, flags: u32, bytes: &[u8]) -> Vec<u8> {
    let mut chunk = length.to_le_bytes().to_vec();
    chunk.extend(flags.to_le_bytes());
    chunk.extend(bytes);
    send_data(direction, USER, channel, &chunk)
}

fn dynamic(direction: Direction, bytes: &[u8]) -> Vec<u8> {
    chunk(direction, DRDYNVC, bytes.len() as u32, 3, bytes)
}

fn create(id: u8, name: &str) -> Vec<u8> {
    let mut bytes = vec![0x10, id];
    bytes.extend(name.as_bytes());
    bytes.push(0);
    dynamic(ToClient, &bytes)
}

#[test]
fn dynamic_channels_by_name() {
    use ChannelOutcome::{Forbidden, Unknown};
    let windows = |name: &str| format!("Microsoft::Windows::RDS::{name}");
    for (name, refused) in [
        ("ECHO".to_owned(), None),
        ("AUDIO_PLAYBACK_DVC".to_owned(), None),
        ("AUDIO_PLAYBACK_LOSSY_DVC".to_owned(), None),
        ("AUDIO_PLAYBACK_x".to_owned(), Some(Unknown)),
        ("AUDIO_INPUT2".to_owned(), Some(Unknown)),
        ("RDCamera_Device_Enumerator".to_owned(), None),
        ("RDCamera_Device_12".to_owned(), None),
        ("XPSRD".to_owned(), None),
        ("TSVCTKT".to_owned(), None),
        ("RDCamera_Device_".to_owned(), Some(Unknown)),
        ("RDCamera_Device_pipe".to_owned(), Some(Unknown)),
        (windows("DisplayControl"), None),
        (windows("Input"), None),
        (windows("Graphics"), Some(Forbidden)),
        (windows("Video::Control::v08.01"), Some(Forbidden)),
        (windows("Geometry::v08.01"), Some(Forbidden)),
        (windows("MouseCursor"), Some(Forbidden)),
        (windows("CoreInput"), Some(Forbidden)),
        (windows("AuthRedirection"), Some(Forbidden)),
        (windows("RemoteAppGraphicsRedirection"), Some(Forbidden)),
        ("TSMF".to_owned(), Some(Forbidden)),
        ("echo".to_owned(), Some(Unknown)),
        ("ECHO2".to_owned(), Some(Unknown)),
        (String::new(), Some(Unknown)),
        ("WebRTC\x1b[2J".to_owned(), Some(Unknown)),
    ] {
        let mut phases = activated();
        let (verdict, _) = pass(&mut phases, ToClient, &create(5, &name));
        assert_eq!(verdict.forward, refused.is_none(), "{name}");
        match refused {
            None => {
                assert_eq!((verdict.reply, verdict.events.len()), (None, 0));
                let (verdict, _) = pass(&mut phases, ToDesktop, &dynamic(ToDesktop, &dvc::create_response(5, 0)));
                let outcome = ChannelOutcome::Open;
                assert_eq!(
                    verdict.events,
                    [PhaseEvent::DynamicChannel {
                        name: name.clone(),
                        id: 5,
                        outcome
                    }]
                );
                let (verdict, _) = pass(&mut phases, ToDesktop, &dynamic(ToDesktop, &dvc::create_response(5, 0)));
                assert!(verdict.events.is_empty(), "told once");
                let (verdict, _) = pass(&mut phases, ToClient, &dynamic(ToClient, &[0x40, 5]));
                assert_eq!(verdict.events, [PhaseEvent::DynamicChannelClosed { name, id: 5 }]);
            }
            Some(outcome) => {
                let reply = dynamic(ToDesktop, &dvc::create_response(5, dvc::STATUS_UNSUCCESSFUL));
                assert_eq!(verdict.reply, Some(reply));
                let PhaseEvent::DynamicChannel {
                    name,
                    id: 5,
                    outcome: told,
                } = &verdict.events[0]
                else {
                    panic!()
                };
                assert_eq!(*told, outcome);
                assert!(!name.contains('\x1b'));
            }
        }
    }
}

/// Desktops know the channel in any case, so the filter must too.
#[test]
fn the_case_of_drdynvc_does_not_matter() {
    let mut records = records("xrdp_default");
    let at = records.iter().position(|(_, pdu)| is_control(pdu, 1)).unwrap();
    records.truncate(at);
    let initial = &mut records[0].1;
    let at = initial.windows(7).position(|bytes| bytes == b"drdynvc").unwrap();
    initial[at..at + 7].copy_from_slice(b"DRDynVC");
    let mut phases = Phases::new(options());
    play(&mut phases, &records);
    phases.pdu(ToClient, &mut demand(&[])).unwrap();
    let pdu = create(5, "Microsoft::Windows::RDS::Graphics");
    assert_eq!(phases.passes(ToClient, &pdu), Ok(None), "not by the quick way");
    let (verdict, _) = pass(&mut phases, ToClient, &pdu);
    assert!(!verdict.forward && verdict.reply.is_some());
}

#[test]
fn version_3_becomes_2() {
    let mut phases = activated();
    let request = |version| dynamic(ToClient, &[0x50, 0, version, 0, 1, 0, 2, 0, 3, 0, 4, 0]);
    let (_, after) = pass(&mut phases, ToClient, &request(3));
    assert_eq!(after, request(2));
    let (_, after) = pass(&mut phases, ToClient, &request(1));
    assert_eq!(after, request(1));
    let (_, after) = pass(&mut phases, ToDesktop, &dynamic(ToDesktop, &[0x50, 0, 3, 0]));
    assert_eq!(after, dynamic(ToDesktop, &[0x50, 0, 2, 0]));
    assert_eq!(phases.facts().dynamic_channel_version, Some(2));
}

#[test]
fn what_the_filter_cannot_judge_does_not_pass() {
    let reason = |pdu: &[u8]| refusal(&mut activated(), ToClient, pdu);
    let bytes = [0x10, 1, b'E', b'C', b'H', b'O', 0];
    assert_eq!(
        reason(&chunk(ToClient, DRDYNVC, 7, 1, &bytes[..4])),
        "dynamic-channel",
        "create in two chunks"
    );
    assert_eq!(
        reason(&chunk(ToClient, DRDYNVC, 9, 3, &bytes)),
        "dynamic-channel",
        "a promise of more"
    );
    assert_eq!(
        reason(&chunk(ToClient, DRDYNVC, 7, 2, &bytes)),
        "dynamic-channel",
        "last without first"
    );
    assert_eq!(
        reason(&chunk(ToClient, DRDYNVC, 0, 3, &[])),
        "dynamic-channel",
        "nothing"
    );
    assert_eq!(
        reason(&chunk(ToClient, DRDYNVC, 7, 0x20_0003, &bytes)),
        "compressed-channel"
    );
    assert_eq!(
        reason(&chunk(ToClient, CLIPRDR, 7, 0x20_0003, &bytes)),
        "compressed-channel"
    );
    for command in [0x00, 0x60, 0x70, 0x80, 0x90, 0xA0, 0xF0] {
        assert_eq!(reason(&dynamic(ToClient, &[command, 1, 2, 3])), "dynamic-channel");
    }
    assert_eq!(
        reason(&dynamic(ToClient, &[0x13, 1, 2, 3, 4])),
        "malformed-pdu",
        "a number of unknown form"
    );
    assert_eq!(reason(&chunk(ToClient, 1099, 4, 3, &[0; 4])), "unknown-channel");
    assert_eq!(reason(&send_data(ToClient, USER, CLIPRDR, &[0; 7])), "malformed-pdu");
}

#[test]
fn limits_on_dynamic_channels() {
    let mut phases = activated();
    let many = |phases: &mut Phases, name: &str| {
        (0..5000_u32).find_map(|id| {
            let mut bytes = vec![0x12];
            bytes.extend(id.to_le_bytes());
            bytes.extend(name.as_bytes());
            phases
                .pdu(ToClient, &mut dynamic(ToClient, &bytes))
                .err()
                .map(|error| (id, error.reason()))
        })
    };
    assert_eq!(many(&mut phases, "ECHO"), Some((1024, "too-many")));
    assert_eq!(many(&mut phases, "WebRTC"), Some((4096, "too-many")));
}

/// Nothing is injected into a message of several chunks on the same channel and direction.
#[test]
fn injection_waits_for_the_last_chunk() {
    let mut phases = activated();
    let (verdict, _) = pass(&mut phases, ToClient, &create(9, "WebRTC"));
    let reply = verdict.reply.unwrap();
    assert!(phases.may_inject(ToDesktop, &reply));
    pass(
        &mut phases,
        ToDesktop,
        &chunk(ToDesktop, DRDYNVC, 3000, 1, &[0x30, 1, 0, 0]),
    );
    assert!(!phases.may_inject(ToDesktop, &reply));
    assert!(phases.may_inject(ToClient, &reply), "the other direction is free");
    pass(
        &mut phases,
        ToDesktop,
        &chunk(ToDesktop, DRDYNVC, 3000, 0, &[0x10, 1, 0, 0]),
    );
    assert!(
        !phases.may_inject(ToDesktop, &reply),
        "what looks like a create is the middle of data"
    );
    pass(&mut phases, ToDesktop, &chunk(ToDesktop, DRDYNVC, 3000, 2, &[0; 4]));
    assert!(phases.may_inject(ToDesktop, &reply));

    let clip = chunk(ToDesktop, CLIPRDR, 3000, 1, &[0; 4]);
    assert_eq!(phases.passes(ToDesktop, &clip), Ok(Some(Pass { tap: true })));
    assert!(phases.may_inject(ToDesktop, &reply) && !phases.may_inject(ToDesktop, &clip));
    assert!(phases.may_inject(ToDesktop, &mcs::disconnect_ultimatum()));
}

#[test]
fn what_the_desktop_measured_is_told() {
    let mut phases = played("shadow_default");
    let mut told = |kind: u16, numbers: &[u32]| {
        let mut payload = vec![0, 0x10, 0, 0, 6, 0, 1, 0];
        payload.extend(kind.to_le_bytes());
        payload.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let (verdict, after) = pass(&mut phases, ToClient, &send_data(ToClient, 1009, 1008, &payload));
        assert!(verdict.forward && !verdict.tap);
        assert!(after.ends_with(&payload));
        verdict.events
    };
    let network = |minimum, average, bandwidth| {
        PhaseEvent::Network(Network {
            round_trip_min_ms: minimum,
            round_trip_ms: Some(average),
            bandwidth_kbit: bandwidth,
        })
    };
    assert_eq!(told(0x08C0, &[5, 9000, 7]), [network(Some(5), 7, Some(9000))]);
    assert_eq!(told(0x08C0, &[5, 9000, 7]), [], "nothing new");
    assert_eq!(told(0x0840, &[5, 8]), [network(Some(5), 8, None)]);
    assert_eq!(told(0x0880, &[9000, 8]), [network(None, 8, Some(9000))]);
    assert_eq!(told(0x0001, &[]), [], "a question");
    assert_eq!(told(0x08C0, &[5, 9000]), [], "cut short");
    for number in 0..2000 {
        told(0x0840, &[5, number]);
    }
    assert_eq!(told(0x0840, &[9, 9]), [], "a thousand are enough");
}

#[test]
fn the_message_channel_opens_no_side_channel() {
    let mut phases = played("shadow_default");
    let message = |direction, flags: u16| send_data(direction, 1009, 1008, &[flags.to_le_bytes(), [0, 0]].concat());
    let (verdict, _) = pass(&mut phases, ToClient, &message(ToClient, 0x0002));
    assert_eq!(
        (verdict.forward, &verdict.events[..]),
        (false, &[PhaseEvent::MultitransportDropped][..])
    );
    assert!(!pass(&mut phases, ToDesktop, &message(ToDesktop, 0x0004)).0.forward);
    for (direction, flags) in [(ToClient, 0x1000), (ToClient, 0x4000), (ToDesktop, 0x2000)] {
        let (verdict, _) = pass(&mut phases, direction, &message(direction, flags));
        assert!(verdict.forward && !verdict.tap);
    }
    assert_eq!(
        refusal(&mut phases, ToClient, &message(ToClient, 0x0400)),
        "redirection"
    );
    assert_eq!(
        refusal(&mut phases, ToClient, &message(ToClient, 0x0008)),
        "encrypted-pdu"
    );
    assert_eq!(refusal(&mut phases, ToClient, &message(ToClient, 0)), "unexpected-pdu");
}

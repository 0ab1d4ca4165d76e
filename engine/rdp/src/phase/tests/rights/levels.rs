//! Channels that are denied as a whole, what counts as input, and all of it in pieces.

use proptest::prelude::*;

use super::clipboard::{clip, list};
use super::devices::{announce, device, io};
use super::*;
use crate::wire::connect::{block as gcc_block, connect_initial};
use crate::wire::dvc;

#[test]
fn channels_that_are_denied_as_a_whole() {
    let mut phases = session(ChannelRights {
        audio_output: false,
        ..ChannelRights::default()
    });
    for direction in [ToDesktop, ToClient] {
        assert_eq!(send(&mut phases, direction, RDPSND, &[7; 20]), Sent::default());
    }
    let create = |name: &str| {
        let message = [&[0x10, 5], name.as_bytes(), &[0]].concat();
        single(ToClient, DRDYNVC, &message)
    };
    let (verdict, _) = pass(&mut phases, ToClient, &create("AUDIO_PLAYBACK_DVC"));
    assert!(!verdict.forward && verdict.reply.is_some());
    let denied = |name: &str, right| PhaseEvent::DynamicChannel {
        name: name.to_owned(),
        id: 5,
        outcome: ChannelOutcome::Denied(right),
    };
    assert_eq!(verdict.events, [denied("AUDIO_PLAYBACK_DVC", Right::AudioOutput)]);
    assert!(pass(&mut phases, ToClient, &create("AUDIO_INPUT")).0.forward);

    let mut phases = session(ChannelRights::none());
    for (name, right) in [
        ("AUDIO_INPUT", Right::AudioInput),
        ("URBDRC", Right::Usb),
        ("RDCamera_Device_Enumerator", Right::Cameras),
        ("WebAuthN_Channel", Right::Other),
        ("Microsoft::Windows::RDS::Location", Right::Other),
        ("Microsoft::Windows::RDS::Telemetry", Right::Other),
    ] {
        let (verdict, _) = pass(&mut phases, ToClient, &create(name));
        assert_eq!((verdict.forward, verdict.events), (false, vec![denied(name, right)]));
    }
    for name in [
        "ECHO",
        "Microsoft::Windows::RDS::DisplayControl",
        "Microsoft::Windows::RDS::Input",
    ] {
        assert!(
            pass(&mut phases, ToClient, &create(name)).0.forward,
            "{name} needs no right"
        );
    }
}

/// A program on the desktop and a plug-in of the client could tell each other anything on a channel of their own.
#[test]
fn static_channels_that_nobody_knows_are_closed() {
    use ChannelOutcome::{Denied, Forbidden, Unknown};
    let denied = |name: &str, rights: ChannelRights| rights.denies_static(name);
    let all = ChannelRights::default();
    for name in [
        "drdynvc", "RDPDR", "cliprdr", "rdpsnd", "rail", "rail_wi", "rail_ri", "encomsp", "remdesk",
    ] {
        assert_eq!(denied(name, all), None, "{name}");
    }
    assert_eq!(denied("rail", ChannelRights::none()), Some(Denied(Right::Other)));
    assert_eq!(denied("drdynvc", ChannelRights::none()), None);
    assert_eq!(denied("xrdpvr", all), Some(Forbidden));
    for name in ["rdp2tcp", "", "rail2", "denied0"] {
        assert_eq!(denied(name, all), Some(Unknown), "{name}");
    }
}

/// Where the rights are known from the start, the desktop sees other names for denied channels: count, order and length
/// stay, and nothing of them passes in a real session.
#[test]
fn denied_channels_have_no_name() {
    for (name, _) in CAPTURES {
        let options = FilterOptions {
            rights: Some(ChannelRights::none()),
            ..options()
        };
        let mut phases = Phases::new(options);
        let steps = play(&mut phases, &records(name));
        let initial = &steps[0].after;
        assert_eq!(initial.len(), steps[0].before.len());
        let blocks = connect_initial(initial).unwrap();
        let net = blocks.iter().find(|block| block.kind == gcc_block::CS_NET).unwrap();
        let names: Vec<&[u8; 8]> = initial[net.body.clone()][4..]
            .chunks(12)
            .map(|entry| entry.first_chunk().unwrap())
            .collect();
        let wanted = [b"denied0\0", b"denied1\0", b"denied2\0", b"drdynvc\0"];
        assert!(names.len() > 2 && wanted.starts_with(&names), "{name}: {names:?}");
        for step in &steps {
            if let Some((RDPDR | RDPSND | CLIPRDR, _)) = payload(&step.before) {
                assert!(!step.verdict.forward && !step.verdict.tap);
            }
        }
        let told: Vec<_> = steps
            .iter()
            .flat_map(|step| &step.verdict.events)
            .filter_map(|event| match event {
                PhaseEvent::StaticChannel { name, denied } => Some((name.as_str(), *denied)),
                _ => None,
            })
            .collect();
        let wanted = [
            ("rdpdr", Some(ChannelOutcome::Denied(Right::Drives))),
            ("rdpsnd", Some(ChannelOutcome::Denied(Right::AudioOutput))),
            ("cliprdr", Some(ChannelOutcome::Denied(Right::Clipboard))),
            ("drdynvc", None),
        ];
        assert_eq!(told, wanted[..names.len()]);
    }
}

#[test]
fn what_counts_as_input() {
    let mut phases = activated();
    let mut count = |direction, pdu: &[u8]| {
        let before = phases.inputs();
        if phases.passes(direction, pdu).unwrap().is_none() {
            pass(&mut phases, direction, pdu);
        }
        phases.inputs() - before
    };
    assert_eq!(count(ToDesktop, &[4, 4, 0, 30]), 1, "a key");
    assert_eq!(
        count(ToDesktop, &[0xC4, 4, 0, 30]),
        1,
        "a key of a client that sets bits at will"
    );
    assert_eq!(count(ToDesktop, &[4, 9, 0x20, 0, 8, 1, 0, 1, 0]), 1, "a move");
    assert_eq!(count(ToDesktop, &[4, 3, 0x60]), 0, "lock keys by themselves");
    assert_eq!(count(ToDesktop, &[4, 7, 0xC0, 1, 2, 3, 4]), 0, "a time stamp");
    assert_eq!(
        count(ToDesktop, &[8, 9, 0xC0, 1, 2, 3, 4, 0, 30]),
        1,
        "a time stamp and a key"
    );
    assert_eq!(count(ToDesktop, &[0, 5, 1, 0, 30]), 1, "the count in a byte of its own");
    assert_eq!(count(ToClient, &[0, 5, 1, 0, 30]), 0, "the desktop is no user");
    let slow = |kind: u16| {
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
        body.extend(kind.to_le_bytes());
        body.extend([0; 6]);
        share_data(ToDesktop, 28, &body)
    };
    assert_eq!(
        [0, 4, 5, 0x8001].map(|kind| count(ToDesktop, &slow(kind))),
        [0, 1, 1, 1]
    );

    let touch = [&[0x10, 6], &b"Microsoft::Windows::RDS::Input\0"[..]].concat();
    count(ToClient, &single(ToClient, DRDYNVC, &touch));
    let opened = dvc::create_response(6, 0);
    count(ToDesktop, &single(ToDesktop, DRDYNVC, &opened));
    let data = |event: u8, id: u8| single(ToDesktop, DRDYNVC, &[0x30, id, event, 0, 10, 0, 0, 0, 1, 2]);
    assert_eq!(count(ToDesktop, &data(2, 6)), 0, "ready");
    assert_eq!(
        [count(ToDesktop, &data(3, 6)), count(ToDesktop, &data(8, 6))],
        [1, 1],
        "touch and pen"
    );
    assert_eq!(count(ToDesktop, &data(3, 7)), 0, "another channel");

    // what the tap would not see of it does not pass
    let mut refused = |pdu: &[u8]| refusal(&mut phases, ToDesktop, pdu);
    // a number of a form that there is not, which FreeRDP takes for four bytes
    assert_eq!(
        refused(&single(ToDesktop, DRDYNVC, &[0x33, 6, 0, 0, 0, 3, 0])),
        "malformed-pdu"
    );
    let half = chunk(ToDesktop, DRDYNVC, 10, 1, &[0x30, 6, 3, 0]);
    assert_eq!(refused(&half), "dynamic-channel");
    let long = [0x28, 6, 1, 0, 1, 0, 3, 0];
    assert_eq!(refused(&single(ToDesktop, DRDYNVC, &long)), "dynamic-channel");
}

/// A message of the clipboard or device channel.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    prop_oneof![
        (0_u16..13, any::<u16>(), bytes(200)).prop_map(|(kind, flags, body)| clip(kind, flags, &body)),
        prop::collection::vec((0_u32..20, "[a-zA-Z /]{0,20}"), 0..5).prop_map(|formats| {
            let formats: Vec<_> = formats.iter().map(|(id, name)| (*id, name.as_str())).collect();
            list(&formats)
        }),
        prop::collection::vec((0_u32..40, 0_u32..5, bytes(40)), 0..6).prop_map(|devices| {
            let devices = devices.iter().map(|(kind, id, data)| device(*kind, *id, "dev", data));
            announce(&devices.collect::<Vec<_>>())
        }),
        (any::<bool>(), 0_u32..5, bytes(60)).prop_map(|(ask, id, rest)| io(
            if ask { 0x4952 } else { 0x4943 },
            id,
            &rest
        )),
        bytes(100),
    ]
}

fn rights() -> impl Strategy<Value = ChannelRights> {
    any::<[bool; 6]>().prop_map(|[a, b, c, d, e, f]| ChannelRights {
        clipboard_to_desktop: a,
        clipboard_to_client: b,
        clipboard_files: c,
        drives: d,
        printers: e,
        ports: f,
        ..ChannelRights::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// However a peer cuts its messages, the filter decides the same and forwards whole messages; what it forwards it
    /// forwards again unchanged; and with all rights nothing changes at all.
    #[test]
    fn chunks_make_no_difference(
        rights in rights(),
        sent in prop::collection::vec((any::<bool>(), any::<bool>(), message(), 1_usize..64), 1..6),
    ) {
        let (mut whole, mut parts, mut again) = (session(rights), session(rights), session(rights));
        let mut open = session(ChannelRights::default());
        for (to_client, clipboard, message, size) in sent {
            let direction = if to_client { ToClient } else { ToDesktop };
            let channel = if clipboard { CLIPRDR } else { RDPDR };
            let pdus = if message.is_empty() {
                vec![single(direction, channel, &message)]
            } else {
                cut(direction, channel, &message, size)
            };
            for pdu in &pdus {
                prop_assert_eq!(open.passes(direction, pdu), Ok(Some(Pass { tap: true })));
            }
            let deliver = |phases: &mut Phases, pdus: &[Vec<u8>]| {
                let (mut stream, mut replies, mut events) = (Vec::new(), Vec::new(), Vec::new());
                for pdu in pdus {
                    if phases.passes(direction, pdu).unwrap().is_some() {
                        stream.extend(pdu);
                        continue;
                    }
                    let (verdict, after) = pass(phases, direction, pdu);
                    if verdict.forward {
                        stream.extend(after);
                    }
                    replies.extend(verdict.reply);
                    events.extend(verdict.events);
                }
                (messages(&stream, channel), replies, events)
            };
            let one = deliver(&mut whole, &[single(direction, channel, &message)]);
            prop_assert_eq!(&deliver(&mut parts, &pdus), &one);
            for kept in &one.0 {
                let (forwarded, ..) = deliver(&mut again, &[single(direction, channel, kept)]);
                if kept.get(..2) != Some(&[2, 0]) {
                    prop_assert_eq!(&forwarded, std::slice::from_ref(kept));
                }
            }
        }
    }
}

//! Sessions that may not use every channel.

use proptest::prelude::*;

use super::hand_made::*;
use super::*;
use crate::tap::ClipboardFormat;
use crate::wire::channel::{Chunk, Reassembler};
use crate::wire::connect::{block as gcc_block, connect_initial};
use crate::wire::mcs::send_data;
use crate::wire::{dvc, find_pdu};
use Direction::{ToClient, ToDesktop};

const RDPDR: u16 = 1004;
const RDPSND: u16 = 1005;
const CLIPRDR: u16 = 1006;
const DRDYNVC: u16 = 1007;

/// A session in which the desktop has just demanded, with these rights.
fn session(rights: ChannelRights) -> Phases {
    let mut phases = activated();
    phases.decide(rights);
    phases
}

/// One chunk; `place`: 1 first, 2 last.
fn chunk(direction: Direction, channel: u16, length: usize, place: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = (length as u32).to_le_bytes().to_vec();
    payload.extend((place | 0x10).to_le_bytes());
    payload.extend(bytes);
    send_data(direction, USER, channel, &payload)
}

fn single(direction: Direction, channel: u16, message: &[u8]) -> Vec<u8> {
    chunk(direction, channel, message.len(), 3, message)
}

/// A message cut into chunks of `size` bytes.
fn cut(direction: Direction, channel: u16, message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = message.chunks(size).count();
    let parts = message.chunks(size).enumerate();
    parts
        .map(|(index, part)| {
            let place = u32::from(index == 0) | u32::from(index + 1 == count) << 1;
            chunk(direction, channel, message.len(), place, part)
        })
        .collect()
}

/// The messages in a row of PDUs.
fn messages(mut pdus: &[u8], channel: u16) -> Vec<Vec<u8>> {
    let mut reassembler = Reassembler::new(1 << 20);
    let mut messages = Vec::new();
    while let Some(length) = find_pdu(pdus).unwrap().filter(|length| *length <= pdus.len()) {
        let (pdu, rest) = pdus.split_at(length);
        let (id, bytes) = payload(pdu).unwrap();
        assert_eq!(id, channel);
        let chunk = Chunk::parse(bytes).unwrap();
        if let Some(message) = reassembler.push(&chunk).unwrap() {
            assert_eq!(chunk.message_length as usize, message.len());
            messages.push(message.to_vec());
        }
        pdus = rest;
    }
    assert!(pdus.is_empty(), "whole PDUs only");
    messages
}

/// What goes on, what comes back and what is told when the sender of `direction` sends a message.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    forwarded: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    events: Vec<PhaseEvent>,
}

fn send_chunks(phases: &mut Phases, direction: Direction, channel: u16, chunks: &[Vec<u8>]) -> Sent {
    let mut sent = Sent::default();
    let mut stream = Vec::new();
    for pdu in chunks {
        assert_eq!(phases.passes(direction, pdu), Ok(None));
        let (verdict, after) = pass(phases, direction, pdu);
        if verdict.forward {
            stream.extend(after);
        }
        assert!(!verdict.tap || verdict.forward);
        if let Some(reply) = verdict.reply {
            assert!(phases.may_inject(direction.opposite(), &reply));
            sent.answers.extend(messages(&reply, channel));
        }
        sent.events.extend(verdict.events);
    }
    sent.forwarded = messages(&stream, channel);
    sent
}

fn send(phases: &mut Phases, direction: Direction, channel: u16, message: &[u8]) -> Sent {
    send_chunks(phases, direction, channel, &[single(direction, channel, message)])
}

fn clip(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    message.extend((body.len() as u32).to_le_bytes());
    message.extend(body);
    message
}

fn caps(flags: u32) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0, 1, 0, 12, 0, 2, 0, 0, 0];
    body.extend(flags.to_le_bytes());
    clip(7, 0, &body)
}

fn list(formats: &[(u32, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (id, name) in formats {
        body.extend(id.to_le_bytes());
        body.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    }
    clip(2, 0, &body)
}

fn blocked(direction: Direction, formats: &[(u32, &str)]) -> PhaseEvent {
    let format = |&(id, name): &(u32, &str)| ClipboardFormat {
        id,
        name: name.to_owned(),
    };
    PhaseEvent::ClipboardBlocked {
        direction,
        formats: formats.iter().map(format).collect(),
    }
}

/// Capabilities of both, Monitor Ready: long names from here on.
fn greeted(rights: ChannelRights) -> Phases {
    let mut phases = session(rights);
    for (direction, message) in [
        (ToClient, caps(0x1E)),
        (ToClient, clip(1, 0, &[])),
        (ToDesktop, caps(0x1E)),
    ] {
        send(&mut phases, direction, CLIPRDR, &message);
    }
    phases
}

const OK_LIST: [u8; 8] = [3, 0, 1, 0, 0, 0, 0, 0];
const FAILED: [u8; 8] = [5, 0, 2, 0, 0, 0, 0, 0];

fn forwarded(message: &[u8]) -> Sent {
    Sent {
        forwarded: vec![message.to_vec()],
        ..Sent::default()
    }
}

#[test]
fn a_clipboard_that_only_gives_to_the_client() {
    let mut phases = greeted(ChannelRights {
        clipboard_to_desktop: false,
        ..ChannelRights::default()
    });
    let text = [(13, ""), (1, "")];
    let told = blocked(ToDesktop, &text);
    // the desktop counts on a first list: it is empty; later ones would only take its own clipboard away
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &list(&text));
    assert_eq!((sent.forwarded, sent.answers), (vec![list(&[])], vec![]));
    assert_eq!(sent.events, std::slice::from_ref(&told));
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &list(&text));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![OK_LIST.to_vec()]));
    assert_eq!(sent.events, [told]);
    // a desktop that asks all the same is not left waiting, and the client hears nothing of it
    let sent = send(&mut phases, ToClient, CLIPRDR, &clip(4, 0, &13_u32.to_le_bytes()));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
    assert_eq!(sent.events, [blocked(ToDesktop, &[(13, "")])]);
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &clip(5, 1, b"what nobody asked for"));
    assert_eq!(sent, Sent::default());
    let sent = send(&mut phases, ToClient, CLIPRDR, &clip(8, 0, &[9; 28]));
    assert_eq!(sent.answers, [clip(9, 2, &[9; 4])], "a part of a file, its stream id");

    // the other direction works
    for (direction, message) in [
        (ToClient, list(&text)),
        (ToDesktop, clip(3, 1, &[])),
        (ToDesktop, clip(4, 0, &13_u32.to_le_bytes())),
        (ToClient, clip(5, 1, b"t\0e\0x\0t\0\0\0")),
        (ToDesktop, clip(8, 0, &[9; 28])),
        (ToClient, clip(9, 1, &[9; 28])),
    ] {
        assert_eq!(send(&mut phases, direction, CLIPRDR, &message), forwarded(&message));
    }
    // and after the desktop's clipboard started anew, so does the rule
    send(&mut phases, ToClient, CLIPRDR, &clip(1, 0, &[]));
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &list(&text));
    assert_eq!(sent.forwarded, [list(&[])]);
}

#[test]
fn a_clipboard_that_only_gives_to_the_desktop() {
    let mut phases = greeted(ChannelRights {
        clipboard_to_client: false,
        ..ChannelRights::default()
    });
    let html = [(0xC001, "HTML Format")];
    let sent = send(&mut phases, ToClient, CLIPRDR, &list(&html));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![OK_LIST.to_vec()]));
    assert_eq!(sent.events, [blocked(ToClient, &html)]);
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &clip(4, 0, &1_u32.to_le_bytes()));
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
    for (direction, message) in [
        (ToDesktop, list(&html)),
        (ToClient, clip(3, 1, &[])),
        (ToClient, clip(4, 0, &0xC001_u32.to_le_bytes())),
        (ToDesktop, clip(5, 1, b"<b>")),
    ] {
        assert_eq!(send(&mut phases, direction, CLIPRDR, &message), forwarded(&message));
    }
}

#[test]
fn a_clipboard_without_files() {
    let rights = ChannelRights {
        clipboard_files: false,
        ..ChannelRights::default()
    };
    let mut phases = session(rights);
    let sent = send(&mut phases, ToClient, CLIPRDR, &caps(0x3E));
    assert_eq!(sent.forwarded, [caps(0x02)], "no streams, paths, locks, huge files");
    let mut phases = greeted(rights);
    for direction in [ToDesktop, ToClient] {
        let files = [(0xC0DE, "FileGroupDescriptorW"), (15, ""), (0xC0DF, "FileContents")];
        let all = [&files[..], &[(13, "")]].concat();
        let sent = send(&mut phases, direction, CLIPRDR, &list(&all));
        assert_eq!((sent.forwarded, sent.answers), (vec![list(&[(13, "")])], vec![]));
        assert_eq!(sent.events, [blocked(direction, &files)]);
        let back = direction.opposite();
        for id in [0xC0DE_u32, 15, 0xC0DF] {
            let sent = send(&mut phases, back, CLIPRDR, &clip(4, 0, &id.to_le_bytes()));
            assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
        }
        let text = clip(4, 0, &13_u32.to_le_bytes());
        assert_eq!(send(&mut phases, back, CLIPRDR, &text), forwarded(&text));
        let sent = send(&mut phases, back, CLIPRDR, &clip(8, 0, &[7; 28]));
        assert_eq!((sent.forwarded, sent.answers), (vec![], vec![clip(9, 2, &[7; 4])]));
        assert_eq!(send(&mut phases, back, CLIPRDR, &clip(10, 0, &[0; 4])), Sent::default());
        // another list makes the old one's numbers free again
        let words = list(&[(0xC0DE, "Words")]);
        assert_eq!(send(&mut phases, direction, CLIPRDR, &words), forwarded(&words));
        let sent = send(&mut phases, back, CLIPRDR, &clip(4, 0, &0xC0DE_u32.to_le_bytes()));
        assert_eq!(sent.answers, [[0; 0]; 0]);
    }
    // short names are cut to 15 letters
    let mut phases = session(rights);
    let mut entry = 0xC0DE_u32.to_le_bytes().to_vec();
    entry.extend("FileGroupDescri\0".encode_utf16().flat_map(u16::to_le_bytes));
    let sent = send(&mut phases, ToDesktop, CLIPRDR, &clip(2, 0, &entry));
    assert_eq!(sent.forwarded, [list(&[])]);
}

#[test]
fn a_clipboard_that_is_off() {
    let rights = ChannelRights {
        clipboard_to_client: false,
        clipboard_to_desktop: false,
        ..ChannelRights::default()
    };
    let mut phases = greeted(rights);
    for direction in [ToDesktop, ToClient] {
        let sent = send(&mut phases, direction, CLIPRDR, &list(&[(13, "")]));
        assert_eq!((sent.forwarded, sent.answers), (vec![], vec![OK_LIST.to_vec()]));
        let sent = send(&mut phases, direction, CLIPRDR, &clip(4, 0, &[13, 0, 0, 0]));
        assert_eq!((sent.forwarded, sent.answers), (vec![], vec![FAILED.to_vec()]));
        for kind in [1, 3, 5, 6, 7, 9, 10, 11, 77] {
            let sent = send(&mut phases, direction, CLIPRDR, &clip(kind, 0, &[1; 16]));
            assert_eq!((sent.forwarded.len(), sent.answers.len()), (0, 0), "{kind}");
        }
    }
}

fn device(kind: u32, id: u32, name: &str, data: &[u8]) -> Vec<u8> {
    let mut device = [kind.to_le_bytes(), id.to_le_bytes()].concat();
    let mut short = name.as_bytes().to_vec();
    short.resize(8, 0);
    device.extend(short);
    device.extend((data.len() as u32).to_le_bytes());
    device.extend(data);
    device
}

fn announce(devices: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![0x72, 0x44, 0x41, 0x44];
    message.extend((devices.len() as u32).to_le_bytes());
    message.extend(devices.concat());
    message
}

fn io(packet: u16, device: u32, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![0x72, 0x44];
    message.extend(packet.to_le_bytes());
    message.extend(device.to_le_bytes());
    message.extend(rest);
    message
}

#[test]
fn devices_by_kind() {
    let mut phases = session(ChannelRights {
        drives: false,
        ports: false,
        ..ChannelRights::default()
    });
    let (drive, card) = (device(8, 1, "home", b"home\0"), device(0x20, 2, "SCARD", &[]));
    let (serial, printer) = (device(1, 3, "COM1", &[]), device(4, 4, "PRN4", &[7; 300]));
    let all = announce(&[drive, card.clone(), serial, printer.clone()]);
    let sent = send(&mut phases, ToDesktop, RDPDR, &all);
    assert_eq!(sent.forwarded, [announce(&[card, printer])]);
    let denied = |name: &str, kind, right| PhaseEvent::DeviceDenied {
        name: name.to_owned(),
        kind,
        right,
    };
    assert_eq!(
        sent.events,
        [denied("home", 8, Right::Drives), denied("COM1", 1, Right::Ports)]
    );

    // a desktop that guesses the number
    let rest = [[5_u8, 0, 0, 0], [6, 0, 0, 0], [0; 4], [0; 4]].concat();
    let sent = send(&mut phases, ToClient, RDPDR, &io(0x4952, 1, &rest));
    let answer = io(0x4943, 1, &[6, 0, 0, 0, 0x0E, 0, 0, 0xC0, 0, 0, 0, 0, 0]);
    assert_eq!((sent.forwarded, sent.answers), (vec![], vec![answer]));
    let write = io(0x4952, 3, &[&rest[..], &[1; 5000]].concat());
    let sent = send_chunks(&mut phases, ToClient, RDPDR, &cut(ToClient, RDPDR, &write, 1600));
    assert_eq!((sent.forwarded.len(), sent.answers.len()), (0, 1));
    let read = io(0x4952, 4, &rest);
    assert_eq!(send(&mut phases, ToClient, RDPDR, &read), forwarded(&read));
    assert_eq!(
        send(&mut phases, ToDesktop, RDPDR, &io(0x4943, 1, &[0; 8])),
        Sent::default()
    );
    let done = io(0x4943, 4, &[0; 8]);
    assert_eq!(send(&mut phases, ToDesktop, RDPDR, &done), forwarded(&done));

    // removals of what was never announced say nothing
    let remove = |ids: &[u32]| {
        let mut message = vec![0x72, 0x44, 0x4D, 0x44, ids.len() as u8, 0, 0, 0];
        message.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        message
    };
    assert_eq!(
        send(&mut phases, ToDesktop, RDPDR, &remove(&[1, 4])),
        forwarded(&remove(&[4]))
    );
    assert_eq!(send(&mut phases, ToDesktop, RDPDR, &remove(&[3])), Sent::default());
    // a number that an allowed device has now is free
    let again = announce(&[device(4, 1, "PRN1", &[])]);
    assert_eq!(send(&mut phases, ToDesktop, RDPDR, &again), forwarded(&again));
    let read = io(0x4952, 1, &rest);
    assert_eq!(send(&mut phases, ToClient, RDPDR, &read), forwarded(&read));
    // a list that promises more devices than it has can't be judged
    let mut short = announce(&[device(4, 9, "PRN9", &[])]);
    short[4] = 2;
    assert_eq!(send(&mut phases, ToDesktop, RDPDR, &short), Sent::default());
    // nor may a message that must be judged grow without end
    let endless = announce(&[device(4, 9, "PRN9", &vec![0; 2 << 20])]);
    let mut pdus = cut(ToDesktop, RDPDR, &endless, 1600).into_iter();
    let error = pdus.find_map(|mut pdu| phases.pdu(ToDesktop, &mut pdu).err()).unwrap();
    assert_eq!(error.reason(), "too-many");
}

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
            ("rdpdr", Some(Right::Drives)),
            ("rdpsnd", Some(Right::AudioOutput)),
            ("cliprdr", Some(Right::Clipboard)),
            ("drdynvc", None),
        ];
        assert_eq!(told, wanted[..names.len()]);
    }
}

/// The clipboard of real sessions in one direction only: no error, and every list of the client is empty or answered.
#[test]
fn real_sessions_with_half_a_clipboard() {
    for (name, _) in CAPTURES {
        let options = FilterOptions {
            rights: Some(ChannelRights {
                clipboard_to_desktop: false,
                ..ChannelRights::default()
            }),
            ..options()
        };
        let mut phases = Phases::new(options);
        for step in play(&mut phases, &records(name)) {
            let Some((CLIPRDR, bytes)) = payload(&step.before) else {
                continue;
            };
            let kind = bytes.get(8).copied().unwrap_or_default();
            if step.direction == ToDesktop && kind == 2 {
                assert_eq!(step.verdict.forward, step.verdict.reply.is_none());
                if step.verdict.forward {
                    assert_eq!(messages(&step.after, CLIPRDR), [list(&[])]);
                }
            } else if step.verdict.forward {
                assert_eq!(step.before, step.after);
            }
        }
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

//! The graphics pipeline in the filter.

use super::*;
use crate::patch::{Patched, client_message};
use crate::wire::channel::{Chunk, single_chunk};
use crate::wire::dvc::{self, DvcPdu};
use crate::wire::egfx::{self, command, encode};

/// A session of a real client with freerdp-shadow, up to the client's first word in the pipeline.
fn kept() -> FilterOptions {
    FilterOptions {
        graphics: Graphics::Gfx,
        ..options()
    }
}

/// The drdynvc channel of a session.
fn channel(phases: &Phases) -> u16 {
    let channels = &phases.facts().static_channels;
    channels
        .iter()
        .find(|channel| channel.name == dvc::STATIC_CHANNEL)
        .unwrap()
        .id
}

fn push(phases: &mut Phases, direction: Direction, pdu: &[u8]) -> Result<(Vec<u8>, Verdict), FilterError> {
    push_chunk(phases, direction, &single_chunk(pdu))
}

fn push_chunk(phases: &mut Phases, direction: Direction, chunk: &[u8]) -> Result<(Vec<u8>, Verdict), FilterError> {
    let initiator = if direction == Direction::ToDesktop { 1007 } else { 1002 };
    let mut pdu = mcs::send_data(direction, initiator, channel(phases), chunk);
    let verdict = phases.pdu(direction, &mut pdu)?;
    Ok((pdu, verdict))
}

fn create(id: u8, name: &str) -> Vec<u8> {
    [&[0x10, id][..], name.as_bytes(), &[0]].concat()
}

/// The message in PDUs that stand back to back.
fn message(mut pdus: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let Ok(Some(length)) = crate::wire::find_pdu(pdus) {
        let (pdu, rest) = pdus.split_at(length);
        let chunk = Chunk::parse(payload(pdu).unwrap().1).unwrap();
        let (DvcPdu::Data { data, .. } | DvcPdu::DataFirst { data, .. }) = DvcPdu::parse(chunk.data, false).unwrap()
        else {
            panic!("{chunk:?}");
        };
        message.extend_from_slice(data);
        pdus = rest;
    }
    message
}

fn advertise() -> Vec<u8> {
    let mut body = vec![2, 0];
    body.extend([5, 1, 8, 0, 4, 0, 0, 0, 0x10, 0, 0, 0]);
    body.extend([1, 7, 10, 0, 4, 0, 0, 0, 0xC2, 0, 0, 0]);
    encode(command::CAPS_ADVERTISE, &body)
}

/// A session in which the channel may be opened.
fn phases() -> Phases {
    let mut phases = Phases::new(kept());
    let records = records("shadow_default");
    let until = records.iter().position(|(_, pdu)| is_control(pdu, 3)).unwrap();
    play(&mut phases, &records[..=until]);
    phases
}

#[test]
fn a_real_client_is_heard_without_h264() {
    let mut phases = Phases::new(kept());
    let steps = play(&mut phases, &records("shadow_default"));
    let mut advertised = 0;
    let mut opened = false;
    for step in &steps {
        opened |= step.verdict.events.iter().any(|event| {
            matches!(event, PhaseEvent::DynamicChannel { name, outcome: ChannelOutcome::Open, .. } if name == egfx::CHANNEL)
        });
        if step.before == step.after || step.direction == Direction::ToClient || !opened {
            continue;
        }
        let before = message(&step.before);
        if before.starts_with(&[0x12, 0]) {
            advertised += 1;
            assert_eq!(client_message(&before), Ok(Patched::Other(message(&step.after))));
            assert_eq!(client_message(&message(&step.after)), Ok(Patched::Same));
        }
    }
    assert!(opened, "the channel is open");
    assert_eq!(advertised, 1);
}

#[test]
fn codecs_stay_but_for_those_that_nobody_decodes() {
    for (graphics, flag) in [(Graphics::Gfx, 0x0100), (Graphics::Legacy, 0)] {
        let mut phases = Phases::new(FilterOptions { graphics, ..options() });
        let steps = play(&mut phases, &records("shadow_default"));
        let confirm = steps
            .iter()
            .find(|step| is_control(&step.before, 3) && step.direction == Direction::ToDesktop);
        let confirm = confirm.unwrap();
        let remote_fx = [0x12, 0x2F, 0x77, 0x76];
        let surface_commands = |pdu: &[u8]| {
            let at = pdu.windows(4).position(|bytes| bytes == [0x1C, 0, 12, 0]).unwrap();
            pdu[at + 4]
        };
        assert!(confirm.after.windows(4).any(|bytes| bytes == remote_fx));
        let kept = surface_commands(&confirm.before);
        assert_eq!(surface_commands(&confirm.after), if flag == 0 { 0 } else { kept });
        let blocks = crate::wire::connect::connect_initial(&steps[0].after).unwrap();
        let core = blocks
            .iter()
            .find(|block| block.kind == crate::wire::connect::block::CS_CORE)
            .unwrap();
        let flags = crate::patch::field_u16(&steps[0].after, &core.body, 140).unwrap();
        assert_eq!(flags & 0x0100, flag);
    }
}

#[test]
fn one_channel_at_a_time() {
    let mut phases = phases();
    let (_, verdict) = push(&mut phases, Direction::ToClient, &create(5, egfx::CHANNEL)).unwrap();
    assert!(verdict.forward && verdict.reply.is_none());
    for (id, name) in [(6, egfx::CHANNEL), (5, "ECHO"), (5, egfx::CHANNEL)] {
        let (_, verdict) = push(&mut phases, Direction::ToClient, &create(id, name)).unwrap();
        assert!(
            !verdict.forward && !verdict.tap && verdict.reply.is_some(),
            "{id} {name}"
        );
    }
    push(&mut phases, Direction::ToDesktop, &dvc::create_response(5, 0)).unwrap();
    push(&mut phases, Direction::ToDesktop, &[0x40, 5]).unwrap();
    let (_, verdict) = push(&mut phases, Direction::ToClient, &create(6, egfx::CHANNEL)).unwrap();
    assert!(verdict.forward);
    // refused by the client: another one may follow
    push(
        &mut phases,
        Direction::ToDesktop,
        &dvc::create_response(6, dvc::STATUS_UNSUCCESSFUL),
    )
    .unwrap();
    let (_, verdict) = push(&mut phases, Direction::ToClient, &create(7, egfx::CHANNEL)).unwrap();
    assert!(verdict.forward);
    // and never where it may not be used
    let mut phases = Phases::new(options());
    play(&mut phases, &records("shadow_default")[..40]);
    let (_, verdict) = push(&mut phases, Direction::ToClient, &create(5, egfx::CHANNEL)).unwrap();
    assert!(!verdict.forward);
}

/// What is told of the pipeline's channel when it is open.
fn is_open(verdict: &Verdict) -> bool {
    matches!(
        &verdict.events[..],
        [PhaseEvent::DynamicChannel { name, id: 5, outcome: ChannelOutcome::Open }] if name == egfx::CHANNEL
    )
}

/// Number 5 is used once more as soon as it is free for the desktop; what the client says of its earlier use comes late.
#[test]
fn late_answers_and_closes_are_of_the_channel_before() {
    let refused = dvc::create_response(5, dvc::STATUS_UNSUCCESSFUL);
    let opened = dvc::create_response(5, 0);
    let close = vec![0x40, 5];
    // what the client says before the number is free, and after it is taken again
    for (before, after) in [
        (vec![opened.clone()], vec![close.clone()]),
        (vec![], vec![opened.clone(), close.clone()]),
        (vec![], vec![refused]),
    ] {
        let mut phases = phases();
        push(&mut phases, Direction::ToClient, &create(5, "ECHO")).unwrap();
        for pdu in &before {
            push(&mut phases, Direction::ToDesktop, pdu).unwrap();
        }
        push(&mut phases, Direction::ToClient, &close).unwrap();
        let (_, verdict) = push(&mut phases, Direction::ToClient, &create(5, egfx::CHANNEL)).unwrap();
        assert!(verdict.forward && verdict.reply.is_none());
        for pdu in &after {
            let (_, verdict) = push(&mut phases, Direction::ToDesktop, pdu).unwrap();
            assert!(verdict.forward && verdict.events.is_empty(), "{pdu:?}");
        }
        let (_, verdict) = push(&mut phases, Direction::ToDesktop, &opened).unwrap();
        assert!(is_open(&verdict), "{:?}", verdict.events);
        let (_, verdict) = push(&mut phases, Direction::ToClient, &create(6, egfx::CHANNEL)).unwrap();
        assert!(!verdict.forward, "one at a time");
        let (_, verdict) = push(&mut phases, Direction::ToClient, &[0x30, 5, 1, 2]).unwrap();
        assert!(verdict.forward && verdict.tap);
        // and what the client says of it is patched
        let offer = [&[0x30, 5][..], &advertise()].concat();
        let (after, _) = push(&mut phases, Direction::ToDesktop, &offer).unwrap();
        assert_ne!(message(&after), advertise());
        let (_, verdict) = push(&mut phases, Direction::ToDesktop, &close).unwrap();
        assert_eq!(verdict.events.len(), 1, "its own close");
    }
}

/// The tap begins with the first activation, and would know nothing of a channel that was opened before.
#[test]
fn no_channel_is_opened_before_the_first_activation() {
    let before = |options| {
        let mut phases = Phases::new(options);
        let records = records("shadow_default");
        let until = records.iter().position(|(_, pdu)| is_control(pdu, 1)).unwrap();
        play(&mut phases, &records[..until]);
        phases
    };
    for name in [egfx::CHANNEL, "ECHO"] {
        let mut phases = before(kept());
        let (_, verdict) = push(&mut phases, Direction::ToClient, &create(5, name)).unwrap();
        assert!(!verdict.forward && verdict.reply.is_some(), "{name}");
        let (_, verdict) = push(&mut phases, Direction::ToClient, &[0x30, 5, 1, 2]).unwrap();
        assert!(!verdict.forward, "{name}");
    }
    // what is agreed on first may be
    let (_, verdict) = push(&mut before(kept()), Direction::ToClient, &[0x50, 0, 1, 0]).unwrap();
    assert!(verdict.forward);
    // without the pipeline touches would be missed
    let (_, verdict) = push(&mut before(options()), Direction::ToClient, &create(5, "ECHO")).unwrap();
    assert!(!verdict.forward && verdict.reply.is_some());
}

/// A client could know a channel that the tap doesn't.
#[test]
fn data_of_unknown_channels_goes_nowhere() {
    let mut phases = phases();
    let passes = |phases: &mut Phases, chunk: &[u8]| {
        let (_, verdict) = push_chunk(phases, Direction::ToClient, chunk).unwrap();
        assert_eq!(verdict.forward, verdict.tap);
        verdict.forward
    };
    let chunk = |flags: u8, data: &[u8]| [&[8, 0, 0, 0, flags, 0, 0, 0][..], data].concat();
    let (first, last) = (chunk(1, &[0x30, 5, 1, 2]), chunk(2, &[3, 4, 5, 6]));
    for _ in 0..2 {
        assert!(!passes(&mut phases, &single_chunk(&[0x30, 5, 1, 2])));
        assert!(!passes(&mut phases, &single_chunk(&[0x24, 5, 2, 0, 1, 2])));
        assert!(!passes(&mut phases, &single_chunk(&[0x33])));
        assert!(!passes(&mut phases, &first) && !passes(&mut phases, &last));
        // one that is known
        push(&mut phases, Direction::ToClient, &create(5, "ECHO")).unwrap();
        assert!(passes(&mut phases, &single_chunk(&[0x30, 5, 1, 2])));
        assert!(passes(&mut phases, &first) && passes(&mut phases, &last));
        // a number in use stays what it is
        let (_, verdict) = push(&mut phases, Direction::ToClient, &create(5, "AUDIO_INPUT")).unwrap();
        assert!(!verdict.forward && verdict.reply.is_some());
        assert!(passes(&mut phases, &single_chunk(&[0x30, 5, 1, 2])));
        push(&mut phases, Direction::ToDesktop, &dvc::create_response(5, 0)).unwrap();
        push(&mut phases, Direction::ToClient, &[0x40, 5]).unwrap();
    }
}

#[test]
fn a_message_in_parts_is_judged_whole() {
    let ack = encode(command::FRAME_ACKNOWLEDGE, &[7; 12]);
    let whole = [
        ack.clone(),
        encode(command::CACHE_IMPORT_OFFER, &[9; 40]),
        advertise(),
        ack.clone(),
    ]
    .concat();
    let Ok(Patched::Other(expected)) = client_message(&whole) else {
        panic!("has to be patched");
    };
    for at in 0..=whole.len() {
        let mut phases = phases();
        push(&mut phases, Direction::ToClient, &create(5, egfx::CHANNEL)).unwrap();
        push(&mut phases, Direction::ToDesktop, &dvc::create_response(5, 0)).unwrap();
        let first = [
            &[0x24, 5][..],
            &u16::try_from(whole.len()).unwrap().to_le_bytes(),
            &whole[..at],
        ]
        .concat();
        let (mut after, verdict) = push(&mut phases, Direction::ToDesktop, &first).unwrap();
        if at < whole.len() {
            assert!(!verdict.forward && !verdict.tap, "{at}");
            let rest = [&[0x30, 5][..], &whole[at..]].concat();
            let verdict;
            (after, verdict) = push(&mut phases, Direction::ToDesktop, &rest).unwrap();
            assert!(verdict.forward && verdict.tap);
        }
        assert_eq!(message(&after), expected, "{at}");
        // and the next one stands alone
        let single = [&[0x30, 5][..], &ack].concat();
        let (after, verdict) = push(&mut phases, Direction::ToDesktop, &single).unwrap();
        assert!(verdict.forward && message(&after) == ack);
    }
}

#[test]
fn what_cannot_be_judged_ends_the_session() {
    let offer = |data: &[u8]| [&[0x30, 5][..], data].concat();
    let long = [&[0x28, 5][..], &0x0010_0000_u32.to_le_bytes(), &[0; 8]].concat();
    for pdu in [
        offer(&advertise()[..20]),
        offer(&encode(
            command::CAPS_ADVERTISE,
            &[1, 0, 0, 1, 10, 0, 4, 0, 0, 0, 0, 0, 0, 0],
        )),
        long,
        vec![0x20, 5, 2, 1, 2, 3],
    ] {
        let mut phases = phases();
        push(&mut phases, Direction::ToClient, &create(5, egfx::CHANNEL)).unwrap();
        assert!(push(&mut phases, Direction::ToDesktop, &pdu).is_err(), "{pdu:?}");
    }
    // data of other channels is not looked at
    let mut phases = phases();
    push(&mut phases, Direction::ToClient, &create(5, egfx::CHANNEL)).unwrap();
    assert!(
        push(&mut phases, Direction::ToDesktop, &[0x30, 6, 1, 2])
            .unwrap()
            .1
            .forward
    );
    // an offer of what the client has kept goes nowhere
    let kept = offer(&encode(command::CACHE_IMPORT_OFFER, &[0, 0]));
    let (_, verdict) = push(&mut phases, Direction::ToDesktop, &kept).unwrap();
    assert!(!verdict.forward && !verdict.tap);
}

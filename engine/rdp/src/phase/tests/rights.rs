//! Sessions that may not use every channel.

mod clipboard;
mod devices;
mod levels;

use super::hand_made::*;
use super::*;
use crate::wire::channel::{Chunk, Reassembler};
use crate::wire::find_pdu;
use crate::wire::mcs::send_data;
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

fn forwarded(message: &[u8]) -> Sent {
    Sent {
        forwarded: vec![message.to_vec()],
        ..Sent::default()
    }
}

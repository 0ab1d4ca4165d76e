//! Sessions that may use some kinds of devices.

use super::*;

pub(super) fn device(kind: u32, id: u32, name: &str, data: &[u8]) -> Vec<u8> {
    let mut device = [kind.to_le_bytes(), id.to_le_bytes()].concat();
    let mut short = name.as_bytes().to_vec();
    short.resize(8, 0);
    device.extend(short);
    device.extend((data.len() as u32).to_le_bytes());
    device.extend(data);
    device
}

pub(super) fn announce(devices: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![0x72, 0x44, 0x41, 0x44];
    message.extend((devices.len() as u32).to_le_bytes());
    message.extend(devices.concat());
    message
}

pub(super) fn io(packet: u16, device: u32, rest: &[u8]) -> Vec<u8> {
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
    let denied = |name: &str, kind, id, right| PhaseEvent::DeviceDenied {
        name: name.to_owned(),
        kind,
        id,
        right,
    };
    assert_eq!(
        sent.events,
        [denied("home", 8, 1, Right::Drives), denied("COM1", 1, 3, Right::Ports)]
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

fn request(completion: u32, device: u32) -> Vec<u8> {
    let rest = [0_u32, completion, 3, 0].map(u32::to_le_bytes).concat();
    io(0x4952, device, &rest)
}

fn completion(completion: u32, device: u32) -> Vec<u8> {
    io(0x4943, device, &[completion.to_le_bytes(), [0; 4]].concat())
}

/// Feeds PDUs as a relay does: the quick way where it is open.
fn relayed(phases: &mut Phases, direction: Direction, pdus: &[Vec<u8>]) -> Result<(), FilterError> {
    for pdu in pdus {
        if phases.passes(direction, pdu)?.is_none() {
            phases.pdu(direction, &mut pdu.clone())?;
        }
    }
    Ok(())
}

#[test]
fn requests_without_an_answer_are_limited() {
    let some = ChannelRights {
        ports: false,
        ..ChannelRights::default()
    };
    for (rights, size) in [
        (ChannelRights::default(), 1600),
        (ChannelRights::default(), 5),
        (some, 1600),
    ] {
        let mut phases = session(rights);
        let mut ask = |number, device| {
            let pdus = cut(ToClient, RDPDR, &request(number, device), size);
            relayed(&mut phases, ToClient, &pdus)
        };
        for number in 0..2000 {
            ask(number, 1).unwrap();
        }
        ask(7, 1).expect("the same request again is none more");
        let answer = cut(ToDesktop, RDPDR, &completion(7, 1), size);
        relayed(&mut phases, ToDesktop, &answer).unwrap();
        let mut ask = |number, device| {
            let pdus = cut(ToClient, RDPDR, &request(number, device), size);
            relayed(&mut phases, ToClient, &pdus)
        };
        ask(2000, 1).unwrap();
        let error = ask(2001, 2).unwrap_err();
        assert_eq!(error.reason(), "too-many");
        assert!(error.to_string().contains("2000"), "{error}");
        assert!(
            error.to_string().contains("requests to the client's devices"),
            "{error}"
        );
    }
}

/// What the gateway answers itself is not open, and a device that is gone has no requests.
#[test]
fn answered_requests_are_not_counted() {
    let mut phases = session(ChannelRights {
        drives: false,
        ..ChannelRights::default()
    });
    let all = announce(&[device(8, 1, "home", &[]), device(4, 2, "PRN1", &[])]);
    send(&mut phases, ToDesktop, RDPDR, &all);
    for number in 0..5000 {
        let sent = send(&mut phases, ToClient, RDPDR, &request(number, 1));
        assert_eq!(sent.answers.len(), 1);
    }
    for round in 0..3 {
        for number in 0..1500 {
            send(&mut phases, ToClient, RDPDR, &request(round * 1500 + number, 2));
        }
        let gone = io(0x444D, 1, &2_u32.to_le_bytes());
        send(&mut phases, ToDesktop, RDPDR, &gone);
    }
}

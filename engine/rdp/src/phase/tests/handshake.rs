//! From Connect Initial to Client Info, field by field.

use super::hand_made::*;
use super::*;
use crate::wire::client_info::{ClientInfo, Replacement};
use crate::wire::mcs::send_data;
use Direction::{ToClient, ToDesktop};

/// A Connect Initial around `blocks`, in the shape of xfreerdp's.
pub(super) fn connect_initial(blocks: &[u8]) -> Vec<u8> {
    let length = blocks.len() as u16;
    let mut user_data = vec![0, 5, 0, 0x14, 0x7C, 0, 1];
    user_data.extend((0x8000 | (length + 14)).to_be_bytes());
    user_data.extend([0, 8, 0, 0x10, 0, 1, 0xC0, 0]);
    user_data.extend(b"Duca");
    user_data.extend((0x8000 | length).to_be_bytes());
    user_data.extend(blocks);
    let mut inside = vec![4, 1, 1, 4, 1, 1, 1, 1, 0xFF, 0x30, 0, 0x30, 0, 0x30, 0, 4, 0x82];
    inside.extend((user_data.len() as u16).to_be_bytes());
    inside.extend(user_data);
    let mut pdu = vec![3, 0];
    pdu.extend((inside.len() as u16 + 12).to_be_bytes());
    pdu.extend([2, 0xF0, 0x80, 0x7F, 0x65, 0x82]);
    pdu.extend((inside.len() as u16).to_be_bytes());
    pdu.extend(inside);
    pdu
}

#[test]
fn every_block_of_a_connect_initial() {
    let mut net = vec![2, 0, 0, 0];
    for name in [b"cliprdr\0", b"rdpsnd\0\0"] {
        net.extend(name);
        net.extend([0xFF; 4]);
    }
    let mut monitors = vec![0, 0, 0, 0, 2, 0, 0, 0];
    for edges in [[0, 0, 1919, 1079, 1], [-1280, 0, -1, 1023, 0_i32]] {
        monitors.extend(edges.iter().flat_map(|edge| edge.to_le_bytes()));
    }
    let blocks = [
        block(0xC001, &[0xFF; 230]),
        block(0xC00D, &[0xFF; 5]),
        block(0xC003, &net),
        block(0xC004, &[0xFF; 8]),
        block(0xC005, &monitors),
        block(0xC00A, &[0xFF; 4]),
        block(0xC002, &[0xFF; 8]),
    ];
    let before = connect_initial(&blocks.concat());
    let mut phases = Phases::new(FilterOptions {
        selected_protocol: 0x0A0B_0C0D,
        screen_max_pixels: u64::MAX,
        ..options()
    });
    let (verdict, after) = pass(&mut phases, ToDesktop, &before);
    assert_eq!(verdict.events, [PhaseEvent::ClientDescribed]);
    assert!(!verdict.tap && verdict.forward);
    let start = before.len() - blocks.concat().len();
    assert_eq!(before[..start], after[..start]);
    let mut at = start;
    let mut found = Vec::new();
    for one in &blocks {
        let now = &after[at..at + one.len()];
        let changed = one
            .iter()
            .zip(now)
            .enumerate()
            .filter(|(_, (before, now))| before != now);
        let changed: Vec<_> = changed
            .map(|(offset, (_, now))| format!("{}:{now:02x}", offset as i64 - 4))
            .collect();
        found.push(changed.join(" "));
        at += one.len();
    }
    let net = "14:3f 26:3f";
    assert_eq!(
        found,
        [
            "141:fe 208:0d 209:0c 210:0b 211:0a",
            "",
            net,
            "",
            "",
            "0:00 1:00 2:00 3:00",
            ""
        ]
    );
    let facts = phases.facts();
    assert_eq!(facts.monitors.len(), 2);
    assert_eq!(
        facts.monitors[1],
        Monitor {
            left: -1280,
            top: 0,
            right: -1,
            bottom: 1023,
            primary: false
        }
    );
}

#[test]
fn old_and_odd_connect_initials() {
    let offer = |blocks: &[Vec<u8>]| {
        let mut pdu = connect_initial(&blocks.concat());
        let before = pdu.clone();
        let mut phases = Phases::new(options());
        phases
            .pdu(ToDesktop, &mut pdu)
            .map(|_| pdu == before)
            .map_err(|error| error.reason())
    };
    assert_eq!(
        offer(&[block(0xC001, &[1; 128])]),
        Ok(true),
        "an old client has nothing to patch"
    );
    assert_eq!(
        offer(&[block(0xC001, &[1; 210])]),
        Ok(false),
        "the early flags are there, half a protocol is left"
    );
    assert_eq!(offer(&[block(0xC001, &[1; 51])]), Err("malformed-pdu"));
    assert_eq!(offer(&[]), Err("malformed-pdu"));
    let core = block(0xC001, &[1; 216]);
    assert_eq!(offer(&[core.clone(), core.clone()]), Err("malformed-pdu"));
    assert_eq!(
        offer(&[core.clone(), block(0xC003, &[0; 4]), block(0xC003, &[0; 4])]),
        Err("malformed-pdu")
    );
    assert_eq!(
        offer(&[core.clone(), block(0xC003, &[32, 0, 0, 0])]),
        Err("malformed-pdu")
    );
    assert_eq!(
        offer(&[core.clone(), block(0xC003, &[1, 0, 0, 0])]),
        Err("malformed-pdu")
    );
    let channels = |names: [&[u8; 8]; 2]| {
        let mut net = vec![2, 0, 0, 0];
        for name in names {
            net.extend(name);
            net.extend([0; 4]);
        }
        block(0xC003, &net)
    };
    let twice = [b"cliprdr\0", b"CLIPRDR\0"];
    assert_eq!(offer(&[core.clone(), channels(twice)]), Err("malformed-pdu"));
    assert!(offer(&[core.clone(), channels([b"cliprdr\0", b"rdpdr\0\0\0"])]).is_ok());
    assert_eq!(offer(&[core, vec![5]]), Err("malformed-pdu"));
}

/// A Connect Response around `blocks`, in the shape of xrdp's.
fn connect_response(result: u8, blocks: &[u8]) -> Vec<u8> {
    let mut inside = vec![0x0A, 1, result, 2, 1, 0, 0x30, 0, 4, blocks.len() as u8 + 23];
    inside.extend([0, 5, 0, 0x14, 0x7C, 0, 1, 0x2A, 0x14, 0x76, 0x0A, 1, 1, 0, 1, 0xC0, 0]);
    inside.extend(b"McDn");
    inside.extend((0x8000 | blocks.len() as u16).to_be_bytes());
    inside.extend(blocks);
    let mut pdu = vec![
        3,
        0,
        0,
        inside.len() as u8 + 10,
        2,
        0xF0,
        0x80,
        0x7F,
        0x66,
        inside.len() as u8,
    ];
    pdu.extend(inside);
    pdu
}

#[test]
fn connect_responses() {
    let answer = |pdu: &[u8]| {
        let mut phases = Phases::new(options());
        play(&mut phases, &records("xrdp_default")[..1]);
        let mut pdu = pdu.to_vec();
        phases
            .pdu(ToClient, &mut pdu)
            .map(|_| pdu)
            .map_err(|error| error.reason())
    };
    let net = block(0x0C03, &[0xEB, 3, 1, 0, 0xEC, 3, 0, 0]);
    let multi = block(0x0C08, &[0xFF; 4]);
    let secure = |method| block(0x0C02, &[method, 0, 0, 0, 0, 0, 0, 0]);
    let good = connect_response(0, &[net.clone(), multi, secure(0)].concat());
    let after = answer(&good).unwrap();
    assert!(after.ends_with(&[block(0x0C08, &[0; 4]), secure(0)].concat()));
    assert_eq!(
        answer(&connect_response(0, &[net.clone(), secure(2)].concat())),
        Err("standard-security")
    );
    assert_eq!(answer(&connect_response(14, &net)), Err("mcs-refused"));
    assert_eq!(answer(&connect_response(0, &[])), Err("malformed-pdu"), "no IO channel");
    let more = block(0x0C03, &[0xEB, 3, 5, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0, 0]);
    assert_eq!(
        answer(&connect_response(0, &more)),
        Err("malformed-pdu"),
        "five ids for four channels"
    );
    assert_eq!(
        answer(&connect_response(0, &[net.clone(), net.clone()].concat())),
        Err("malformed-pdu"),
        "numbered twice"
    );
    for ids in [[0xEC, 3, 0xEC, 3], [0xEB, 3, 0xEC, 3]] {
        let twice = block(0x0C03, &[&[0xEB, 3, 2, 0][..], &ids].concat());
        assert_eq!(answer(&connect_response(0, &twice)), Err("malformed-pdu"), "{ids:?}");
    }
    let message = block(0x0C04, &[0xEC, 3]);
    assert_eq!(
        answer(&connect_response(0, &[net, message].concat())),
        Err("malformed-pdu"),
        "the message channel is a static one"
    );
}

/// The capture's Client Info with another user name (and the rest as it was), and a session that waits for it.
pub(super) fn client_info(name: &str, options: FilterOptions) -> (Phases, Vec<u8>) {
    let is_info = |(_, pdu): &Record| payload(pdu).is_some_and(|(_, bytes)| bytes.starts_with(&[0x40, 0, 0, 0]));
    let (phases, rest) = played_until("xrdp_default", options, is_info);
    let bytes = payload(&rest[0].1).unwrap().1;
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let replacement = Replacement {
        user_name: Some(&name),
        ..Replacement::default()
    };
    let spliced = ClientInfo::parse(bytes).unwrap().splice(bytes, &replacement).unwrap();
    (phases, send_data(ToDesktop, USER, IO, &spliced))
}

#[test]
fn a_selector_is_spliced_out() {
    for (name, shown, login) in [
        ("ann:lab", "ann", None),
        ("ann:lab:root", "root", Some("root")),
        ("ann:lab:", "ann", None),
        ("CORP\\ann:lab", "CORP\\ann", None),
    ] {
        let (mut phases, mut pdu) = client_info(name, options());
        let held = phases.pdu(ToDesktop, &mut pdu).unwrap();
        assert!(held.sensitive && !held.tap && !held.forward);
        assert_eq!(held.logon.unwrap().user_name, name.split(':').next().unwrap());
        phases.log_on(&mut pdu, None).unwrap();
        let (_, wanted) = client_info(shown, options());
        assert_eq!(pdu, wanted, "{name}");
        let facts = phases.facts();
        assert_eq!(facts.user_name, shown, "who logs on there is the login");
        let selector = facts.selector.as_ref().unwrap();
        assert_eq!(selector.user, name.split(':').next().unwrap());
        assert_eq!((selector.desktop.as_str(), selector.login.as_deref()), ("lab", login));
    }
    let (mut phases, pdu) = client_info("ann:other", options());
    assert_eq!(refusal(&mut phases, ToDesktop, &pdu), "other-desktop");
    let (mut phases, mut pdu) = client_info("ann", options());
    let before = pdu.clone();
    through(&mut phases, ToDesktop, &mut pdu).unwrap();
    assert_eq!((pdu, &phases.facts().selector), (before, &None));
}

/// Domain, user name, password and flags of a Client Info PDU.
fn credentials(pdu: &[u8]) -> ([String; 3], u32) {
    let bytes = payload(pdu).unwrap().1;
    let info = ClientInfo::parse(bytes).unwrap();
    let text = |range: &std::ops::Range<usize>| crate::wire::utf16_text(&bytes[range.clone()]);
    ([&info.domain, &info.user_name, &info.password].map(text), info.flags)
}

#[test]
fn other_credentials_are_spliced_in() {
    const AUTOLOGON: u32 = 0x8;
    const PASSWORD_IS_SC_PIN: u32 = 0x4_0000;
    let (mut phases, mut pdu) = client_info("ann:lab:root", options());
    // the desktop would show the password to a smart card of the client
    pdu[15 + 10] |= 0x04;
    assert_ne!(credentials(&pdu).1 & PASSWORD_IS_SC_PIN, 0);
    let logon = phases.pdu(ToDesktop, &mut pdu).unwrap().logon.unwrap();
    let ([_, name, password], _) = credentials(&pdu);
    assert_eq!(name, "ann:lab:root");
    assert_eq!((logon.user_name.as_str(), *logon.password == password), ("ann", true));
    assert!(!password.is_empty() && !format!("{logon:?}").contains(&password));
    let tail = |pdu: &[u8]| {
        let bytes = payload(pdu).unwrap().1;
        bytes[ClientInfo::parse(bytes).unwrap().shell.start..].to_vec()
    };
    let before = tail(&pdu);
    let account = LogonAs {
        login: "svc-lab",
        domain: "CORP",
        password: Some("geheim\u{e4}"),
    };
    phases.log_on(&mut pdu, Some(&account)).unwrap();
    let (strings, flags) = credentials(&pdu);
    assert_eq!(strings, ["CORP", "svc-lab", "geheim\u{e4}"]);
    assert_eq!(flags & (AUTOLOGON | PASSWORD_IS_SC_PIN), AUTOLOGON);
    assert_eq!(tail(&pdu), before, "the rest stays");
    assert_eq!(phases.facts().user_name, "svc-lab");

    // without a password the desktop has to ask
    let (mut phases, mut pdu) = client_info("ann:lab", options());
    phases.pdu(ToDesktop, &mut pdu).unwrap();
    let account = LogonAs {
        login: "ann",
        domain: "",
        password: None,
    };
    phases.log_on(&mut pdu, Some(&account)).unwrap();
    let (strings, flags) = credentials(&pdu);
    assert_eq!((strings, flags & AUTOLOGON), (["", "ann", ""].map(str::to_owned), 0));
}

/// A client that reconnects by itself is let in by its cookie, and as whomever that names: it never goes on, whoever logs on and
/// however.
#[test]
fn a_reconnection_logs_on_like_any_other() {
    const COOKIE: [u8; 28] = [0x5A; 28];
    for (name, login, password) in [
        ("ann", None, None),
        ("ann:lab", None, None),
        ("ann:lab", Some("svc"), None),
        ("ann", Some("svc"), Some("geheim")),
    ] {
        let (mut phases, pdu) = client_info(name, options());
        let bytes = payload(&pdu).unwrap().1;
        let address = ClientInfo::parse(bytes).unwrap().address.unwrap().end;
        let directory = usize::from(u16::from_le_bytes([bytes[address], bytes[address + 1]]));
        // directory, time zone, session, performance
        let at = address + 2 + directory + 172 + 4 + 4;
        assert_eq!(bytes[at..at + 2], [0, 0], "the capture has none");
        let with = [&bytes[..at], &[28, 0], &COOKIE, &bytes[at + 2..]].concat();
        assert!(ClientInfo::parse(&with).unwrap().reconnect_cookie.is_some());
        let mut pdu = send_data(ToDesktop, USER, IO, &with);
        let held = phases.pdu(ToDesktop, &mut pdu).unwrap();
        assert!(
            held.logon.is_some() && !held.forward && !held.tap,
            "{name}: it is decided about"
        );
        let account = login.map(|login| LogonAs {
            login,
            domain: "",
            password,
        });
        phases.log_on(&mut pdu, account.as_ref()).unwrap();
        assert!(!pdu.windows(8).any(|part| part == &COOKIE[..8]), "{name}");
        let ([_, user, _], _) = credentials(&pdu);
        assert_eq!(user, login.unwrap_or("ann"));
        let bytes = payload(&pdu).unwrap().1;
        assert_eq!(ClientInfo::parse(bytes).unwrap().reconnect_cookie, None);
    }
}

#[test]
fn bulk_compression_is_cleared_when_asked() {
    let options = FilterOptions {
        bulk_compression: BulkCompression::Clear,
        ..options()
    };
    let (mut phases, before) = client_info("ann", options);
    let (_, after) = pass(&mut phases, ToDesktop, &before);
    let changed: Vec<_> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
    // flags 0x000B47FB: type RDP 6.1 and COMPRESSION go
    assert_eq!(changed, [15 + 8, 15 + 9]);
    assert_eq!(after[23..27], 0x000B_417B_u32.to_le_bytes());
    assert_eq!(phases.facts().bulk_compression, None);
}

//! A whole session of records: direction, length (u32, little endian), PDU. The quick way must agree with the long one.
//! Bits of the first direction byte take rights away; with all rights, channel data passes as it came. The first byte's lowest bit,
//! a direction as well, says whether the graphics pipeline may be used.
#![no_main]

use deskreel_rdp::Direction;
use deskreel_rdp::phase::{ChannelRights, FilterOptions, Graphics, LogonAs, Phases};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let lacks = bytes.first().copied().unwrap_or_default() >> 1;
    let rights = ChannelRights {
        clipboard_to_desktop: lacks & 1 == 0,
        clipboard_to_client: lacks & 2 == 0,
        clipboard_files: lacks & 4 == 0,
        drives: lacks & 8 == 0,
        printers: lacks & 16 == 0,
        audio_output: lacks & 32 == 0,
        other: lacks & 64 == 0,
        ..ChannelRights::default()
    };
    let mut phases = Phases::new(FilterOptions {
        rights: Some(rights),
        graphics: if bytes.first().is_some_and(|way| way & 1 != 0) {
            Graphics::Gfx
        } else {
            Graphics::Legacy
        },
        ..FilterOptions::default()
    });
    let mut bytes = bytes;
    while let [way, a, b, c, d, rest @ ..] = bytes {
        let length = (u32::from_le_bytes([*a, *b, *c, *d]) as usize).min(rest.len());
        let (before, rest) = rest.split_at(length);
        bytes = rest;
        let direction = if way & 1 == 0 {
            Direction::ToDesktop
        } else {
            Direction::ToClient
        };
        let mut pdu = before.to_vec();
        let quick = phases.passes(direction, &pdu).expect("the quick way has no errors");
        // a session would end here; going on finds more, and steps over the X.224 records of the corpus
        let Ok(mut verdict) = phases.pdu(direction, &mut pdu) else {
            continue;
        };
        if let Some(pass) = quick {
            assert!(pdu == before && verdict.forward && verdict.tap == pass.tap && verdict.events.is_empty());
        }
        if verdict.logon.take().is_some() {
            let account = LogonAs {
                login: "svc",
                domain: "CORP",
                password: Some("secret"),
            };
            let _ = phases.log_on(&mut pdu, (way & 2 != 0).then_some(&account));
        }
        let _ = (
            phases.error_info(1),
            phases.refresh(8, 8),
            phases.may_inject(direction, &pdu),
        );
    }
});

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// xfreerdp `/u:ann`, as captured.
const XFREERDP: &[u8] =
    b"\x03\x00\x00\x29\x24\xe0\x00\x00\x00\x00\x00Cookie: mstshash=ann\r\n\x01\x00\x08\x00\x03\x00\x00\x00";

/// A request with `variable` after its fixed part.
fn request(variable: &[u8]) -> Vec<u8> {
    x224_pdu(0xE0, [0; 4], variable)
}

#[test]
fn cookie_and_protocols() {
    assert_eq!(find_opening(XFREERDP), Ok(Some(XFREERDP.len())));
    let request = ConnectionRequest::parse(XFREERDP).unwrap();
    assert_eq!(request.cookie.as_deref(), Some("ann"));
    assert_eq!(request.protocols(), protocol::SSL | protocol::HYBRID);
    assert_eq!(requested_desktop(&request), None);
    for end in 0..4 {
        assert_eq!(find_opening(&XFREERDP[..end]), Ok(None));
    }
}

#[test]
fn our_own_request_is_the_one_of_xfreerdp() {
    assert_eq!(connection_request(3, Some("ann")), XFREERDP);
    assert_eq!(
        connection_request(1, None),
        [3, 0, 0, 19, 14, 0xE0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0]
    );
}

#[test]
fn a_returning_client_brings_desktop_and_number() {
    let parse = |token: &str| {
        let request = ConnectionRequest::parse(&request(format!("{token}\r\n").as_bytes())).unwrap();
        let number = returning(&request).map(str::to_owned);
        (requested_desktop(&request).map(str::to_owned), number)
    };
    let some = |text: &str| Some(text.to_owned());
    let number = "0123456789abcdef0123456789abcdef";
    for desktop in ["lab", "rack:7"] {
        assert_eq!(parse(&return_token(desktop, number)), (some(desktop), some(number)));
        assert_eq!(parse(desktop), (some(desktop), None));
        assert_eq!(parse(&format!("Cookie: msts={desktop}")), (some(desktop), None));
    }
    let foreign = format!("lab:{number}");
    assert_eq!(parse(&foreign), (some(&foreign), None));
}

#[test]
fn token_blob_and_cookie_name_a_desktop() {
    let parse = |bytes: &[u8]| ConnectionRequest::parse(bytes).unwrap();
    assert_eq!(
        requested_desktop(&parse(&request(b"lab\r\n\x01\0\x08\0\x01\0\0\0"))),
        Some("lab")
    );
    assert_eq!(
        requested_desktop(&parse(&request(b"Cookie: msts=lab\r\n"))),
        Some("lab")
    );
    assert_eq!(
        requested_desktop(&parse(&request(b"Cookie: mstshash=ann:lab:root\r\n"))),
        Some("lab")
    );
    assert_eq!(requested_desktop(&parse(&request(b"Cookie: mstshash=ann:\r\n"))), None);

    let mut bytes = vec![
        24, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 3, 0, b'l', 0, b'a', 0, b'b', 0,
    ];
    bytes.extend(request(b"Cookie: mstshash=ann\r\n"));
    assert_eq!(find_opening(&bytes), Ok(Some(bytes.len())));
    let request = parse(&bytes);
    assert_eq!(
        request.preconnection,
        Some(Preconnection {
            id: 7,
            text: Some("lab".into())
        })
    );
    assert_eq!(request.cookie.as_deref(), Some("ann"));
    assert_eq!(requested_desktop(&request), Some("lab"));
}

#[test]
fn correlation_info_is_read() {
    let mut variable = vec![1, 0x08, 8, 0, 1, 0, 0, 0, 6, 0, 36, 0];
    variable.extend(1..=16);
    variable.extend([0; 16]);
    let parsed = ConnectionRequest::parse(&request(&variable)).unwrap();
    assert_eq!(parsed.correlation_id.map(|id| id[15]), Some(16));
    variable.pop();
    assert!(ConnectionRequest::parse(&request(&variable)).is_err());
}

#[test]
fn strangers_have_names() {
    let reason = |bytes: &[u8]| find_opening(bytes).unwrap_err().reason();
    assert_eq!(reason(b"GET / HTTP/1.1\r\n"), "http");
    assert_eq!(reason(&[0x16, 3, 1, 2, 0]), "tls-hello");
    assert_eq!(reason(b"SSH-2.0-x"), "ssh");
    assert_eq!(reason(&[0xFF; 8]), "not-rdp");
    assert_eq!(reason(&[3, 0, 0xFF, 0xFF]), "request-too-long");
    assert_eq!(reason(&[3, 0, 0, 4]), "malformed-request");
    assert_eq!(find_opening(b"GE"), Ok(None));
    let data = [3, 0, 0, 11, 6, 0xF0, 0, 0, 0, 0, 0];
    assert_eq!(ConnectionRequest::parse(&data), Err(OpeningError::NotARequest(0xF0)));
    assert!(ConnectionRequest::parse(&[3, 0, 0, 11, 60, 0xE0, 0, 0, 0, 0, 0]).is_err());
}

#[test]
fn delegated_credentials_are_told() {
    for (flags, wanted) in [(0, false), (1, true), (2, true), (8, false)] {
        assert_eq!(
            Negotiation { flags, protocols: 1 }.wants_delegated_credentials(),
            wanted
        );
    }
}

#[test]
fn confirms() {
    let parse = |bytes: &[u8]| ConnectionConfirm::parse(bytes).unwrap();
    let ours = parse(&connection_confirm(protocol::SSL, confirm_flags::EXTENDED_CLIENT_DATA));
    assert_eq!(ours, ConnectionConfirm::Selected { protocol: 1, flags: 1 });
    assert_eq!(ours.selected(1), Ok(1));
    assert_eq!(ours.selected(2), Err(ConfirmError::NotOffered(1)));
    // xrdp asked for HYBRID alone
    let zero = parse(&connection_confirm(0, 1));
    assert_eq!(zero.selected(2), Err(ConfirmError::StandardSecurity));
    // xrdp asked without a negotiation part
    let bare = parse(&[3, 0, 0, 11, 6, 0xD0, 0, 0, 0x12, 0x34, 0]);
    assert_eq!(bare.selected(1), Err(ConfirmError::StandardSecurity));
    let failure = parse(&connection_failure(failure::HYBRID_REQUIRED));
    assert_eq!(failure.selected(1), Err(ConfirmError::Refused(5)));
    assert_eq!(
        ConfirmError::Refused(5).to_string(),
        "desktop refuses the security protocol: NLA (CredSSP) required (code 5)"
    );
    assert!(ConnectionConfirm::parse(&[3, 0, 0, 11, 6, 0xE0, 0, 0, 0x12, 0x34, 0]).is_err());
}

#[test]
fn protocol_names() {
    assert_eq!(protocol::names(0), "standard");
    assert_eq!(protocol::names(0x4B), "ssl|hybrid|hybrid_ex|0x40");
}

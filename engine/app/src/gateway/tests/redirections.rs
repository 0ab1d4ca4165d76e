//! Desktops that send the client elsewhere: it never hears where, and is sent back to the gateway or nowhere. And those that
//! want another channel beside the connection.

use deskreel_rdp::Direction;
use deskreel_rdp::phase::PhaseEvent;
use deskreel_rdp::wire::mcs;
use deskreel_rdp::wire::redirection::Redirection;
use deskreel_rdp::wire::x224::routed_request;

use super::sessions::{Ends, SHADOW, XRDP, connected, meet_as, read_pdu, send};
use super::*;

/// An enhanced security server redirection PDU ([MS-RDPBCGR] 2.2.13.3.1) to `host`, with a password in it.
fn redirection(flags: u32, host: &str, io_channel: u16) -> Vec<u8> {
    let text = |text: &str| -> Vec<u8> {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        [&u32::try_from(units.len()).unwrap().to_le_bytes()[..], &units].concat()
    };
    let fields = [text("hunter2"), text(host)].concat();
    let mut packet = vec![0, 4];
    packet.extend(u16::try_from(12 + fields.len()).unwrap().to_le_bytes());
    packet.extend([1, 0, 0, 0]);
    packet.extend((flags | 0x10 | 0x100).to_le_bytes());
    packet.extend(fields);
    let mut payload = u16::try_from(packet.len() + 8).unwrap().to_le_bytes().to_vec();
    payload.extend([0x1A, 0, 0xEA, 3, 0, 0]);
    payload.extend(packet);
    mcs::send_data(Direction::ToClient, 1002, io_channel, &payload)
}

/// A redirection to whatever a load balancer makes of a token.
fn balanced(token: &str, io_channel: u16) -> Vec<u8> {
    let length = u32::try_from(token.len()).unwrap();
    let mut packet = vec![0, 4];
    packet.extend(u16::try_from(16 + token.len()).unwrap().to_le_bytes());
    packet.extend([1, 0, 0, 0, 2, 0, 0, 0]);
    packet.extend(length.to_le_bytes());
    packet.extend(token.as_bytes());
    let mut payload = u16::try_from(packet.len() + 8).unwrap().to_le_bytes().to_vec();
    payload.extend([0x1A, 0, 0xEA, 3, 0, 0]);
    payload.extend(packet);
    mcs::send_data(Direction::ToClient, 1002, io_channel, &payload)
}

/// The desktop has let the client in and redirects it before it shows anything; where the client is sent.
async fn redirected(ends: &mut Ends, pdu: impl Fn(u16) -> Vec<u8>) -> Redirection {
    ends.play_before(XRDP, |event| matches!(event, PhaseEvent::Activating { .. }))
        .await;
    send(&mut ends.desktop, &pdu(ends.model.facts().io_channel)).await;
    let words = ends.last_words().await;
    let mcs::DomainPdu::Data(data) = mcs::domain_pdu(&words).unwrap() else {
        panic!("{words:02x?}");
    };
    assert_eq!(data.channel, ends.model.facts().io_channel);
    Redirection::parse(&words[data.payload.start + 8..]).unwrap()
}

/// All of the audit log once `words` stand in it: a session's last event follows its end.
async fn audit_says(gateway: &Running, words: &str) -> String {
    let data_dir = gateway.shared.sessions.data_dir();
    let look = async {
        loop {
            let told = crate::audit::last(data_dir, &crate::audit::Filter::default(), 100).unwrap();
            let said: String = told.iter().map(|line| line.text.as_str()).collect();
            if said.contains(words) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, look).await;
    said.unwrap_or_else(|_| panic!("the audit log never says {words}"))
}

/// A second desktop beside `lab`.
async fn two_desktops() -> (Running, Ends, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let side = listener.local_addr().unwrap();
    let (gateway, ends) = connected(
        |_, resources| resources.desktops.push(desktop("side", side, first_use())),
        Vec::new(),
    )
    .await;
    (gateway, ends, listener)
}

#[tokio::test]
async fn a_redirection_to_a_known_desktop_is_followed_by_way_of_the_gateway() {
    let (mut gateway, mut ends, listener) = two_desktops().await;
    let back = redirected(&mut ends, |io_channel| redirection(0, "SIDE", io_channel)).await;
    // nothing of what the desktop said, and no password
    assert!(!back.is_informational && back.fqdn.is_none() && back.address.is_none() && back.netbios_name.is_none());
    let user = back.user_name.clone().unwrap();
    assert!(user.ends_with(":side") && user.matches(':').count() == 1, "{user}");
    let token = back.routing_token.unwrap();
    assert!(token.starts_with("Cookie: msts=side:"), "{token}");
    drop(ends);
    let (reason, detail) = gateway.next_end().await;
    assert_eq!(reason, "redirected", "{detail}");
    assert!(
        detail.contains("to SIDE") && detail.contains("for desktop side"),
        "{detail}"
    );
    gateway.assert_clean().await;

    let name = user.split(':').next().unwrap();
    let said = routed_request(protocol::SSL | protocol::HYBRID, &token);
    let mut ends = meet_as(&gateway, &listener, &said, &connection_request(protocol::SSL, None)).await;
    ends.play(XRDP).await;
    drop(ends);
    let (reason, detail) = gateway.next_end().await;
    assert!(
        matches!(reason.as_str(), "client_closed" | "desktop_closed"),
        "{reason}: {detail}"
    );
    let log = gateway.lines.text();
    assert!(
        log.contains(&format!("\"user\":\"{name}\"")) && log.contains("\"desktop\":\"side\""),
        "{log}"
    );
    // both sessions are told as one way
    let said = audit_says(&gateway, "redirected_from").await;
    let events = serde_json::Deserializer::from_str(&said).into_iter::<serde_json::Value>();
    let events: Vec<serde_json::Value> = events.collect::<Result<_, _>>().unwrap();
    let start_on = |desktop: &str| {
        let is_it = |event: &&serde_json::Value| {
            event["event"] == "windows.desktop.session.start" && event["desktop_name"] == desktop
        };
        events.iter().find(is_it).unwrap_or_else(|| panic!("{desktop}: {said}"))
    };
    assert_eq!(start_on("side")["redirected_from"], start_on("lab")["sid"], "{said}");
    assert!(start_on("lab")["redirected_from"].is_null(), "{said}");
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_load_balancers_token_reaches_it_once_and_not_for_ever() {
    // it shows another certificate each time
    let any = |_: &mut Config, resources: &mut Resources| resources.desktops[0].gateway.tls.verify = Verify::None;
    let (mut gateway, mut ends) = connected(any, Vec::new()).await;
    let listener = {
        // the desktop's address again, for the connections to come
        let addr = gateway.shared.access.view().desktops["lab"].resource.addr.clone();
        TcpListener::bind(addr).await.unwrap()
    };
    for hop in 1..=4 {
        let back = redirected(&mut ends, |io_channel| balanced("tsv://farm/7", io_channel)).await;
        drop(ends);
        gateway.expect("redirected").await;
        let said = routed_request(protocol::SSL | protocol::HYBRID, &back.routing_token.unwrap());
        let heard = routed_request(protocol::SSL, "tsv://farm/7");
        ends = meet_as(&gateway, &listener, &said, &heard).await;
        if hop == 1 {
            // the same number leads to the desktop, but the load balancer hears nothing any more
            let again = meet_as(&gateway, &listener, &said, &connection_request(protocol::SSL, None)).await;
            drop(again);
            gateway.next_end().await;
        }
    }
    ends.play_before(XRDP, |event| matches!(event, PhaseEvent::Activating { .. }))
        .await;
    let io_channel = ends.model.facts().io_channel;
    send(&mut ends.desktop, &balanced("tsv://farm/7", io_channel)).await;
    assert_eq!(ends.last_words().await, ends.model.error_info(0x7).concat());
    drop(ends);
    let (reason, detail) = gateway.next_end().await;
    assert_eq!(reason, "redirect_refused");
    assert!(detail.contains("4 redirections"), "{detail}");
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_redirection_where_the_user_may_not_go_ends_the_session() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let side = listener.local_addr().unwrap();
    let change = |_: &mut Config, resources: &mut Resources| {
        let mut side = desktop("side", side, first_use());
        // a claimed name has no business where the gateway logs on
        side.gateway.credentials = Credentials::Logins(Vec::new());
        resources.desktops.push(side);
    };
    let (mut gateway, mut ends) = connected(change, Vec::new()).await;
    ends.play(XRDP).await;
    let io_channel = ends.model.facts().io_channel;
    send(&mut ends.desktop, &redirection(0, "side", io_channel)).await;
    assert_eq!(ends.last_words().await, ends.model.error_info(0x7).concat());
    drop(ends);
    let (reason, detail) = gateway.next_end().await;
    assert_eq!(reason, "redirect_refused", "{detail}");
    assert!(detail.contains("login_without_credentials"), "{detail}");
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_redirection_ends_the_session_and_names_the_machine_in_the_log_only() {
    for active in [false, true] {
        let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
        if active {
            ends.play(XRDP).await;
        } else {
            // a broker redirects right after the logon
            ends.play_before(XRDP, |event| matches!(event, PhaseEvent::Activating { .. }))
                .await;
        }
        let io_channel = ends.model.facts().io_channel;
        send(&mut ends.desktop, &redirection(0, "host7.corp.example", io_channel)).await;
        let words = ends.last_words().await;
        assert_eq!(words, ends.model.error_info(0x7).concat(), "active: {active}");
        assert!(!words.is_empty());
        drop(ends);
        let (reason, detail) = gateway.next_end().await;
        assert_eq!(reason, "redirect_refused");
        assert!(
            detail.contains("host7.corp.example") && !detail.contains("hunter2"),
            "{detail}"
        );
        assert!(!gateway.lines.text().contains("hunter2"));
        gateway.assert_clean().await;
        let said = audit_says(&gateway, "redirect_refused").await;
        assert!(said.contains("host7"), "active: {active}: {said}");
        assert!(!said.contains("hunter2"));
    }
}

#[tokio::test]
async fn a_redirection_that_moves_nobody_is_dropped() {
    let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
    ends.play(XRDP).await;
    let io_channel = ends.model.facts().io_channel;
    send(&mut ends.desktop, &redirection(0x80, "host7", io_channel)).await;
    // the next thing that the client sees is what comes behind it: a pointer position
    let pointer = [0x00, 0x09, 0x08, 0x04, 0x00, 1, 0, 1, 0];
    send(&mut ends.desktop, &pointer).await;
    assert_eq!(read_pdu(&mut ends.client).await, pointer);
    drop(ends);
    gateway.next_end().await;
    assert!(gateway.lines.text().contains("redirection was dropped"));
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_side_channel_is_refused_and_told() {
    let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
    ends.play(SHADOW).await;
    let message_channel = ends.model.facts().message_channel.unwrap();
    let ask = mcs::send_data(Direction::ToClient, 1009, message_channel, &[2, 0, 0, 0]);
    for _ in 0..3 {
        send(&mut ends.desktop, &ask).await;
    }
    let pointer = [0x00, 0x09, 0x08, 0x04, 0x00, 1, 0, 1, 0];
    send(&mut ends.desktop, &pointer).await;
    assert_eq!(read_pdu(&mut ends.client).await, pointer);
    drop(ends);
    gateway.next_end().await;
    let said = audit_says(&gateway, "multitransport over UDP").await;
    assert_eq!(said.matches("multitransport over UDP").count(), 1, "{said}");
    gateway.assert_clean().await;
}

//! Desktops that send the client elsewhere: it never hears of it.

use deskreel_rdp::Direction;
use deskreel_rdp::phase::PhaseEvent;
use deskreel_rdp::wire::mcs;

use super::sessions::{XRDP, connected, read_pdu, send};

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
        let data_dir = gateway.shared.sessions.data_dir();
        let told = crate::audit::last(data_dir, &crate::audit::Filter::default(), 20).unwrap();
        let said: String = told.iter().map(|line| line.text.as_str()).collect();
        assert!(
            said.contains("redirect_refused") && said.contains("host7"),
            "active: {active}: {said}"
        );
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

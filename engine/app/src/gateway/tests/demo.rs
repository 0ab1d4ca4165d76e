//! The built-in demo's client and desktop, with the gateway between them.

use super::*;
use crate::demo::tests::{Desktop, session};

/// It left with a reset before, which the gateway told as a lost client.
#[tokio::test]
async fn the_demos_client_says_goodbye() {
    let desktop = Desktop::start().unwrap();
    let mut data_dir = None;
    let mut gateway = start(desktop.address, |config, _| data_dir = Some(config.data_dir.clone())).await;
    let (addr, fingerprint) = (gateway.addr, tls::kept_fingerprint(&data_dir.unwrap()).unwrap());
    let client = tokio::task::spawn_blocking(move || session(addr, fingerprint));
    let (reason, detail) = gateway.next_end().await;
    assert_eq!(reason, "client_closed", "{detail}");
    assert!(detail.starts_with("client disconnected"), "{detail}");
    client.await.unwrap().unwrap();
    // somebody was let in, so the certificate that was seen for the first time is remembered
    let pins = std::fs::read_to_string(gateway.shared.sessions.data_dir().join("pins.json")).unwrap();
    assert!(pins.contains(&desktop.address.to_string()), "{pins}");
}

//! Captured sessions whose PDUs are changed at random from some point on, at either leg: nothing panics, no session is stuck, no
//! task and no socket is left. `DESKREEL_MUTANTS=1000000` for a long run of this test alone, which tells what it takes;
//! `DESKREEL_SEED` for another one than the last.

use std::sync::atomic::{AtomicUsize, Ordering};

use deskreel_rdp::Direction;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadHalf};

use super::random::{Random, mutants, resident_bytes, seed};
use super::sessions::{Ends, Nowhere, SHADOW, XRDP, XRDP_RESIZE, meet, records};
use super::*;

/// PDUs of a run, unless `DESKREEL_MUTANTS` says otherwise.
const PDUS: usize = 3000;
/// Most of them in one session, and in one write.
const SESSION_PDUS: usize = 256;
const WRITE_PDUS: usize = 8;
/// What a long run may take more at its end than after three quarters of it, beside the lines of its log: until then the
/// allocator's arenas of the threads grow.
const GROWTH_MAX: u64 = 32 << 20;

/// `pdu` with other bytes, mostly of a length that its header tells.
fn mutated(random: &mut Random, pdu: &[u8]) -> Vec<u8> {
    let mut pdu = pdu.to_vec();
    random.change(&mut pdu, 5);
    if random.below(8) > 0 && pdu.first() == Some(&3) && pdu.len() > 4 {
        let length = u16::try_from(pdu.len()).unwrap_or(u16::MAX);
        pdu[2..4].copy_from_slice(&length.to_be_bytes());
    }
    pdu
}

async fn drain<S: AsyncRead + Unpin>(mut stream: ReadHalf<S>) {
    let mut bytes = vec![0; 64 << 10];
    while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
}

/// Changed PDUs on one leg until the gateway has had enough; how many.
async fn provoke(ends: Ends, towards: Direction, capture: &[(Direction, Vec<u8>)], random: &mut Random) -> usize {
    let pdus: Vec<&Vec<u8>> = capture
        .iter()
        .filter(|(way, _)| *way == towards)
        .map(|(_, pdu)| pdu)
        .collect();
    let (client_reads, mut client) = tokio::io::split(ends.client);
    let (desktop_reads, mut desktop) = tokio::io::split(ends.desktop);
    let readers = [tokio::spawn(drain(client_reads)), tokio::spawn(drain(desktop_reads))];
    let mut sent = 0;
    while sent < SESSION_PDUS && readers.iter().all(|reader| !reader.is_finished()) {
        let mut bytes = Vec::new();
        for _ in 0..WRITE_PDUS {
            let pdu = pdus[random.below(pdus.len())];
            bytes.extend(mutated(random, pdu));
        }
        let written = async {
            match towards {
                Direction::ToDesktop => client.write_all(&bytes).await.and(client.flush().await),
                Direction::ToClient => desktop.write_all(&bytes).await.and(desktop.flush().await),
            }
        };
        let written = tokio::time::timeout(PATIENCE, written)
            .await
            .expect("the gateway reads, or closes");
        if written.is_err() {
            break;
        }
        sent += WRITE_PDUS;
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }
    // Err = the gateway has closed already
    let _ = (client.shutdown().await, desktop.shutdown().await);
    drop((client, desktop));
    for reader in readers {
        tokio::time::timeout(PATIENCE, reader)
            .await
            .expect("no session is stuck")
            .unwrap();
    }
    sent
}

#[tokio::test]
async fn changed_pdus_end_sessions_and_nothing_else() {
    let long = mutants();
    let (count, seed) = (long.unwrap_or(PDUS), seed());
    // what the tap catches ends up in the recording, which is kept nowhere; other tests panic on purpose
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    if long.is_some() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            hook(info);
        }));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let change = |config: &mut Config, resources: &mut Resources| {
        config.session_recording.mode = RecordingMode::On;
        resources.desktops[0].gateway.tls.verify = Verify::None;
    };
    let gateway = start_with(
        listener.local_addr().unwrap(),
        change,
        vec![Arc::new(Nowhere { takes: true })],
    )
    .await;
    let captures = [records(XRDP), records(XRDP_RESIZE), records(SHADOW)];
    let mut random = Random::new(seed);
    let (mut sent, mut sessions) = ([0, 0], 0_u32);
    let mut resident = Vec::new();
    while sent[0] + sent[1] < count {
        let capture = &captures[random.below(captures.len())];
        let leg = random.below(2);
        let towards = [Direction::ToDesktop, Direction::ToClient][leg];
        // mostly when the session is up
        let until = match random.below(4) {
            0 => random.below(capture.len()),
            _ => capture.len(),
        };
        let mut ends = meet(&gateway, &listener).await;
        for (direction, pdu) in &capture[..until] {
            ends.step(*direction, pdu).await;
        }
        sent[leg] += provoke(ends, towards, capture, &mut random).await;
        sessions += 1;
        if long.is_some() && (sent[0] + sent[1]) * 10 / count > resident.len() {
            resident.push(resident_bytes() - gateway.lines.text().len() as u64);
            println!("seed {seed}: {sent:?} PDUs towards desktop and client, {sessions} sessions, {resident:?} bytes");
        }
    }
    gateway.assert_clean().await;
    let text = gateway.lines.text();
    assert!(!text.contains("panicked"), "{text}");
    assert!(!text.contains("\"reason\":\"internal\""), "{text}");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    // other tests run in the same process, unless this one was asked for
    if let (Some(before), Some(last)) = (resident.get(7), resident.last()) {
        assert!(last.saturating_sub(*before) < GROWTH_MAX, "{resident:?} bytes");
    }
}

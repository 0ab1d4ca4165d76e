//! Many people at their desks: each presses a key every so often, and now and then opens something large.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peers::process::cpu_seconds;
use tokio::task::JoinSet;

use super::desktop::Client;
use super::streams::Replies;
use super::{Way, percentile, verdict};

/// Bar: round trip p99 of all sessions together.
const BAR_MS: f64 = 50.0;
/// Between two keys of a session, in milliseconds.
const KEYS_MS: std::ops::Range<u64> = 150..450;
/// Every so many keys open something large.
const KEYS_A_BURST: u64 = 20;

/// The same load through one way and then through the other.
pub(crate) async fn run(
    ways: [&Way; 2],
    replies: &Arc<Replies>,
    sessions: usize,
    length: Duration,
) -> anyhow::Result<()> {
    println!(
        "| {sessions} sessions for {} s, through | round trips | p50 ms | p99 ms (bar: {BAR_MS}) | CPU s | |\n\
         |---|---|---|---|---|---|",
        length.as_secs()
    );
    for way in ways {
        let mut clients = Vec::new();
        for _ in 0..sessions {
            clients.push(Client::connect(way.port, way.rdp).await.context(way.name)?);
        }
        let before = cpu_seconds(way.pid);
        let end = Instant::now() + length;
        let mut people = JoinSet::new();
        for (seed, client) in (1..).zip(clients) {
            let replies = Arc::clone(replies);
            people.spawn_local(work(client, replies, seed, end));
        }
        let mut times = Vec::new();
        while let Some(person) = people.join_next().await {
            // a session that was ended is an error
            times.extend(person?.context(way.name)?);
        }
        let cpu = cpu_seconds(way.pid) - before;
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        let held = way.bar.map_or("", |_| verdict(p99 < BAR_MS));
        println!(
            "| {} | {} | {p50:.2} | {p99:.2} | {cpu:.1} | {held} |",
            way.name,
            times.len()
        );
    }
    println!();
    Ok(())
}

/// Round trips in milliseconds.
async fn work(mut client: Client, replies: Arc<Replies>, seed: u64, end: Instant) -> anyhow::Result<Vec<f64>> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut times = Vec::new();
    for key in seed.. {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let wait = KEYS_MS.start + random % (KEYS_MS.end - KEYS_MS.start);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if Instant::now() >= end {
            break;
        }
        let kind = if key % KEYS_A_BURST == 0 {
            &replies.burst
        } else {
            &replies.small
        };
        let number = kind.start + usize::try_from(random % 16)?;
        let begun = Instant::now();
        client.trip(&replies, number, 1).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    client.leave().await;
    Ok(times)
}

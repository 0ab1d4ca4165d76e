//! What the gateway adds to a plain TLS-to-TLS bridge (HAProxy, which takes TLS off and puts it on again, and knows nothing of
//! RDP): the same desktop, the same client, the same bytes, in turn through the bridge, through the gateway with recording off,
//! and through the gateway that records (strict, local storage in sync mode). `cargo bench -p deskreel-tests --bench bridge`;
//! docs/performance.md holds the last numbers. RDP begins without TLS, which no bridge follows: its client and desktop leave the
//! connection sequence out. `BENCH_REPEATS` (default 5) rounds, whose median counts; `BENCH_TRIPS` (default 500) round trips a
//! round; `BENCH_MB` (default 128, 0 for none) of each stream a round, an eighth of that where it is recorded, too;
//! `BENCH_SESSIONS` (default 100, 0 for none) at once for `BENCH_SECONDS` (default 30).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

mod desktop;
mod office;
mod streams;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peers::gateway::{Gateway, Settings};
use peers::process::{Process, cpu_seconds, free_port, which};
use rustix::process::Pid;

use desktop::{Client, Desktop};
use streams::{Replies, SCREENS};

/// Bar: round trip p99 above the bridge's, with recording on.
const ADDED_BAR_MS: f64 = 1.0;
/// Bars: bytes a CPU second to the bridge's.
const RELAY_BAR: f64 = 0.9;
const RECORDED_BAR: f64 = 0.6;
/// Between two round trips: a connection at rest, as it is between two key presses, and a decoder that has caught up.
const PAUSE: Duration = Duration::from_millis(2);
/// A process has done its work when it has used less than [`REST_CPU`] in this time.
const REST: Duration = Duration::from_millis(500);
const REST_CPU: f64 = 0.015;
const REST_LIMIT: Duration = Duration::from_secs(120);

/// One way from the client to the desktop.
struct Way {
    name: &'static str,
    /// What its bytes a CPU second have to be of the bridge's.
    bar: Option<f64>,
    /// What it is sent of a stream: one part of so many. What is recorded is slower than what is not.
    parts: usize,
    pid: Pid,
    port: u16,
    rdp: bool,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` passes --bench; `cargo test --benches` does not and must not start a long run.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let number = |name: &str, default: usize| -> anyhow::Result<usize> {
        std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| name.to_owned()))
    };
    let (repeats, trips) = (number("BENCH_REPEATS", 5)?, number("BENCH_TRIPS", 500)?);
    let (bytes, sessions) = (number("BENCH_MB", 128)? * 1_000_000, number("BENCH_SESSIONS", 100)?);
    let seconds = Duration::from_secs(number("BENCH_SECONDS", 30)?.try_into()?);

    let dir = tempfile::tempdir()?;
    let replies = Arc::new(Replies::new());
    let desktop = Desktop::start(Arc::clone(&replies))?;
    let (bridge, bridge_port) = start_bridge(dir.path(), desktop.plain)?;
    let relay = start_gateway(&dir.path().join("relay"), desktop.rdp, "session_recording: off\n")?;
    let recorder = start_gateway(&dir.path().join("recorder"), desktop.rdp, "")?;
    let through = |name, bar, parts, gateway: &Gateway| Way {
        name,
        bar: Some(bar),
        parts,
        pid: gateway.process.pid(),
        port: gateway.port,
        rdp: true,
    };
    let ways = [
        Way {
            name: "bridge",
            bar: None,
            parts: 1,
            pid: bridge.pid(),
            port: bridge_port,
            rdp: false,
        },
        through("relay alone", RELAY_BAR, 1, &relay),
        through("recorded", RECORDED_BAR, 8, &recorder),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        latency(&ways, &replies, repeats, trips).await?;
        if bytes > 0 {
            throughput(&ways, &replies, repeats, bytes).await?;
        }
        if sessions > 0 {
            office::run([&ways[0], &ways[2]], &replies, sessions, seconds).await?;
        }
        anyhow::Ok(())
    })?;
    whole(&recorder, 1 + usize::from(bytes > 0) + sessions)
}

/// All that was shown is in the recordings.
fn whole(recorder: &Gateway, sessions: usize) -> anyhow::Result<()> {
    for index in 0..sessions {
        let row = recorder.wait_recording(index, &["complete"])?;
        anyhow::ensure!(row["gaps"] == 0 && row["undecoded"] == 0, "not whole: {row}");
    }
    println!("{sessions} recordings: complete, no gap, nothing undecoded");
    Ok(())
}

fn start_gateway(dir: &Path, desktop: u16, more: &str) -> anyhow::Result<Gateway> {
    let settings = Settings {
        more: more.to_owned(),
        gateway:
            ", graphics: gfx, sessions_max: 1000, sessions_per_desktop_max: 1000, connections_per_address_max: 1000"
                .to_owned(),
        ..Settings::of(desktop, "sync")
    };
    Gateway::start(dir, &settings)
}

fn start_bridge(dir: &Path, desktop: u16) -> anyhow::Result<(Process, u16)> {
    let made = rcgen::generate_simple_self_signed(vec!["bridge".to_owned()])?;
    let pem = dir.join("bridge.pem");
    std::fs::write(&pem, made.cert.pem() + &made.signing_key.serialize_pem())?;
    let port = free_port()?;
    let file = dir.join("haproxy.cfg");
    let config = format!(
        "global\n  maxconn 4000\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
         listen bridge\n  bind 127.0.0.1:{port} ssl crt {} ssl-min-ver TLSv1.3\n  \
         server desktop 127.0.0.1:{desktop} ssl verify none ssl-min-ver TLSv1.3\n",
        pem.display()
    );
    std::fs::write(&file, config)?;
    let program = which("haproxy").context("no haproxy: .ci/install bench")?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&file);
    let mut process = Process::start("haproxy", dir, &command)?;
    process.wait_listening(port, Duration::from_secs(10))?;
    Ok((process, port))
}

async fn connect(ways: &[Way; 3]) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for way in ways {
        let client = Client::connect(way.port, way.rdp).await;
        clients.push(client.with_context(|| way.name)?);
    }
    Ok(clients)
}

/// Round trips of one client at a time, the other connections at rest.
async fn latency(ways: &[Way; 3], replies: &Replies, repeats: usize, trips: usize) -> anyhow::Result<()> {
    let mut clients = connect(ways).await?;
    let ciphers: Vec<String> = clients.iter().map(Client::cipher).collect();
    println!("TLS 1.3 with {} towards the clients\n", ciphers.join(", "));
    println!(
        "| a move of the mouse, answered by | through | p50 us | p99 us | p99 above the bridge, ms (bar: {ADDED_BAR_MS}) | |\n\
         |---|---|---|---|---|---|"
    );
    for (what, kind) in [("a small update", &replies.small), ("64 kB", &replies.burst)] {
        let mut measured = [const { (Vec::new(), Vec::new()) }; 3];
        for _ in 0..repeats {
            let mut times = [const { Vec::new() }; 3];
            // Trip by trip in turn: what else the machine does meets all three alike.
            for number in kind.clone().cycle().take(trips) {
                for (client, times) in clients.iter_mut().zip(&mut times) {
                    tokio::time::sleep(PAUSE).await;
                    let begun = Instant::now();
                    client.trip(replies, number, 1).await?;
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
            }
            for (mut times, (medians, worst)) in times.into_iter().zip(&mut measured) {
                medians.push(percentile(&mut times, 0.5));
                worst.push(percentile(&mut times, 0.99));
            }
        }
        let mut bridge = 0.0;
        for (way, (mut medians, mut worst)) in ways.iter().zip(measured) {
            let (p50, p99) = (percentile(&mut medians, 0.5), percentile(&mut worst, 0.5));
            print!("| {what} | {} | {p50:.0} | {p99:.0} |", way.name);
            if way.bar.is_none() {
                bridge = p99;
                println!(" | |");
            } else {
                let added = (p99 - bridge) / 1000.0;
                println!(" {added:.2} | {} |", verdict(added <= ADDED_BAR_MS));
            }
        }
    }
    println!();
    for client in clients {
        client.leave().await;
    }
    Ok(())
}

/// One stream at a time, as fast as it goes, and what it costs the process between.
async fn throughput(ways: &[Way; 3], replies: &Replies, repeats: usize, bytes: usize) -> anyhow::Result<()> {
    let mut clients = connect(ways).await?;
    println!("| stream | through | MB/s | MB a CPU second | to the bridge | bar | |\n|---|---|---|---|---|---|---|");
    for (what, number) in [("planar bitmaps", replies.planar), ("RemoteFX", replies.remote_fx)] {
        let what = format!("{what}, {} kB a screen", replies.all[number].len() / SCREENS / 1000);
        let mut measured = [const { (Vec::new(), Vec::new()) }; 3];
        for _ in 0..repeats {
            for ((way, client), (speeds, costs)) in ways.iter().zip(&mut clients).zip(&mut measured) {
                let times = (bytes / way.parts).div_ceil(replies.all[number].len());
                let before = cpu_at_rest(way.pid).await?;
                let begun = Instant::now();
                let taken = client.trip(replies, number, times).await.context(way.name)?;
                #[expect(clippy::cast_precision_loss, reason = "a benchmark's bytes are far below 2^52")]
                let megabytes = taken as f64 / 1e6;
                speeds.push(megabytes / begun.elapsed().as_secs_f64());
                costs.push(megabytes / (cpu_at_rest(way.pid).await? - before));
            }
        }
        let mut bridge = 0.0;
        for (way, (mut speeds, mut costs)) in ways.iter().zip(measured) {
            let (speed, cost) = (percentile(&mut speeds, 0.5), percentile(&mut costs, 0.5));
            print!("| {what} | {} | {speed:.0} | {cost:.0} |", way.name);
            if let Some(bar) = way.bar {
                let ratio = cost / bridge;
                println!(" {ratio:.2} | {bar} | {} |", verdict(ratio >= bar));
            } else {
                bridge = cost;
                println!(" | | |");
            }
        }
    }
    println!();
    for client in clients {
        client.leave().await;
    }
    Ok(())
}

/// CPU seconds of a process, when it has nothing left to do: a recorder works on for a while.
async fn cpu_at_rest(pid: Pid) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut last = cpu_seconds(pid);
    loop {
        tokio::time::sleep(REST).await;
        let now = cpu_seconds(pid);
        if now - last < REST_CPU {
            return Ok(now);
        }
        last = now;
        anyhow::ensure!(begun.elapsed() < REST_LIMIT, "process {pid:?} never rests");
    }
}

/// Sorts the values and gives the one that this part of them is not above.
fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's counts are far below 2^52")]
    let index = ((values.len() - 1) as f64 * part).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it's a small whole number"
    )]
    let index = index as usize;
    values[index]
}

fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "missed" }
}

//! What the gateway costs, measured with real peers: `cargo bench -p deskreel-tests`. Every ratio is between runs of
//! this one call, side by side on the same machine; docs/performance.md says what the numbers mean and holds the last
//! ones. `BENCH_REPEATS` (default 1) repeats everything, `BENCH_KEEP` names a folder that keeps the videos.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::display::Display;
use peers::gateway::{Gateway, Settings};
use peers::process::{children_cpu_seconds, cpu_seconds, resident_bytes, run};

/// Sixty seconds of office work, as the terminal of the desktop does it by itself: scrolling text at 20 lines a second
/// (20 s), three windows (10 s), a picture with many colours (12 s), a burst of 10,000 lines (12 s), rest (6 s).
const OFFICE: &str = r#"#!/bin/sh
sleep 2
i=0
while [ $i -lt 400 ]; do echo "$i  The quick brown fox jumps over the lazy dog 0123456789"; i=$((i+1)); sleep 0.045; done
for n in 1 2 3; do xterm -geometry 60x15+$((n*150))+$((n*120)) -e sleep $((11-n)) & sleep 1; done
sleep 7
display -geometry +420+300 "$(dirname "$0")/fractal.png" & shown=$!
sleep 12
kill $shown
seq 1 10000
sleep 18
"#;

/// Thirty seconds in which the screen never rests.
const BUSY: &str = r#"#!/bin/sh
while :; do ls -la --color=always /usr/bin | head -n 40; date +%N; sleep 0.04; done
"#;

/// The screen of the comparison, and the one that the memory bar is about.
const SCREEN: (u16, u16) = (1024, 768);
const SCREEN_1080P: (u16, u16) = (1920, 1080);

struct Cost {
    gateway_cpu: f64,
    xrdp_cpu: f64,
    client_cpu: f64,
    /// Before the session, and the most during it.
    idle: u64,
    resident: u64,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` passes --bench; `cargo test --benches` does not and must not start a long run.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let Some(_peers) = Peers::take("the session benchmark") else {
        return Ok(());
    };
    if let Ok(runs) = std::env::var("BENCH_MEMORY") {
        return memory(runs.parse()?);
    }
    let repeats: usize = std::env::var("BENCH_REPEATS").ok().map_or(Ok(1), |text| text.parse())?;
    for _ in 0..repeats {
        office()?;
        export("constantly changing session", BUSY, 30)?;
    }
    Ok(())
}

/// Only what a session at 1920x1080 takes, so many times.
fn memory(runs: usize) -> anyhow::Result<()> {
    println!("| gateway memory MB: idle | with the session | difference | gateway CPU s |\n|---|---|---|---|");
    for _ in 0..runs {
        let cost = session("memory", SCREEN_1080P, OFFICE, 64, Some(""), |_, _| Ok(()))?;
        let [idle, resident] = [cost.idle, cost.resident].map(|bytes| bytes as f64 / 1e6);
        println!(
            "| {idle:.1} | {resident:.1} | {:.1} | {:.2} |",
            resident - idle,
            cost.gateway_cpu
        );
    }
    Ok(())
}

/// The same work directly, through the relay alone, and recorded.
fn office() -> anyhow::Result<()> {
    let direct = session("direct", SCREEN, OFFICE, 64, None, |_, _| Ok(()))?;
    let relay = session("relay", SCREEN, OFFICE, 64, Some("session_recording: off\n"), |_, _| {
        Ok(())
    })?;
    let mut bytes = 0;
    let mut minutes = 0.0;
    let recorded = session("recorded", SCREEN, OFFICE, 64, Some(""), |gateway, row| {
        bytes = row["bytes"].as_u64().unwrap_or_default();
        minutes = row["duration_ms"].as_f64().unwrap_or_default() / 60_000.0;
        export_speed(gateway, row, "office work")
    })?;
    let large = session("recorded-1080p", SCREEN_1080P, OFFICE, 64, Some(""), |gateway, row| {
        export_speed(gateway, row, "office work at 1920x1080")
    })?;
    println!(
        "| run | gateway CPU s | ratio to xrdp's direct CPU | xrdp CPU s | client CPU s | gateway memory MB: idle, with the session |"
    );
    println!("|---|---|---|---|---|---|");
    let runs = [
        ("direct", &direct),
        ("relay alone", &relay),
        ("recorded", &recorded),
        ("recorded, 1920x1080", &large),
    ];
    for (name, cost) in runs {
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0}, {:.0} |",
            cost.gateway_cpu,
            cost.gateway_cpu / direct.xrdp_cpu,
            cost.xrdp_cpu,
            cost.client_cpu,
            cost.idle as f64 / 1e6,
            cost.resident as f64 / 1e6
        );
    }
    println!(
        "recording: {:.2} MB a minute ({bytes} bytes in {minutes:.2} min)",
        bytes as f64 / 1e6 / minutes
    );
    Ok(())
}

fn export(name: &str, script: &str, seconds: u64) -> anyhow::Result<()> {
    session("export", SCREEN, script, seconds, Some(""), |gateway, row| {
        export_speed(gateway, row, name)
    })
    .map(|_| ())
}

fn export_speed(gateway: &Gateway, row: &serde_json::Value, name: &str) -> anyhow::Result<()> {
    let id = row["id"].as_str().context("a recording has an id")?;
    let file = gateway.dir.join("bench.mp4").display().to_string();
    let (begun, cpu_before) = (Instant::now(), children_cpu_seconds());
    let exported = gateway.run(&["recordings", "export", id, "--format", "mp4", "--force", "-o", &file])?;
    let (took, cpu) = (begun.elapsed().as_secs_f64(), children_cpu_seconds() - cpu_before);
    anyhow::ensure!(
        exported.status.success(),
        "export: {}",
        String::from_utf8_lossy(&exported.stderr)
    );
    if let Some(folder) = std::env::var_os("BENCH_KEEP") {
        fs::create_dir_all(&folder)?;
        fs::copy(&file, Path::new(&folder).join(format!("{name}.mp4")))?;
    }
    let session = row["duration_ms"].as_f64().unwrap_or_default() / 1000.0;
    println!(
        "export to mp4, {name}: {session:.1} s in {took:.2} s, {:.1}x real time; {cpu:.2} CPU s, {:.1} s of session a CPU second",
        session / took,
        session / cpu
    );
    Ok(())
}

/// Runs the work on a fresh desktop and gives what it cost. `more` is `None` for a session without the gateway.
fn session(
    label: &str,
    (width, height): (u16, u16),
    script: &str,
    seconds: u64,
    more: Option<&str>,
    then: impl FnOnce(&Gateway, &serde_json::Value) -> anyhow::Result<()>,
) -> anyhow::Result<Cost> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
    let work = write_work(dir.path(), script)?;
    let xrdp = Xrdp::start_running(dir.path(), Some(&work))?;
    let gateway = more
        .map(|more| {
            let settings = Settings {
                more: more.to_owned(),
                ..Settings::of(xrdp.port, "sync")
            };
            Gateway::start(&dir.path().join("gateway"), &settings)
        })
        .transpose()?;
    let port = gateway.as_ref().map_or(xrdp.port, |gateway| gateway.port);
    let gateway_before = gateway
        .as_ref()
        .map_or(0.0, |gateway| cpu_seconds(gateway.process.pid()));
    let idle = gateway
        .as_ref()
        .map_or(0, |gateway| resident_bytes(gateway.process.pid()));
    let xrdp_before = cpu_seconds(xrdp.server().pid());
    let display = Display::start(dir.path(), label, width, height)?;
    let size = format!("/size:{width}x{height}");
    let mut client = Client::start_on(display, dir.path(), label, port, USER, &[&size])?;
    client.display.wait_painted(8)?;
    let mut resident = 0;
    for step in 0..seconds * 2 {
        let x = 100 + step * 13 % 800;
        client.display.xdotool(&["mousemove", &x.to_string(), "700"])?;
        std::thread::sleep(Duration::from_millis(500));
        resident = resident.max(
            gateway
                .as_ref()
                .map_or(0, |gateway| resident_bytes(gateway.process.pid())),
        );
    }
    let client_cpu = cpu_seconds(client.process.pid());
    client.process.end();
    std::thread::sleep(Duration::from_secs(2));
    let cost = Cost {
        gateway_cpu: gateway
            .as_ref()
            .map_or(0.0, |gateway| cpu_seconds(gateway.process.pid()))
            - gateway_before,
        xrdp_cpu: cpu_seconds(xrdp.server().pid()) - xrdp_before,
        client_cpu,
        idle,
        resident,
    };
    if let Some(gateway) = &gateway {
        let row = gateway.wait_recording(0, &["complete", "not_recorded"])?;
        then(gateway, &row)?;
    }
    Ok(cost)
}

fn write_work(dir: &Path, script: &str) -> anyhow::Result<String> {
    let file = dir.join("work.sh");
    fs::write(&file, script)?;
    fs::set_permissions(&file, Permissions::from_mode(0o755))?;
    let picture = dir.join("fractal.png").display().to_string();
    run(
        "convert",
        &["-seed", "7", "-size", "480x360", "plasma:fractal", &picture],
    )?;
    fs::set_permissions(&picture, Permissions::from_mode(0o644))?;
    Ok(file.display().to_string())
}

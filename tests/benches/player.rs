//! The player on a whole working day: how soon the first picture of an eight-hour recording is there, how long a seek takes,
//! whether 16x keeps up, and what the tab needs in memory. A minute of a real session is recorded and written again and
//! again, by the same recorder; the player is that of `deskreel recordings play`, the browser is Chromium.
//! `cargo bench -p deskreel-tests --bench player`; docs/performance.md holds the last numbers. `BENCH_HOURS` (default 8);
//! `BENCH_MINUTE`: the folder of a recording to take instead of the demo's desktop.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use deskreel_recording::event::{EndReason, SessionEnd, SessionEvent, SessionStart};
use deskreel_recording::{Event, Recorder, RecorderOptions, ScreenDecoder, Segment, SigningKey};
use peers::gateway::deskreel;
use peers::node;
use serde_json::json;

fn main() {
    let hours: f64 = std::env::var("BENCH_HOURS").map_or(8.0, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let minute = std::env::var_os("BENCH_MINUTE").map_or_else(|| record(dir.path()), PathBuf::from);
    let begun = Instant::now();
    let written = write(&minute, &dir.path().join("long"), hours);
    println!(
        "{hours} h written in {:.0?}: {} segments, {:.1} MB",
        begun.elapsed(),
        written.segments,
        written.bytes as f64 / 1e6
    );
    let mut player = Command::new(deskreel())
        .args(["recordings", "play", "--no-browser"])
        .arg(&written.folder)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(player.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let base = url.split("/open/").next().unwrap().to_owned();
    let found = node::browse(
        "bars",
        json!({"base": base, "id": written.id, "url": url.trim(), "seeks": 200, "seconds": 30}),
    );
    player.kill().unwrap();
    player.wait().unwrap();
    let found = found.unwrap();
    println!("| what | measured | bar |\n|---|---|---|");
    println!("| first picture | {} ms | 1000 ms |", found["first_ms"]);
    println!(
        "| seek p50 / p95 / p99 | {} / {} / {} ms | p95 300 ms, p99 500 ms |",
        found["p50"], found["p95"], found["p99"]
    );
    println!("| 16x: seconds of the recording in a second | {} | 16 |", found["pace"]);
    println!(
        "| 16x: pictures a second, longest pause between two | {}, {} ms | |",
        found["pictures"], found["pause_ms"]
    );
    let memory = &found["memory"];
    println!(
        "| memory of the tab's process (PSS) at the most; with the first picture, after a rest; an empty tab | {} MB; {}, {}; {} MB | 300 MB |",
        memory["most"], memory["opened"], memory["rested"], memory["empty"]
    );
}

/// A minute of the demo's desktop: the recording's folder.
fn record(dir: &Path) -> PathBuf {
    let home = dir.join("demo");
    let demo = Command::new(deskreel())
        .args(["demo", "--seconds", "60", "--data-dir"])
        .arg(&home)
        .output()
        .unwrap();
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    let inside = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders = inside(home.join("recordings")).flat_map(inside);
    folders.find(|folder| folder.join("manifest.json").exists()).unwrap()
}

struct Written {
    id: String,
    folder: PathBuf,
    segments: u32,
    bytes: u64,
}

/// Writes a recording anew until it is long enough.
fn write(minute: &Path, to: &Path, hours: f64) -> Written {
    let mut names: Vec<PathBuf> = fs::read_dir(minute)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "mcap"));
    names.sort();
    let segments: Vec<Segment> = names
        .iter()
        .map(|name| Segment::open(fs::read(name).unwrap().into()).unwrap())
        .collect();
    let id = segments[0].header().recording;
    let folder = to.join(id.to_string());
    fs::create_dir_all(&folder).unwrap();
    let start = SessionStart {
        recording: id,
        started_unix_us: 1_700_000_000_000_000,
        ..SessionStart::default()
    };
    let options = RecorderOptions {
        segment_max_age: Duration::from_secs(60),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(start, SigningKey::from_bytes(&[7; 32]), options).unwrap();
    let mut written = Written {
        id: id.to_string(),
        folder,
        segments: 0,
        bytes: 0,
    };
    let keep = |written: &mut Written, number: u32, bytes: &[u8]| {
        fs::write(written.folder.join(format!("{number:08}.mcap")), bytes).unwrap();
        written.segments += 1;
        written.bytes += bytes.len() as u64;
    };
    let length = (hours * 3600.0 * 1e9) as u64;
    let mut base = 0;
    let mut last = 0;
    while base < length {
        let mut decoder = ScreenDecoder::new();
        for event in segments.iter().flat_map(Segment::events) {
            let (time, event) = event.unwrap();
            last = base + time;
            match &event {
                Event::Screen(message) => {
                    let damage = decoder.apply(message).unwrap().to_vec();
                    recorder.frame(last, decoder.picture().unwrap(), &damage).unwrap();
                }
                Event::Session(SessionEvent::Start(_) | SessionEvent::End(_) | SessionEvent::Resized { .. }) => {}
                other => recorder.push(last, other).unwrap(),
            }
            if recorder.seal_due(last)
                && let Some(sealed) = recorder.seal(last).unwrap()
            {
                keep(&mut written, sealed.number, &sealed.bytes);
            }
        }
        base = last + 500_000_000;
    }
    let end = SessionEnd {
        reason: EndReason::ClientClosed,
        detail: None,
        error_info: None,
    };
    let (sealed, manifest) = recorder.finish(last, end).unwrap();
    if let Some(sealed) = sealed {
        keep(&mut written, sealed.number, &sealed.bytes);
    }
    fs::write(written.folder.join("manifest.json"), manifest).unwrap();
    written
}

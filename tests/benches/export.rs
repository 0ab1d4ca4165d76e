//! What exports cost that need no desktop: `cargo bench -p deskreel-tests --bench export`. An hour in which nearly nothing
//! happens, and ten minutes in which a line of text is written five times a second. docs/performance.md has the last numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use deskreel_recording::event::{EndReason, SessionEnd, SessionStart};
use deskreel_recording::{Picture, Recorder, RecorderOptions, Rect, SealedSegment, SigningKey};
use peers::gateway::deskreel;
use peers::process::children_cpu_seconds;

const SECOND: u64 = 1_000_000_000;
const WIDTH: u16 = 1920;
const HEIGHT: u16 = 1080;

fn main() -> anyhow::Result<()> {
    // `cargo bench` passes --bench; `cargo test --benches` does not and must not start a long run.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    measure("an hour, a change a minute", 3600, 60 * SECOND)?;
    measure("ten minutes, five changes a second", 600, SECOND / 5)
}

/// Records so many seconds with a change every so often, and exports that.
fn measure(name: &str, seconds: u64, every_ns: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("recording");
    fs::create_dir(&folder)?;
    record(&folder, seconds, every_ns)?;
    fs::write(dir.path().join("deskreel.yaml"), "data_dir: data\n")?;
    for more in [&[][..], &["--overlay", "user,clock"], &["--width", "1280"]] {
        let (begun, cpu_before) = (Instant::now(), children_cpu_seconds());
        let output = Command::new(deskreel())
            .args([
                "recordings",
                "export",
                "recording",
                "--format",
                "mp4",
                "--force",
                "-o",
                "out.mp4",
            ])
            .args(more)
            .current_dir(dir.path())
            .env("DESKREEL_CONFIG", dir.path().join("deskreel.yaml"))
            .output()?;
        let (took, cpu) = (begun.elapsed().as_secs_f64(), children_cpu_seconds() - cpu_before);
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!(
            "export to mp4, {name} {}: {took:.2} s, {cpu:.2} CPU s, {:.0}x real time, {:.0} s of session a CPU second, {:.1} MB",
            more.join(" "),
            seconds as f64 / took,
            seconds as f64 / cpu,
            fs::metadata(dir.path().join("out.mp4"))?.len() as f64 / 1e6,
        );
    }
    Ok(())
}

/// A terminal that fills with lines, one a change.
fn record(folder: &Path, seconds: u64, every_ns: u64) -> anyhow::Result<()> {
    let start = SessionStart {
        recording: "01902b6e-7b1c-7000-8000-000000000001".parse()?,
        started_unix_us: 1_714_557_600_000_000,
        ..SessionStart::default()
    };
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut recorder = Recorder::new(start, key, RecorderOptions::default())?;
    let write = |segment: Option<SealedSegment>| match segment {
        Some(segment) => fs::write(folder.join(format!("{:08}.mcap", segment.number)), &segment.bytes),
        None => Ok(()),
    };
    let mut rgba = vec![24; usize::from(WIDTH) * usize::from(HEIGHT) * 4];
    let row_bytes = usize::from(WIDTH) * 4;
    let mut changed = Rect::new(0, 0, WIDTH, HEIGHT);
    for number in 0..seconds * SECOND / every_ns {
        let time_ns = number * every_ns;
        let shown = Picture {
            width: WIDTH,
            height: HEIGHT,
            stride: row_bytes,
            data: &rgba,
        };
        recorder.frame(time_ns, shown, &[changed])?;
        if recorder.seal_due(time_ns) {
            write(recorder.seal(time_ns)?)?;
        }
        // The next line: dots that no two lines share.
        let line = u16::try_from(number % 60)?;
        changed = Rect::new(40, line * 18, 800, 16);
        for y in usize::from(changed.y)..usize::from(changed.y) + 16 {
            for (x, pixel) in rgba[y * row_bytes + 160..y * row_bytes + 160 + 3200]
                .chunks_exact_mut(4)
                .enumerate()
            {
                let dot = (x as u64 / 2 * 31 + y as u64 / 2 * 17 + number * 101).wrapping_mul(2_654_435_761) >> 13;
                pixel[..3].fill(if dot.is_multiple_of(3) { 220 } else { 24 });
            }
        }
    }
    let end = SessionEnd {
        reason: EndReason::ClientClosed,
        detail: None,
        error_info: None,
    };
    let (last, manifest) = recorder.finish(seconds * SECOND, end)?;
    write(last)?;
    fs::write(folder.join("manifest.json"), manifest).context("manifest")
}

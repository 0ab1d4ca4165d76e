//! What holds for every format that is there without configuration: it says where it is from, marks what is damaged, and leaves
//! nothing behind when it doesn't come to an end.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peers::gateway::{recording_folder, run_in};
use peers::picture::Picture;
use peers::process::run;
use serde_json::Value;

use crate::export::video_frame;
use crate::export_options::{Recorded, Video, names, said};

/// Each format, and the file that has the session's facts.
const FORMATS: [(&str, &str); 6] = [
    ("mp4", ""),
    ("webm", ""),
    ("gif", ""),
    ("png", ""),
    ("frames", "index.json"),
    ("json", ""),
];
const PATIENCE: Duration = Duration::from_secs(60);
/// The red of the sign over a gap.
const SIGN: [u8; 3] = [0xa4, 0, 0];

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

fn json(output: &Output) -> anyhow::Result<Value> {
    anyhow::ensure!(output.status.success(), "{}", said(output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn every_format_says_where_it_is_from() -> anyhow::Result<()> {
    let recorded = Recorded::new(8)?;
    let id = recorded.id.as_str();
    let listed = json(&run_in(
        &recorded.path("demo"),
        &["recordings", "ls", "--format", "json"],
    )?)?;
    let digest = listed[0]["manifest_sha256"].as_str().context("digest")?;
    for (format, facts) in FORMATS {
        let out = format!("out.{format}");
        let output = recorded.export(&[id, "--format", format, "-o", &out])?;
        assert_eq!(output.status.code(), Some(0), "{format}: {}", said(&output));
        let file = recorded.path(&out).join(facts);
        let bytes = fs::read(if facts.is_empty() { recorded.path(&out) } else { file })?;
        for fact in [id, digest, "demo"] {
            assert!(contains(&bytes, fact), "{format} does not say {fact}");
        }
    }
    for format in ["mp4", "webm", "gif"] {
        let video = Video::of(&recorded.path(&format!("out.{format}")))?;
        let seconds = video.seconds()?;
        assert!((seconds - recorded.seconds).abs() < 0.11, "{format} lasts {seconds} s");
        let begin = video.chapters().first().cloned();
        let want = (format != "gif").then(|| (0.0, "demo on demo".to_owned()));
        assert_eq!(begin, want, "{format}");
        // A GIF has ten pictures a second: each shows what changed within a tenth of a second from its begin on. A video's times
        // are rounded to what its format counts in.
        let moments = if format == "gif" { 0..=22 } else { 8..=12 };
        let shown = video.frame(5.1)?;
        let mut best = 0.0_f64;
        for hundredth in moments {
            let want = recorded.frame(5.0 + 0.01 * f64::from(hundredth), &[])?;
            best = best.max(shown.psnr(&want));
        }
        assert!(best >= 30.0, "{format}: {best:.1} dB");
    }
    for entry in names(&recorded.path("out.frames"))? {
        let bytes = fs::read(recorded.path("out.frames").join(&entry))?;
        assert!(contains(&bytes, digest), "{entry} does not say the digest");
    }
    one_picture(&recorded)?;

    // Several at once, named by their ids.
    for (format, name) in [("gif", format!("{id}.gif")), ("frames", id.to_owned())] {
        let copy = recording_folder(&recorded.path("demo/recordings"), id);
        let copy = copy.display().to_string();
        let into = format!("many.{format}");
        let output = recorded.export(&[&copy, "0000beef", "--format", format, "-o", &into, "--to", "1s"])?;
        assert!(said(&output).contains("1 of 2"), "{}", said(&output));
        assert_eq!(names(&recorded.path(&into))?, [name]);
    }

    let exports = || -> anyhow::Result<usize> {
        let told = json(&run_in(&recorded.path("demo"), &["audit", "ls", "--format", "json"])?)?;
        let rows = told.as_array().context("audit ls is no list")?;
        let of = |row: &&Value| row["event"] == "session.recording.export";
        Ok(rows.iter().filter(of).count())
    };
    let before = exports()?;
    anyhow::ensure!(before > 0, "the exports above are not in the audit log");
    let wrong = recorded.export(&[id, "--format", "avi"])?;
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    assert_eq!(exports()?, before, "nothing was opened");
    let offered = "--format avi: the configured exporters make frames, gif, json, mp4, png, webm";
    assert!(said(&wrong).contains(offered), "{}", said(&wrong));
    for output in ["no/such/session.gif", &format!("many.gif/{id}.gif")] {
        let wrong = recorded.export(&[id, "--format", "gif", "-o", output])?;
        assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
        assert_eq!(exports()?, before, "nothing was opened for {output}");
    }
    let told = run_in(&recorded.path("demo"), &["recordings", "events", id])?;
    let told = String::from_utf8(told.stdout)?;
    let begins = |line: &str| line.starts_with("00:00:00.000  The session of demo on demo begins");
    assert!(told.lines().next().is_some_and(begins), "{told}");
    assert!(told.contains("  The session ends: "), "{told}");
    Ok(())
}

/// `png` is the screen at `--from`.
fn one_picture(recorded: &Recorded) -> anyhow::Result<()> {
    let id = recorded.id.as_str();
    let png = |more: &[&str]| recorded.export(&[&[id, "--format", "png", "-o", "at.png", "--force"], more].concat());
    for at in [3.5, 5.1] {
        let output = png(&["--from", &format!("{at}s"), "--lossless"])?;
        assert!(output.status.success(), "{}", said(&output));
        let (got, want) = (Picture::read_png(&recorded.path("at.png"))?, recorded.frame(at, &[])?);
        assert_eq!(got.differing(&want, 0), 0, "at {at} s");
    }
    let output = png(&["--from", "4s", "--overlay", "user,clock", "--width", "512"])?;
    assert!(output.status.success(), "{}", said(&output));
    let small = Picture::read_png(&recorded.path("at.png"))?;
    assert_eq!(small.width, 512);
    assert!(
        small.count([0xf2, 0xf2, 0xee], 40) > 50,
        "nothing is written on the bar"
    );
    for wrong in [["--to", "5s"], ["--from", "1h"]] {
        let output = png(&wrong)?;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
    Ok(())
}

#[test]
fn damage_is_marked_in_every_format() -> anyhow::Result<()> {
    let recorded = Recorded::new(23)?;
    let folder = recording_folder(&recorded.path("demo/recordings"), &recorded.id);
    let copy = recorded.path("copy");
    fs::create_dir(&copy)?;
    for name in names(&folder)? {
        fs::copy(folder.join(&name), copy.join(&name))?;
    }
    let broken = copy.join("00000001.mcap");
    let mut bytes = fs::read(&broken)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&broken, bytes)?;
    for (format, _) in FORMATS.iter().filter(|(format, _)| *format != "png") {
        let output = recorded.export(&["copy", "--format", format, "-o", &format!("out.{format}")])?;
        assert_eq!(output.status.code(), Some(3), "{format}: {}", said(&output));
        assert!(said(&output).contains("00000001.mcap"), "{format}: {}", said(&output));
    }
    let chapters = Video::of(&recorded.path("out.webm"))?.chapters();
    let (begin, title) = chapters.get(1).context("a chapter at the damage")?;
    assert!(title.contains("damaged"), "{title}");
    for format in ["webm", "gif"] {
        let video = recorded.path(&format!("out.{format}")).display().to_string();
        let dark = video_frame(&video, begin + 1.0, recorded.dir.path())?;
        assert!(dark.count(SIGN, 24) > 5_000, "{format}: no red sign");
    }

    let index: Value = serde_json::from_slice(&fs::read(recorded.path("out.frames/index.json"))?)?;
    let markers = index["markers"].as_array().context("markers")?;
    let gap = markers.iter().find(|marker| marker["kind"] == "gap").context("a gap")?;
    assert!(gap["reason"].to_string().contains("00000001.mcap"), "{gap}");
    let frames = index["frames"].as_array().context("frames")?;
    let first = frames
        .iter()
        .find(|frame| frame["time_ns"].as_u64() >= gap["time_ns"].as_u64())
        .and_then(|frame| frame["file"].as_str())
        .context("a picture of the gap")?;
    let dark = Picture::read_png(&recorded.path("out.frames").join(first))?;
    assert!(dark.count(SIGN, 24) > 5_000, "{first}: no red sign");

    let at = |seconds: f64| {
        let from = format!("{seconds:.3}s");
        recorded.export(&["copy", "--format", "png", "--force", "-o", "at.png", "--from", &from])
    };
    assert_eq!(at(begin - 1.0)?.status.code(), Some(0));
    let output = at(begin + 1.0)?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(Picture::read_png(&recorded.path("at.png"))?.count(SIGN, 24) > 5_000);

    let log = fs::read_to_string(recorded.path("out.json"))?;
    let told = log.lines().find(|line| line.contains("damaged")).context("a line")?;
    let line: Value = serde_json::from_str(told)?;
    assert_eq!(
        (&line[1], &line[2]["reason"]),
        (&"gap".into(), &"damaged".into()),
        "{line}"
    );
    let told = run_in(
        &recorded.path("demo"),
        &["recordings", "events", &copy.display().to_string()],
    )?;
    assert_eq!(told.status.code(), Some(3), "{}", said(&told));
    let text = String::from_utf8(told.stdout)?;
    assert!(text.contains("  Damaged, events from 00:"), "{text}");
    assert!(text.contains("  The session ends: "), "{text}");
    Ok(())
}

#[test]
fn no_format_leaves_a_half_file() -> anyhow::Result<()> {
    let recorded = Recorded::new(12)?;
    let here = recorded.path("here");
    fs::create_dir(&here)?;
    // The others are done before a signal can come.
    for format in ["mp4", "webm", "gif"] {
        let cancelled = (0..10).find_map(|_| cancelled(&recorded, &here, format).transpose());
        let output = cancelled.with_context(|| format!("{format} was always quicker"))??;
        assert_eq!(output.status.code(), Some(1), "{format}: {}", said(&output));
        assert!(said(&output).contains("cancelled"), "{format}: {}", said(&output));
        assert_eq!(names(&here)?, [""; 0], "{format}");
    }
    if !rustix::process::geteuid().is_root() {
        peers::skip("SKIPPED the full disk: only root mounts one");
        return Ok(());
    }
    let full = recorded.path("full");
    fs::create_dir(&full)?;
    let mount = full.display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "size=4k", "none", &mount])?;
    fs::write(full.join("filler"), [0; 4096])?;
    let outputs: Vec<_> = FORMATS
        .iter()
        .map(|(format, _)| {
            let output = recorded.export(&[&recorded.id, "--format", format, "-o", "full/out"]);
            (*format, output, names(&full))
        })
        .collect();
    run("umount", &[&mount])?;
    for (format, output, left) in outputs {
        let output = output?;
        assert_eq!(output.status.code(), Some(1), "{format}: {}", said(&output));
        assert!(said(&output).contains("No space left"), "{format}: {}", said(&output));
        assert_eq!(left?, ["filler"], "{format}");
    }
    Ok(())
}

/// Begins an export and interrupts it; `None` when it was done before.
fn cancelled(recorded: &Recorded, here: &Path, format: &str) -> anyhow::Result<Option<Output>> {
    let mut export = recorded.command(&[
        &recorded.id,
        "--format",
        format,
        "-o",
        "here/out",
        "--force",
        "--jobs",
        "1",
    ]);
    let child = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Looked at often: it is under way for part of a second only.
    let begun = Instant::now();
    while names(here)?.is_empty() {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the export has not begun");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id())?).context("pid")?;
    // A process that has ended stays until it is waited for.
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        fs::remove_file(here.join("out"))?;
        return Ok(None);
    }
    Ok(Some(output))
}

//! The pages in the browser, and the decoder in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use peers::gateway::{deskreel, run_in};
use peers::picture::Picture;
use peers::process::{run, which};
use serde_json::Value;

/// Moments at which pictures are compared.
const MOMENTS: usize = 50;

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("web").join(name);
    path.display().to_string()
}

/// Whether a program is there; its absence is a failure where tests must run.
fn has(program: &str, package: &str, test: &str) -> bool {
    if which(program).is_some() {
        return true;
    }
    let why = format!("SKIPPED {test}: this machine lacks {program} (package {package})");
    let required = std::env::var_os("TESTS_REQUIRE_PEERS").is_some_and(|value| !value.is_empty());
    assert!(!required, "{why}");
    eprintln!("{why}");
    false
}

/// A recording of the demo's desktop: the demo's folder, the recording's folder and its id.
struct Demo {
    home: PathBuf,
    id: String,
}

impl Demo {
    fn record(dir: &Path, seconds: u32) -> anyhow::Result<Self> {
        let home = dir.join("demo");
        let demo = Command::new(deskreel())
            .args(["demo", "--seconds", &seconds.to_string(), "--data-dir"])
            .arg(&home)
            .current_dir(dir)
            .output()?;
        let said = String::from_utf8_lossy(&demo.stderr);
        anyhow::ensure!(demo.status.code() == Some(0), "deskreel demo: {said}");
        let listed = run_in(&home, &["recordings", "ls", "--format", "json"])?;
        let rows: Value = serde_json::from_slice(&listed.stdout)?;
        let id = rows[0]["id"].as_str().context("no recording")?.to_owned();
        Ok(Self { home, id })
    }

    fn folder(&self) -> PathBuf {
        self.home.join("recordings").join(&self.id)
    }

    /// `recordings frame` at a moment, without the pointer.
    fn frame(&self, milliseconds: u64) -> anyhow::Result<Picture> {
        let file = self.home.join("frame.png");
        let (path, at) = (
            file.display().to_string(),
            format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000),
        );
        let folder = self.folder().display().to_string();
        let arguments = [
            "recordings",
            "frame",
            &folder,
            "--at",
            &at,
            "--no-pointer",
            "--force",
            "-o",
            &path,
        ];
        let output = run_in(&self.home, &arguments)?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Picture::read_png(&file)
    }
}

/// Moments of a recording in no order, the same at each run.
fn moments(from_ms: u64, to_ms: u64) -> Vec<u64> {
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        from_ms + (state >> 33) % (to_ms - from_ms)
    };
    (0..MOMENTS).map(|_| next()).collect()
}

#[test]
fn the_browsers_decoder_knows_the_format() -> anyhow::Result<()> {
    if !has("node", "nodejs", "the_browsers_decoder_knows_the_format") {
        return Ok(());
    }
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/recording/tests/vectors");
    run("node", &[script("vectors.mjs"), vectors.display().to_string()])?;
    Ok(())
}

#[test]
fn the_browsers_pictures_are_exact() -> anyhow::Result<()> {
    if !has("node", "nodejs", "the_browsers_pictures_are_exact") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 15)?;
    let moments = moments(1500, 14_500);
    let mut arguments = vec![script("frames.mjs"), demo.folder().display().to_string()];
    arguments.push(dir.path().display().to_string());
    arguments.extend(moments.iter().map(|moment| (moment * 1_000_000).to_string()));
    let lines = String::from_utf8(run("node", &arguments)?)?;
    let pictures: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(pictures.len(), moments.len());
    for (n, (moment, picture)) in moments.iter().zip(&pictures).enumerate() {
        let want = demo.frame(*moment)?;
        let size = (want.width, want.height);
        assert_eq!(
            (&picture["width"], &picture["height"]),
            (&size.0.into(), &size.1.into()),
            "at {moment} ms"
        );
        let got = std::fs::read(dir.path().join(format!("{n}.rgb")))?;
        assert!(got == want.rgb, "at {moment} ms the browser shows another picture");
    }
    Ok(())
}

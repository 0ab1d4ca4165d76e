//! The pages in the browser, and the decoder in them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use peers::gateway::{Gateway, deskreel, run_in};
use peers::picture::Picture;
use peers::process::{Process, free_port, run, wait_for, which};
use serde_json::{Value, json};

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
    let demo = Demo::record(dir.path(), 12)?;
    let moments = moments(1500, 11_500);
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
        let got = fs::read(dir.path().join(format!("{n}.rgb")))?;
        assert!(got == want.rgb, "at {moment} ms the browser shows another picture");
    }
    Ok(())
}

/// Where playwright-core and axe-core are; installed once a target folder.
fn modules() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("a target folder")?;
    let folder = target.join("web-tests");
    fs::create_dir_all(&folder)?;
    let wanted = fs::read_to_string(script("package.json"))?;
    let package = folder.join("package.json");
    let is_there = fs::read_to_string(&package).is_ok_and(|there| there == wanted)
        && folder.join("node_modules/playwright-core/package.json").exists();
    if !is_there {
        fs::write(&package, wanted)?;
        let prefix = folder.display().to_string();
        run(
            "npm",
            &[
                "install",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
                "--prefix",
                &prefix,
            ],
        )?;
    }
    Ok(folder)
}

/// Whether the browser tests can run here.
fn has_browser(test: &str) -> bool {
    has("node", "nodejs", test) && has("npm", "npm", test) && has("chromium", "chromium", test)
}

/// One of the steps of browser.mjs.
fn browse(step: &str, mut settings: Value) -> anyhow::Result<Value> {
    settings["modules"] = modules()?.display().to_string().into();
    let output = Command::new("node")
        .args([&script("browser.mjs"), step])
        .env("WEB_TEST", settings.to_string())
        .output()?;
    if !output.status.success() {
        bail!("{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

const PASSWORD: &str = "A-viewer-of-1";

/// A user who may sign in.
fn add_user(home: &Path, name: &str, roles: &str) -> anyhow::Result<()> {
    let mut child = Command::new(deskreel())
        .args(["users", "add", name, "--roles", roles, "--logins", name, "--config"])
        .arg(home.join("deskreel.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    writeln!(child.stdin.take().context("stdin")?, "{PASSWORD}")?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut child = Command::new(deskreel())
        .args(["users", "passwd", name, "--config"])
        .arg(home.join("deskreel.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    writeln!(child.stdin.take().context("stdin")?, "{PASSWORD}")?;
    anyhow::ensure!(child.wait()?.success(), "users passwd");
    Ok(())
}

/// Compares what the browser showed with `recordings frame`, pointer included.
fn compare(demo: &Demo, pictures: &Value) -> anyhow::Result<()> {
    let pictures = pictures.as_array().context("no pictures")?;
    assert!(!pictures.is_empty());
    let file = demo.home.join("want.png");
    let (folder, want) = (demo.folder().display().to_string(), file.display().to_string());
    for picture in pictures {
        let nanoseconds: f64 = picture["time"].as_str().context("time")?.parse()?;
        let time = format!("{:.9}s", nanoseconds / 1e9);
        let frame = ["recordings", "frame", &folder, "--at", &time, "--force", "-o", &want];
        let output = run_in(&demo.home, &frame)?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let got = Picture::read_png(Path::new(picture["file"].as_str().context("file")?))?;
        let want = Picture::read_png(&file)?;
        assert_eq!((got.width, got.height), (want.width, want.height), "at {time}");
        assert!(got.rgb == want.rgb, "at {time} the browser shows another picture");
    }
    Ok(())
}

#[test]
fn the_pages_show_recordings_to_those_who_may() -> anyhow::Result<()> {
    if !has_browser("the_pages_show_recordings_to_those_who_may") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 12)?;
    let port = free_port()?;
    let config = demo.home.join("deskreel.yaml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, format!("{text}web: {{listen: '127.0.0.1:{port}'}}\n"))?;
    let gateway = Gateway::restart(&demo.home, crate::docs::listening_port(&demo.home)?)?;
    add_user(&demo.home, "ann", "auditor")?;
    add_user(&demo.home, "bob", "access")?;
    let settings = json!({
        "base": format!("http://127.0.0.1:{port}"),
        "id": demo.id,
        "user": "ann",
        "password": PASSWORD,
        "other": {"user": "bob", "password": PASSWORD},
        "output": dir.path(),
        "seeks": 15,
    });
    let found = browse("pages", settings.clone())?;
    compare(&demo, &found["pictures"])?;
    browse("access", settings)?;

    let told = gateway.run(&["audit", "ls", "--format", "json"])?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for (event, user) in [("session.recording.access", "ann"), ("session.recording.access", "bob")] {
        let rows: Vec<Value> = serde_json::from_str(&told)?;
        let of = |row: &&Value| row["event"] == event && row["user"] == user && row["sid"] == demo.id;
        let rows: Vec<_> = rows.iter().filter(of).collect();
        assert!(!rows.is_empty(), "no {event} of {user} in {told}");
        assert!(rows.iter().all(|row| row["success"] == (user == "ann")), "{rows:?}");
    }
    Ok(())
}

#[test]
fn a_folder_plays_without_a_gateway() -> anyhow::Result<()> {
    if !has_browser("a_folder_plays_without_a_gateway") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 5)?;
    let key = demo.home.join("data/keys/node.pub.pem");
    let mut player = Command::new(deskreel())
        .args(["recordings", "play", "--no-browser"])
        .arg(demo.folder())
        .arg("--public-key")
        .arg(&key)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut url = String::new();
    BufReader::new(player.stdout.take().context("stdout")?).read_line(&mut url)?;
    let url = url.trim().to_owned();
    let base = url.split("/open/").next().unwrap_or_default().to_owned();
    let settings = json!({"base": base, "url": url, "id": demo.id, "output": dir.path(), "seeks": 3});
    let found = browse("alone", settings);
    player.kill()?;
    player.wait()?;
    compare(&demo, &found?["pictures"])
}

#[test]
fn a_running_session_is_followed_and_ended() -> anyhow::Result<()> {
    if !has_browser("a_running_session_is_followed_and_ended") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("demo");
    let port = free_port()?;
    let mut demo = Command::new(deskreel());
    demo.args([
        "demo",
        "--seconds",
        "600",
        "--web",
        &format!("127.0.0.1:{port}"),
        "--data-dir",
    ])
    .arg(&home);
    let mut demo = Process::start("demo", dir.path(), &demo)?;
    demo.wait_listening(port, Duration::from_secs(30))?;
    let all = "kind: role\nversion: v7\nmetadata: {name: all}\nspec: {allow: {rules: [{resources: [session], verbs: ['*']}]}}\n";
    let role = dir.path().join("role.yaml");
    fs::write(&role, all)?;
    let created = run_in(&home, &["create", &role.display().to_string()])?;
    anyhow::ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    add_user(&home, "eve", "all")?;
    // The first segment of a synchronous storage is sealed after ten seconds.
    wait_for(Duration::from_secs(60), "a sealed segment", || {
        let rows: Value = serde_json::from_slice(&run_in(&home, &["recordings", "ls", "--format", "json"])?.stdout)?;
        Ok(rows[0]["segments"].as_u64().unwrap_or(0) > 0)
    })?;
    let base = format!("http://127.0.0.1:{port}");
    let found = browse("live", json!({"base": base, "user": "eve", "password": PASSWORD}))?;
    let id = found["id"].as_str().unwrap_or_default().to_owned();
    // The demo did not want its session to be ended.
    assert_eq!(demo.wait(Duration::from_secs(60))?, Some(1));
    let shown = run_in(&home, &["recordings", "events", &id])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("a test of ending"), "{shown}");
    Ok(())
}

//! The pages in the browser, and the decoder in them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use peers::gateway::{Gateway, deskreel, recording_folder, run_in};
use peers::node::{browse, script};
use peers::pages::{Browser, PASSWORD, add_user, set_password};
use peers::picture::Picture;
use peers::process::{Process, free_port, run, wait_for, which};
use serde_json::{Value, json};

/// Moments at which pictures are compared.
const MOMENTS: usize = 50;

/// Whether a program is there; its absence is a failure where tests must run.
fn has(program: &str, package: &str, test: &str) -> bool {
    if which(program).is_some() {
        return true;
    }
    peers::skip(&format!(
        "SKIPPED {test}: this machine lacks {program} (package {package})"
    ));
    false
}

/// A recording of the demo's desktop: the demo's folder, the recording's folder and its id.
pub(crate) struct Demo {
    pub(crate) home: PathBuf,
    pub(crate) id: String,
}

impl Demo {
    pub(crate) fn record(dir: &Path, seconds: u32) -> anyhow::Result<Self> {
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
        recording_folder(&self.home.join("recordings"), &self.id)
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
    let moments = moments(3000, 11_500);
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

/// Whether the browser tests can run here.
pub(crate) fn has_browser(test: &str) -> bool {
    has("node", "nodejs", test) && has("npm", "npm", test) && has("chromium", "chromium", test)
}

/// Turns the pages on; gives their port. Runs until the gateway is dropped.
pub(crate) fn serve(home: &Path, more: &str) -> anyhow::Result<(Gateway, u16)> {
    let port = free_port()?;
    let config = home.join("deskreel.yaml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, format!("{text}web: {{listen: '127.0.0.1:{port}'{more}}}\n"))?;
    let mut gateway = Gateway::restart(home, crate::docs::listening_port(home)?)?;
    gateway.process.wait_listening(port, Duration::from_secs(60))?;
    Ok((gateway, port))
}

/// A role that allows these verbs on all recordings, and somebody who has it.
pub(crate) fn add_viewer(home: &Path, name: &str, verbs: &str) -> anyhow::Result<()> {
    let role = format!(
        "kind: role\nversion: v7\nmetadata: {{name: {name}}}\n\
         spec: {{allow: {{rules: [{{resources: [session], verbs: [{verbs}]}}]}}}}\n"
    );
    let file = home.join(format!("{name}.yaml"));
    fs::write(&file, role)?;
    let created = run_in(home, &["create", &file.display().to_string()])?;
    anyhow::ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    add_user(home, name, name)
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

/// Recordings in a list of several pages.
const ROWS: usize = 121;

/// Puts more recordings into a catalog, each like the only one that it has and a minute older than the one before.
const FILL: &str = r#"
import sqlite3, sys, uuid
path, count = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path, timeout=30)
columns = [column[1] for column in db.execute('PRAGMA table_info(sessions)')]
row = dict(zip(columns, db.execute('SELECT * FROM sessions').fetchone()))
for number in range(1, count + 1):
    ms = row['started_ms'] - number * 60_000
    key = str(uuid.UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | number))
    more = dict(row, id=key, started_ms=ms, user='person%03d' % number, n=(row['n'] or 0) + number, bytes=0)
    places = ', '.join('?' * len(columns))
    db.execute(f'INSERT INTO sessions ({", ".join(columns)}) VALUES ({places})', [more[column] for column in columns])
db.commit()
"#;

fn add_rows(home: &Path, count: usize) -> anyhow::Result<()> {
    let script = home.join("fill.py");
    fs::write(&script, FILL)?;
    let arguments = [&script, &home.join("data/catalog.sqlite")].map(|path| path.display().to_string());
    run("python3", &[&arguments[0], &arguments[1], &count.to_string()])?;
    Ok(())
}

#[test]
fn the_pages_show_recordings_to_those_who_may() -> anyhow::Result<()> {
    if !has_browser("the_pages_show_recordings_to_those_who_may") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 12)?;
    let (gateway, port) = serve(&demo.home, "")?;
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
    browse("access", settings.clone())?;
    add_rows(&demo.home, ROWS - 1)?;
    let mut several = settings;
    several["rows"] = ROWS.into();
    browse("paging", several)?;

    let told = gateway.run(&["audit", "ls", "--format", "json"])?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let rows: Vec<Value> = serde_json::from_str(&told)?;
    let logins = rows.iter().filter(|row| row["event"] == "user.login");
    for login in logins.clone() {
        assert_eq!(
            (&login["via"], &login["addr.remote"]),
            (&"web".into(), &"127.0.0.1".into()),
            "{login}"
        );
    }
    let of = |user: &str, code: &str| logins.clone().any(|row| row["user"] == user && row["code"] == code);
    assert!(
        of("ann", "T1000I") && of("bob", "T1000I") && of("bob", "T1000W"),
        "{told}"
    );
    for (event, user) in [("session.recording.access", "ann"), ("session.recording.access", "bob")] {
        let rows: Vec<Value> = serde_json::from_str(&told)?;
        let of = |row: &&Value| row["event"] == event && row["user"] == user && row["sid"] == demo.id;
        let rows: Vec<_> = rows.iter().filter(of).collect();
        assert!(!rows.is_empty(), "no {event} of {user} in {told}");
        assert!(rows.iter().all(|row| row["success"] == (user == "ann")), "{rows:?}");
    }
    Ok(())
}

/// Plays with these arguments, far from any configuration, and compares what the browser shows.
fn plays(demo: &Demo, elsewhere: &Path, arguments: &[&str], badge: &str) -> anyhow::Result<()> {
    let mut player = Command::new(deskreel())
        .args(["recordings", "play", "--no-browser"])
        .args(arguments)
        .current_dir(elsewhere)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut url = String::new();
    BufReader::new(player.stdout.take().context("stdout")?).read_line(&mut url)?;
    let url = url.trim().to_owned();
    let base = url.split("/open/").next().unwrap_or_default().to_owned();
    let settings = json!({"base": base, "url": url, "id": demo.id, "output": elsewhere, "seeks": 3, "badge": badge});
    let found = browse("alone", settings);
    player.kill()?;
    player.wait()?;
    compare(demo, &found.with_context(|| format!("{arguments:?}"))?["pictures"])
}

#[test]
fn a_recording_plays_without_a_gateway() -> anyhow::Result<()> {
    if !has_browser("a_recording_plays_without_a_gateway") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 5)?;
    let key = demo.home.join("data/keys/node.pub.pem").display().to_string();
    let copy = dir.path().join("copy").display().to_string();
    let taken = run_in(&demo.home, &["recordings", "download", &demo.id, "-o", &copy])?;
    anyhow::ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let config = demo.home.join("deskreel.yaml").display().to_string();
    let file = format!("{copy}/00000000.mcap");
    for (arguments, badge) in [
        (vec![copy.as_str(), "--public-key", &key], "Verified"),
        (vec![&copy], "Not verified"),
        (vec![&file, "--public-key", &key], "Not verified"),
        (vec![&demo.id, "--config", &config], "Verified"),
    ] {
        plays(&demo, dir.path(), &arguments, badge)?;
    }
    Ok(())
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
    demo.wait_listening(port, Duration::from_secs(60))?;
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
    loses_the_right_to_watch(&home, port)?;
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

/// Who may not watch any more sees what is sealed, and not that the session goes on.
fn loses_the_right_to_watch(home: &Path, port: u16) -> anyhow::Result<()> {
    add_viewer(home, "watcher", "list, read, watch")?;
    let mut watcher = Browser::sign_in(port, "watcher")?;
    let id = watcher.get("/api/recordings")?.json()["live"][0]["id"].clone();
    let base = format!("/api/recordings/{}", id.as_str().context("a live session")?);
    assert_eq!(watcher.post(&format!("{base}/play"), &json!({}))?.json()["live"], true);
    assert_eq!(watcher.get(&format!("{base}/index"))?.json()["live"], true);
    let file = home.join("watcher.yaml");
    let role = fs::read_to_string(&file)?.replace(", watch", "");
    fs::write(&file, role)?;
    let changed = run_in(home, &["create", "--force", &file.display().to_string()])?;
    anyhow::ensure!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    wait_for(Duration::from_secs(30), "the right to be gone", || {
        let index = watcher.get(&format!("{base}/index"))?;
        anyhow::ensure!(index.status == 200, "{index:?}");
        Ok(index.json()["live"] == false)
    })
}

/// The ids that a question about the list finds.
fn found(browser: &mut Browser, question: &str) -> anyhow::Result<Vec<String>> {
    let answer = browser.get(&format!("/api/recordings?{question}"))?;
    anyhow::ensure!(answer.status == 200, "{question}: {answer:?}");
    let rows = answer.json()["recordings"].as_array().cloned().context("a list")?;
    Ok(rows
        .iter()
        .filter_map(|row| Some(row["id"].as_str()?.to_owned()))
        .collect())
}

#[test]
fn what_happened_is_found_by_those_who_may_read_it() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 4)?;
    let (gateway, port) = serve(&demo.home, "")?;
    add_viewer(&demo.home, "reader", "list, read")?;
    add_viewer(&demo.home, "lister", "list")?;
    let mut reader = Browser::sign_in(port, "reader")?;
    // The text of an event, and no fact of the session.
    wait_for(Duration::from_secs(60), "the events to be read", || {
        Ok(!found(&mut reader, "q=RESIZ")?.is_empty())
    })?;
    assert_eq!(found(&mut reader, "q=resized%20width")?, Vec::<String>::new());
    let row = reader.get("/api/recordings?q=resized")?.json()["recordings"][0].clone();
    assert_eq!((&row["id"], &row["said"]), (&demo.id.clone().into(), &true.into()));
    assert_eq!(
        reader.get("/api/recordings?q=demo")?.json()["recordings"][0]["said"],
        false
    );
    let mut lister = Browser::sign_in(port, "lister")?;
    assert_eq!(found(&mut lister, "q=demo")?, [demo.id.as_str()]);
    assert_eq!(
        found(&mut lister, "q=resized")?,
        Vec::<String>::new(),
        "what it may not read"
    );
    // Its facts are for who lists it; what its screen showed is not.
    let poster = format!("/api/recordings/{}/poster.png", demo.id);
    assert_eq!((reader.get(&poster)?.status, lister.get(&poster)?.status), (200, 404));
    for (question, expected) in [
        ("sort=size", 1),
        ("login=DEM", 1),
        ("login=root", 0),
        ("gaps=1", 0),
        ("min_ms=60000", 0),
        ("max_ms=60000&state=complete", 1),
        ("label=none", 0),
        ("from=2020-01-01T00:00:00Z", 1),
        ("to=2020-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(found(&mut lister, question)?.len(), expected, "{question}");
    }
    let removed = gateway.run(&["recordings", "rm", &demo.id, "--yes"])?;
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(found(&mut reader, "q=resized")?, Vec::<String>::new(), "it is gone");
    Ok(())
}

#[test]
fn a_copy_that_is_whole_is_shown_for_one_that_is_not() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 4)?;
    let config = demo.home.join("deskreel.yaml");
    let text = fs::read_to_string(&config)?;
    let worn = "storages:\n  - {name: worn, plugin: local, settings: {path: ./worn}}";
    fs::write(&config, text.replace("storages:", worn))?;
    let copy = demo.home.join("worn").join(&demo.id);
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(demo.folder())? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let name = "00000000.mcap";
    let whole = fs::read(demo.folder().join(name))?;
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(copy.join(name), bytes)?;
    let (gateway, port) = serve(&demo.home, "")?;
    add_user(&demo.home, "ann", "auditor")?;
    let mut browser = Browser::sign_in(port, "ann")?;
    let base = format!("/api/recordings/{}", demo.id);
    assert_eq!(browser.post(&format!("{base}/play"), &json!({}))?.status, 200);
    let segment = browser.get(&format!("{base}/segments/0"))?;
    assert_eq!(segment.status, 200);
    assert!(segment.body == whole, "the damaged copy was shown");
    let report = browser.get(&format!("{base}/verify"))?.json();
    assert_eq!(report["outcome"], "whole", "{report}");
    assert!(
        gateway.process.log().contains("asking elsewhere"),
        "the damaged copy was not asked"
    );
    Ok(())
}

#[test]
fn sign_ins_outlive_a_restart_until_they_are_ended() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 2)?;
    let (gateway, port) = serve(&demo.home, "")?;
    for user in ["ann", "bob", "eve"] {
        add_user(&demo.home, user, "auditor")?;
    }
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| Browser::sign_in(port, user));
    let (ann, bob, eve) = (ann?, bob?, eve?);
    let out = Browser::sign_in(port, "ann")?;
    assert_eq!(out.again()?.post("/api/sign-out", &json!({}))?.status, 200);
    let rdp = gateway.port;
    drop(gateway);
    let mut gateway = Gateway::restart(&demo.home, rdp)?;
    gateway.process.wait_listening(port, Duration::from_secs(60))?;
    let status = |browser: &Browser| anyhow::Ok(browser.again()?.get("/api/me")?.status);
    assert_eq!((status(&ann)?, status(&bob)?, status(&eve)?), (200, 200, 200));
    assert_eq!(status(&out)?, 401, "signed out before");
    // The token of changes holds, too.
    assert_eq!(ann.again()?.post("/api/sign-out", &json!({}))?.status, 200);
    assert_eq!(status(&ann)?, 401);
    let locked = gateway.run(&["lock", "--user", "bob", "--message", "a test"])?;
    assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
    wait_for(Duration::from_secs(30), "the lock to end the sign-in", || {
        Ok(status(&bob)? == 401)
    })?;
    set_password(&demo.home, "eve")?;
    wait_for(Duration::from_secs(30), "the new password to end the sign-in", || {
        Ok(status(&eve)? == 401)
    })?;
    Ok(())
}

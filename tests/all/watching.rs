//! A real session in the browser: what the player shows is what the RDP client saw.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::node::browse;
use peers::pages::{Browser, PASSWORD, add_user};
use peers::picture::Picture;
use peers::process::{free_port, run, wait_for};
use serde_json::{Value, json};

use crate::rights::role;
use crate::sessions::{Moment, work};
use crate::web::{Demo, add_viewer, has_browser, serve};

/// Random moments that are looked at.
const SEEKS: usize = 50;
/// How long a page may take to show what happens.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than what counts as idle, in seconds.
const REST: Duration = Duration::from_secs(12);

#[test]
fn the_browser_shows_what_the_rdp_client_saw() -> anyhow::Result<()> {
    let test = "the_browser_shows_what_the_rdp_client_saw";
    let Some(_peers) = Peers::take(test) else { return Ok(()) };
    if !has_browser(test) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let port = free_port()?;
    let settings = Settings {
        more: format!("web: {{listen: '127.0.0.1:{port}'}}\n"),
        ..Settings::of(xrdp.port, "sync")
    };
    let home = dir.path().join("gateway");
    role(&home, "record_session: {input: all}")?;
    let mut gateway = Gateway::start(&home, &settings)?;
    gateway.process.wait_listening(port, Duration::from_secs(60))?;
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    let mut moments = work(&client)?;
    // Nothing happens for a while, which is no matter of how quick anything is.
    std::thread::sleep(REST);
    client.type_text("clear; seq 7 30")?;
    client.key("Return")?;
    moments.push(Moment::now(&client, "after a rest")?);
    client.process.end();
    let recording = gateway.wait_recording(0, &["complete"])?;
    add_user(&gateway.dir, "ann", "auditor")?;

    let offsets = moments
        .iter()
        .map(|moment| Ok((moment.offset(&recording)? * 1e9).round()));
    let found = browse(
        "session",
        json!({
            "base": format!("http://127.0.0.1:{port}"),
            "id": recording["id"],
            "user": "ann",
            "password": PASSWORD,
            "output": dir.path(),
            "moments": offsets.collect::<anyhow::Result<Vec<f64>>>()?,
            "seeks": SEEKS,
        }),
    )?;
    for (moment, (_, picture)) in moments.iter().zip(pictures(&found["pictures"])?) {
        let differing = moment.screen.differing(&picture, 0);
        assert_eq!(
            differing, 0,
            "{}: pixels that the RDP client saw otherwise",
            moment.what
        );
    }
    let id = recording["id"].as_str().context("id")?;
    let random = pictures(&found["random"])?;
    assert_eq!(random.len(), SEEKS);
    for (seconds, picture) in random {
        let frame = gateway.frame(id, seconds)?;
        assert!(
            picture == frame,
            "at {seconds} s the browser shows another picture than `recordings frame`"
        );
    }
    for speed in ["0.25", "1", "2", "16"] {
        let wanted: f64 = speed.parse()?;
        let pace = found["speeds"][speed].as_f64().context("a pace")?;
        assert!(
            (pace / wanted - 1.0).abs() < 0.02,
            "at {speed}x the recording goes {pace} times as fast"
        );
    }
    Ok(())
}

#[test]
fn the_browser_follows_a_real_session() -> anyhow::Result<()> {
    let test = "the_browser_follows_a_real_session";
    let Some(_peers) = Peers::take(test) else { return Ok(()) };
    if !has_browser(test) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let port = free_port()?;
    let settings = Settings {
        more: format!("web: {{listen: '127.0.0.1:{port}'}}\n"),
        // So that the open segment is in the spool.
        ..Settings::of(xrdp.port, "async")
    };
    let mut gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    gateway.process.wait_listening(port, Duration::from_secs(60))?;
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    let painted = client.display.wait_painted(8);
    painted.map_err(|error| error.context(gateway.process.log()))?;
    // From the first user on, a name that nobody has is refused: the client is in by now.
    add_viewer(&gateway.dir, "eve", "list, read, watch, terminate")?;
    let output = dir.path().join("seen");
    fs::create_dir(&output)?;
    let asked =
        json!({"base": format!("http://127.0.0.1:{port}"), "user": "eve", "password": PASSWORD, "output": output});
    let browser = std::thread::spawn(move || browse("follow", asked));
    let seen = |what: &'static str| -> anyhow::Result<()> {
        let moment = Moment::now(&client, what)?;
        wait_for(PATIENCE, what, || {
            anyhow::ensure!(!browser.is_finished(), "{what}: the browser has ended");
            let shown = fs::read_to_string(output.join("newest")).unwrap_or_default();
            let picture = (!shown.is_empty())
                .then(|| Picture::read_png(Path::new(&shown)))
                .transpose()?;
            Ok(picture.is_some_and(|picture| moment.screen.differing(&picture, 0) == 0))
        })
    };
    seen("what was there before")?;
    client.click(300, 300)?;
    client.type_text("clear; seq 1 25; echo The browser follows")?;
    client.key("Return")?;
    seen("what happens meanwhile")?;
    fs::write(output.join("enough"), "")?;
    let found = browser.join().ok().context("the browser's thread panicked")??;
    // The page has ended the session.
    let recording = gateway.wait_recording(0, &["complete"])?;
    assert_eq!(recording["id"], found["id"]);
    client.process.end();
    Ok(())
}

#[test]
fn the_pages_over_tls_with_a_certificate_that_is_renewed() -> anyhow::Result<()> {
    if !has_browser("the_pages_over_tls_with_a_certificate_that_is_renewed") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 3)?;
    let renew = || -> anyhow::Result<()> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        fs::write(demo.home.join("web.key"), made.signing_key.serialize_pem())?;
        fs::write(demo.home.join("web.crt"), made.cert.pem())?;
        Ok(())
    };
    renew()?;
    let (gateway, port) = serve(&demo.home, ", certificate: ./web.crt, private_key: ./web.key")?;
    add_user(&demo.home, "ann", "auditor")?;
    let settings = json!({
        "base": format!("https://127.0.0.1:{port}"),
        "id": demo.id,
        "user": "ann",
        "password": PASSWORD,
    });
    let first = browse("tls", settings.clone())?;
    renew()?;
    let second = browse("tls", settings.clone())?;
    assert_ne!(
        first["fingerprint"], second["fingerprint"],
        "the new certificate is shown"
    );
    fs::write(demo.home.join("web.crt"), "no certificate")?;
    let third = browse("tls", settings)?;
    assert_eq!(second["fingerprint"], third["fingerprint"], "the one before stays");
    assert!(gateway.process.log().contains("the one before stays"));
    Ok(())
}

#[test]
fn what_is_handed_out_is_whole_and_told() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let demo = Demo::record(dir.path(), 4)?;
    let config = demo.home.join("deskreel.yaml");
    let text = fs::read_to_string(&config)?;
    let by_itself = "{name: mp4, plugin: mp4, mode: async}";
    fs::write(&config, text.replace("{name: mp4, plugin: mp4}", by_itself))?;
    let (gateway, port) = serve(&demo.home, "")?;
    add_viewer(&demo.home, "taker", "list, read, download, export")?;
    add_viewer(&demo.home, "reader", "list, read")?;
    // Who may read may take a copy, unless a role denies that.
    let role = "kind: role\nversion: v7\nmetadata: {name: reader}\nspec: {allow: {rules: [{resources: [session], verbs: [list, read]}]}, \
                deny: {rules: [{resources: [session], verbs: [export, download]}]}}\n";
    let file = demo.home.join("reader.yaml");
    fs::write(&file, role)?;
    let denied = gateway.run(&["create", "--force", &file.display().to_string()])?;
    assert!(denied.status.success(), "{}", String::from_utf8_lossy(&denied.stderr));
    let base = format!("/api/recordings/{}", demo.id);
    let mut taker = Browser::sign_in(port, "taker")?;
    let archive = taker.get(&format!("{base}/download"))?;
    assert_eq!(
        (archive.status, archive.header("content-type")),
        (200, Some("application/x-tar"))
    );
    let file = dir.path().join("taken.tar");
    fs::write(&file, &archive.body)?;
    let (file, to) = (file.display().to_string(), dir.path().display().to_string());
    run("tar", &["-xf", &file, "-C", &to])?;
    let key = demo.home.join("data/keys/node.pub.pem").display().to_string();
    let taken = dir.path().join(&demo.id).display().to_string();
    let verified = gateway.run(&["recordings", "verify", &taken, "--public-key", &key])?;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );

    let asked = gateway.run(&["exports", "add", &demo.id, "--exporter", "mp4"])?;
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let mut files = Value::Null;
    wait_for(Duration::from_secs(120), "the export", || {
        files = taker.post(&format!("{base}/play"), &json!({}))?.json()["exports"].clone();
        Ok(files[0].is_object())
    })?;
    let name = files[0]["name"].as_str().context("a name")?;
    let video = taker.get(&format!("{base}/exports/{name}"))?;
    assert_eq!((video.status, video.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(files[0]["bytes"], video.body.len());
    assert_eq!(&video.body[4..8], b"ftyp");
    assert_eq!(taker.get(&format!("{base}/exports/other.mp4"))?.status, 404);
    assert_eq!(taker.get(&format!("{base}/exports/..%2Fmanifest.json"))?.status, 404);

    let mut reader = Browser::sign_in(port, "reader")?;
    for path in ["download".to_owned(), format!("exports/{name}")] {
        assert_eq!(reader.get(&format!("{base}/{path}"))?.status, 403, "{path}");
    }
    let played = reader.post(&format!("{base}/play"), &json!({}))?.json();
    assert!(
        played["exports"].is_null() && played["may"]["download"] == false,
        "{played}"
    );
    let told = gateway.json(&["audit", "ls"])?;
    let told = told.as_array().context("events")?;
    for (event, user, success) in [
        ("session.recording.download", "taker", true),
        ("session.recording.download", "reader", false),
        ("session.recording.export", "taker", true),
        ("session.recording.export", "reader", false),
    ] {
        let found = told.iter().find(|row| {
            row["event"] == event && row["user"] == user && row["phase"] == "done" && row["success"] == success
        });
        assert!(found.is_some(), "{event} of {user}: {told:?}");
    }
    Ok(())
}

/// Seconds and pictures.
fn pictures(found: &Value) -> anyhow::Result<Vec<(f64, Picture)>> {
    let rows = found.as_array().context("no pictures")?.iter();
    rows.map(|row| {
        let nanoseconds: f64 = row["time"].as_str().context("time")?.parse()?;
        Ok((
            nanoseconds / 1e9,
            Picture::read_png(Path::new(row["file"].as_str().context("file")?))?,
        ))
    })
    .collect()
}

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
use peers::pages::{PASSWORD, add_user};
use peers::picture::Picture;
use peers::process::free_port;
use serde_json::{Value, json};

use crate::sessions::{Moment, work};
use crate::web::{Demo, has_browser, serve};

/// Random moments that are looked at.
const SEEKS: usize = 50;
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
    let mut gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    gateway.process.wait_listening(port, Duration::from_secs(30))?;
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

//! A person works on a desktop through the gateway; what they saw is in the recording, pixel by pixel.

use std::path::Path;
use std::time::{Duration, SystemTime};

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::picture::Picture;
use peers::process::wait_for;
use serde_json::Value;

/// How long a desktop may take for what it is asked to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// One settled screen of the client and when it was seen.
pub(crate) struct Moment {
    pub(crate) at: SystemTime,
    pub(crate) screen: Picture,
    pub(crate) what: &'static str,
}

impl Moment {
    pub(crate) fn now(client: &Client, what: &'static str) -> anyhow::Result<Self> {
        let screen = client.display.wait_settled()?;
        // The settled time has passed on both sides of the gateway; half a second back is well inside it.
        Ok(Self {
            at: SystemTime::now() - Duration::from_millis(500),
            screen,
            what,
        })
    }

    /// One on which something has changed.
    pub(crate) fn after(client: &Client, before: &Picture, what: &'static str) -> anyhow::Result<Self> {
        client.display.wait_changed(before, 100, what)?;
        Self::now(client, what)
    }

    /// Seconds since the session started.
    pub(crate) fn offset(&self, recording: &Value) -> anyhow::Result<f64> {
        let started = parse_rfc3339(recording["started"].as_str().unwrap_or_default())?;
        Ok(self.at.duration_since(started)?.as_secs_f64())
    }
}

/// RFC 3339 in UTC, as the listings print it.
fn parse_rfc3339(text: &str) -> anyhow::Result<SystemTime> {
    let seconds = peers::process::run("date", &["-u", "-d", text, "+%s.%N"])?;
    let seconds: f64 = String::from_utf8(seconds)?.trim().parse()?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

/// Types, opens and closes a window, moves the mouse; gives the settled screens in between.
pub(crate) fn work(client: &Client) -> anyhow::Result<Vec<Moment>> {
    let gold = |screen: &Picture| screen.count([255, 215, 0], 12);
    client.display.wait_painted(8)?;
    let mut moments = vec![Moment::now(client, "the first picture")?];
    client.click(300, 300)?;
    client.type_text("seq 1 60; echo The quick brown fox")?;
    client.key("Return")?;
    moments.push(Moment::after(client, &moments[0].screen, "typed text")?);
    client.type_text("xterm -geometry 50x12+560+420 -bg gold -e sh &")?;
    client.key("Return")?;
    wait_for(PATIENCE, "a second window", || {
        Ok(gold(&client.display.screenshot()?) > 10_000)
    })?;
    moments.push(Moment::now(client, "a second window")?);
    for step in 0..10u16 {
        client.display.xdotool(&[
            "mousemove",
            &(100 + step * 70).to_string(),
            &(100 + step * 50).to_string(),
        ])?;
    }
    client.click(640, 500)?;
    client.key("alt+F4")?;
    wait_for(PATIENCE, "the second window to close", || {
        Ok(gold(&client.display.screenshot()?) == 0)
    })?;
    moments.push(Moment::now(client, "the second window closed")?);
    // What was done must be on the screen, or the comparisons compare the same picture again and again.
    for pair in moments.windows(2) {
        let changed = pair[1].screen.differing(&pair[0].screen, 0);
        anyhow::ensure!(changed > 100, "{}: {changed} pixels changed", pair[1].what);
    }
    anyhow::ensure!(gold(&moments[2].screen) > 10_000, "the second window is there");
    anyhow::ensure!(gold(&moments[3].screen) == 0, "the second window is gone");
    Ok(moments)
}

/// Compares every moment with the recording's frame at that time: at most `tolerance` of 255 a colour channel.
pub(crate) fn compare(gateway: &Gateway, recording: &Value, moments: &[Moment], tolerance: u8) -> anyhow::Result<()> {
    let id = recording["id"].as_str().unwrap_or_default();
    for moment in moments {
        let frame = gateway.frame(id, moment.offset(recording)?)?;
        let differing = moment.screen.differing(&frame, tolerance);
        if differing > 0 {
            let keep = std::env::temp_dir();
            moment.screen.write_png(&keep.join("deskreel-client.png"))?;
            frame.write_png(&keep.join("deskreel-recording.png"))?;
            panic!(
                "{}: {differing} pixels of the recording differ by more than {tolerance}/255 from what the client saw; \
                 see deskreel-client.png and deskreel-recording.png in {}",
                moment.what,
                keep.display()
            );
        }
    }
    Ok(())
}

enum Peer {
    Xrdp,
    Shadow,
}

/// The same where the desktop may send bitmaps alone.
fn works_and_is_recorded(test: &str, peer: &Peer, options: &[&str], sent: &str, tolerance: u8) -> anyhow::Result<()> {
    is_recorded_with("legacy", test, peer, options, sent, tolerance)
}

/// `graphics` is the gateway's setting, `sent` the encoding that the desktop is known to choose for such a client.
fn is_recorded_with(
    graphics: &str,
    test: &str,
    peer: &Peer,
    options: &[&str],
    sent: &str,
    tolerance: u8,
) -> anyhow::Result<()> {
    let peers = match peer {
        Peer::Xrdp => Peers::take(test),
        Peer::Shadow => Peers::without_xrdp(test),
    };
    let Some(_peers) = peers else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    match peer {
        Peer::Xrdp => {
            let xrdp = Xrdp::start(dir.path())?;
            session_is_recorded(dir.path(), xrdp.port, graphics, options, sent, tolerance)
        }
        Peer::Shadow => {
            let shadow = Shadow::start(dir.path(), &[])?;
            session_is_recorded(dir.path(), shadow.port, graphics, options, sent, tolerance)
        }
    }
}

fn session_is_recorded(
    dir: &Path,
    desktop_port: u16,
    graphics: &str,
    options: &[&str],
    sent: &str,
    tolerance: u8,
) -> anyhow::Result<()> {
    let settings = Settings {
        more: "log: {level: debug}\n".to_owned(),
        gateway: format!(", graphics: {graphics}"),
        ..Settings::of(desktop_port, "sync")
    };
    let gateway = Gateway::start(&dir.join("gateway"), &settings)?;
    let mut client = Client::start(dir, "client", gateway.port, USER, options)?;
    let moments = work(&client).map_err(|error| error.context(gateway.process.log()))?;
    client.process.end();

    let recording = gateway.wait_recording(0, &["complete"])?;
    assert_eq!(recording["user"], USER);
    assert_eq!(recording["desktop"], "lab");
    let id = recording["id"].as_str().unwrap_or_default();
    let shown = gateway.json(&["recordings", "show", id])?;
    assert_eq!(recording["undecoded"], 0, "undecoded PDUs: {shown}");
    compare(&gateway, &recording, &moments, tolerance)?;
    let decoded = decoded(&gateway.process.log());
    assert!(
        decoded.iter().any(|(name, count)| name == sent && *count > 0),
        "{sent}: {decoded:?}"
    );

    let verified = gateway.run(&["recordings", "verify", id])?;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    Ok(())
}

/// The tap's counts by encoding, from the gateway's log.
fn decoded(log: &str) -> Vec<(String, u64)> {
    let line = log.lines().rfind(|line| line.contains(" decoded ")).unwrap_or_default();
    line.split_whitespace()
        .filter_map(|field| field.split_once('='))
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}

/// 2 % of 255: what 16-bit colours may cost.
const LOSSY: u8 = 5;

#[test]
fn xrdp_default() -> anyhow::Result<()> {
    works_and_is_recorded("xrdp_default", &Peer::Xrdp, &[], "planar", 0)
}

#[test]
fn xrdp_24_bpp() -> anyhow::Result<()> {
    works_and_is_recorded("xrdp_24_bpp", &Peer::Xrdp, &["/bpp:24"], "rle", 0)
}

#[test]
fn xrdp_16_bpp() -> anyhow::Result<()> {
    works_and_is_recorded("xrdp_16_bpp", &Peer::Xrdp, &["/bpp:16"], "rle", LOSSY)
}

/// A client that offers RemoteFX: the filter takes the offer away and the desktop sends planar bitmaps, which are exact. What
/// desktops send that don't listen is in the captured streams of engine/rdp/fixtures.
#[test]
fn xrdp_remotefx_offered() -> anyhow::Result<()> {
    works_and_is_recorded("xrdp_remotefx_offered", &Peer::Xrdp, &["/rfx"], "planar", 0)
}

#[test]
fn shadow_default() -> anyhow::Result<()> {
    works_and_is_recorded("shadow_default", &Peer::Shadow, &[], "planar", 0)
}

/// A client that offers RemoteFX: the filter takes the offer away and the desktop sends planar bitmaps, which are exact. What
/// desktops send that don't listen is in the captured streams of engine/rdp/fixtures.
#[test]
fn shadow_remotefx_offered() -> anyhow::Result<()> {
    works_and_is_recorded("shadow_remotefx_offered", &Peer::Shadow, &["/rfx"], "planar", 0)
}

#[test]
fn shadow_16_bpp() -> anyhow::Result<()> {
    works_and_is_recorded("shadow_16_bpp", &Peer::Shadow, &["/bpp:16"], "rle", LOSSY)
}

/// With `graphics: gfx` what the client offers stays, RemoteFX for one. The tap rounds as little as the client does.
#[test]
fn xrdp_remotefx_kept() -> anyhow::Result<()> {
    is_recorded_with("gfx", "xrdp_remotefx_kept", &Peer::Xrdp, &["/rfx"], "remote_fx", LOSSY)
}

#[test]
fn xrdp_without_codecs_may_use_them() -> anyhow::Result<()> {
    is_recorded_with("gfx", "xrdp_without_codecs_may_use_them", &Peer::Xrdp, &[], "planar", 0)
}

/// Without H.264, freerdp-shadow 2.11 leaves the pipeline aside and sends RemoteFX.
#[test]
fn shadow_without_h264() -> anyhow::Result<()> {
    is_recorded_with("gfx", "shadow_without_h264", &Peer::Shadow, &[], "remote_fx", LOSSY)
}

//! kill -9 of the gateway in mid-session loses no more than the mode promises, and the rest verifies.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings, run_in};

/// The desktop's terminal prints the time ten times a second, so that the recording always has something new.
const CLOCK: &str = "while :; do date +%s.%N; sleep 0.1; done";

/// What a busy machine adds: the desktop paints late, and the disk answers late.
const BUSY: Duration = Duration::from_secs(3);

fn killed_session(test: &str, storage_mode: &'static str, may_lose: Duration) -> anyhow::Result<()> {
    let Some(_peers) = Peers::take(test) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start_running(dir.path(), Some(CLOCK))?;
    let settings = Settings::of(xrdp.port, storage_mode);
    let mut gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    std::thread::sleep(Duration::from_secs(25));
    let killed = SystemTime::now();
    gateway.process.kill();
    drop(client);

    let port = gateway.port;
    let home = gateway.dir.clone();
    drop(gateway);
    let gateway = Gateway::restart(&home, port)?;
    let recording = gateway.wait_recording(0, &["recovered"])?;
    let id = recording["id"].as_str().unwrap_or_default();
    let verified = gateway.run(&["recordings", "verify", id])?;
    assert_eq!(
        verified.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );

    let started = recording["started"].as_str().unwrap_or_default();
    let started = String::from_utf8(peers::process::run("date", &["-u", "-d", started, "+%s%3N"])?)?;
    let lived = killed.duration_since(SystemTime::UNIX_EPOCH)?.as_millis() - started.trim().parse::<u128>()?;
    // The picture counts, not what else was noted.
    let screen = gateway.json(&["recordings", "events", id, "--channel", "screen", "--channel", "key"])?;
    let last = screen
        .as_array()
        .and_then(|events| events.last())
        .context("a picture")?;
    let kept = u128::from(last["time_ns"].as_u64().unwrap_or_default()) / 1_000_000;
    let lost = lived.saturating_sub(kept);
    assert!(
        lost <= (may_lose + BUSY).as_millis(),
        "{lost} ms of {lived} ms are lost, {may_lose:?} may be"
    );
    assert!(
        kept <= lived + 500,
        "the recording claims {kept} ms of a session of {lived} ms"
    );
    // What was kept can be looked at up to its end: the clock goes on.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
    let end = kept as f64 / 1000.0;
    let (last, before) = (gateway.frame(id, end)?, gateway.frame(id, end - 3.0)?);
    assert!(last.colours() >= 8);
    assert!(
        last.differing(&before, 0) > 50,
        "three seconds apart, the clock stands still"
    );
    Ok(())
}

#[test]
fn async_loses_two_seconds_at_most() -> anyhow::Result<()> {
    killed_session("async_loses_two_seconds_at_most", "async", Duration::from_secs(2))
}

/// `segment_max_age` is 10 s with a sync storage; two more are in flight at most.
#[test]
fn sync_loses_one_segment_at_most() -> anyhow::Result<()> {
    killed_session("sync_loses_one_segment_at_most", "sync", Duration::from_secs(12))
}

#[test]
fn a_second_engine_on_one_data_dir_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = Settings::of(1, "sync");
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let second = run_in(&gateway.dir, &["serve"])?;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("data"), "names the folder: {said}");
    Ok(())
}

//! What keeps the recording stalls, dies or fills up while somebody works: strict ends the session, and what was shown until
//! then is kept; best effort lets them work on, and says what is missing.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};
use peers::disk::Disk;
use peers::gateway::{Gateway, Settings};
use peers::graphics::GraphicsDesktop;
use peers::picture::Picture;
use peers::process::{free_port, wait_for};
use peers::seaweed::{BUCKET, KEY, SECRET, Seaweed};
use serde_json::Value;
use tempfile::TempDir;

use crate::graphics::{copies, fill, frame, lossless};
use crate::sessions::{Moment, compare};

/// `recording.stall_max` of these gateways.
const STALL_MAX: Duration = Duration::from_secs(15);
/// How much longer an end may take to reach everybody, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Room on the disks that fill up or hang.
const DISK_MIB: u64 = 64;
/// Random characters that scroll by, ten screens a second.
const NOISE: &str = "i=0; while [ $i -lt 100 ]; do head -c 1500 /dev/urandom | base64; sleep 0.1; i=$((i+1)); done";

/// Somebody works on a desktop through a gateway.
struct Scene {
    /// The spool's, where that is on a disk of its own. First, so that it is thawed before those who hang on it are waited for.
    disk: Option<Disk>,
    client: Client,
    gateway: Gateway,
    _desktop: Box<dyn Any>,
    _dir: TempDir,
    _peers: Peers,
}

/// A desktop that was started, and what its users have.
struct Desktop {
    port: u16,
    user: &'static str,
    options: &'static [&'static str],
    keep: Box<dyn Any>,
}

impl Desktop {
    fn new(port: u16, keep: impl Any) -> Self {
        Self {
            port,
            user: USER,
            options: &[],
            keep: Box::new(keep),
        }
    }

    fn shadow(dir: &Path) -> anyhow::Result<Self> {
        let shadow = Shadow::start(dir, &[])?;
        Ok(Self::new(shadow.port, shadow))
    }

    fn xrdp(dir: &Path) -> anyhow::Result<Self> {
        let xrdp = Xrdp::start(dir)?;
        Ok(Self::new(xrdp.port, xrdp))
    }

    /// One scene after another, with each click.
    fn of_scenes(scenes: Vec<Vec<Vec<u8>>>) -> anyhow::Result<Self> {
        let desktop = GraphicsDesktop::start(scenes)?;
        Ok(Self {
            user: peers::graphics::USER,
            options: &["/gfx"],
            ..Self::new(desktop.port, desktop)
        })
    }
}

impl Scene {
    fn begin(
        peers: Peers,
        dir: TempDir,
        gateway: Gateway,
        desktop: Desktop,
        disk: Option<Disk>,
    ) -> anyhow::Result<Self> {
        let client = Client::start(dir.path(), "client", gateway.port, desktop.user, desktop.options)?;
        let painted = client.display.wait_painted(8);
        painted.map_err(|error| error.context(gateway.process.log()))?;
        Ok(Self {
            disk,
            client,
            gateway,
            _desktop: desktop.keep,
            _dir: dir,
            _peers: peers,
        })
    }

    /// One with a small disk. `None`, and a line that says why, where the machine lacks something.
    fn with_disk(
        peers: Option<Peers>,
        disk: fn(&Path, u64) -> anyhow::Result<Option<Disk>>,
        desktop: impl FnOnce(&Path) -> anyhow::Result<Desktop>,
        gateway: impl FnOnce(&Path, &Disk, u16) -> anyhow::Result<Gateway>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(peers) = peers else { return Ok(None) };
        let dir = tempfile::tempdir()?;
        let desktop = desktop(dir.path())?;
        let Some(disk) = disk(dir.path(), DISK_MIB)? else {
            return Ok(None);
        };
        let gateway = gateway(&dir.path().join("gateway"), &disk, desktop.port)?;
        Self::begin(peers, dir, gateway, desktop, Some(disk)).map(Some)
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a scene with a disk of its own")
    }

    /// Types a command; gives the settled screen, on which something of it must be seen.
    fn type_line(&self, line: &str, what: &'static str) -> anyhow::Result<Moment> {
        let before = self.client.display.screenshot()?;
        self.client.click(300, 300)?;
        self.client.type_text(line)?;
        self.client.key("Return")?;
        Moment::after(&self.client, &before, what)
    }

    /// Waits until the gateway's log says so.
    fn wait_log(&self, part: &str) -> anyhow::Result<()> {
        let said = || Ok(self.gateway.process.log().contains(part));
        wait_for(STALL_MAX + PATIENCE, part, said).map_err(|error| error.context(self.gateway.process.log()))
    }

    /// Waits until the gateway ends the session, which it has to tell the client; gives the last picture that was shown.
    /// The one of `before`, if it ends before there is another.
    fn last_picture(&mut self, before: Moment) -> anyhow::Result<Picture> {
        let began = Instant::now();
        let mut last = before.screen;
        while self.client.process.is_running() {
            anyhow::ensure!(
                began.elapsed() < STALL_MAX + PATIENCE,
                "the session goes on; the gateway's log:\n{}",
                self.gateway.process.log()
            );
            let screen = self.client.display.screenshot()?;
            // What is left of the client's window when it closes is no picture of the desktop.
            if screen.colours() >= 8 {
                last = screen;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let code = self.client.process.wait(PATIENCE)?;
        let said = self.client.process.log();
        assert_eq!(
            code,
            Some(7),
            "xfreerdp: the server denied the connection; it says:\n{said}"
        );
        assert!(said.contains("ERRINFO_SERVER_DENIED_CONNECTION"), "{said}");
        Ok(last)
    }

    /// What a strict gateway says of the session that it has ended, and why: `because` is in it.
    fn ended_strictly(&self, state: &str, because: &str) -> anyhow::Result<Value> {
        let row = self.wait_state(state)?;
        let end = row["end_reason"].as_str().unwrap_or_default();
        assert!(end.starts_with("recorder_failed") && end.contains(because), "{row}");
        let told = self.gateway.json(&["audit", "ls", "--event", "T3006I"])?;
        assert_eq!(told[0]["reason_code"], "recorder", "{told}");
        let reason = told[0]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(because), "{told}");
        let failed = self.gateway.json(&["audit", "ls", "--event", "DRR03E"])?;
        assert_eq!(failed[0]["strict"], true, "{failed}");
        Ok(row)
    }

    /// The recording arrives whole, and ends with `last`.
    fn is_whole_up_to(&self, last: &Picture) -> anyhow::Result<()> {
        let row = self.delivered(0)?;
        let id = row["id"].as_str().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
        let end = row["duration_ms"].as_u64().unwrap_or_default() as f64 / 1000.0;
        let kept = self.gateway.frame(id, end)?;
        let differing = kept.differing(last, 0);
        assert_eq!(differing, 0, "the last picture: that many pixels differ");
        Ok(())
    }

    /// Waits until the recording is in this state. A storage that was away may be left alone for a minute before it is tried
    /// again.
    fn wait_state(&self, state: &str) -> anyhow::Result<Value> {
        let mut row = Value::Null;
        let reached = wait_for(PATIENCE * 2, state, || {
            row = self.gateway.recordings()?.first().cloned().unwrap_or_default();
            Ok(row["state"] == state)
        });
        reached.map_err(|error| error.context(format!("{row}\n{}", self.gateway.process.log())))?;
        Ok(row)
    }

    /// Waits until the recording is complete; `recordings verify` must end with `code`.
    fn delivered(&self, code: i32) -> anyhow::Result<Value> {
        let row = self.wait_state("complete")?;
        let id = row["id"].as_str().unwrap_or_default();
        let verified = self.gateway.run(&["recordings", "verify", id])?;
        let said = String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
        assert_eq!(verified.status.code(), Some(code), "{said}");
        Ok(row)
    }

    /// Ends the session as users do. Best effort: the recording arrives, its only gap has this reason, begins behind `before`
    /// and ends ahead of `after`, and all of these moments are in it.
    fn has_one_gap(&mut self, reason: &str, moments: &[Moment], tolerance: u8) -> anyhow::Result<()> {
        self.client.process.end();
        assert!(self.gateway.process.log().contains("asking the desktop to repaint"));
        let row = self.delivered(3)?;
        let id = row["id"].as_str().unwrap_or_default();
        let shown = self.gateway.json(&["recordings", "show", id])?;
        let gaps = shown["gap_list"].as_array().cloned().unwrap_or_default();
        assert_eq!(gaps.len(), 1, "{shown}\n{}", self.gateway.process.log());
        assert!(
            gaps[0]["reason"].as_str().unwrap_or_default().starts_with(reason),
            "{shown}"
        );
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a minute")]
        let seconds = |key: &str| gaps[0][key].as_u64().unwrap_or_default() as f64 / 1e9;
        let [before, after] = moments else {
            anyhow::bail!("a moment before the gap and one after it");
        };
        let (before, after) = (before.offset(&row)?, after.offset(&row)?);
        let (from, to) = (seconds("from_ns"), seconds("to_ns"));
        assert!(
            before <= from && from < to && to <= after,
            "{before} {from} {to} {after}"
        );
        let told = self.gateway.json(&["audit", "ls", "--event", "DRR01W"])?;
        assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
        compare(&self.gateway, &row, moments, tolerance)
    }
}

/// What the gateway is to do when the recording fails.
fn rules(on_failure: &str) -> String {
    format!("session_recording: {{on_failure: {on_failure}}}\n")
}

/// A gateway whose only storage is a bucket, which a session waits for.
fn before_a_bucket(dir: &Path, desktop_port: u16, server: &Seaweed, on_failure: &str) -> anyhow::Result<Gateway> {
    let port = free_port()?;
    fs::create_dir_all(dir.join("resources"))?;
    fs::write(dir.join("s3.secret"), SECRET)?;
    let yaml = format!(
        "data_dir: ./data\n\
         gateway: {{listen: '127.0.0.1:{port}', default_desktop: lab, graphics: legacy}}\n\
         recording: {{segment_max_age: 1s, stall_max: {}s}}\n\
         storages: [{{name: archive, plugin: s3, mode: sync, settings: {{bucket: {BUCKET}, prefix: {on_failure}, \
         endpoint: 'http://127.0.0.1:{}', access_key_id: {KEY}, secret_access_key: {{file: s3.secret}}}}}}]\n\
         access: {{resources_dir: ./resources, claimed_identity: allow, claimed_roles: [access]}}\n{}",
        STALL_MAX.as_secs(),
        server.port,
        rules(on_failure)
    );
    fs::write(dir.join("deskreel.yaml"), yaml)?;
    let desktop = format!(
        "kind: windows_desktop\nversion: v3\nmetadata: {{name: lab}}\n\
         spec: {{addr: '127.0.0.1:{desktop_port}', gateway: {{tls: {{verify: pin}}, credentials: passthrough}}}}\n"
    );
    fs::write(dir.join("resources/lab.yaml"), desktop)?;
    Gateway::restart(dir, port)
}

/// A gateway whose spool is on a disk of its own, and whose storage is elsewhere.
fn with_spool_on(
    dir: &Path,
    disk: &Disk,
    desktop_port: u16,
    on_failure: &str,
    recording: &str,
    graphics: &str,
) -> anyhow::Result<Gateway> {
    let mut settings = Settings::of(desktop_port, "async");
    settings.gateway = format!(", graphics: {graphics}");
    settings.more = format!(
        "recording: {{segment_max_age: 2s, stall_max: {}s{recording}}}\n\
         spool: {{path: {}, min_free_bytes: 1MiB}}\n\
         log: {{level: debug}}\n{}",
        STALL_MAX.as_secs(),
        disk.path().join("spool").display(),
        rules(on_failure)
    );
    Gateway::start(dir, &settings)
}

/// A gateway whose only storage, which a session waits for, is on a disk of its own.
fn with_storage_on(dir: &Path, disk: &Disk, desktop_port: u16, on_failure: &str) -> anyhow::Result<Gateway> {
    fs::create_dir_all(dir)?;
    std::os::unix::fs::symlink(disk.path(), dir.join("recordings"))?;
    let mut settings = Settings::of(desktop_port, "sync");
    // Bitmaps are exact.
    settings.gateway = ", graphics: legacy".to_owned();
    settings.more = format!(
        "recording: {{segment_max_age: 1s, stall_max: {}s}}\n{}",
        STALL_MAX.as_secs(),
        rules(on_failure)
    );
    Gateway::start(dir, &settings)
}

/// How a storage fails, and how it comes back.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// It accepts connections and answers nothing.
    Silence,
    /// It is gone.
    Death,
}

impl Fault {
    fn strike(self, server: &mut Seaweed) -> anyhow::Result<()> {
        match self {
            Self::Silence => server.pause()?,
            Self::Death => server.kill(),
        }
        Ok(())
    }

    fn end(self, server: &mut Seaweed) -> anyhow::Result<()> {
        match self {
            Self::Silence => server.resume(),
            Self::Death => server.restart(),
        }
    }
}

fn strict_ends_with_its_storage(test: &str, fault: Fault) -> anyhow::Result<()> {
    let Some(peers) = Peers::without_xrdp(test) else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut server = Seaweed::start(&dir.path().join("server"))?;
    let desktop = Desktop::shadow(dir.path())?;
    let gateway = before_a_bucket(&dir.path().join("gateway"), desktop.port, &server, "strict")?;
    let mut scene = Scene::begin(peers, dir, gateway, desktop, None)?;
    let before = scene.type_line("echo before", "all is well")?;
    fault.strike(&mut server)?;
    let struck = Instant::now();
    scene.client.type_text("echo and this is the last thing to be seen")?;
    let last = scene.last_picture(before)?;
    assert!(struck.elapsed() > STALL_MAX / 2, "not at the first failure");
    scene.ended_strictly("delivering", "storage archive")?;
    fault.end(&mut server)?;
    scene.is_whole_up_to(&last)
}

#[test]
fn strict_ends_with_a_silent_storage() -> anyhow::Result<()> {
    strict_ends_with_its_storage("strict_ends_with_a_silent_storage", Fault::Silence)
}

#[test]
fn strict_ends_with_a_dead_storage() -> anyhow::Result<()> {
    strict_ends_with_its_storage("strict_ends_with_a_dead_storage", Fault::Death)
}

/// Nothing is missing: what the storage does not take goes to the spool, and from there to the storage.
fn best_effort_outlives_its_storage(test: &str, fault: Fault) -> anyhow::Result<()> {
    let Some(peers) = Peers::without_xrdp(test) else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut server = Seaweed::start(&dir.path().join("server"))?;
    let desktop = Desktop::shadow(dir.path())?;
    let gateway = before_a_bucket(&dir.path().join("gateway"), desktop.port, &server, "best_effort")?;
    let mut scene = Scene::begin(peers, dir, gateway, desktop, None)?;
    let mut moments = vec![scene.type_line("echo before", "all is well")?];
    fault.strike(&mut server)?;
    moments.push(scene.type_line("echo still here", "the storage is away")?);
    scene.wait_log("going on with the spool")?;
    moments.push(scene.type_line("echo and still", "it is away for long")?);
    fault.end(&mut server)?;
    moments.push(scene.type_line("echo back again", "the storage is back")?);
    scene.client.process.end();
    let row = scene.delivered(0)?;
    compare(&scene.gateway, &row, &moments, 0)
}

#[test]
fn best_effort_outlives_a_silent_storage() -> anyhow::Result<()> {
    best_effort_outlives_its_storage("best_effort_outlives_a_silent_storage", Fault::Silence)
}

#[test]
fn best_effort_outlives_a_dead_storage() -> anyhow::Result<()> {
    best_effort_outlives_its_storage("best_effort_outlives_a_dead_storage", Fault::Death)
}

#[test]
fn strict_ends_with_a_full_storage() -> anyhow::Result<()> {
    let gateway = |dir: &Path, disk: &Disk, port| with_storage_on(dir, disk, port, "strict");
    let scene = Scene::with_disk(
        Peers::without_xrdp("strict_ends_with_a_full_storage"),
        Disk::in_memory,
        Desktop::shadow,
        gateway,
    )?;
    let Some(mut scene) = scene else { return Ok(()) };
    let before = scene.type_line("echo before", "all is well")?;
    scene.disk().fill()?;
    scene.client.type_text("echo and this is the last thing to be seen")?;
    let last = scene.last_picture(before)?;
    scene.ended_strictly("delivering", "storage disk")?;
    scene.disk().empty()?;
    scene.is_whole_up_to(&last)
}

#[test]
fn best_effort_outlives_a_full_storage() -> anyhow::Result<()> {
    let gateway = |dir: &Path, disk: &Disk, port| with_storage_on(dir, disk, port, "best_effort");
    let scene = Scene::with_disk(
        Peers::without_xrdp("best_effort_outlives_a_full_storage"),
        Disk::in_memory,
        Desktop::shadow,
        gateway,
    )?;
    let Some(mut scene) = scene else { return Ok(()) };
    let mut moments = vec![scene.type_line("echo before", "all is well")?];
    scene.disk().fill()?;
    moments.push(scene.type_line("echo still here", "the storage is full")?);
    scene.wait_log("going on with the spool")?;
    moments.push(scene.type_line("echo and still", "it is full for long")?);
    scene.disk().empty()?;
    moments.push(scene.type_line("echo back again", "there is room again")?);
    scene.client.process.end();
    let row = scene.delivered(0)?;
    compare(&scene.gateway, &row, &moments, 0)
}

#[test]
fn strict_ends_with_a_full_spool() -> anyhow::Result<()> {
    let gateway = |dir: &Path, disk: &Disk, port| with_spool_on(dir, disk, port, "strict", "", "legacy");
    let scene = Scene::with_disk(
        Peers::without_xrdp("strict_ends_with_a_full_spool"),
        Disk::in_memory,
        Desktop::shadow,
        gateway,
    )?;
    let Some(mut scene) = scene else { return Ok(()) };
    let before = scene.type_line("echo this is the last thing to be seen", "all is well")?;
    scene.disk().fill()?;
    // The end comes in the middle of what is done next: that may be in the recording and not on the screen any more.
    scene.client.display.xdotool(&["mousemove", "900", "700"])?;
    let last = scene.last_picture(before)?;
    // The reserve is what it is closed with; the storage, which works, has it at once.
    scene.ended_strictly("complete", "the disk")?;
    scene.is_whole_up_to(&last)
}

fn best_effort_outlives_a_full_spool(test: &str, graphics: &str, tolerance: u8) -> anyhow::Result<()> {
    let gateway = |dir: &Path, disk: &Disk, port| with_spool_on(dir, disk, port, "best_effort", "", graphics);
    let scene = Scene::with_disk(Peers::without_xrdp(test), Disk::in_memory, Desktop::shadow, gateway)?;
    let Some(mut scene) = scene else { return Ok(()) };
    let before = scene.type_line("echo before", "all is well")?;
    scene.disk().fill()?;
    scene.type_line("seq 1 20", "the spool is full")?;
    scene.wait_log("gap in the recording")?;
    scene.type_line("seq 1 40; echo nobody will know", "in the gap")?;
    scene.disk().empty()?;
    scene.wait_log("the gap is over")?;
    let after = scene.type_line("echo after", "there is room again")?;
    scene.has_one_gap("spool_full", &[before, after], tolerance)
}

#[test]
fn best_effort_outlives_a_full_spool_with_bitmaps() -> anyhow::Result<()> {
    best_effort_outlives_a_full_spool("best_effort_outlives_a_full_spool_with_bitmaps", "legacy", 0)
}

/// freerdp-shadow sends RemoteFX then.
#[test]
fn best_effort_outlives_a_full_spool_with_remotefx() -> anyhow::Result<()> {
    best_effort_outlives_a_full_spool("best_effort_outlives_a_full_spool_with_remotefx", "gfx", 5)
}

/// The graphics pipeline can't be asked to paint all of it again, and needn't: what it keeps is followed through the gap.
#[test]
fn best_effort_outlives_a_full_spool_with_the_graphics_pipeline() -> anyhow::Result<()> {
    let later = vec![frame(9, &[fill(1, [9, 90, 200], [600, 500, 900, 560])])];
    let desktop = |_: &Path| Desktop::of_scenes(vec![lossless(), copies(), later]);
    let gateway = |dir: &Path, disk: &Disk, port| with_spool_on(dir, disk, port, "best_effort", "", "gfx");
    let test = "best_effort_outlives_a_full_spool_with_the_graphics_pipeline";
    let scene = Scene::with_disk(Peers::without_xrdp(test), Disk::in_memory, desktop, gateway)?;
    let Some(mut scene) = scene else { return Ok(()) };
    let before = Moment::now(&scene.client, "codecs without a loss")?;
    scene.disk().fill()?;
    scene.client.display.xdotool(&["mousemove", "20", "20"])?;
    scene.wait_log("gap in the recording")?;
    scene.client.click(900, 730)?;
    let within = Moment::after(&scene.client, &before.screen, "copies and the cache")?;
    assert!(within.screen.differing(&before.screen, 0) > 1000, "the desktop went on");
    scene.disk().empty()?;
    scene.wait_log("the gap is over")?;
    scene.client.click(902, 732)?;
    let after = Moment::after(&scene.client, &within.screen, "a bar")?;
    assert!(after.screen.differing(&within.screen, 0) > 1000, "the desktop went on");
    scene.has_one_gap("spool_full", &[before, after], 0)
}

#[test]
fn strict_ends_with_a_disk_that_hangs() -> anyhow::Result<()> {
    let gateway = |dir: &Path, disk: &Disk, port| with_spool_on(dir, disk, port, "strict", "", "legacy");
    let scene = Scene::with_disk(
        Peers::without_xrdp("strict_ends_with_a_disk_that_hangs"),
        Disk::that_freezes,
        Desktop::shadow,
        gateway,
    )?;
    let Some(mut scene) = scene else { return Ok(()) };
    let before = scene.type_line("echo before", "all is well")?;
    scene.disk().freeze()?;
    scene.client.type_text("echo and this is the last thing to be seen")?;
    let last = scene.last_picture(before)?;
    scene.disk().thaw()?;
    scene.ended_strictly("complete", "recording.stall_max")?;
    scene.is_whole_up_to(&last)
}

/// What a hanging disk does not take waits in memory: as long as there is room, nothing is missing.
#[test]
fn best_effort_outlives_a_disk_that_hangs() -> anyhow::Result<()> {
    let gateway = |dir: &Path, disk: &Disk, port| with_spool_on(dir, disk, port, "best_effort", "", "legacy");
    let scene = Scene::with_disk(
        Peers::without_xrdp("best_effort_outlives_a_disk_that_hangs"),
        Disk::that_freezes,
        Desktop::shadow,
        gateway,
    )?;
    let Some(mut scene) = scene else { return Ok(()) };
    let mut moments = vec![scene.type_line("echo before", "all is well")?];
    scene.disk().freeze()?;
    moments.push(scene.type_line("echo still here", "the disk hangs")?);
    scene.wait_log("waits in memory")?;
    moments.push(scene.type_line("echo and still", "it hangs for long")?);
    scene.disk().thaw()?;
    moments.push(scene.type_line("echo back again", "it works again")?);
    scene.client.process.end();
    let row = scene.delivered(0)?;
    compare(&scene.gateway, &row, &moments, 0)
}

/// And where there is no room left: the desktop's bulk compression, whose history nobody can ask for, is followed through the
/// gap.
#[test]
fn best_effort_outlives_a_disk_that_hangs_for_long() -> anyhow::Result<()> {
    let small = ", queue_max_bytes: 512KiB";
    let gateway = |dir: &Path, disk: &Disk, port| with_spool_on(dir, disk, port, "best_effort", small, "legacy");
    let scene = Scene::with_disk(
        Peers::take("best_effort_outlives_a_disk_that_hangs_for_long"),
        Disk::that_freezes,
        Desktop::xrdp,
        gateway,
    )?;
    let Some(mut scene) = scene else { return Ok(()) };
    let before = scene.type_line("echo before", "all is well")?;
    scene.disk().freeze()?;
    scene.client.type_text(NOISE)?;
    scene.client.key("Return")?;
    scene.wait_log("gap in the recording")?;
    scene.type_line("clear; seq 1 40; echo nobody will know", "in the gap")?;
    scene.disk().thaw()?;
    scene.wait_log("the gap is over")?;
    let after = scene.type_line("echo after", "it works again")?;
    scene.has_one_gap("storage_unavailable", &[before, after], 0)
}

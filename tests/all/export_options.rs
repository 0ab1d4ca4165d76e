//! Exports that differ from the session as it was, of several recordings, of damaged ones, and exports that don't come to an end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use peers::gateway::{deskreel, recording_folder, run_in};
use peers::picture::Picture;
use peers::process::{run, wait_for};
use serde_json::Value;

use crate::export::video_frame;

/// A recording of the demo's desktop.
pub(crate) struct Recorded {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) seconds: f64,
}

impl Recorded {
    pub(crate) fn new(seconds: u32) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let demo = Command::new(deskreel())
            .args(["demo", "--seconds", &seconds.to_string(), "--data-dir"])
            .arg(dir.path().join("demo"))
            .current_dir(dir.path())
            .output()?;
        anyhow::ensure!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
        let listed = run_in(&dir.path().join("demo"), &["recordings", "ls", "--format", "json"])?;
        let rows: Value = serde_json::from_slice(&listed.stdout)?;
        Ok(Self {
            id: rows[0]["id"].as_str().context("id")?.to_owned(),
            seconds: rows[0]["duration_ms"].as_f64().context("duration")? / 1000.0,
            dir,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(deskreel());
        command
            .args(["recordings", "export"])
            .args(arguments)
            .current_dir(self.dir.path())
            .env("DESKREEL_CONFIG", self.path("demo/deskreel.yaml"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn export(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// An export into a file, that must be fine.
    fn video(&self, name: &str, more: &[&str]) -> anyhow::Result<Video> {
        let output = self.export(&[&[self.id.as_str(), "--format", "mp4", "-o", name], more].concat())?;
        anyhow::ensure!(output.status.success(), "{}", said(&output));
        Video::of(&self.path(name))
    }

    /// What `recordings frame` shows.
    pub(crate) fn frame(&self, seconds: f64, more: &[&str]) -> anyhow::Result<Picture> {
        let path = self.path("frame.png");
        let (file, at) = (path.display().to_string(), format!("{seconds:.3}s"));
        let arguments = ["recordings", "frame", &self.id, "--at", &at, "--force", "-o", &file];
        let output = run_in(&self.path("demo"), &[&arguments[..], more].concat())?;
        anyhow::ensure!(output.status.success(), "{}", said(&output));
        Picture::read_png(&path)
    }
}

/// What ffprobe says of a video.
pub(crate) struct Video {
    path: PathBuf,
    probe: Value,
}

impl Video {
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let asked = [
            "-v",
            "error",
            "-show_streams",
            "-show_format",
            "-show_chapters",
            "-of",
            "json",
            &file,
        ];
        let probe = serde_json::from_slice(&run("ffprobe", &asked)?)?;
        let path = path.to_owned();
        Ok(Self { path, probe })
    }

    pub(crate) fn seconds(&self) -> anyhow::Result<f64> {
        Ok(self.probe["format"]["duration"].as_str().context("duration")?.parse()?)
    }

    fn size(&self) -> (u64, u64) {
        let side = |name: &str| self.probe["streams"][0][name].as_u64().unwrap_or_default();
        (side("width"), side("height"))
    }

    /// When each chapter begins, and its title.
    pub(crate) fn chapters(&self) -> Vec<(f64, String)> {
        let chapters = self.probe["chapters"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        chapters
            .iter()
            .map(|chapter| {
                let start = text(&chapter["start_time"]).parse().unwrap_or(-1.0);
                (start, text(&chapter["tags"]["title"]))
            })
            .collect()
    }

    pub(crate) fn frame(&self, seconds: f64) -> anyhow::Result<Picture> {
        let into = self.path.parent().context("folder")?;
        video_frame(&self.path.display().to_string(), seconds, into)
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The upper rows of a picture.
fn top(picture: &Picture, height: usize) -> Picture {
    Picture {
        width: picture.width,
        height,
        rgb: picture.rgb[..picture.width * height * 3].to_vec(),
    }
}

pub(crate) fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<String> = entries
        .iter()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

#[test]
fn speed_size_rate_and_bar_shape_the_export() -> anyhow::Result<()> {
    let recorded = Recorded::new(8)?;
    let plain = recorded.video("plain.mp4", &["--jobs", "1"])?;
    let near = |a: f64, b: f64| (a - b).abs() < 0.05;
    assert!(near(plain.seconds()?, recorded.seconds), "{}", plain.seconds()?);
    recorded.video("jobs.mp4", &["--jobs", "3"])?;
    assert!(
        fs::read(&plain.path)? == fs::read(recorded.path("jobs.mp4"))?,
        "the number of jobs shows in the video"
    );

    let shown: Value = serde_json::from_slice(
        &run_in(
            &recorded.path("demo"),
            &["recordings", "show", &recorded.id, "--format", "json"],
        )?
        .stdout,
    )?;
    let tags = &plain.probe["format"]["tags"];
    assert_eq!(tags["com.deskreel.recording"], recorded.id.as_str());
    assert_eq!(tags["com.deskreel.user"], "demo");
    let digest = tags["com.deskreel.manifest-sha256"].as_str().context("digest")?;
    assert!(shown.to_string().contains(digest), "{digest}: {shown}");
    assert_eq!(plain.chapters()[0], (0.0, "demo on demo".to_owned()));

    let fast = recorded.video("fast.mp4", &["--speed", "4", "--from", "2s", "--no-pointer"])?;
    assert!(
        near(fast.seconds()?, (recorded.seconds - 2.0) / 4.0),
        "{}",
        fast.seconds()?
    );
    for at in [3.5, 5.1, 6.7] {
        // With at most 30 pictures a second, a picture may be as old as that: four times as much of the session.
        let shown = fast.frame((at - 2.0) / 4.0)?;
        let mut psnr = f64::MIN;
        for late in [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14] {
            psnr = psnr.max(shown.psnr(&recorded.frame(at - late, &["--no-pointer"])?));
        }
        assert!(psnr >= 30.0, "{psnr:.1} dB at {at} s");
    }

    let barred = recorded.video("barred.mp4", &["--overlay", "user,clock"])?;
    let (width, height) = plain.size();
    assert_eq!(barred.size(), (width, height + 24));
    let rows = usize::try_from(height)?;
    let (a, b) = (barred.frame(3.2)?, barred.frame(5.2)?);
    let psnr = top(&a, rows).psnr(&recorded.frame(3.2, &[])?);
    assert!(psnr >= 35.0, "the bar hides something: {psnr:.1} dB");
    assert!(a.count([0xf2, 0xf2, 0xee], 40) > 50, "nothing is written on the bar");
    let bar = |picture: &Picture| picture.rgb[picture.width * rows * 3..].to_vec();
    assert!(bar(&a) != bar(&b), "the clock stands still");

    let small = recorded.video("small.mp4", &["--width", "512", "--fps-max", "2"])?;
    assert_eq!(small.size(), (512, height / 2));
    let frames: f64 = small.probe["streams"][0]["nb_frames"]
        .as_str()
        .context("frames")?
        .parse()?;
    // Beside two a second: black before the first, the first, and what changed last.
    assert!(frames <= recorded.seconds * 2.0 + 3.0, "{frames} frames");
    Ok(())
}

#[test]
fn a_damaged_recording_is_exported_with_the_damage_marked() -> anyhow::Result<()> {
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
    let output = recorded.export(&["copy", "--format", "mp4", "-o", "damaged.mp4"])?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("00000001.mcap"), "{}", said(&output));
    let video = Video::of(&recorded.path("damaged.mp4"))?;
    assert!((video.seconds()? - recorded.seconds).abs() < 0.05, "time is kept");
    let chapters = video.chapters();
    let (begin, title) = chapters.get(1).context("a chapter at the damage")?;
    assert!(title.contains("damaged") && title.contains("00000001.mcap"), "{title}");
    let psnr = video.frame(begin - 1.0)?.psnr(&recorded.frame(begin - 1.0, &[])?);
    assert!(psnr >= 35.0, "before the damage: {psnr:.1} dB");
    let dark = video.frame(begin + 1.0)?;
    assert!(dark.count([0xa4, 0, 0], 24) > 5_000, "no red sign");
    assert!(dark.psnr(&recorded.frame(begin + 1.0, &[])?) < 15.0, "not dark");

    // The rest of several is exported, and all problems count.
    let copy = copy.display().to_string();
    let output = recorded.export(&["0000beef", &recorded.id, "--format", "mp4", "-o", "many"])?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("0000beef") && said(&output).contains("1 of 2"),
        "{}",
        said(&output)
    );
    assert_eq!(names(&recorded.path("many"))?, [format!("{}.mp4", recorded.id)]);
    let output = recorded.export(&[&copy, "--format", "mp4", "-o", "one/"])?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(names(&recorded.path("one"))?, [format!("{}.mp4", recorded.id)]);
    Ok(())
}

#[test]
fn what_does_not_come_to_an_end_leaves_nothing() -> anyhow::Result<()> {
    let recorded = Recorded::new(12)?;
    let here = recorded.path("here");
    fs::create_dir(&here)?;
    // Pictures show when the export is under way. One that is done before the signal comes is tried again.
    let cancelled = (0..10).find_map(|_| cancelled(&recorded, &here).transpose());
    let output = cancelled.context("the export was always quicker")??;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("cancelled"), "{}", said(&output));
    assert_eq!(names(&here)?, [""; 0]);

    if !rustix::process::geteuid().is_root() {
        peers::skip("SKIPPED the full disk: only root mounts one");
        return Ok(());
    }
    let full = recorded.path("full");
    fs::create_dir(&full)?;
    let mount = full.display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "size=64k", "none", &mount])?;
    let outputs: Vec<_> = ["mp4", "frames"]
        .iter()
        .map(|format| recorded.export(&[&recorded.id, "--format", format, "-o", "full/out"]))
        .collect();
    let left = names(&full);
    run("umount", &[&mount])?;
    for output in outputs {
        let output = output?;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("No space left"), "{}", said(&output));
    }
    assert_eq!(left?, [""; 0]);
    Ok(())
}

/// Begins an export and interrupts it; `None` when it was done before.
fn cancelled(recorded: &Recorded, here: &Path) -> anyhow::Result<Option<Output>> {
    let mut export = recorded.command(&[&recorded.id, "--format", "frames", "-o", "here/pictures", "--force"]);
    let child = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_for(Duration::from_secs(60), "the export has begun", || {
        Ok(!names(here)?.is_empty())
    })?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id())?).context("pid")?;
    // A process that has ended stays until it is waited for.
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        fs::remove_dir_all(here.join("pictures"))?;
        return Ok(None);
    }
    Ok(Some(output))
}

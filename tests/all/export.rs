//! The exported video is the session: size, length and pictures.

use std::process::Command;
use std::time::Instant;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::picture::Picture;
use peers::process::run;
use serde_json::Value;

use crate::sessions::Moment;

/// The frame that a player shows at `seconds`, decoded by ffmpeg.
pub(crate) fn video_frame(video: &str, seconds: f64, into: &std::path::Path) -> anyhow::Result<Picture> {
    let at = format!("{seconds:.3}");
    let path = into.join(format!("video-{at}.png"));
    let file = path.display().to_string();
    // A player shows the last picture at or before the moment; -ss would give the first one after it.
    let until = format!("select='lte(t,{at})'");
    run(
        "ffmpeg",
        &[
            "-v", "quiet", "-y", "-i", video, "-vf", &until, "-vsync", "0", "-update", "1", &file,
        ],
    )?;
    Picture::read_png(&path)
}

#[test]
fn mp4_and_frames_show_the_session() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("mp4_and_frames_show_the_session") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let settings = Settings::of(xrdp.port, "sync");
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let begun = Instant::now();
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    let painted = begun.elapsed().as_secs_f64();
    let moments = crate::sessions::work(&client)?;
    let worked = begun.elapsed().as_secs_f64();
    client.process.end();
    let left = begun.elapsed().as_secs_f64();
    let recording = gateway.wait_recording(0, &["complete"])?;
    let id = recording["id"].as_str().unwrap_or_default();

    let video = dir.path().join("session.mp4").display().to_string();
    let export = ["recordings", "export", id, "--format", "mp4", "-o", &video];
    let exported = gateway.run(&export)?;
    assert!(
        exported.status.success(),
        "{}",
        String::from_utf8_lossy(&exported.stderr)
    );
    let again = gateway.run(&export)?;
    assert!(
        !again.status.success(),
        "an existing file was overwritten without --force"
    );
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));

    let probe: Value = serde_json::from_slice(&run(
        "ffprobe",
        &["-v", "error", "-show_streams", "-show_format", "-of", "json", &video],
    )?)?;
    assert_eq!(
        (&probe["streams"][0]["width"], &probe["streams"][0]["height"]),
        (&1024.into(), &768.into())
    );
    let seconds: f64 = probe["format"]["duration"].as_str().unwrap_or_default().parse()?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
    let session = recording["duration_ms"].as_u64().unwrap_or_default() as f64 / 1000.0;
    assert!(
        (seconds - session).abs() <= session * 0.02,
        "the video lasts {seconds} s, the session {session} s"
    );

    // By a clock of our own: the session began before its first picture and ended after the work.
    let session = (worked - painted)..=left + 1.0;
    assert!(
        session.contains(&seconds),
        "the video lasts {seconds} s, the session {session:?} s"
    );

    // The video's time starts where the session's does.
    for moment in &moments {
        let at = moment.offset(&recording)?;
        let want = frame_with_pointer(&gateway, id, at)?;
        let got = video_frame(&video, at, dir.path())?;
        let psnr = got.psnr(&want);
        assert!(
            psnr >= 35.0,
            "at {at:.1} s the video is {psnr:.1} dB from the recording"
        );
    }

    lossless_webm(&gateway, id, &recording, &moments, dir.path())?;

    let folder = dir.path().join("frames");
    let path = folder.display().to_string();
    let exported = gateway.run(&["recordings", "export", id, "--format", "frames", "-o", &path])?;
    assert!(
        exported.status.success(),
        "{}",
        String::from_utf8_lossy(&exported.stderr)
    );
    let pictures = std::fs::read_dir(&folder)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "png"))
        .count();
    assert!(pictures >= 10, "{pictures} pictures of a busy session");

    let wrong = gateway.run(&["recordings", "export", id, "--format", "avi", "-o", &path])?;
    assert_eq!(wrong.status.code(), Some(2), "an unknown format is a usage error");
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        said.contains("avi") && said.contains("mp4") && said.contains("frames"),
        "{said}"
    );
    Ok(())
}

/// A lossless WebM shows what `recordings frame` shows, bit by bit.
fn lossless_webm(
    gateway: &Gateway,
    id: &str,
    recording: &Value,
    moments: &[Moment],
    dir: &std::path::Path,
) -> anyhow::Result<()> {
    let video = dir.join("session.webm").display().to_string();
    let options = ["--format", "webm", "--lossless", "-o", &video];
    let exported = gateway.run(&[&["recordings", "export", id][..], &options].concat())?;
    let said = String::from_utf8_lossy(&exported.stderr);
    assert!(exported.status.success(), "{said}");
    let mut exact = 0;
    for moment in moments {
        let at = moment.offset(recording)?;
        let want = frame_with_pointer(gateway, id, at)?;
        let got = video_frame(&video, at, dir)?;
        let psnr = got.psnr(&want);
        assert!(psnr >= 35.0, "at {at:.1} s the WebM is {psnr:.1} dB from the recording");
        exact += usize::from(got.rgb == want.rgb);
    }
    // A caret may blink within the 33 ms for which a picture stays at least.
    assert!(
        exact + 1 >= moments.len(),
        "{exact} of {} pictures are exact",
        moments.len()
    );
    Ok(())
}

fn frame_with_pointer(gateway: &Gateway, id: &str, seconds: f64) -> anyhow::Result<Picture> {
    let file = gateway.dir.join("with-pointer.png");
    let (path, at) = (file.display().to_string(), format!("{seconds:.3}s"));
    let output = gateway.run(&["recordings", "frame", id, "--at", &at, "--force", "-o", &path])?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Picture::read_png(&file)
}

#[test]
fn a_wrong_id_and_missing_arguments_are_explained() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = Settings::of(1, "sync");
    let gateway = Gateway::start(&dir.path().join("gateway"), &settings)?;
    let unknown = gateway.run(&["recordings", "show", "0123"])?;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("0123"));
    let wrong = Command::new(peers::gateway::deskreel())
        .args(["recordings", "export", "0123"])
        .output()?;
    assert_eq!(wrong.status.code(), Some(2), "missing arguments are a usage error");
    Ok(())
}

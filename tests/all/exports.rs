//! Exports by themselves, with the real binary, the real exporters and real storages: chosen by `when`, made beside the
//! gateway, stored beside the recording, taken up after kills, told of when they fail.

use std::fs;
use std::path::Path;
use std::time::Duration;

use peers::gateway::recording_folder;
use peers::picture::Picture;
use peers::process::{family, run, wait_for};
use peers::seaweed::{BUCKET, KEY, SECRET, Seaweed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::keep::Node;

/// Exports give way to everything else on the machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// So many pictures that there is time to kill whoever makes them.
const SLOW: &str = "exporters: [{name: slow, plugin: frames, mode: async, settings: {interval: 1ms}}]\n";
const QUICK: &str = "exporters: [{name: slow, plugin: frames, mode: async, settings: {interval: 1s}}]\n";
const LIMITS: &str = "exports: {attempts_max: 2, retry_after: 1s}\n";

impl Node {
    /// The one export of this exporter.
    fn export(&self, exporter: &str) -> Value {
        let rows = self.json(0, &["exports", "ls"]);
        let found = rows.as_array().unwrap().iter().find(|row| row["exporter"] == exporter);
        found.cloned().unwrap_or_default()
    }

    /// Waits until an export is in a state; its row.
    fn wait_export(&self, exporter: &str, state: &str) -> Value {
        let mut row = Value::Null;
        let waited = wait_for(PATIENCE, &format!("export {exporter} to be {state}"), || {
            row = self.export(exporter);
            Ok(row["state"] == state)
        });
        if let Err(error) = waited {
            let log = fs::read_to_string(self.home.join("deskreel.log")).unwrap_or_default();
            panic!("{error:#}: {row:#}\n{log}");
        }
        row
    }
}

/// The processes below the gateway that make exports.
fn makers(gateway: Pid) -> Vec<Pid> {
    let is_maker = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("exports\0run")
    };
    let family = family(gateway);
    family.into_iter().filter(is_maker).filter_map(Pid::from_raw).collect()
}

fn wait_maker(gateway: Pid) -> Pid {
    let mut found = Vec::new();
    wait_for(PATIENCE, "a process that exports", || {
        found = makers(gateway);
        Ok(!found.is_empty())
    })
    .unwrap();
    found[0]
}

fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn waits(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn asked_for_stored_listed_downloaded_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    node.configure("exporters: [{name: video, plugin: mp4, mode: async}, {name: frames, plugin: frames, settings: {interval: 1s}}]\n");
    let gateway = node.serve();
    // What was recorded before is not exported by itself.
    assert_eq!(node.json(0, &["exports", "ls"]), serde_json::json!([]));
    let wrong = node.ends(2, &["exports", "add", &id, "--exporter", "gif"]);
    assert!(wrong.contains("configured are video, frames"), "{wrong}");
    let added = node.ends(
        0,
        &["exports", "add", &id, "--exporter", "video", "--exporter", "frames"],
    );
    assert!(added.contains("video: queued"), "{added}");
    let video = node.wait_export("video", "done");
    assert_eq!(video["object"], "exports/video.mp4");
    assert_eq!(video["storages"], serde_json::json!(["disk"]));
    assert_eq!((&video["attempts"], &video["problem"]), (&1.into(), &Value::Null));
    let pictures = node.wait_export("frames", "done");
    assert_eq!(pictures["object"], "exports/frames/");
    let again = node.ends(0, &["exports", "add", &id, "--exporter", "video"]);
    assert!(again.contains("already"), "{again}");
    node.ends(1, &["exports", "retry", &id]);

    // It is the same as an export by hand, and a video.
    let file = recording_folder(&node.home.join("recordings"), &id).join("exports/video.mp4");
    let by_hand = dir.path().join("by-hand.mp4").display().to_string();
    node.ends(
        0,
        &[
            "recordings",
            "export",
            &id,
            "--exporter",
            "video",
            "--format",
            "mp4",
            "-o",
            &by_hand,
        ],
    );
    assert_eq!(video["bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!(probe(&file.display().to_string()), probe(&by_hand));
    let digest = run("sha256sum", &[&file]).unwrap();
    assert!(
        String::from_utf8(digest)
            .unwrap()
            .starts_with(video["sha256"].as_str().unwrap())
    );

    // It is no part of the recording, and nothing complains of it.
    node.ends(0, &["recordings", "verify", &id]);
    node.ends(0, &["storages", "scan", "--digests"]);
    node.ends(0, &["catalog", "sync"]);
    let shown = node.ends(0, &["recordings", "show", &id]);
    assert!(
        shown.contains("video: done, exports/video.mp4") && shown.contains("at disk"),
        "{shown}"
    );
    assert!(node.ends(0, &["recordings", "ls"]).contains("exported: frames video"));
    assert_eq!(node.row(&id)["exports"][1]["exporter"], "video");
    let copy = dir.path().join("copy");
    let copied = node.ends(0, &["recordings", "download", &id, "-o", &copy.display().to_string()]);
    assert!(copied.contains("exports  "), "{copied}");
    assert_eq!(
        fs::read(copy.join("exports/video.mp4")).unwrap(),
        fs::read(&file).unwrap()
    );
    assert!(copy.join("exports/frames/index.json").exists());
    fs::write(&file, "other").unwrap();
    let other = dir.path().join("other").display().to_string();
    let changed = node.ends(3, &["recordings", "download", &id, "-o", &other]);
    assert!(
        changed.contains("exports/video.mp4 is not what the exporter made"),
        "{changed}"
    );

    // The audit log knows who asked, and of each attempt.
    let events = node.events("DRA01I");
    let of = |user: &str, action: &str| {
        let events = events.iter().filter(|event| event["action"] == action);
        let found: Vec<&Value> = events
            .filter(|event| event["user"].as_str().unwrap().starts_with(user))
            .collect();
        found.len()
    };
    assert_eq!(of("local:", "queue"), 4, "{events:#?}");
    assert_eq!(of("deskreel:exports", "export"), 4, "{events:#?}");
    let done = events
        .iter()
        .find(|event| event["object"] == "exports/video.mp4")
        .unwrap();
    assert!(
        done["rule"].as_str().unwrap().starts_with("asked for by local:"),
        "{done}"
    );
    assert_eq!(done["sha256"], video["sha256"]);

    // Whoever deletes the recording deletes what was made of it.
    assert_eq!(waits(&node.home.join("data/spool/exports")), 0);
    node.ends(0, &["recordings", "rm", &id, "--yes"]);
    assert!(node.files(&id).is_empty(), "{:?}", node.files(&id));
    assert_eq!(node.json(0, &["exports", "ls"]), serde_json::json!([]));
    assert!(
        node.ends(1, &["exports", "add", &id, "--exporter", "video"])
            .contains("is deleted")
    );
    drop(gateway);
}

/// What a player sees of a video: length and frames.
fn probe(video: &str) -> (String, u64) {
    let arguments = [
        "-v",
        "error",
        "-count_frames",
        "-show_streams",
        "-show_format",
        "-of",
        "json",
        video,
    ];
    let probe: Value = serde_json::from_slice(&run("ffprobe", &arguments).unwrap()).unwrap();
    let frames = probe["streams"][0]["nb_read_frames"].as_str().unwrap().parse().unwrap();
    (probe["format"]["duration"].as_str().unwrap().to_owned(), frames)
}

#[test]
fn killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    node.configure(&format!("{SLOW}{LIMITS}"));
    let mut gateway = node.serve();
    node.ends(0, &["exports", "add", &id, "--exporter", "slow"]);
    let first = wait_maker(gateway.process.pid());
    assert_eq!(node.export("slow")["state"], "running");
    let stat = fs::read_to_string(format!("/proc/{}/stat", first.as_raw_nonzero())).unwrap();
    wait_for(PATIENCE, "the process to step back", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", first.as_raw_nonzero()))?;
        let after = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .nth(16)
            .map(str::to_owned);
        Ok(after.as_deref() == Some("19"))
    })
    .unwrap_or_else(|error| panic!("{error}: {stat}"));

    // The process is killed: that was an attempt, and another one follows.
    kill_process(first, Signal::KILL).unwrap();
    wait_for(PATIENCE, "another attempt", || {
        let makers = makers(gateway.process.pid());
        Ok(makers.first().is_some_and(|pid| *pid != first))
    })
    .unwrap();
    assert_eq!(node.export("slow")["attempts"], 2);
    let failed = node.events("DRA01W");
    assert!(
        failed[0]["error"].as_str().unwrap().contains("signal: 9") && failed[0]["final"] == false,
        "{failed:#?}"
    );

    // The gateway is killed: the process ends with it, and the next start takes the export up. That was no attempt.
    let second = wait_maker(gateway.process.pid());
    gateway.process.kill();
    wait_for(PATIENCE, "the process to end with the gateway", || Ok(is_gone(second))).unwrap();
    drop(gateway);
    node.configure(&format!("{QUICK}{LIMITS}"));
    let _gateway = node.serve();
    let done = node.wait_export("slow", "done");
    assert_eq!(done["attempts"], 2);
    let made = recording_folder(&node.home.join("recordings"), &id).join("exports/slow");
    let pictures = fs::read_dir(&made).unwrap().count();
    assert_eq!(
        done["files"], pictures,
        "nothing is left of the attempts that were killed"
    );
    assert_eq!(waits(&node.home.join("data/spool/exports")), 0);
    node.ends(0, &["recordings", "verify", &id]);
}

#[test]
fn what_fails_for_good_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let exporters = "exporters: [{name: absent, plugin: nosuch}, {name: wrong, plugin: mp4, mode: async, format: avi}, {name: video, plugin: mp4}]\n";
    node.configure(&format!(
        "{exporters}exports: {{attempts_max: 2, retry_after: 1s, max_bytes: 8KiB, jobs_max: 2}}\n"
    ));
    let gateway = node.serve();
    let add = [
        "exports",
        "add",
        &id,
        "--exporter",
        "absent",
        "--exporter",
        "wrong",
        "--exporter",
        "video",
    ];
    node.ends(0, &add);
    for (exporter, attempts, why) in [
        ("absent", 2, "libdeskreel_exporter_nosuch.so"),
        ("wrong", 1, "avi"),
        ("video", 1, "exports.max_bytes (8192 bytes)"),
    ] {
        let row = node.wait_export(exporter, "failed");
        assert_eq!(row["attempts"], attempts, "{row}");
        assert!(row["problem"].as_str().unwrap().contains(why), "{row}");
    }
    let last: Vec<Value> = node
        .events("DRA01W")
        .into_iter()
        .filter(|event| event["final"] == true)
        .collect();
    assert_eq!(last.len(), 3, "{last:#?}");
    assert!(
        node.ends(0, &["recordings", "ls"])
            .contains("export failed: absent video wrong")
    );
    assert_eq!(
        node.json(0, &["exports", "ls", "--state", "failed"])
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let (_, examined, _) = node.run(&["doctor"]);
    assert!(examined.contains("3 exports have failed for good"), "{examined}");
    assert!(gateway.process.log().contains("an export failed for good"));
    assert!(
        !recording_folder(&node.home.join("recordings"), &id)
            .join("exports")
            .exists()
    );
    assert_eq!(waits(&node.home.join("data/spool/exports")), 0);

    // What hindered it is mended.
    drop(gateway);
    node.configure("exporters: [{name: video, plugin: mp4, mode: async}]\n");
    let _gateway = node.serve();
    node.ends(0, &["exports", "retry", &id, "--exporter", "video"]);
    node.wait_export("video", "done");
    node.ends(0, &["exports", "retry", &id, "--exporter", "absent"]);
    let gone = node.wait_export("absent", "failed");
    assert!(
        gone["problem"]
            .as_str()
            .unwrap()
            .contains("no exporter is named absent any more"),
        "{gone}"
    );
}

#[test]
fn recordings_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let video = "exporters: [{name: video, plugin: mp4, mode: async}]\n";
    // No disk has so much left: the spool counts as full.
    node.configure(&format!("{video}spool: {{min_free_bytes: 900TiB}}\n"));
    let gateway = node.serve();
    node.ends(0, &["exports", "add", &id, "--exporter", "video"]);
    let mut row = Value::Null;
    wait_for(PATIENCE, "the export to wait for room", || {
        row = node.export("video");
        Ok(row["problem"].is_string())
    })
    .unwrap();
    assert!(
        row["problem"].as_str().unwrap().contains("spool.min_free_bytes"),
        "{row}"
    );
    assert_eq!((&row["state"], &row["attempts"]), (&"pending".into(), &0.into()));
    assert!(makers(gateway.process.pid()).is_empty());
    drop(gateway);
    node.configure(video);
    let _gateway = node.serve();
    node.wait_export("video", "done");
}

#[test]
fn when_selects_and_what_a_crash_left_is_exported_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let mut demo = node.demo(60).spawn().unwrap();
    wait_for(PATIENCE, "a sealed segment", || {
        let rows = node.run(&["recordings", "ls", "--format", "json"]).1;
        let rows: Value = serde_json::from_str(&rows).unwrap_or_default();
        Ok(rows[0]["segments"].as_u64().is_some_and(|count| count > 0))
    })
    .unwrap();
    for pid in family(Pid::from_child(&demo)).into_iter().rev() {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    demo.wait().unwrap();
    node.configure(
        "exporters: [{name: demo, plugin: mp4, mode: async, when: 'session.desktop_labels[\"env\"] == \"demo\"'}, \
         {name: prod, plugin: mp4, mode: async, when: 'session.desktop_labels[\"env\"] == \"prod\"'}, \
         {name: all, plugin: frames, mode: async, settings: {interval: 1s}}, {name: by-hand, plugin: mp4}]\n",
    );
    let _gateway = node.serve();
    let demo = node.wait_export("demo", "done");
    node.wait_export("all", "done");
    assert_eq!(node.rows()[0]["state"], "recovered");
    assert_eq!(demo["asked_by"], Value::Null);
    let rows = node.json(0, &["exports", "ls"]);
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    let events = node.events("DRA01I");
    let rule = |exporter: &str| {
        let found = events.iter().find(|event| event["exporter"] == exporter).unwrap();
        found["rule"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (rule("demo").as_str(), rule("all").as_str()),
        ("exporters[0].when", "exporters[2]")
    );
    let wrong = "exporters=[{name: a, plugin: mp4, mode: async, when: 'session.usr'}]";
    let refused = node.ends(2, &["config", "check", "--set", wrong]);
    assert!(refused.contains("exporters[0].when: "), "{refused}");
}

#[test]
fn to_s3_and_to_disk() -> anyhow::Result<()> {
    let port = Seaweed::shared()?;
    let dir = tempfile::tempdir()?;
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let storages = |port: u16| {
        format!(
            "storages=[{{name: disk, plugin: local, settings: {{path: ./recordings}}}}, {{name: cloud, plugin: s3, required: false, \
             settings: {{bucket: {BUCKET}, prefix: exports-{id}, endpoint: 'http://127.0.0.1:{port}', access_key_id: {KEY}, secret_access_key: {SECRET}}}}}]"
        )
    };
    let both = storages(port);
    let exporters = "exporters: [{name: video, plugin: mp4, mode: async}, {name: frames, plugin: frames, settings: {interval: 1s}}]\n";
    node.configure(exporters);
    // The list of a test's node has one storage; this one has two.
    let file = node.home.join("deskreel.yaml");
    let text = fs::read_to_string(&file)?;
    let list = both.strip_prefix("storages=").unwrap_or_default();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("  - {name: disk"))
        .map(|line| {
            if line == "storages:" {
                format!("storages: {list}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    fs::write(&file, text)?;
    node.ends(0, &["storages", "copy", "disk", "cloud", "--missing"]);
    let _gateway = node.serve();
    node.ends(
        0,
        &["exports", "add", &id, "--exporter", "video", "--exporter", "frames"],
    );
    let video = node.wait_export("video", "done");
    assert_eq!(video["storages"], serde_json::json!(["disk", "cloud"]));
    node.wait_export("frames", "done");
    let scanned = node.json(0, &["storages", "scan", "cloud", "--digests"]);
    assert_eq!(scanned[0]["counts"], serde_json::json!({}), "{scanned}");

    // The disk is gone; the bucket has the recording and what was made of it.
    let local = fs::read(recording_folder(&node.home.join("recordings"), &id).join("exports/video.mp4"))?;
    fs::rename(
        recording_folder(&dir.path().join("shared"), &id),
        dir.path().join("lost"),
    )?;
    let copy = dir.path().join("copy");
    node.ends(0, &["recordings", "download", &id, "-o", &copy.display().to_string()]);
    assert_eq!(fs::read(copy.join("exports/video.mp4"))?, local);
    assert!(copy.join("exports/frames/index.json").exists());
    node.ends(0, &["recordings", "rm", &id, "--yes"]);
    let empty = node.json(0, &["storages", "scan", "cloud"]);
    assert_eq!(empty[0]["objects"], 0, "{empty}");
    Ok(())
}

#[test]
fn gif_and_json_tell_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let path = |name: &str| dir.path().join(name).display().to_string();

    // The whole of a short session, exact where its colours are few.
    let gif = path("session.gif");
    let said = node.ends(0, &["recordings", "export", &id, "--format", "gif", "-o", &gif]);
    let arguments = ["-v", "error", "-show_streams", "-show_format", "-of", "json", &gif];
    let probe: Value = serde_json::from_slice(&run("ffprobe", &arguments).unwrap()).unwrap();
    let stream = &probe["streams"][0];
    assert_eq!(stream["codec_name"], "gif", "{said}");
    let seconds: f64 = probe["format"]["duration"].as_str().unwrap().parse().unwrap();
    let row = node.row(&id);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a few seconds")]
    let session = row["duration_ms"].as_u64().unwrap() as f64 / 1000.0;
    assert!(
        (seconds - session).abs() <= 0.11,
        "the GIF lasts {seconds} s, the session {session} s"
    );
    let (last, want) = (path("last.png"), path("want.png"));
    run(
        "ffmpeg",
        &["-v", "quiet", "-y", "-i", &gif, "-vsync", "0", "-update", "1", &last],
    )
    .unwrap();
    let at = format!("{session:.3}s");
    node.ends(0, &["recordings", "frame", &id, "--at", &at, "-o", &want]);
    let (got, want) = (
        Picture::read_png(Path::new(&last)).unwrap(),
        Picture::read_png(Path::new(&want)).unwrap(),
    );
    assert_eq!(
        (&stream["width"], &stream["height"]),
        (&want.width.into(), &want.height.into())
    );
    let psnr = got.psnr(&want);
    assert!(psnr >= 35.0, "the last picture is {psnr:.1} dB from the recording");

    // Too long is said before anything is written.
    let short = "exporters=[{name: gif, plugin: gif, settings: {seconds_max: 1}}]";
    let refused = path("refused.gif");
    let refusal = node.ends(
        1,
        &[
            "recordings",
            "export",
            &id,
            "--format",
            "gif",
            "-o",
            &refused,
            "--set",
            short,
        ],
    );
    assert!(refusal.contains("--from and --to"), "{refusal}");
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());

    // The log has the events that the recording has, at their times.
    let log = path("session.jsonl");
    let all = "exporters=[{name: json, plugin: json, settings: {moves: true}}]";
    node.ends(
        0,
        &[
            "recordings",
            "export",
            &id,
            "--format",
            "json",
            "-o",
            &log,
            "--set",
            all,
        ],
    );
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["deskreel_log"], &lines[0]["recording"]),
        (&1.into(), &Value::from(id.as_str()))
    );
    assert_eq!(lines[0]["digest"], row["manifest_sha256"]);
    assert_eq!(lines[0]["user"], row["user"]);
    let events = node.json(0, &["recordings", "events", &id]);
    let wanted: Vec<(f64, &Value)> = events
        .as_array()
        .unwrap()
        .iter()
        // What the start says is in the first line.
        .filter(|event| event["time_ns"] != 0)
        .filter(|event| !matches!(event["channel"].as_str(), Some("screen" | "key" | "pointer")))
        .map(|event| {
            #[expect(clippy::cast_precision_loss, reason = "as the log tells it")]
            let seconds = event["time_ns"].as_u64().unwrap() as f64 / 1e9;
            (seconds, &event["channel"])
        })
        .collect();
    let found: Vec<(f64, &Value)> = lines[1..]
        .iter()
        .filter(|line| line[1] != "typed")
        .map(|line| (line[0].as_f64().unwrap(), &line[1]))
        .collect();
    assert_eq!(found, wanted);
    assert!(lines[1..].iter().all(|line| {
        line.as_array()
            .is_some_and(|line| line.len() == 3 && line[2].is_object())
    }));
}

/// What an export that did not end has left.
fn leftovers(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".part") || name.starts_with("refused"))
        .collect()
}

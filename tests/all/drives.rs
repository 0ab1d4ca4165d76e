//! Drives of the client on the desktop: rdesktop's, which xrdp mounts by FUSE.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::process::{run, wait_for};
use serde_json::Value;

use crate::rights::role;

/// What the desktop's user does with the drive `home` in the session, and what it came to. Where the drive must not be there
/// nothing is missed by not waiting long for it.
const WORK: &str = "d=$HOME/thinclient_drives; i=0; \
    while [ ! -e $d/home/in.bin ] && [ $i -lt TRIES ]; do sleep 0.5; i=$((i+1)); done; \
    ls $d > $HOME/drives.ls; sha256sum < $d/home/in.bin > $HOME/drives.sum; \
    cp $d/home/in.bin $d/home/out.bin; mkdir $d/home/made; mv $d/home/old.txt $d/home/new.txt; \
    rm $d/home/gone.txt; ls $d/home >> $HOME/drives.ls; echo done >> $HOME/drives.sum; sleep 1000";

/// A session with a drive, in which [`WORK`] was done.
struct Session {
    gateway: Gateway,
    client: Client,
    /// The client's folder.
    shared: PathBuf,
    content: Vec<u8>,
    _xrdp: Xrdp,
}

fn home(name: &str) -> PathBuf {
    Path::new("/home").join(USER).join(name)
}

impl Session {
    fn hold(dir: &Path, options: &str, more: &str) -> anyhow::Result<Self> {
        for name in ["drives.ls", "drives.sum"] {
            let _ = fs::remove_file(home(name));
        }
        let shared = dir.join("shared");
        fs::create_dir(&shared)?;
        let content: Vec<u8> = (0..300_000_u32).map(|index| (index * 7 + index / 251) as u8).collect();
        fs::write(shared.join("in.bin"), &content)?;
        fs::write(shared.join("old.txt"), "old")?;
        fs::write(shared.join("gone.txt"), "gone")?;
        let tries = if options.contains("false") { "10" } else { "120" };
        let xrdp = Xrdp::start_running(dir, Some(&WORK.replace("TRIES", tries)))?;
        let gateway_dir = dir.join("gateway");
        role(&gateway_dir, options)?;
        let settings = Settings {
            more: more.to_owned(),
            ..Settings::of(xrdp.port, "sync")
        };
        let gateway = Gateway::start(&gateway_dir, &settings)?;
        let drive = format!("disk:home={}", shared.display());
        let client = Client::start_rdesktop(dir, "client", gateway.port, USER, &["-r", &drive])?;
        let session = Self {
            gateway,
            client,
            shared,
            content,
            _xrdp: xrdp,
        };
        wait_for(Duration::from_secs(60), "the work on the drive", || {
            let sum = fs::read_to_string(home("drives.sum")).unwrap_or_default();
            Ok(sum.ends_with("done\n"))
        })
        .map_err(|error| error.context(session.gateway.process.log()))?;
        Ok(session)
    }

    /// Ends the session; the events of one channel, and the audit log's of one name, as (code, event).
    fn leave(&mut self, state: &str) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
        self.client.process.end();
        let recording = self.gateway.wait_recording(0, &[state])?;
        let id = recording["id"].as_str().unwrap_or_default().to_owned();
        let events = match state {
            "complete" => self
                .gateway
                .json(&["recordings", "events", &id, "--channel", "drive"])?,
            _ => Value::Null,
        };
        let ended = |events: &[Value]| {
            events
                .iter()
                .any(|event| event["event"] == "windows.desktop.session.end")
        };
        let mut trail = Vec::new();
        wait_for(Duration::from_secs(60), "the end in the audit log", || {
            let log = self.gateway.json(&["audit", "ls", "--session", &id])?;
            trail = log.as_array().cloned().unwrap_or_default();
            Ok(ended(&trail))
        })?;
        trail.retain(|event| {
            event["event"]
                .as_str()
                .is_some_and(|name| name.starts_with("desktop.directory."))
        });
        Ok((events.as_array().cloned().unwrap_or_default(), trail))
    }
}

/// The directory events that reading and writing `in.bin` must leave.
fn assert_trail(trail: &[Value], session: &Session) {
    let share = &trail[0];
    assert_eq!(
        (
            share["code"].as_str(),
            share["directory_name"].as_str(),
            &share["success"]
        ),
        (Some("TDP04I"), Some("home"), &Value::Bool(true)),
        "{trail:#?}"
    );
    for (code, path) in [("TDP05I", "in.bin"), ("TDP06I", "out.bin")] {
        let of_file: Vec<_> = trail
            .iter()
            .filter(|event| event["code"] == code && event["file_path"] == path)
            .collect();
        let sum: u64 = of_file.iter().filter_map(|event| event["length"].as_u64()).sum();
        assert!(sum >= session.content.len() as u64, "{code} {path}: {trail:#?}");
        assert!(of_file.len() < 10, "ranges that touch are one: {trail:#?}");
        for event in of_file {
            assert_eq!(event["success"], true);
            assert_eq!(event["directory_name"], "home");
            assert_eq!(event["directory_id"], share["directory_id"]);
            assert!(event["offset"].is_u64(), "{event}");
        }
    }
}

#[test]
fn a_file_is_read_and_written() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_file_is_read_and_written") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let mut session = Session::hold(dir.path(), "desktop_clipboard: true", "")?;
    let file = session.shared.join("in.bin");
    let digest = String::from_utf8(run("sha256sum", &["--".as_ref(), file.as_os_str()])?)?;
    let digest = digest.split(' ').next().unwrap_or_default().to_owned();
    let sum = fs::read_to_string(home("drives.sum"))?;
    assert!(sum.starts_with(&digest), "the desktop read something else: {sum}");
    assert_eq!(fs::read(session.shared.join("out.bin"))?, session.content);
    assert!(session.shared.join("made").is_dir() && session.shared.join("new.txt").exists());
    assert!(!session.shared.join("gone.txt").exists());

    let (events, trail) = session.leave("complete")?;
    let find = |operation: &str, path: &str| {
        events
            .iter()
            .filter(|event| event["operation"] == operation && event["path"] == path)
            .collect::<Vec<_>>()
    };
    assert_eq!(find("announce", "home").len(), 1, "{events:#?}");
    for (path, direction, bytes) in [
        ("home/in.bin", "to_desktop", "read"),
        ("home/out.bin", "to_client", "written"),
    ] {
        let whole = find("close", path)
            .into_iter()
            .any(|event| event["sha256"] == digest && event["direction"] == direction && event[bytes] == 300_000);
        assert!(whole, "no digest of {path}: {events:#?}");
    }
    assert!(!find("read", "home/in.bin").is_empty() && !find("write", "home/out.bin").is_empty());
    assert_eq!(find("rename", "home/old.txt")[0]["new_path"], "home/new.txt");
    assert!(!find("delete", "home/gone.txt").is_empty(), "{events:#?}");
    assert!(!find("list", "home").is_empty(), "{events:#?}");
    assert_trail(&trail, &session);

    let id = session.gateway.recordings()?[0]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let lines = session
        .gateway
        .run(&["recordings", "events", &id, "--channel", "drive"])?;
    let lines = String::from_utf8(lines.stdout)?;
    let shown = |line: &str| {
        let parts = ["File closed: home/in.bin", "300000 bytes to the desktop", &digest];
        parts.iter().all(|part| line.contains(part))
    };
    let shown = lines.lines().any(shown);
    assert!(shown, "{lines}");
    Ok(())
}

#[test]
fn without_the_right_there_is_no_drive() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("without_the_right_there_is_no_drive") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let mut session = Session::hold(dir.path(), "desktop_directory_sharing: false", "")?;
    assert!(!fs::read_to_string(home("drives.ls"))?.contains("home"));
    assert!(!session.shared.join("out.bin").exists());
    let (events, trail) = session.leave("complete")?;
    let [denied] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(
        (&denied["operation"], &denied["path"]),
        (&"denied".into(), &"home".into())
    );
    let why = denied["detail"].as_str().unwrap_or_default();
    assert!(why.contains("desktop_directory_sharing"), "{why}");
    let [refused] = &trail[..] else { panic!("{trail:#?}") };
    assert_eq!(
        (&refused["code"], &refused["success"]),
        (&"TDP04W".into(), &false.into())
    );
    assert_eq!(refused["directory_name"], "home");
    assert_eq!(refused["error"], why);
    Ok(())
}

#[test]
fn the_audit_log_hears_of_drives_though_nothing_is_recorded() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("the_audit_log_hears_of_drives_though_nothing_is_recorded") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let mut session = Session::hold(dir.path(), "desktop_clipboard: true", "session_recording: off\n")?;
    let (_, trail) = session.leave("not_recorded")?;
    assert_trail(&trail, &session);
    Ok(())
}

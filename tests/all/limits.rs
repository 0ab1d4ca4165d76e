//! Sessions that are ended by a limit, a lock or an operator, and what the client, the listings and the recording say.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER};
use peers::gateway::{Gateway, Settings, deskreel, recording_folder};
use peers::picture::Picture;
use peers::process::{Process, wait_for};
use serde_json::Value;

use crate::rights::role;

/// How long an end may take to reach everybody, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session on freerdp-shadow, painted.
struct Session {
    client: Client,
    gateway: Gateway,
    dir: tempfile::TempDir,
    _shadow: Shadow,
}

impl Session {
    fn open(options: &str, more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let shadow = Shadow::start(dir.path(), &[])?;
        let gateway_dir = dir.path().join("gateway");
        role(&gateway_dir, options)?;
        let mut settings = Settings::of(shadow.port, "sync");
        settings.more = more.to_owned();
        let gateway = Gateway::start(&gateway_dir, &settings)?;
        let client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
        client
            .display
            .wait_painted(8)
            .map_err(|error| error.context(gateway.process.log()))?;
        Ok(Self {
            client,
            gateway,
            dir,
            _shadow: shadow,
        })
    }

    /// The client's exit code, and the catalog's row of the session. The client has to show a word for it.
    fn ended(&mut self) -> anyhow::Result<(Option<i32>, Value)> {
        let code = self.client.process.wait(PATIENCE);
        let code = code.map_err(|error| error.context(self.gateway.process.log()))?;
        let said = self.client.process.log();
        assert!(said.contains("ERRINFO_"), "{said}");
        Ok((code, self.gateway.wait_recording(0, &["complete", "not_recorded"])?))
    }

    /// The gateway's one word about why it ended a session, in the audit log.
    fn disconnected(&self) -> anyhow::Result<Value> {
        let events = self.gateway.json(&["audit", "ls", "--event", "T3006I"])?;
        let events = events.as_array().cloned().unwrap_or_default();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0]["event"], "client.disconnect");
        Ok(events[0]["reason_code"].clone())
    }

    fn id(&self) -> anyhow::Result<String> {
        let sessions = self.gateway.json(&["sessions", "ls"])?;
        let rows = sessions.as_array().cloned().unwrap_or_default();
        assert_eq!(rows.len(), 1, "{sessions}");
        assert_eq!((&rows[0]["user"], &rows[0]["desktop"]), (&USER.into(), &"lab".into()));
        Ok(rows[0]["id"].as_str().unwrap_or_default().to_owned())
    }
}

fn end_reason(row: &Value) -> &str {
    row["end_reason"].as_str().unwrap_or_default()
}

#[test]
fn idle_sessions_end() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("idle_sessions_end") else {
        return Ok(());
    };
    let mut session = Session::open("client_idle_timeout: 15s", "")?;
    let (code, row) = session.ended()?;
    assert_eq!(code, Some(3), "xfreerdp: idle timeout");
    assert!(end_reason(&row).contains("idle_timeout"), "{row}");
    assert_eq!(session.disconnected()?, "idle");
    Ok(())
}

#[test]
fn sessions_end_with_their_time() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("sessions_end_with_their_time") else {
        return Ok(());
    };
    let mut session = Session::open("max_session_ttl: 30s", "")?;
    let (code, row) = session.ended()?;
    assert_eq!(code, Some(4), "xfreerdp: logon timeout");
    assert!(end_reason(&row).contains("session_expired"), "{row}");
    assert_eq!(session.disconnected()?, "ttl");
    Ok(())
}

#[test]
fn an_operator_watches_and_ends_a_session() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("an_operator_watches_and_ends_a_session") else {
        return Ok(());
    };
    let mut session = Session::open("record_session: {input: all}", "")?;
    let id = session.id()?;
    let picture = session.dir.path().join("now.png");
    let mut watch = watch(&session.gateway.dir, &id, &picture)?;
    wait_for(PATIENCE, "a picture of the running session", || Ok(picture.exists()))?;
    let seen = Picture::read_png(&picture)?;
    assert_eq!((seen.width, seen.height), (1024, 768));
    session.client.click(300, 300)?;
    session.client.key("a")?;
    wait_for(PATIENCE, "the key in the watcher's events", || {
        Ok(watch.log().contains("\"scancode\""))
    })?;
    session.client.type_text("ls Documents")?;
    session.client.key("Return")?;
    wait_for(PATIENCE, "all keys in the watcher's events", || {
        // Enter's.
        Ok(watch.log().contains("\"scancode\":28"))
    })?;

    let refused = session.gateway.run(&["sessions", "terminate", &id, "--reason", " "])?;
    assert_eq!(refused.status.code(), Some(2));
    let done = session
        .gateway
        .run(&["sessions", "terminate", &id, "--reason", "go home"])?;
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let (code, row) = session.ended()?;
    assert_eq!(code, Some(2), "xfreerdp's code for an end by an administrator");
    assert!(end_reason(&row).contains("terminated: go home"), "{row}");
    assert_eq!(session.disconnected()?, "terminated");
    assert_eq!(watch.wait(PATIENCE)?, Some(0), "{}", watch.log());
    assert!(watch.log().contains("terminated: go home"), "{}", watch.log());
    let none = session.gateway.run(&["sessions", "show", &id])?;
    assert_eq!(none.status.code(), Some(1));
    let events = session
        .gateway
        .json(&["recordings", "events", &id, "--channel", "input"])?;
    assert!(events.to_string().contains("\"scancode\""), "{events}");
    typed_is_told_in_words(&session.gateway, &id, session.dir.path())
}

/// What was typed is put together, for those who read and for search tools.
fn typed_is_told_in_words(gateway: &Gateway, id: &str, dir: &Path) -> anyhow::Result<()> {
    let told = String::from_utf8(gateway.run(&["recordings", "events", id])?.stdout)?;
    let (typed, then) = told.split_once("ls Documents\n").unwrap_or_default();
    let line = typed.lines().last().unwrap_or_default();
    assert!(line.contains("  Typed: "), "{told}");
    assert!(
        then.lines()
            .next()
            .is_some_and(|line| line.ends_with("  Pressed Enter")),
        "{told}"
    );
    assert!(told.contains("  Left click at 300, 300\n"), "{told}");
    let log = dir.join("session.jsonl").display().to_string();
    let exported = gateway.run(&["recordings", "export", id, "--format", "json", "-o", &log])?;
    assert!(
        exported.status.success(),
        "{}",
        String::from_utf8_lossy(&exported.stderr)
    );
    let log = std::fs::read_to_string(&log)?;
    let lines: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let typed: Vec<&Value> = lines.iter().filter(|line| line[1] == "typed").collect();
    let text = |line: &Value| line[2]["text"].as_str().unwrap_or_default().to_owned();
    let at = typed.iter().position(|line| text(line).ends_with("ls Documents"));
    let next = at.and_then(|at| typed.get(at + 1)).map(|line| &line[2]["key"]);
    assert_eq!(next, Some(&"Enter".into()), "{log}");
    Ok(())
}

fn watch(gateway: &Path, id: &str, picture: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(deskreel());
    command.args(["sessions", "watch", id, "--every", "500ms", "--format", "json"]);
    command
        .arg("-o")
        .arg(picture)
        .arg("--config")
        .arg(gateway.join("deskreel.yaml"));
    Process::start("watch", gateway, &command)
}

#[test]
fn a_lock_ends_a_running_session() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_lock_ends_a_running_session") else {
        return Ok(());
    };
    let mut session = Session::open("", "")?;
    let locked = session
        .gateway
        .run(&["lock", "--user", USER, "--message", "under investigation"])?;
    assert_eq!(
        locked.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&locked.stderr)
    );
    let (code, row) = session.ended()?;
    assert_eq!(code, Some(9), "xfreerdp: insufficient privileges");
    assert!(end_reason(&row).contains("under investigation"), "{row}");
    assert_eq!(session.disconnected()?, "lock");
    Ok(())
}

#[test]
fn a_second_session_above_the_limit_is_refused() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_second_session_above_the_limit_is_refused") else {
        return Ok(());
    };
    let mut session = Session::open("max_connections: 1", "")?;
    let mut second = Client::start(session.dir.path(), "second", session.gateway.port, USER, &[])?;
    let code = second.process.wait(PATIENCE)?;
    let said = second.process.log();
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("ERRINFO_SERVER_DENIED_CONNECTION"), "{said}");
    assert!(session.client.process.is_running(), "the first one goes on");
    let rejected = session.gateway.json(&["audit", "ls", "--event", "T1006W"])?;
    assert_eq!(
        (&rejected[0]["event"], &rejected[0]["maximum"]),
        (&"session.rejected".into(), &1.into()),
        "{rejected}"
    );
    session.id()?;
    Ok(())
}

#[test]
fn a_session_that_is_not_recorded_is_listed_with_the_reason() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_session_that_is_not_recorded_is_listed_with_the_reason") else {
        return Ok(());
    };
    not_recorded("", "session_recording: off\n", "cluster_off")?;
    not_recorded("record_session: {desktop: false}", "", "roles_off")
}

/// A session that `options` of the role or `more` of the configuration keep from being recorded: listed, marked and not stored.
fn not_recorded(options: &str, more: &str, by: &str) -> anyhow::Result<()> {
    let mut session = Session::open(options, more)?;
    let running = session.gateway.json(&["sessions", "ls"])?;
    assert_eq!(running[0]["recording"], "not_recorded");
    session.client.process.end();
    let row = session.gateway.wait_recording(0, &["not_recorded"])?;
    assert!(row.to_string().contains(by), "{row}");
    let id = row["id"].as_str().unwrap_or_default();
    assert!(!recording_folder(&session.gateway.dir.join("recordings"), id).exists());
    Ok(())
}

/// A stop ends what runs with an error that the client shows, and the recording is complete when the process is gone.
#[test]
fn a_stop_tells_the_client_and_seals_the_recording() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_stop_tells_the_client_and_seals_the_recording") else {
        return Ok(());
    };
    let mut session = Session::open("", "")?;
    rustix::process::kill_process(session.gateway.process.pid(), rustix::process::Signal::TERM)?;
    let code = session.gateway.process.wait(PATIENCE)?;
    assert_eq!(code, Some(0), "{}", session.gateway.process.log());
    assert_eq!(
        session.client.process.wait(PATIENCE)?,
        Some(2),
        "xfreerdp: ended by an administrator"
    );
    // without a gateway: what the catalog and the storage have is all there is
    let rows = session.gateway.recordings()?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["state"], "complete", "{rows:?}");
    assert!(end_reason(&rows[0]).contains("gateway_shutdown"), "{rows:?}");
    let id = rows[0]["id"].as_str().unwrap_or_default();
    let verified = session.gateway.run(&["recordings", "verify", id])?;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    Ok(())
}

//! Users prove who they are to the gateway and work on desktops whose passwords they don't know.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{PASSWORD, Shadow, USER, Xrdp};
use peers::display::Display;
use peers::gateway::{Gateway, deskreel};
use peers::process::{Process, free_port};

/// Alice's own password: hers towards the gateway, nobody's on the desktop.
pub(crate) const OWN: &str = "Sesam-oeffne-1";

/// Writes a configuration: desktop `lab` on `port` with an account that only the gateway can use, and some users.
pub(crate) fn configure(dir: &Path, desktop_port: u16, desktop: &str, gateway: &str) -> anyhow::Result<u16> {
    // beside the gateway's folder, in which nothing may hold it
    let secret = dir.with_extension("secret");
    fs::create_dir_all(dir)?;
    fs::write(&secret, format!("{PASSWORD}\n"))?;
    let login = format!("{{login: {USER}, password: {{file: '{}'}}}}", secret.display());
    configure_with(dir, desktop_port, desktop, gateway, &format!("{{logins: [{login}]}}"))
}

/// The same with other credentials for the desktop.
fn configure_with(
    dir: &Path,
    desktop_port: u16,
    desktop: &str,
    gateway: &str,
    credentials: &str,
) -> anyhow::Result<u16> {
    let port = free_port()?;
    fs::create_dir_all(dir.join("resources"))?;
    let yaml = format!(
        "data_dir: ./data\ngateway: {{listen: '127.0.0.1:{port}', default_desktop: lab{gateway}}}\n\
         storages:\n  - {{name: disk, plugin: local, mode: sync, settings: {{path: ./recordings}}}}\n\
         access: {{resources_dir: ./resources}}\nlog: {{level: debug}}\n"
    );
    fs::write(dir.join("deskreel.yaml"), yaml)?;
    let resources = format!(
        "{{kind: windows_desktop, version: v3, metadata: {{name: lab, labels: {{env: test}}}}, \
          spec: {{addr: '127.0.0.1:{desktop_port}', gateway: {{{desktop}, credentials: {credentials}}}}}}}\n---\n\
         {{kind: role, version: v7, metadata: {{name: tester}}, \
          spec: {{allow: {{windows_desktop_labels: {{env: test}}, windows_desktop_logins: [{USER}]}}}}}}\n---\n\
         {{kind: user, version: v2, metadata: {{name: alice}}, spec: {{roles: [tester]}}}}\n---\n\
         {{kind: user, version: v2, metadata: {{name: bob}}, spec: {{roles: []}}}}\n---\n\
         {{kind: user, version: v2, metadata: {{name: carol}}, \
          spec: {{roles: [tester], status: {{is_locked: true}}}}}}\n---\n\
         {{kind: user, version: v2, metadata: {{name: dora, expires: '2020-01-01T00:00:00Z'}}, spec: {{roles: [tester]}}}}\n---\n\
         {{kind: user, version: v2, metadata: {{name: frank}}, spec: {{roles: [tester]}}}}\n---\n\
         {{kind: user, version: v2, metadata: {{name: {USER}}}, spec: {{roles: [tester]}}}}\n"
    );
    fs::write(dir.join("resources/all.yaml"), resources)?;
    Ok(port)
}

pub(crate) fn set_password(dir: &Path, user: &str) -> anyhow::Result<()> {
    set_password_to(dir, user, OWN)
}

fn set_password_to(dir: &Path, user: &str, password: &str) -> anyhow::Result<()> {
    let mut child = Command::new(deskreel())
        .args(["users", "passwd", user, "--config"])
        .arg(dir.join("deskreel.yaml"))
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{password}")?;
    }
    anyhow::ensure!(child.wait()?.success(), "users passwd {user}");
    Ok(())
}

/// Files below `dir` that hold `text`, in UTF-8 or UTF-16.
pub(crate) fn files_with(dir: &Path, text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
                if holds(text.as_bytes()) || holds(&wide) {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}

/// Alice works on the desktop by each of these client options, and no password is left behind anywhere.
fn alice_works(dir: &Path, port: u16, desktop: &str, options: &[&str]) -> anyhow::Result<()> {
    let home = dir.join("gateway");
    let listen = configure(&home, port, desktop, "")?;
    set_password(&home, "alice")?;
    let gateway = Gateway::restart(&home, listen)?;
    for (index, option) in options.iter().enumerate() {
        let own = format!("/p:{OWN}");
        let label = format!("client-{index}");
        let mut client = Client::start(dir, &label, listen, "alice:lab", &[option, &own])?;
        client
            .display
            .wait_painted(8)
            .map_err(|error| error.context(format!("{option}: {}", gateway.process.log())))?;
        client.process.end();
        let recording = gateway.wait_recording(index, &["complete"])?;
        assert_eq!(recording["user"], "alice", "{recording}");
        assert_eq!(recording["login"], USER, "{recording}");
        assert_eq!(recording["identity"], "proven", "{recording}");
    }
    drop(gateway);
    for secret in [OWN, PASSWORD] {
        assert_eq!(
            files_with(&home, secret)?,
            Vec::<PathBuf>::new(),
            "{secret} was written down"
        );
    }
    Ok(())
}

#[test]
fn an_injected_password_opens_xrdp_by_nla_and_by_tls() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("an_injected_password_opens_xrdp_by_nla_and_by_tls") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    alice_works(dir.path(), xrdp.port, "security: auto", &["/sec:nla", "/sec:tls"])
}

#[test]
fn an_injected_password_opens_a_desktop_that_wants_nla() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("an_injected_password_opens_a_desktop_that_wants_nla") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &["/sec:nla"])?;
    alice_works(dir.path(), shadow.port, "security: nla", &["/sec:nla"])
}

/// What the user types is what the desktop takes, which the gateway passes on when it has checked it itself.
#[test]
fn an_own_password_is_passed_on_to_a_desktop_that_wants_nla() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("an_own_password_is_passed_on_to_a_desktop_that_wants_nla") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &["/sec:nla"])?;
    let home = dir.path().join("gateway");
    let listen = configure_with(&home, shadow.port, "security: nla", "", "passthrough")?;
    set_password_to(&home, USER, PASSWORD)?;
    set_password_to(&home, "alice", PASSWORD)?;
    let gateway = Gateway::restart(&home, listen)?;
    let mut client = Client::start(dir.path(), "own", listen, USER, &["/sec:nla"])?;
    let painted = client.display.wait_painted(8);
    painted.map_err(|error| error.context(gateway.process.log()))?;
    client.process.end();
    let recording = gateway.wait_recording(0, &["complete"])?;
    assert_eq!(
        (&recording["user"], &recording["login"]),
        (&USER.into(), &USER.into()),
        "{recording}"
    );
    assert_eq!(recording["identity"], "proven", "{recording}");
    // alice's password is no password of that account: the desktop isn't even asked
    let mut other = Client::start(dir.path(), "other", listen, &format!("alice:lab:{USER}"), &["/sec:nla"])?;
    assert_ne!(other.process.wait(Duration::from_secs(60))?, Some(0));
    let log = gateway.process.log();
    assert!(log.contains("login_without_credentials"), "{log}");
    drop(gateway);
    assert_eq!(
        files_with(&home, PASSWORD)?,
        Vec::<PathBuf>::new(),
        "it was written down"
    );
    Ok(())
}

#[test]
fn a_ticket_file_opens_its_desktop_once() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_ticket_file_opens_its_desktop_once") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let home = dir.path().join("gateway");
    let listen = configure(&home, shadow.port, "security: auto", "")?;
    let gateway = Gateway::restart(&home, listen)?;
    for (index, security) in ["/sec:nla", "/sec:tls"].into_iter().enumerate() {
        let file = dir.path().join(format!("{index}.rdp")).display().to_string();
        let create = [
            "tickets",
            "create",
            "--user",
            "alice",
            "--desktop",
            "lab",
            "--ttl",
            "1h",
            "-o",
            &file,
        ];
        let ticket = gateway.json(&create)?;
        let secret = ticket["secret"].as_str().unwrap_or_default().to_owned();
        assert!(!fs::read_to_string(&file)?.contains(&secret));
        for again in [false, true] {
            let display = Display::start(dir.path(), &format!("ticket-{index}-{again}"), 1024, 768)?;
            let mut command = display.command("xfreerdp");
            command.args([
                &file,
                &format!("/p:{secret}"),
                security,
                "/cert:ignore",
                "/size:1024x768",
            ]);
            command.args(["-decorations", "-grab-keyboard", "/log-level:WARN"]);
            command.env("HOME", dir.path());
            let mut client = Process::start(&format!("xfreerdp-{index}-{again}"), dir.path(), &command)?;
            if again {
                let code = client.wait(Duration::from_secs(60))?;
                assert_ne!(code, Some(0), "{security}: {}", client.log());
            } else {
                let painted = display.wait_painted(8);
                painted.map_err(|error| error.context(client.log()).context(gateway.process.log()))?;
                client.end();
            }
        }
        let recording = gateway.wait_recording(index, &["complete"])?;
        assert_eq!(
            (&recording["user"], &recording["desktop"]),
            (&"alice".into(), &"lab".into()),
            "{recording}"
        );
        assert_eq!(
            files_with(&home, &secret)?,
            Vec::<PathBuf>::new(),
            "{security}: it was written down"
        );
    }
    Ok(())
}

/// Where nothing listens, so that whoever is let in gets no further.
struct Door {
    gateway: Gateway,
    display: Display,
    dir: tempfile::TempDir,
    tries: usize,
}

impl Door {
    /// A logon by NLA alone; why the session ended, and what the client saw.
    fn try_as(&mut self, user: &str, password: &str) -> anyhow::Result<(String, &'static str)> {
        self.tries += 1;
        let name = format!("try-{}", self.tries);
        let mut command = self.display.command("xfreerdp");
        command
            .args(["/sec:nla", "+auth-only", "/cert:ignore", "/log-level:INFO"])
            .arg(format!("/v:127.0.0.1:{}", self.gateway.port))
            .arg(format!("/u:{user}"))
            .arg(format!("/p:{password}"))
            .env("HOME", self.dir.path());
        let mut client = Process::start(&name, self.dir.path(), &command)?;
        client.wait(Duration::from_secs(60))?;
        let mut reason = String::new();
        peers::process::wait_for(Duration::from_secs(30), "the session to end", || {
            let log = self.gateway.process.log();
            let mut ends = log.lines().filter(|line| line.contains("session ended"));
            if let Some(line) = ends.nth(self.tries - 1) {
                let (_, rest) = line.split_once("reason=\"").unwrap_or_default();
                rest.split('"').next().unwrap_or_default().clone_into(&mut reason);
            }
            Ok(!reason.is_empty())
        })?;
        let log = client.log();
        let told = ["LOGON_FAILURE", "ACCOUNT_LOCKED_OUT", "ACCOUNT_RESTRICTION"];
        let told = told.into_iter().find(|word| log.contains(word));
        Ok((reason, told.unwrap_or_default()))
    }
}

#[test]
fn who_is_not_let_in_learns_nothing_and_a_ticket_opens_once() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("who_is_not_let_in_learns_nothing_and_a_ticket_opens_once") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("gateway");
    let limits = ", logon_failures_per_address_max: 12, logon_block: 1h";
    let listen = configure(&home, free_port()?, "security: auto", limits)?;
    for user in ["alice", "bob", "carol", "frank"] {
        set_password(&home, user)?;
    }
    let mut door = Door {
        gateway: Gateway::restart(&home, listen)?,
        display: Display::start(dir.path(), "door", 640, 480)?,
        dir,
        tries: 0,
    };
    let locked = door.gateway.run(&["lock", "--user", "frank", "--message", "away"])?;
    assert_eq!(locked.status.code(), Some(0));
    let let_in = ("desktop_unreachable".to_owned(), "");
    for user in ["alice", "alice:lab", &format!("CORP\\alice:lab:{USER}")] {
        assert_eq!(door.try_as(user, OWN)?, let_in, "{user}");
    }
    let failure = "LOGON_FAILURE";
    for (user, password, reason, told) in [
        ("alice", "wrong", "wrong_password", failure),
        ("nobody", OWN, "unknown_user", failure),
        ("frank", "wrong", "wrong_password", failure),
        ("bob", OWN, "denied_no_desktop", failure),
        ("dora", OWN, "unknown_user", failure),
        ("alice:lab:root", OWN, "denied_no_login", failure),
        ("alice:elsewhere", OWN, "denied_desktop_unknown", failure),
        // only who has proved the name may know that it is locked
        ("frank", OWN, "locked", "ACCOUNT_LOCKED_OUT"),
        ("carol", OWN, "denied_user_locked", "ACCOUNT_LOCKED_OUT"),
    ] {
        assert_eq!(door.try_as(user, password)?, (reason.to_owned(), told), "{user}");
    }

    let ticket = door
        .gateway
        .json(&["tickets", "create", "--user", "alice", "--desktop", "lab"])?;
    let secret = ticket["secret"].as_str().unwrap_or_default().to_owned();
    assert_eq!(door.try_as("alice", &secret)?, let_in);
    assert_eq!(
        door.try_as("alice", &secret)?,
        ("wrong_password".to_owned(), failure),
        "a second time"
    );
    assert_eq!(files_with(&home, &secret)?, Vec::<PathBuf>::new());

    // the audit log says of each why
    let told = door.gateway.json(&["audit", "ls"])?.to_string();
    for reason in [
        "wrong_password",
        "unknown_user",
        "denied_no_desktop",
        "denied_user_locked",
        "locked",
    ] {
        assert!(told.contains(&format!("\"error\":\"{reason}\"")), "{reason}: {told}");
    }
    assert!(!told.contains(OWN) && !told.contains(&secret));
    let logins = door.gateway.json(&["audit", "ls", "--event", "user.login"])?;
    let logins = logins.as_array().cloned().unwrap_or_default();
    let count = |code: &str, field: &str, value: &str| {
        let is = |event: &&serde_json::Value| event["code"] == code && event[field] == value;
        logins.iter().filter(is).count()
    };
    // three times to a desktop, three times to none that a role opens; a name that is proved is a logon, locked or not
    assert_eq!(count("T1000I", "user", "alice"), 6, "{logins:#?}");
    assert_eq!(count("T1000I", "proof", "ticket"), 1, "{logins:#?}");
    assert_eq!(count("T1000I", "user", "frank"), 1, "{logins:#?}");
    assert_eq!(count("T1000W", "error", "wrong_password"), 3, "{logins:#?}");
    assert_eq!(count("T1000W", "error", "unknown_user"), 2, "{logins:#?}");
    let all = ["method", "via", "addr.remote", "sid"];
    let whole = |event: &serde_json::Value| all.iter().all(|field| event[field].is_string());
    assert!(logins.iter().all(whole), "{logins:#?}");
    // whoever guesses at many names is not listened to; who has logged on from there before still is
    let guess = |door: &mut Door, index: usize| door.try_as(&format!("ghost-{index}"), "wrong");
    let blocked = ("address_blocked".to_owned(), failure);
    let mut told = guess(&mut door, 0)?;
    for index in 1..20 {
        if told == blocked {
            break;
        }
        assert_eq!(told, ("unknown_user".to_owned(), failure));
        told = guess(&mut door, index)?;
    }
    assert_eq!(told, blocked);
    assert_eq!(guess(&mut door, 20)?, blocked);
    // that nobody listens to the address is told once: who goes on guessing doesn't fill the audit log
    let logins = door
        .gateway
        .json(&["audit", "ls", "--event", "user.login"])?
        .to_string();
    assert_eq!(logins.matches("address_blocked").count(), 1, "{logins}");
    assert_eq!(door.try_as("alice", OWN)?, let_in);
    Ok(())
}

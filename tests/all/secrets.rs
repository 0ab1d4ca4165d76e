//! No password is left behind: not in logs, recordings, the audit log or errors, and not in a core dump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{PASSWORD, Shadow};
use peers::gateway::{deskreel, run_in};
use peers::process::Process;
use rustix::process::{Signal, kill_process};

use crate::nla::{OWN, configure, files_with, set_password};

/// A gateway whose shell allows core dumps of any size, in `home`.
fn serve(home: &Path, port: u16, option: &str) -> anyhow::Result<Process> {
    let mut command = Command::new("sh");
    let script = format!("ulimit -c unlimited && exec \"$0\" serve {option} --config deskreel.yaml");
    command.arg("-c").arg(script).arg(deskreel()).current_dir(home);
    let mut process = Process::start("deskreel", home, &command)?;
    process.wait_listening(port, Duration::from_secs(30))?;
    Ok(process)
}

/// Core dumps below `home`.
fn dumps(home: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = fs::read_dir(home)?.flatten().map(|entry| entry.path());
    let is_dump = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("core"))
    };
    Ok(files.filter(is_dump).collect())
}

/// Aborts it (Rust survives a first SIGSEGV that is sent); whether that left a core dump.
fn crash(process: &mut Process, home: &Path) -> anyhow::Result<bool> {
    kill_process(process.pid(), Signal::ABORT)?;
    process.wait(Duration::from_secs(60))?;
    Ok(!dumps(home)?.is_empty())
}

#[test]
fn a_crash_in_a_session_leaves_no_password_behind() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("a_crash_in_a_session_leaves_no_password_behind") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &["/sec:nla"])?;
    let home = dir.path().join("gateway");
    let port = configure(&home, shadow.port, "security: nla", "")?;
    set_password(&home, "alice")?;
    let mut gateway = serve(&home, port, "")?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.pid().as_raw_nonzero()))?;
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap_or_default();
    assert_eq!(
        limit.split_whitespace().collect::<Vec<_>>()[4..6],
        ["0", "0"],
        "{limit}"
    );

    let mut wrong = Client::start(dir.path(), "wrong", port, "alice", &["/sec:nla", "/p:Wrong-guess-1"])?;
    assert_ne!(wrong.process.wait(Duration::from_secs(60))?, Some(0));
    let client = Client::start(dir.path(), "client", port, "alice", &["/sec:nla", &format!("/p:{OWN}")])?;
    let painted = client.display.wait_painted(8);
    painted.map_err(|error| error.context(gateway.log()))?;
    assert!(!crash(&mut gateway, &home)?, "{:?}", dumps(&home)?);
    drop(client);

    // what the next start makes of the crash is looked through too
    let mut gateway = serve(&home, port, "")?;
    for what in [
        &["audit", "tail"][..],
        &["recordings", "ls"],
        &["users", "ls"],
        &["tickets", "ls"],
    ] {
        let said = run_in(&home, what)?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains(OWN) && !said.contains(PASSWORD), "{what:?}: {said}");
    }
    gateway.end();
    for secret in [OWN, PASSWORD, "Wrong-guess-1"] {
        assert_eq!(
            files_with(&home, secret)?,
            Vec::<PathBuf>::new(),
            "{secret} was written down"
        );
    }

    // the operator's way back; only a kernel that writes files beside the process can show it
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let mut gateway = serve(&home, port, "--core-dumps")?;
    let dumped = crash(&mut gateway, &home)?;
    assert!(dumped || !pattern.starts_with("core"), "--core-dumps left none");
    Ok(())
}

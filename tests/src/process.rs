//! Child processes that end with their handle, and what the tests ask of them.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A child in a process group of its own. Dropping it ends the whole group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `<dir>/<name>.log`. It is killed if the test dies.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn start(name: &str, dir: &Path, command: &Command) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut wrapped = Command::new("setpriv");
        wrapped
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        let err = out.try_clone().context("share the log")?;
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end and gives the exit code (128 + n for a signal is not mapped: `None`).
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<i32>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().context("wait for a child")? {
                return Ok(status.code());
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {limit:?}; its log:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL to this process alone, at once.
    pub fn kill(&mut self) {
        let _ = kill_process(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// SIGTERM to the process, up to ten seconds, then SIGKILL to the group.
    pub fn end(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.pid(), Signal::TERM);
            let _ = self.wait(Duration::from_secs(10));
        }
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Waits until the process listens on `port`.
    ///
    /// # Errors
    /// It ended, or `limit` passed.
    pub fn wait_listening(&mut self, port: u16, limit: Duration) -> anyhow::Result<()> {
        wait_for(limit, &format!("{} to listen on port {port}", self.name), || {
            Ok(listens(port) || !self.is_running())
        })
        .with_context(|| self.log())?;
        if !listens(port) {
            bail!("{} ended before it listened; its log:\n{}", self.name, self.log());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks `done` every 50 ms until it says yes.
///
/// # Errors
/// `done` failed, or `limit` passed; the error names `what`.
pub fn wait_for(limit: Duration, what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if done()? {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether anything listens on this TCP port, read from the kernel's table: servers here take a bare connect for a
/// client.
#[must_use]
pub fn listens(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        std::fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .skip(1)
            .any(|line| {
                let mut fields = line.split_whitespace();
                let local = fields.nth(1).and_then(|address| address.rsplit(':').next());
                let state = fields.nth(1);
                local.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port) && state == Some("0A")
            })
    })
}

/// Where ports are looked for: below those that the kernel gives to whoever asks for any, above those of well-known servers.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many ports were looked at.
static LOOKED_AT: AtomicU16 = AtomicU16::new(0);

/// A TCP port that was free a moment ago, another at each call.
///
/// # Errors
/// The machine has none left.
pub fn free_port() -> anyhow::Result<u16> {
    let count = PORTS.end - PORTS.start;
    // another process begins elsewhere
    let begin = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    (0..count)
        .map(|_| PORTS.start + (begin + LOOKED_AT.fetch_add(1, Ordering::Relaxed) % count) % count)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("find a free port")
}

/// Where a program is, by `PATH` and the folders of system programs.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a command to its end and gives its stdout.
///
/// # Errors
/// It can't be started or fails; the error has its stderr.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}

/// CPU seconds that a process and its living descendants have used, waited-for children included.
#[must_use]
pub fn cpu_seconds(root: Pid) -> f64 {
    // utime, stime, cutime, cstime are fields 14 to 17 of proc(5); `fields` starts at field 3.
    family(root).into_iter().map(|pid| ticks_seconds(pid, 11, 4)).sum()
}

/// CPU seconds of this process's children that have ended and were waited for.
#[must_use]
pub fn children_cpu_seconds() -> f64 {
    ticks_seconds(rustix::process::getpid().as_raw_nonzero().get(), 13, 2)
}

/// The sum of some fields of a process's `stat` that count clock ticks.
fn ticks_seconds(pid: i32, skip: usize, take: usize) -> f64 {
    let fields = stat_fields(pid).unwrap_or_default();
    let ticks = fields
        .iter()
        .skip(skip)
        .take(take)
        .filter_map(|field| field.parse::<u64>().ok());
    let total: u64 = ticks.sum();
    #[expect(clippy::cast_precision_loss, reason = "clock ticks of a test run are far below 2^52")]
    let seconds = total as f64 / rustix::param::clock_ticks_per_second() as f64;
    seconds
}

/// Resident memory in bytes of one process, from `/proc/PID/status`.
#[must_use]
pub fn resident_bytes(pid: Pid) -> u64 {
    std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in brackets, may hold spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// `root` and all processes below it.
#[must_use]
pub fn family(root: Pid) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, stat_fields(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut family = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            parents
                .iter()
                .filter(|(_, its_parent)| *its_parent == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    family
}

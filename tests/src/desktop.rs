//! The desktops: xrdp with its Xorg and Xvnc back ends, and freerdp-shadow-cli over an Xvfb. All show openbox and an xterm.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::display::Display;
use crate::process::{Process, free_port, run, wait_for};

/// The password of every desktop account that the tests make; worth nothing outside them.
pub const PASSWORD: &str = "Peer-pass-1";
/// The desktop account on this machine that xrdp logs on to.
pub const USER: &str = "deskreel-peer";
/// The port that xrdp's session manager is compiled to be found at: one a machine.
const SESMAN_PORT: u16 = 3350;

/// What runs on the desktop once someone has logged on: a plain background, a window manager and one terminal.
const SESSION_SCRIPT: &str = r#"#!/bin/sh
xsetroot -solid '#204a87'
openbox &
for i in 1 2 3 4 5 6 7 8 9 10; do xprop -root _NET_SUPPORTING_WM_CHECK 2>/dev/null | grep -q "window id" && break; sleep 0.3; done
exec xterm -fa '' -geometry 100x30+40+40 -bg white -fg black -xrm 'XTerm*cursorBlink: false' -e sh -c "${PEER_COMMAND:-PS1='$ ' exec sh}"
"#;

/// An xrdp server with its session manager. Dropping it ends both and every desktop they opened.
#[derive(Debug)]
pub struct Xrdp {
    /// Where it listens on loopback.
    pub port: u16,
    server: Process,
    sesman: Process,
}

/// What draws a desktop of xrdp's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Xorg,
    Xvnc,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Xorg => "Xorg",
            Self::Xvnc => "Xvnc",
        }
    }

    /// What its section of xrdp.ini has beside the common keys.
    fn keys(self) -> &'static str {
        match self {
            Self::Xorg => "lib=libxup.so\ncode=20\n",
            Self::Xvnc => "lib=libvnc.so\n",
        }
    }
}

/// A second xrdp server on the session manager of another one: its desktops are Xvnc's.
#[derive(Debug)]
pub struct XrdpVnc {
    /// Where it listens on loopback.
    pub port: u16,
    _server: Process,
}

impl Xrdp {
    /// Adds the test account if need be, starts session manager and server, waits until both listen.
    ///
    /// # Errors
    /// The account can't be made, or a server does not come up.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_running(dir, None)
    }

    /// The same with a command of one's own in the terminal.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_running(dir: &Path, command: Option<&str>) -> anyhow::Result<Self> {
        Self::start_as(dir, command, "Default")
    }

    /// One that opens a desktop for each connection, so that several clients don't take it from each other.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_for_many(dir: &Path) -> anyhow::Result<Self> {
        Self::start_as(dir, None, "UBC")
    }

    /// Starts a server for Xvnc's desktops beside this one, in the same folder.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_vnc(&self, dir: &Path) -> anyhow::Result<XrdpVnc> {
        let (port, server) = start_server(dir, Backend::Xvnc)?;
        Ok(XrdpVnc { port, _server: server })
    }

    /// `policy` says which connections share a desktop.
    fn start_as(dir: &Path, command: Option<&str>, policy: &str) -> anyhow::Result<Self> {
        add_user()?;
        // The session runs as another account and must be able to read its script.
        let shared = dir.join("xrdp");
        fs::create_dir_all(&shared)?;
        for folder in [dir, &shared] {
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
        fs::create_dir_all("/run/xrdp/sockdir").context("create xrdp's socket folder")?;
        fs::set_permissions("/run/xrdp/sockdir", Permissions::from_mode(0o3777))?;
        remove_stale_sockets()?;
        let script = session_script(&shared, command)?;
        let sesman_ini = write_sesman_ini(&shared, &script, policy)?;

        let mut command = Command::new("xrdp-sesman");
        command.arg("--nodaemon").arg("--config").arg(sesman_ini);
        let mut sesman = Process::start("xrdp-sesman", dir, &command)?;
        sesman.wait_listening(SESMAN_PORT, Duration::from_secs(60))?;
        let (port, server) = start_server(dir, Backend::Xorg)?;
        Ok(Self { port, server, sesman })
    }

    /// The server's process, for its CPU time.
    #[must_use]
    pub fn server(&self) -> &Process {
        &self.server
    }

    /// The session manager's process; the desktops are its children.
    #[must_use]
    pub fn sesman(&self) -> &Process {
        &self.sesman
    }
}

impl Drop for Xrdp {
    fn drop(&mut self) {
        self.server.end();
        // The desktops first, each by its own pid and with the time to remove its lock: there are fifty display numbers.
        let sesman = self.sesman.pid();
        let desktops = || {
            crate::process::family(sesman)
                .into_iter()
                .skip(1)
                .filter_map(rustix::process::Pid::from_raw)
        };
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            for pid in desktops() {
                let _ = rustix::process::kill_process(pid, signal);
            }
            let _ = wait_for(Duration::from_secs(5), "the desktops' end", || {
                Ok(desktops().next().is_none())
            });
        }
        self.sesman.end();
        // Its password is published: nobody shall log on with it after the test.
        let _ = run("usermod", &["-L", USER]);
    }
}

/// Starts xrdp itself and waits until it listens.
fn start_server(dir: &Path, backend: Backend) -> anyhow::Result<(u16, Process)> {
    let port = free_port()?;
    let ini = write_xrdp_ini(&dir.join("xrdp"), port, backend)?;
    let mut command = Command::new("xrdp");
    command.arg("--nodaemon").arg("--config").arg(ini);
    let mut server = Process::start(&format!("xrdp-{}", backend.name()), dir, &command)?;
    server.wait_listening(port, Duration::from_secs(60))?;
    Ok((port, server))
}

/// xrdp leaves the sockets of desktops that are gone, takes each for a desktop, and knows fifty display numbers.
fn remove_stale_sockets() -> anyhow::Result<()> {
    anyhow::ensure!(
        !crate::process::listens(SESMAN_PORT),
        "another xrdp-sesman runs on port {SESMAN_PORT}, which xrdp is compiled to use: end it first \
         (`systemctl stop xrdp xrdp-sesman` if it is the machine's own)"
    );
    for entry in fs::read_dir("/run/xrdp/sockdir").context("read xrdp's socket folder")? {
        let path = entry?.path();
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn add_user() -> anyhow::Result<()> {
    if run("id", &["-u", USER]).is_err() {
        run("useradd", &["-m", "-s", "/bin/sh", USER])?;
    }
    let mut child = Command::new("chpasswd")
        .stdin(Stdio::piped())
        .spawn()
        .context("start chpasswd")?;
    let mut input = child.stdin.take().context("chpasswd's input")?;
    std::io::Write::write_all(&mut input, format!("{USER}:{PASSWORD}\n").as_bytes())?;
    drop(input);
    anyhow::ensure!(child.wait()?.success(), "chpasswd failed for {USER}");
    Ok(())
}

fn session_script(dir: &Path, command: Option<&str>) -> anyhow::Result<PathBuf> {
    let script = dir.join("session.sh");
    let text = command.map_or_else(
        || SESSION_SCRIPT.to_owned(),
        |command| {
            SESSION_SCRIPT.replacen(
                "#!/bin/sh\n",
                &format!("#!/bin/sh\nexport PEER_COMMAND='{command}'\n"),
                1,
            )
        },
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(script)
}

/// The shipped file with what a test must have otherwise; keys are replaced where they stand.
fn write_sesman_ini(dir: &Path, script: &Path, policy: &str) -> anyhow::Result<PathBuf> {
    let log = dir.join("sesman-own.log");
    let changes = [
        ("ListenPort", SESMAN_PORT.to_string()),
        // far from the displays that Xvfb takes: the session manager looks for a free one some time before it is taken
        ("X11DisplayOffset", "60".to_owned()),
        ("EnableSyslog", "false".to_owned()),
        ("EnableUserWindowManager", "false".to_owned()),
        ("Policy", policy.to_owned()),
        ("DefaultWindowManager", script.display().to_string()),
        ("LogFile", log.display().to_string()),
    ];
    let text = change_ini(&fs::read_to_string("/etc/xrdp/sesman.ini")?, &changes);
    let file = dir.join("sesman.ini");
    fs::write(&file, text)?;
    Ok(file)
}

fn write_xrdp_ini(dir: &Path, port: u16, backend: Backend) -> anyhow::Result<PathBuf> {
    let name = backend.name();
    let (certificate, key) = make_certificate(dir, name)?;
    let shipped = fs::read_to_string("/etc/xrdp/xrdp.ini")?;
    // The shipped sections of back ends give way to the one that the tests use.
    let globals: String = shipped.split("\n[Xorg]").next().unwrap_or_default().to_owned();
    let changes = [
        ("port", format!("tcp://127.0.0.1:{port}")),
        ("security_layer", "negotiate".to_owned()),
        ("certificate", certificate.display().to_string()),
        ("key_file", key.display().to_string()),
        ("autorun", name.to_owned()),
        (
            "LogFile",
            dir.join(format!("xrdp-{name}-own.log")).display().to_string(),
        ),
        ("EnableSyslog", "false".to_owned()),
    ];
    let text = change_ini(&globals, &changes)
        + &format!("\n[{name}]\nname={name}\nusername=ask\npassword=ask\nip=127.0.0.1\nport=-1\n")
        + backend.keys();
    let file = dir.join(format!("xrdp-{name}.ini"));
    fs::write(&file, text)?;
    Ok(file)
}

/// A certificate and its key, as files.
pub(crate) fn make_certificate(dir: &Path, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    run(
        "openssl",
        &[
            "req".as_ref(),
            "-x509".as_ref(),
            "-newkey".as_ref(),
            "rsa:2048".as_ref(),
            "-nodes".as_ref(),
            "-days".as_ref(),
            "2".as_ref(),
            "-subj".as_ref(),
            "/CN=peer".as_ref(),
            "-keyout".as_ref(),
            key.as_os_str(),
            "-out".as_ref(),
            certificate.as_os_str(),
        ],
    )?;
    Ok((certificate, key))
}

fn change_ini(text: &str, changes: &[(&str, String)]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        match changes.iter().find(|(name, _)| *name == key) {
            Some((name, value)) => lines.push(format!("{name}={value}")),
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// A freerdp-shadow server that shows an Xvfb of its own. Dropping it ends both.
#[derive(Debug)]
pub struct Shadow {
    /// Where it listens on loopback.
    pub port: u16,
    /// The screen that it shares.
    pub display: Display,
    _session: Process,
    server: Process,
}

impl Shadow {
    /// Starts the screen, its programs and the server, without a check of passwords.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(dir: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let home = dir.join("shadow");
        fs::create_dir_all(&home)?;
        let display = Display::start(dir, "shadow", 1024, 768)?;
        let script = session_script(&home, None)?;
        let mut command = display.command("sh");
        command.arg(script).env("HOME", &home);
        let session = Process::start("shadow-session", dir, &command)?;
        display.wait_painted(3)?;
        display.wait_settled()?;
        let port = free_port()?;
        let sam = home.join("sam");
        fs::write(&sam, run("winpr-hash", &["-u", USER, "-p", PASSWORD, "-f", "sam"])?)?;
        let mut command = display.command("freerdp-shadow-cli");
        command
            .args([
                &format!("/port:{port}"),
                "/bind-address:127.0.0.1",
                &format!("/sam-file:{}", sam.display()),
                "-auth",
            ])
            .args(options)
            .env("HOME", &home);
        let mut server = Process::start("freerdp-shadow", dir, &command)?;
        server.wait_listening(port, Duration::from_secs(60))?;
        Ok(Self {
            port,
            display,
            _session: session,
            server,
        })
    }

    /// The server's process, for its CPU time.
    #[must_use]
    pub fn server(&self) -> &Process {
        &self.server
    }
}

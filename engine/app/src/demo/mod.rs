//! The built-in demo: a desktop and a client of ours on both sides of the real gateway, which runs as a process of its
//! own. It needs nothing installed and proves nothing alone; the tests use real peers.

mod client;
mod desktop;
mod listening;
mod scene;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::catalog::{self, Catalog, SessionRow, State};
use crate::gateway::tls;
use client::{Script, Seen};
use desktop::{Desktop, PASSWORD, SIZE, USER};

/// How long the gateway may take to get ready, and a recording to be closed and stored.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to show and where to leave it.
#[derive(Debug)]
pub(crate) struct Demo {
    /// Configuration, data and recordings go here.
    pub(crate) folder: PathBuf,
    /// Where the gateway listens; port 0 for any.
    pub(crate) listen: SocketAddr,
    /// How long the scripted session lasts.
    pub(crate) duration: Duration,
    /// Where the pages are served, if anywhere.
    pub(crate) web: Option<SocketAddr>,
}

/// A demo whose session is over: its desktop and its gateway still run until it is dropped.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The configuration that the gateway runs with.
    pub(crate) config: PathBuf,
    /// Where the gateway listens.
    pub(crate) address: SocketAddr,
    /// The session's row in the catalog.
    pub(crate) session: SessionRow,
    /// What the client had on its screen in the end, as a PNG file.
    pub(crate) last_screen: PathBuf,
    gateway: Gateway,
    _desktop: Desktop,
}

impl Shown {
    /// Whether the gateway still runs.
    ///
    /// # Errors
    /// Its state can't be asked for.
    pub(crate) fn is_serving(&mut self) -> anyhow::Result<bool> {
        Ok(self.gateway.0.try_wait().context("look after the gateway")?.is_none())
    }
}

impl Demo {
    /// Starts the desktop and the gateway, runs the scripted client through it and waits for the closed recording.
    ///
    /// # Errors
    /// Whatever went wrong on the way; the gateway's own words are on stderr.
    pub(crate) fn show(&self) -> anyhow::Result<Shown> {
        fs::create_dir_all(&self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        let folder = self
            .folder
            .canonicalize()
            .with_context(|| format!("find {}", self.folder.display()))?;
        let desktop = Desktop::start()?;
        let address = self.pick_address()?;
        let config = write_config(&folder, address, self.web, &desktop)?;
        let data = folder.join("data");
        let known = sessions(&data)?.len();
        let mut gateway = Gateway::start(&config)?;
        gateway.wait_ready(address)?;

        let bar = ProgressBar::new(u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX));
        bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {percent}%").context("style the progress bar")?);
        bar.set_message("session");
        let script = Script {
            address,
            user: USER,
            password: PASSWORD,
            size: SIZE,
            duration: self.duration,
            fingerprint: tls::kept_fingerprint(&data)?,
            progress: Box::new({
                let bar = bar.clone();
                move |passed| bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
            }),
        };
        let seen = client::run(script).context("the demo's session")?;
        bar.finish_and_clear();
        let last_screen = folder.join("last-screen.png");
        write_png(&last_screen, &seen)?;
        let session = wait_closed(&data, known)?;
        Ok(Shown {
            config,
            address,
            session,
            last_screen,
            gateway,
            _desktop: desktop,
        })
    }

    fn pick_address(&self) -> anyhow::Result<SocketAddr> {
        let listener =
            std::net::TcpListener::bind(self.listen).with_context(|| format!("listen on {}", self.listen))?;
        listener.local_addr().context("ask for the bound address")
    }
}

/// The gateway's process; ended with SIGTERM when dropped.
#[derive(Debug)]
struct Gateway(Child);

impl Gateway {
    fn start(config: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("find the own program")?;
        let child = Command::new(own)
            .arg("serve")
            .arg("--config")
            .arg(config)
            // However the demo ends, nothing of it stays behind.
            .arg("--end-with")
            .arg(std::process::id().to_string())
            // It is looked at in /proc, and its passwords stand in the source.
            .arg("--core-dumps")
            // The demo's configuration is the whole of it.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start the gateway")?;
        Ok(Self(child))
    }

    fn wait_ready(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !listening::listens(self.0.id(), address)? {
            if let Some(status) = self.0.try_wait().context("look after the gateway")? {
                bail!("the gateway ended ({status}) before it was ready");
            }
            anyhow::ensure!(
                begun.elapsed() < PATIENCE,
                "the gateway is not ready after {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // Err = it is gone already, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn write_config(
    folder: &Path,
    listen: SocketAddr,
    web: Option<SocketAddr>,
    desktop: &Desktop,
) -> anyhow::Result<PathBuf> {
    let resources = folder.join("resources");
    fs::create_dir_all(&resources).with_context(|| format!("create {}", resources.display()))?;
    let config = folder.join("deskreel.yaml");
    let web = web.map_or_else(String::new, |web| format!("web: {{listen: '{web}'}}\n"));
    let text = format!(
        "# Written by `deskreel demo` at every start.\n\
         data_dir: ./data\n\
         gateway:\n  listen: '{listen}'\n  default_desktop: demo\n\
         storages:\n  - {{name: disk, plugin: local, mode: sync, settings: {{path: ./recordings}}}}\n\
         access:\n  resources_dir: ./resources\n  claimed_identity: allow\n\
         log: {{level: warn}}\n{web}"
    );
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let file = resources.join("demo.yaml");
    let text = format!(
        "# Written by `deskreel demo` at every start.\n\
         kind: windows_desktop\nversion: v3\nmetadata: {{name: demo, labels: {{env: demo}}}}\n\
         spec:\n  addr: '{}'\n  gateway: {{tls: {{verify: pin, sha256: {}}}, credentials: passthrough}}\n",
        desktop.address, desktop.fingerprint
    );
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(config)
}

/// The sessions that the catalog knows, oldest first; none before the gateway's first start.
fn sessions(data: &Path) -> anyhow::Result<Vec<SessionRow>> {
    let catalog = match Catalog::open_read_only(data) {
        Ok(catalog) => catalog,
        Err(catalog::Error::Missing(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error).context("open the demo's catalog"),
    };
    let mut sessions = catalog.sessions().context("read the demo's catalog")?;
    // Its storage may be shared with other nodes, whose recordings come and go.
    sessions.retain(|session| session.node.is_none());
    sessions.sort_by_key(|session| session.id);
    Ok(sessions)
}

fn wait_closed(data: &Path, known: usize) -> anyhow::Result<SessionRow> {
    let begun = Instant::now();
    loop {
        match sessions(data)?.into_iter().nth(known) {
            Some(session) if !matches!(session.state, State::Recording | State::Delivering) => return Ok(session),
            _ if begun.elapsed() > PATIENCE => {
                bail!("the recording is not closed {PATIENCE:?} after the session's end")
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn write_png(path: &Path, seen: &Seen) -> anyhow::Result<()> {
    let file = fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut encoder = png::Encoder::new(
        std::io::BufWriter::new(file),
        u32::from(seen.width),
        u32::from(seen.height),
    );
    encoder.set_color(png::ColorType::Rgb);
    let rgb: Vec<u8> = seen
        .rgba
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&rgb))
        .with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::SocketAddr;

    use std::time::Duration;

    use ironrdp_connector::ServerName;
    use ironrdp_tokio::{Framed, LocalTokioStream};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::CertificateDer;

    use super::client::{self, Script};
    pub(crate) use super::desktop::Desktop;
    use super::desktop::SIZE;
    pub(crate) use super::desktop::{PASSWORD, USER};
    use crate::gateway::tls::any_certificate;

    /// IronRDP's client with NLA, up to the picture. It asks for the early user authorization result.
    ///
    /// # Errors
    /// What the other side refuses.
    pub(crate) async fn connect_by_nla(
        address: SocketAddr,
        (user, password): (&str, &str),
        public_key: impl FnOnce(&CertificateDer<'_>) -> Vec<u8>,
    ) -> Result<(), ironrdp_connector::ConnectorError> {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut config = client::config(user, password, SIZE);
        config.enable_credssp = true;
        let mut connector = ironrdp_connector::ClientConnector::new(config, stream.local_addr().unwrap());
        let mut framed = Framed::<LocalTokioStream<TcpStream>>::new(stream);
        let upgrade = ironrdp_tokio::connect_begin(&mut framed, &mut connector).await?;
        let tls = TlsConnector::from(any_certificate(deskreel_config::TlsMin::Tls12).unwrap())
            .connect("gateway".try_into().unwrap(), framed.into_inner_no_leftover())
            .await
            .unwrap();
        let key = public_key(&tls.get_ref().1.peer_certificates().unwrap()[0]);
        let upgraded = ironrdp_tokio::mark_as_upgraded(upgrade, &mut connector);
        let mut framed = Framed::<LocalTokioStream<_>>::new(tls);
        let name = ServerName::new("gateway");
        let network = &mut client::NoNetwork;
        let done = ironrdp_tokio::connect_finalize(upgraded, connector, &mut framed, network, name, key, None).await?;
        done.into_connected().map(drop)
    }

    /// A short session with what listens at `address` and shows a certificate with this fingerprint.
    pub(crate) fn session(address: SocketAddr, fingerprint: String) -> anyhow::Result<()> {
        let script = Script {
            address,
            user: USER,
            password: PASSWORD,
            size: SIZE,
            duration: Duration::from_secs(1),
            fingerprint,
            progress: Box::new(|_passed| {}),
        };
        client::run(script).map(drop)
    }

    fn script(desktop: &Desktop, password: &'static str) -> Script {
        Script {
            address: desktop.address,
            user: USER,
            password,
            size: SIZE,
            duration: Duration::from_secs(2),
            fingerprint: desktop.fingerprint.clone(),
            progress: Box::new(|_passed| {}),
        }
    }

    #[test]
    fn the_client_sees_the_desktop() {
        let desktop = Desktop::start().unwrap();
        let seen = client::run(script(&desktop, PASSWORD)).unwrap();
        assert_eq!((seen.width, seen.height), SIZE);
        let mut colours: Vec<[u8; 3]> = seen
            .rgba
            .chunks_exact(4)
            .map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect();
        colours.sort_unstable();
        colours.dedup();
        assert!(colours.len() > 100, "{} colours of a picture with many", colours.len());
        // One client after another.
        client::run(script(&desktop, PASSWORD)).unwrap();
        assert!(client::run(script(&desktop, "wrong")).is_err(), "a wrong password");
    }
}

//! `recordings play`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use deskreel_policy::Verb;
use deskreel_recording::event::SessionStart;
use ed25519_dalek::VerifyingKey;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::target::{Details, Found, Target, runtime};
use super::verify::node_keys;
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{self, IdentityKind, SessionRow, State};
use crate::cmd::{Global, Outcome};
use crate::keys::public_key;
use crate::replay::Index;
use crate::web::alone::Alone;

/// Arguments of `recordings play`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel recordings play 01902b6e\n  deskreel recordings play ./downloaded --public-key node.pub.pem\n\n\
    Serves the player on loopback until Ctrl-C. The address that is printed works once, in one browser."
)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The key to trust instead of this node's: a PEM file as `keys show` prints it
    #[arg(long, value_name = "FILE")]
    public_key: Option<std::path::PathBuf>,
    /// The port to listen on [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Only print the address, open no browser
    #[arg(long)]
    no_browser: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let purpose = Purpose {
        verb: Verb::Read,
        what: RecordingAction::Access,
        action: "play",
    };
    let found = args.target.find(global, &runtime, purpose)?;
    let known = match &found {
        Found::Recording { row, .. } => row.as_deref().cloned(),
        Found::Files(_) => None,
    };
    let opened = found.source(&runtime, Details::new())?;
    let source = opened.source.clone();
    let index = Index::read(&source)?;
    let keys = match (&args.public_key, &opened.loaded) {
        (Some(path), _) => vec![public_key(path).context("--public-key")?],
        (None, Some(loaded)) => node_keys(loaded)?,
        // A folder plays without a gateway, and then there may be no key to trust.
        (None, None) => this_node(global),
    };
    let row = known.unwrap_or_else(|| row(source.recording(), &index));
    let target = absolute(&args.target.recording);
    let player = runtime.block_on(Alone::new(row, source, keys, target).bind(args.port))?;
    opened.shown();
    println!("{}", player.url);
    eprintln!("Open this address in a browser of this machine; it works once. Ctrl-C ends the player.");
    if !args.no_browser {
        open_browser(&player.url);
    }
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        tokio::select! {
            () = player.run() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(Outcome::Fine)
    })
}

/// The keys that the configuration at hand trusts, if there is any.
fn this_node(global: &Global) -> Vec<VerifyingKey> {
    let loaded = global.load().ok();
    loaded.and_then(|loaded| node_keys(&loaded).ok()).unwrap_or_default()
}

/// A folder by its whole path, so that a command that the page shows works anywhere; an id as it is.
fn absolute(target: &str) -> String {
    let path = Path::new(target);
    let whole = path.exists().then(|| path.canonicalize().ok()).flatten();
    whole.map_or_else(|| target.to_owned(), |path| path.display().to_string())
}

/// What a recording says of itself.
fn row(id: Uuid, index: &Index) -> SessionRow {
    let mut row = SessionRow::unlisted(id);
    row.state = if index.recovered {
        State::Recovered
    } else {
        State::Complete
    };
    row.duration_ms = catalog::duration_ms(index.duration_ns);
    row.segments = u32::try_from(index.segments.len()).unwrap_or(u32::MAX);
    row.gaps = u32::try_from(index.gaps.len()).unwrap_or(u32::MAX);
    row.undecoded = index.undecoded;
    if let Some(start) = &index.start {
        tell_start(&mut row, start);
    }
    if let Some(end) = &index.end {
        let reason = serde_json::to_value(end.reason).ok();
        row.end_reason = reason.and_then(|reason| reason.as_str().map(str::to_owned));
        row.ended =
            Some(row.started + time::Duration::milliseconds(i64::try_from(row.duration_ms).unwrap_or(i64::MAX)));
    }
    row
}

fn tell_start(row: &mut SessionRow, start: &SessionStart) {
    let nanoseconds = i128::from(start.started_unix_us) * 1000;
    row.started = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    row.user.clone_from(&start.user.name);
    row.identity = if start.user.proven {
        IdentityKind::Proven
    } else {
        IdentityKind::Claimed
    };
    row.login.clone_from(&start.login);
    row.desktop.clone_from(&start.desktop.name);
    row.desktop_addr.clone_from(&start.desktop.addr);
    row.labels.clone_from(&start.desktop.labels);
    row.client_addr.clone_from(&start.client.addr);
}

/// Asks the desktop of whoever sits here for a browser. Where there is none, the address is printed all the same.
fn open_browser(url: &str) {
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if !has_display {
        return;
    }
    let mut opener = Command::new("xdg-open");
    opener
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Ok(mut child) = opener.spawn() {
        // It hands the address over and ends.
        std::thread::spawn(move || child.wait());
    }
}

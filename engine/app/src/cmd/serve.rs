//! `deskreel serve`: the gateway, until a signal ends it.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use deskreel_config::{Config, Loaded, RecordingMode, Resources, StorageConfig, load_resources};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::{Global, Outcome, UsageError};
use crate::access::{Access, Who};
use crate::control::server::Server;
use crate::dumps;
use crate::exports::{self, Exports};
use crate::gateway::Gateway;
use crate::host::{Plugins, StorageHandle, return_large_buffers};
use crate::keep::Opened;
use crate::keep::upkeep::{Running, Upkeep};
use crate::pipeline::{Sessions, Storage};
use crate::web::Web;

/// Run the gateway until SIGTERM or SIGINT
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End when this process, which must be the parent, does
    #[arg(long, value_name = "PID", hide = true)]
    end_with: Option<i32>,
    /// Let a crash write core dumps, and debuggers attach: both can see passwords
    #[arg(long)]
    core_dumps: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    if !args.core_dumps {
        dumps::forbid()?;
    }
    if let Some(parent) = args.end_with {
        end_with(parent)?;
    }
    return_large_buffers();
    let loaded = global.load()?;
    Who::is(&loaded.config.data_dir)?;
    crate::log::init(loaded.config.log);
    if args.core_dumps {
        info!("--core-dumps: a crash writes passwords to a file");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the tokio runtime")?;
    let outcome = runtime.block_on(serve(global, &loaded));
    // A plugin that hangs in a call must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Asks for SIGTERM when the parent ends, however that happens. The thread that calls this must live as long as the process.
fn end_with(parent: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("ask for a signal when the parent ends")?;
    // It may have ended before.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        bail!("--end-with {parent}: the process has ended, or is not the parent");
    }
    Ok(())
}

async fn serve(global: &Global, loaded: &Loaded) -> anyhow::Result<Outcome> {
    let config = &loaded.config;
    let access = Access::start(loaded)?;
    let rules = Arc::clone(&access);
    tokio::spawn(reload_on_signal(global.clone(), Arc::clone(&access)));
    let resources = resources(config, &access);
    loaded
        .check_references(&resources, &|name| access.view().desktops.contains_key(name))
        .map_err(|errors| UsageError(errors.to_string()))?;
    for warning in loaded.warnings(&resources) {
        warn!(%warning, "configuration");
    }
    let problems = crate::keep::problems(config);
    if !problems.is_empty() {
        return Err(UsageError(problems.join("\n")).into());
    }
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let opened = storages(loaded).await?;
    let sessions = Sessions::start(config, opened.iter().cloned().map(as_storage).collect()).await?;
    let upkeep = upkeep(loaded, &opened, &sessions)?;
    let exports = exports(global, loaded, &opened, &sessions)?;
    let gateway = Gateway::bind(config, &resources, Arc::clone(&access), sessions.clone()).await?;
    let desktops = access.view().desktops.len();
    let web = Web::bind(config, access, gateway.registry(), &sessions, opened).await?;
    let pages = web.as_ref().map(Web::local_addr).transpose()?;
    info!(
        listen = %gateway.local_addr(),
        fingerprint = gateway.fingerprint(),
        desktops,
        web = pages.map(|pages| pages.to_string()),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    // Without it the gateway does its work all the same; it only can't be asked about it.
    let control =
        Server::bind(&config.data_dir, gateway.registry(), sessions.audit().clone(), rules).inspect_err(|error| {
            warn!(
                error = format!("{error:#}"),
                "no control socket: `deskreel sessions` won't work"
            );
        });
    let control = control.ok().map(|control| tokio::spawn(control.run()));
    let web = web.map(|web| tokio::spawn(web.run()));
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    gateway
        .run(async {
            let signal = signalled().await;
            info!(signal, "stopping");
        })
        .await;
    for front in [control, web].into_iter().flatten() {
        front.abort();
    }
    upkeep.stop();
    exports.stop();
    tokio::select! {
        () = sessions.shutdown() => {}
        signal = signalled() => warn!(signal, "second signal: leaving the rest to the next start"),
    }
    exports.settle();
    info!("stopped");
    Ok(Outcome::Fine)
}

/// The desktops in force of the configuration, and what is odd about its folder. Where that can't be loaded,
/// [`Access::start`] has said so and goes by what it said before.
fn resources(config: &Config, access: &Access) -> Resources {
    let folder = load_resources(&config.access.resources_dir).unwrap_or_default();
    let view = access.view();
    let configured = view.desktops.values().filter(|desktop| desktop.is_configured());
    Resources {
        desktops: configured.map(|desktop| desktop.resource.as_ref().clone()).collect(),
        ..folder
    }
}

/// Reads the resource folder and the sections `session_recording` and `access` again at each SIGHUP. What is wrong is
/// logged, and everything stays as it is.
async fn reload_on_signal(global: Global, access: Arc<Access>) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return warn!(%error, "SIGHUP will not be heard"),
    };
    while hangups.recv().await.is_some() {
        let (global, access) = (global.clone(), Arc::clone(&access));
        let reloaded = tokio::task::spawn_blocking(move || access.reload(&global.load()?)).await;
        match reloaded {
            Ok(Ok(())) => info!("SIGHUP: resources are read again"),
            Ok(Err(error)) => error!(error = format!("{error:#}"), "SIGHUP: nothing is changed"),
            Err(error) => error!(%error, "SIGHUP: the reload panicked"),
        }
    }
}

/// Opens the configured storages. With recording off they only take what earlier sessions left, so one that can't be
/// opened is a warning then.
async fn storages(loaded: &Loaded) -> anyhow::Result<Vec<Arc<StorageHandle>>> {
    let plugins = Plugins::new(loaded);
    let mut storages = Vec::new();
    for config in &loaded.config.storages {
        match plugins.open_storage(config).await {
            Ok(storage) => storages.push(storage),
            Err(error) if loaded.config.session_recording.mode == RecordingMode::Off => {
                warn!(
                    storage = config.name,
                    error = format!("{error:#}"),
                    "storage is not opened"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(storages)
}

fn as_storage(handle: Arc<StorageHandle>) -> Arc<dyn Storage> {
    handle
}

/// What goes on beside the sessions: retention, and the catalog in step with the storages.
fn upkeep(loaded: &Loaded, opened: &[Arc<StorageHandle>], sessions: &Sessions) -> anyhow::Result<Running> {
    let (catalog, audit) = (Arc::clone(sessions.catalog()), sessions.audit().clone());
    Ok(Upkeep::new(&loaded.config, all(loaded, opened), catalog, audit)?.start())
}

/// What exporters with `mode: async` do.
fn exports(
    global: &Global,
    loaded: &Loaded,
    opened: &[Arc<StorageHandle>],
    sessions: &Sessions,
) -> anyhow::Result<exports::Running> {
    let (catalog, audit) = (Arc::clone(sessions.catalog()), sessions.audit().clone());
    let storages = all(loaded, opened);
    Exports::new(&loaded.config, global.arguments(), storages, catalog, audit)?.start()
}

/// Every configured storage, open or not.
fn all(loaded: &Loaded, opened: &[Arc<StorageHandle>]) -> Vec<Opened> {
    let open = |config: &StorageConfig| Opened {
        name: config.name.clone(),
        required: config.required,
        storage: opened
            .iter()
            .find(|storage| storage.name == config.name)
            .cloned()
            .ok_or_else(|| "it was not opened at the start".to_owned()),
    };
    loaded.config.storages.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rustix::process::parent_process_death_signal;

    use super::*;

    #[test]
    fn the_gateway_ends_with_its_parent_only() {
        let parent = getppid().unwrap().as_raw_pid();
        end_with(parent).unwrap();
        assert_eq!(parent_process_death_signal().unwrap(), Some(Signal::TERM));
        let other = i32::try_from(std::process::id()).unwrap();
        assert!(end_with(other).unwrap_err().to_string().contains("not the parent"));
        set_parent_process_death_signal(None).unwrap();
    }
}

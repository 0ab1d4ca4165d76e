//! `deskreel serve`: the gateway, until a signal ends it.

use std::sync::Arc;

use anyhow::Context as _;
use deskreel_config::{Loaded, RecordingMode, load_resources};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::{Global, Outcome, UsageError};
use crate::access::Access;
use crate::gateway::Gateway;
use crate::host::Plugins;
use crate::pipeline::{Sessions, Storage};

/// Run the gateway until SIGTERM or SIGINT
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(global: &Global, _args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    crate::log::init(loaded.config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the tokio runtime")?;
    let outcome = runtime.block_on(serve(global, &loaded));
    // A plugin that hangs in a call must not keep the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(global: &Global, loaded: &Loaded) -> anyhow::Result<Outcome> {
    let config = &loaded.config;
    let access = Access::start(loaded)?;
    tokio::spawn(reload_on_signal(global.clone(), Arc::clone(&access)));
    let resources = load_resources(&config.access.resources_dir).map_err(|errors| UsageError(errors.to_string()))?;
    loaded
        .check_references(&resources, &|name| access.view().desktops.contains_key(name))
        .map_err(|errors| UsageError(errors.to_string()))?;
    for warning in loaded.warnings(&resources) {
        warn!(%warning, "configuration");
    }
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let sessions = Sessions::start(config, storages(loaded).await?).await?;
    let gateway = Gateway::bind(config, &resources, access, sessions.clone()).await?;
    info!(
        listen = %gateway.local_addr(),
        fingerprint = gateway.fingerprint(),
        desktops = resources.desktops.len(),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
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
    tokio::select! {
        () = sessions.shutdown() => {}
        signal = signalled() => warn!(signal, "second signal: leaving the rest to the next start"),
    }
    info!("stopped");
    Ok(Outcome::Fine)
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
async fn storages(loaded: &Loaded) -> anyhow::Result<Vec<Arc<dyn Storage>>> {
    let plugins = Plugins::new(loaded);
    let mut storages: Vec<Arc<dyn Storage>> = Vec::new();
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

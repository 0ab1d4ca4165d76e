//! `deskreel serve`: the gateway, until a signal ends it.

use anyhow::Context as _;
use deskreel_config::{Loaded, load_resources};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{Global, Outcome, UsageError};
use crate::gateway::Gateway;
use crate::pipeline::Sessions;

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
    let outcome = runtime.block_on(serve(&loaded));
    // A plugin that hangs in a call must not keep the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(loaded: &Loaded) -> anyhow::Result<Outcome> {
    let config = &loaded.config;
    let resources = load_resources(&config.access.resources_dir).map_err(|errors| UsageError(errors.to_string()))?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let sessions = Sessions::start(config, Vec::new()).await?;
    let gateway = Gateway::bind(config, &resources, sessions.clone()).await?;
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

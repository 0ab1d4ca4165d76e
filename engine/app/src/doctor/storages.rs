//! Plugins: each configured storage is opened and asked whether it could be written, each exporter is opened.

use deskreel_config::{Loaded, StorageConfig};
use tokio::runtime::{Builder, Runtime};

use super::Report;
use crate::host::Plugins;

/// Looks at the plugins.
pub(super) fn examine(loaded: &Loaded, report: &mut Report) {
    let plugins = Plugins::new(loaded);
    let runtime = match Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report.error("storage", format!("start the runtime: {error}"), "free some memory"),
    };
    if loaded.config.storages.is_empty() {
        report.warn(
            "storage",
            "no storage is configured: recordings stay in the spool",
            "add one to storages in deskreel.yaml",
        );
    }
    for config in &loaded.config.storages {
        storage(&runtime, &plugins, config, report);
    }
    for config in &loaded.config.exporters {
        match plugins.open_exporter(config) {
            Ok(_) => report.ok("exporter", format!("{}: plugin {} opens", config.name, config.plugin)),
            Err(error) => report.error(
                "exporter",
                format!("{}: {error:#}", config.name),
                "see `deskreel plugins ls` and the plugin's README",
            ),
        }
    }
    // a plugin that hangs in a call must not keep the command
    runtime.shutdown_background();
}

fn storage(runtime: &Runtime, plugins: &Plugins<'_>, config: &StorageConfig, report: &mut Report) {
    let name = &config.name;
    let needed = if config.required {
        "it is required: recordings are not complete without it"
    } else {
        "it is not required: recordings are complete without it"
    };
    let opened = match runtime.block_on(plugins.open_storage(config)) {
        Ok(opened) => opened,
        Err(error) => {
            return report.error(
                "storage",
                format!("{name}: {error:#} ({needed})"),
                "see `deskreel plugins ls`, the storage's settings in deskreel.yaml, and the plugin's README",
            );
        }
    };
    match runtime.block_on(opened.check()) {
        Ok(()) => report.ok(
            "storage",
            format!("{name}: plugin {} opens and can be written", config.plugin),
        ),
        Err(error) => report.error(
            "storage",
            format!("{name}: can't be written: {error} ({needed})"),
            "mend access to it: address, credentials, permissions and space, as the plugin's README says",
        ),
    }
}

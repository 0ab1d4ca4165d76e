//! Plugins: each configured storage is opened and asked whether it could be written, each exporter is opened.

use deskreel_config::{ExporterConfig, Loaded, Origin, StorageConfig};
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
        let is_default = is_default(loaded, config);
        exporter(config, plugins.open_exporter(config).map(drop), is_default, report);
    }
    // a plugin that hangs in a call must not keep the command
    runtime.shutdown_background();
}

/// Whether nobody has asked for an exporter.
fn is_default(loaded: &Loaded, config: &ExporterConfig) -> bool {
    loaded.origin(&format!("{}.name", config.source_key)) == Origin::Default
}

/// Of one that nobody has asked for it is no error that it can't be used here.
fn exporter(config: &ExporterConfig, opened: anyhow::Result<()>, is_default: bool, report: &mut Report) {
    let name = &config.name;
    match opened {
        Ok(()) => report.ok("exporter", format!("{name}: plugin {} opens", config.plugin)),
        Err(error) if is_default => report.warn(
            "exporter",
            format!("{name}, which is there by default: {error:#}"),
            "install what it needs, as the plugin's README says, or list `exporters` without it in deskreel.yaml",
        ),
        Err(error) => report.error(
            "exporter",
            format!("{name}: {error:#}"),
            "see `deskreel plugins ls` and the plugin's README",
        ),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use deskreel_config::Sources;

    use super::*;
    use crate::doctor::State;

    #[test]
    fn an_exporter_that_nobody_asked_for_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let load = |file: Option<&Path>| {
            let sources = Sources {
                file: file.map(Path::to_owned),
                working_dir: folder.path().to_owned(),
                ..Sources::default()
            };
            deskreel_config::load(&sources).unwrap()
        };
        let told = |loaded: &Loaded, name: &str| {
            let config = loaded
                .config
                .exporters
                .iter()
                .find(|config| config.name == name)
                .unwrap();
            let mut report = Report::new();
            let is_default = is_default(loaded, config);
            exporter(
                config,
                Err(anyhow::anyhow!("libvpx.so.7 is missing")),
                is_default,
                &mut report,
            );
            let finding = report.findings.remove(0);
            assert!(
                finding.what.contains(name) && finding.what.contains("libvpx.so.7"),
                "{finding:?}"
            );
            finding.state
        };
        assert_eq!(told(&load(None), "webm"), State::Warning);
        let file = folder.path().join("deskreel.yaml");
        std::fs::write(&file, "exporters: [{name: film, plugin: webm}]\n").unwrap();
        assert_eq!(told(&load(Some(&file)), "film"), State::Error);
    }
}

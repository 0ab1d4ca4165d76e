//! What a valid configuration and valid resources get wrong together, and what is worth a warning.

use std::path::Path;

use crate::error::{ConfigError, Errors, Origin};
use crate::resources::{Resources, Verify};
use crate::scalar::quoted;
use crate::schema::likeness;
use crate::{Loaded, RecordingMode};

impl Loaded {
    /// Checks the names and files that the configuration points to: desktops, certificates, plugin files. `known` tells of
    /// desktops that are not in the folder.
    ///
    /// # Errors
    /// Everything that does not exist, each with the key that names it.
    pub fn check_references(&self, resources: &Resources, known: &dyn Fn(&str) -> bool) -> Result<(), Errors> {
        let missing = |name: &str| resources.desktop(name).is_none() && !known(name);
        let mut errors = Vec::new();
        let gateway = &self.config.gateway;
        if let Some(name) = gateway.default_desktop.as_deref().filter(|name| missing(name)) {
            let near = resources
                .desktops
                .iter()
                .find(|desktop| likeness(&desktop.name, name) >= 0.6);
            let hint = near
                .map(|desktop| format!(", did you mean {}?", desktop.name))
                .unwrap_or_default();
            let folder = self.config.access.resources_dir.display();
            errors.push(self.error(
                "gateway.default_desktop",
                format!("no desktop {} in {folder}{hint}", quoted(name)),
            ));
        }
        for (index, listener) in gateway.listeners.iter().enumerate() {
            if missing(&listener.desktop) {
                let message = format!("no desktop {}", quoted(&listener.desktop));
                errors.push(self.error(&format!("gateway.listeners[{index}].desktop"), message));
            }
        }
        let mut file = |key: String, path: Option<&Path>| {
            if let Some(message) = path.and_then(unreadable) {
                errors.push(self.error(&key, message));
            }
        };
        file("gateway.certificate".to_owned(), gateway.certificate.as_deref());
        file("gateway.private_key".to_owned(), gateway.private_key.as_deref());
        let web = &self.config.web;
        file("web.certificate".to_owned(), web.certificate.as_deref());
        file("web.private_key".to_owned(), web.private_key.as_deref());
        for storage in &self.config.storages {
            file(format!("{}.path", storage.source_key), storage.path.as_deref());
        }
        for exporter in &self.config.exporters {
            file(format!("{}.path", exporter.source_key), exporter.path.as_deref());
        }
        for desktop in &resources.desktops {
            if let Some(message) = desktop.gateway.tls.ca.as_deref().and_then(unreadable) {
                let key = format!("windows_desktop/{}: spec.gateway.tls.ca", desktop.name);
                errors.push(ConfigError {
                    origin: Origin::Default,
                    key,
                    message,
                });
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Errors(errors)) }
    }

    /// What is allowed but probably not meant, or worth knowing.
    #[must_use]
    pub fn warnings(&self, resources: &Resources) -> Vec<ConfigError> {
        let mut warnings = Vec::new();
        let folder = self.config.access.resources_dir.display();
        if resources.folder_missing {
            let message = format!("{folder} does not exist: there are no desktops but those that commands made");
            warnings.push(self.error("access.resources_dir", message));
        } else if resources.desktops.is_empty() {
            let message = format!("{folder} holds no desktops: there are none but those that commands made");
            warnings.push(self.error("access.resources_dir", message));
        }
        if self.config.gateway.default_desktop.is_none() && !resources.desktops.is_empty() {
            let message = "none, so a user must log on as user:desktop".to_owned();
            warnings.push(self.error("gateway.default_desktop", message));
        }
        if self.config.session_recording.mode == RecordingMode::Off {
            warnings.push(self.error("session_recording.mode", "off: nothing is recorded".to_owned()));
        }
        if self.config.access.require_session_mfa {
            let message = "yes: no session is let in, as this gateway can't check a second factor yet".to_owned();
            warnings.push(self.error("access.require_session_mfa", message));
        }
        warnings.extend(resources.warnings.iter().cloned());
        for desktop in resources
            .desktops
            .iter()
            .filter(|desktop| desktop.gateway.tls.verify == Verify::None)
        {
            let key = format!("windows_desktop/{}: spec.gateway.tls.verify", desktop.name);
            let message = "none: whoever answers at the address is taken for the desktop".to_owned();
            warnings.push(ConfigError {
                origin: Origin::Default,
                key,
                message,
            });
        }
        warnings
    }

    fn error(&self, key: &str, message: String) -> ConfigError {
        ConfigError {
            origin: self.origin(key),
            key: key.to_owned(),
            message,
        }
    }
}

/// Why a file that must be there can't be read.
fn unreadable(path: &Path) -> Option<String> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => Some(format!("{} is a folder", path.display())),
        Ok(_) => None,
        Err(error) => Some(format!("{} can't be opened: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tempfile::TempDir;

    use super::*;
    use crate::{Sources, load, load_resources};

    const DESKTOP: &str = "kind: windows_desktop\nversion: v3\nmetadata: {name: lab}\nspec: {addr: a}\n";

    fn load_folder(config: &str, desktops: Option<&str>) -> (TempDir, Loaded, Resources) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("d.yaml"), config).unwrap();
        if let Some(desktops) = desktops {
            std::fs::create_dir(dir.path().join("resources")).unwrap();
            std::fs::write(dir.path().join("resources/r.yaml"), desktops).unwrap();
        }
        let sources = Sources {
            file: Some("d.yaml".into()),
            working_dir: dir.path().to_owned(),
            ..Sources::default()
        };
        let loaded = load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let resources = load_resources(&loaded.config.access.resources_dir).unwrap();
        (dir, loaded, resources)
    }

    fn references(config: &str, desktops: &str) -> Vec<String> {
        let (dir, loaded, resources) = load_folder(config, Some(desktops));
        let errors = loaded
            .check_references(&resources, &|_| false)
            .err()
            .map(|errors| errors.to_string())
            .unwrap_or_default();
        errors
            .lines()
            .map(|line| line.replace(&format!("{}/", dir.path().display()), ""))
            .collect()
    }

    fn warnings(config: &str, desktops: Option<&str>) -> Vec<String> {
        let (_dir, loaded, resources) = load_folder(config, desktops);
        loaded
            .warnings(&resources)
            .iter()
            .map(|warning| warning.key.clone())
            .collect()
    }

    #[test]
    fn names_and_files_must_exist() {
        assert_eq!(references("gateway: {default_desktop: lab}\n", DESKTOP), [""; 0]);
        let config = "gateway: {default_desktop: lap, certificate: no.pem, private_key: resources}\n\
                      storages: [{name: a, plugin: b, path: b.so}]\nexporters: [{name: a, plugin: b, path: d.yaml}]\n\
                      web: {certificate: pages.pem, private_key: d.yaml}\n";
        let desktops = DESKTOP.replace("addr: a", "addr: a, gateway: {tls: {verify: ca, ca: roots.pem}}");
        assert_eq!(
            references(config, &desktops),
            [
                "d.yaml:1:28: gateway.default_desktop: no desktop \"lap\" in resources, did you mean lab?",
                "d.yaml:1:46: gateway.certificate: no.pem can't be opened: No such file or directory (os error 2)",
                "d.yaml:1:67: gateway.private_key: resources is a folder",
                "d.yaml:4:20: web.certificate: pages.pem can't be opened: No such file or directory (os error 2)",
                "d.yaml:2:39: storages[0].path: b.so can't be opened: No such file or directory (os error 2)",
                "windows_desktop/lab: spec.gateway.tls.ca: resources/roots.pem can't be opened: No such file or directory \
                 (os error 2)",
            ]
        );
    }

    #[test]
    fn what_is_probably_not_meant() {
        assert_eq!(warnings("", None), ["access.resources_dir"]);
        assert_eq!(
            warnings("session_recording: off\naccess: {claimed_identity: allow}\n", Some("")),
            ["access.resources_dir", "session_recording.mode"]
        );
        let unchecked = DESKTOP.replace("addr: a", "addr: a, gateway: {tls: {verify: none}}");
        assert_eq!(
            warnings("access: {claimed_identity: allow}\n", Some(&unchecked)),
            [
                "gateway.default_desktop",
                "windows_desktop/lab: spec.gateway.tls.verify"
            ]
        );
        assert_eq!(
            warnings(
                "access: {claimed_identity: allow}\ngateway: {default_desktop: lab}\n",
                Some(DESKTOP)
            ),
            [""; 0]
        );
    }
}

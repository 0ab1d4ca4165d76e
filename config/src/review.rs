//! What a valid configuration and valid resources get wrong together, and what is worth a warning.

use std::path::Path;

use crate::error::{ConfigError, Errors, Origin};
use crate::model::ClaimedIdentity;
use crate::resources::{Resources, Verify};
use crate::scalar::quoted;
use crate::schema::likeness;
use crate::{Loaded, RecordingMode};

impl Loaded {
    /// Checks the names and files that the configuration points to: desktops, certificates, plugin files.
    ///
    /// # Errors
    /// Everything that does not exist, each with the key that names it.
    pub fn check_references(&self, resources: &Resources) -> Result<(), Errors> {
        let mut errors = Vec::new();
        let gateway = &self.config.gateway;
        if let Some(name) = gateway
            .default_desktop
            .as_deref()
            .filter(|name| resources.desktop(name).is_none())
        {
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
        let mut file = |key: String, path: Option<&Path>| {
            if let Some(message) = path.and_then(unreadable) {
                errors.push(self.error(&key, message));
            }
        };
        file("gateway.certificate".to_owned(), gateway.certificate.as_deref());
        file("gateway.private_key".to_owned(), gateway.private_key.as_deref());
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
            let message = format!("{folder} does not exist, so there are no desktops and no session can be opened");
            warnings.push(self.error("access.resources_dir", message));
        } else if resources.desktops.is_empty() {
            let message = format!("{folder} holds no desktops, so no session can be opened");
            warnings.push(self.error("access.resources_dir", message));
        }
        if self.config.gateway.default_desktop.is_none() && !resources.desktops.is_empty() {
            let message = "none, so a user must log on as user:desktop".to_owned();
            warnings.push(self.error("gateway.default_desktop", message));
        }
        if self.config.access.claimed_identity == ClaimedIdentity::Deny {
            let message = "deny refuses every session: this version can prove no identity itself; \
                           allow leaves the check to the desktop"
                .to_owned();
            warnings.push(self.error("access.claimed_identity", message));
        }
        if self.config.session_recording.mode == RecordingMode::Off {
            warnings.push(self.error("session_recording.mode", "off: nothing is recorded".to_owned()));
        }
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

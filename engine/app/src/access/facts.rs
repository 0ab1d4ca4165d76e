//! Desktops as policy sees them: labels with the computed ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use deskreel_config::{HostLabels, Loaded, WindowsDesktop};
use deskreel_policy::DesktopFacts;
use regex::{Regex, RegexBuilder};
use time::OffsetDateTime;

use super::entry::{ORIGIN_LABEL, ResourceOrigin};
use crate::usage::UsageError;

/// Compiled size of one pattern of `access.host_labels`.
const REGEX_MAX_BYTES: usize = 1 << 20;

/// `access.host_labels`, compiled.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostLabelRules(Vec<(Regex, BTreeMap<String, String>)>);

impl HostLabelRules {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// A [`UsageError`] with every pattern that is none.
    pub(crate) fn compile(loaded: &Loaded) -> anyhow::Result<Self> {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for (index, HostLabels { pattern, labels }) in loaded.config.access.host_labels.iter().enumerate() {
            match RegexBuilder::new(pattern).size_limit(REGEX_MAX_BYTES).build() {
                Ok(regex) => rules.push((regex, labels.clone())),
                Err(error) => {
                    let key = format!("access.host_labels[{index}].match");
                    let error = error.to_string().replace('\n', " ");
                    errors.push(format!("{}: {key}: {error}", loaded.origin(&key)));
                }
            }
        }
        if errors.is_empty() {
            Ok(Self(rules))
        } else {
            Err(UsageError(errors.join("\n")).into())
        }
    }

    fn of(&self, addr: &str) -> BTreeMap<String, String> {
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let mut labels = BTreeMap::new();
        for (_, more) in self.0.iter().filter(|(regex, _)| regex.is_match(host)) {
            labels.extend(more.clone());
        }
        labels
    }
}

/// A desktop in force.
#[derive(Debug, Clone)]
pub(crate) struct Desktop {
    /// As written.
    pub(crate) resource: Arc<WindowsDesktop>,
    /// What policy sees of it.
    pub(crate) facts: DesktopFacts,
}

impl Desktop {
    pub(super) fn new(resource: &WindowsDesktop, origin: ResourceOrigin, rules: &HostLabelRules) -> Self {
        let mut labels = rules.of(&resource.addr);
        labels.extend(resource.labels.clone());
        labels.insert(ORIGIN_LABEL.to_owned(), origin.as_str().to_owned());
        labels.insert("teleport.dev/ad".to_owned(), (!resource.non_ad).to_string());
        if let Some(domain) = &resource.domain {
            labels.insert("teleport.dev/windows_domain".to_owned(), domain.clone());
        }
        Self {
            facts: DesktopFacts {
                name: resource.name.clone(),
                addr: resource.addr.clone(),
                labels,
                domain: resource.domain.clone(),
                floor: resource.record,
            },
            resource: Arc::new(resource.clone()),
        }
    }

    /// The configuration says it.
    pub(crate) fn is_configured(&self) -> bool {
        self.facts.labels.get(ORIGIN_LABEL).map(String::as_str) == Some(ResourceOrigin::ConfigFile.as_str())
    }

    /// Whether it is there at `now`.
    pub(crate) fn is_there(&self, now: OffsetDateTime) -> bool {
        self.resource.expires.is_none_or(|expires| now < expires)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn computed_labels_come_last() {
        let rule = |pattern: &str, label: &str| {
            (
                Regex::new(pattern).unwrap(),
                BTreeMap::from([(label.to_owned(), "host".to_owned())]),
            )
        };
        let rules = HostLabelRules(vec![
            rule("^ts[0-9]", "tier"),
            rule("example$", "env"),
            rule("^x", "no"),
        ]);
        let own = [("env", "own"), ("teleport.dev/ad", "maybe"), (ORIGIN_LABEL, "mine")];
        let mut resource = WindowsDesktop {
            name: "d".to_owned(),
            addr: "ts1.corp.example:3389".to_owned(),
            domain: Some("corp.example".to_owned()),
            labels: own.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..WindowsDesktop::default()
        };
        let desktop = Desktop::new(&resource, ResourceOrigin::Dynamic, &rules);
        let labels: Vec<(&str, &str)> = desktop
            .facts
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            labels,
            [
                ("env", "own"),
                ("teleport.dev/ad", "true"),
                ("teleport.dev/origin", "dynamic"),
                ("teleport.dev/windows_domain", "corp.example"),
                ("tier", "host"),
            ]
        );
        resource.non_ad = true;
        resource.addr = "[::1]:3389".to_owned();
        let desktop = Desktop::new(&resource, ResourceOrigin::ConfigFile, &rules);
        assert_eq!(desktop.facts.labels["teleport.dev/ad"], "false");
        assert!(!desktop.facts.labels.contains_key("tier"));
    }
}

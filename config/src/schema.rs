//! The registry of keys: one row a key. Checking, environment names, suggestions and the tests of the documentation
//! all read it.

use std::time::Duration;

/// Everything that a document of one sort may hold.
pub(crate) struct Schema {
    /// What a message calls a key.
    pub(crate) noun: &'static str,
    /// Every key, in the order of the documentation. `[]` stands for any entry of a list.
    pub(crate) keys: &'static [Key],
    /// Sections that may be a scalar, and the key that the scalar then sets.
    pub(crate) scalar_forms: &'static [(&'static str, &'static str)],
    /// Keys that later versions will know.
    pub(crate) later: &'static [&'static str],
    /// Keys that others know, by section: accepted with a warning, without effect. A key that ends in `_labels` stands for
    /// the one that goes on with `_expression` too.
    pub(crate) foreign: &'static [(&'static str, &'static [&'static str])],
    /// Keys that say nothing to us, by section: accepted in silence.
    pub(crate) ignored: &'static [(&'static str, &'static [&'static str])],
}

/// One key.
pub(crate) struct Key {
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// The default as YAML; none = the key must be written.
    pub(crate) default: Option<&'static str>,
}

/// Words of which two can be said as a boolean too.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) words: &'static [&'static str],
    /// What true stands for.
    pub(crate) on: &'static str,
    /// What false stands for.
    pub(crate) off: &'static str,
    /// The words' numbers, from 0, stand for them too.
    pub(crate) numbers: bool,
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Bool,
    Duration {
        min: Duration,
        max: Duration,
    },
    Size {
        min: u64,
        max: u64,
    },
    Count {
        min: u64,
        max: u64,
    },
    Text,
    /// Lower-case letters, digits, `-` and `_`.
    Name,
    Path,
    /// A boolean, or a path that stands for "yes, there".
    Switch,
    Address,
    Word(&'static [&'static str]),
    /// One of some words, or a boolean that stands for one of them.
    Choice(&'static Choice),
    /// A duration; `never` and what is not above 0 are null.
    Limit,
    /// RFC 3339; the year 1 is null.
    Time,
    /// Text that may be empty.
    Free,
    /// A single value of any kind, as text.
    Opaque,
    Sha256,
    /// A list of such words; a single one may stand for itself.
    Words(&'static [&'static str]),
    Texts,
    Paths,
    /// Text by text.
    Labels,
    /// List of texts, or one, by text.
    Patterns,
    /// A secret or where it comes from.
    Secret,
    /// Anything that JSON can say, for a plugin.
    Settings,
    /// Entries with keys of their own.
    Sections,
}

impl Kind {
    /// The word of the documentation's type column.
    pub(crate) fn noun(self) -> String {
        match self {
            Self::Bool => "boolean".to_owned(),
            Self::Duration { .. } => "duration".to_owned(),
            Self::Size { .. } => "size".to_owned(),
            Self::Count { .. } => "number".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Name => "name".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Switch => "boolean or path".to_owned(),
            Self::Address => "address".to_owned(),
            Self::Word(words) => words.join(" or "),
            Self::Choice(choice) => choice.words.join(" or "),
            Self::Limit => "duration or never".to_owned(),
            Self::Time => "time".to_owned(),
            Self::Free | Self::Opaque => "text".to_owned(),
            Self::Sha256 => "SHA-256".to_owned(),
            Self::Words(words) => format!("list of {}", words.join(", ")),
            Self::Texts => "list of texts".to_owned(),
            Self::Paths => "list of paths".to_owned(),
            Self::Labels => "map of texts".to_owned(),
            Self::Patterns => "map of lists of texts".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Settings => "map".to_owned(),
            Self::Sections => "list of entries".to_owned(),
        }
    }

    /// [`Kind::noun`] with its article, for messages.
    pub(crate) fn phrase(self) -> String {
        match self {
            Self::Word(_) | Self::Choice(_) => self.noun(),
            Self::Address => format!("an {}", self.noun()),
            _ => format!("a {}", self.noun()),
        }
    }

    pub(crate) fn is_scalar(self) -> bool {
        !matches!(
            self,
            Self::Texts
                | Self::Words(_)
                | Self::Paths
                | Self::Labels
                | Self::Patterns
                | Self::Settings
                | Self::Secret
                | Self::Sections
        )
    }
}

impl Schema {
    pub(crate) fn key(&self, pattern: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.path == pattern)
    }

    /// Whether keys stand below `pattern`; the empty pattern is the document.
    pub(crate) fn is_section(&self, pattern: &str) -> bool {
        pattern.is_empty() || self.keys.iter().any(|key| below(key.path, pattern).is_some())
    }

    /// Whether `pattern` is a key or a section.
    pub(crate) fn knows(&self, pattern: &str) -> bool {
        self.key(pattern).is_some() || self.is_section(pattern)
    }

    pub(crate) fn is_foreign(&self, section: &str, name: &str) -> bool {
        let name = match name.strip_suffix("_expression") {
            Some(labels) if labels.ends_with("_labels") => labels,
            _ => name,
        };
        lists(self.foreign, section, name)
    }

    pub(crate) fn is_ignored(&self, section: &str, name: &str) -> bool {
        lists(self.ignored, section, name)
    }

    /// Names that may stand directly below the section `pattern`, in order.
    pub(crate) fn children(&self, pattern: &str) -> Vec<&'static str> {
        let mut names = Vec::new();
        for key in self.keys {
            let rest = if pattern.is_empty() {
                Some(key.path)
            } else {
                below(key.path, pattern)
            };
            let Some(name) = rest.map(|rest| rest.split_once('.').map_or(rest, |(name, _)| name)) else {
                continue;
            };
            if !name.ends_with("[]") && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What to write instead of the unknown `name` in the section `pattern`: a name beside it, else a whole key.
    pub(crate) fn nearest(&self, pattern: &str, name: &str) -> Option<String> {
        let (score, sibling) = best(self.children(pattern).into_iter(), |child| likeness(child, name))?;
        if score >= 0.6 {
            return Some(sibling.to_owned());
        }
        let leaf = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
        let (elsewhere, path) = best(self.keys.iter().map(|key| key.path), |path| likeness(leaf(path), name))?;
        if elsewhere >= 0.85 {
            return Some(path.to_owned());
        }
        (score >= 0.4).then(|| sibling.to_owned())
    }
}

fn lists(table: &[(&str, &[&str])], section: &str, name: &str) -> bool {
    table
        .iter()
        .any(|(listed, names)| *listed == section && names.contains(&name))
}

/// `pattern` of a path: every index becomes `[]`.
pub(crate) fn pattern_of(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => {
                inside = true;
                out.push_str("[]");
            }
            ']' => inside = false,
            _ if inside => {}
            _ => out.push(c),
        }
    }
    out
}

/// The rest of `path` after `section` and its dot.
pub(crate) fn below<'a>(path: &'a str, section: &str) -> Option<&'a str> {
    path.strip_prefix(section)?.strip_prefix('.')
}

/// `section` and `name` with a dot between, or the one that is not empty.
pub(crate) fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

fn best(names: impl Iterator<Item = &'static str>, score: impl Fn(&'static str) -> f64) -> Option<(f64, &'static str)> {
    names
        .map(|name| (score(name), name))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// From 0 (nothing alike) to 1 (the same but for case, `-` and `_`).
pub(crate) fn likeness(known: &str, name: &str) -> f64 {
    if name.len() > 100 {
        return 0.0;
    }
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    strsim::normalized_damerau_levenshtein(&plain(known), &plain(name))
}

pub(crate) const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        path,
        kind,
        default: Some(default),
    }
}

pub(crate) const fn required(path: &'static str, kind: Kind) -> Key {
    Key {
        path,
        kind,
        default: None,
    }
}

/// A duration between two numbers of seconds.
const fn secs(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}

/// A duration between two numbers of milliseconds.
const fn millis(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
    }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

pub(crate) const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The words of [`crate::Mode`].
const MODES: Kind = Kind::Word(&["sync", "async"]);

/// The words of [`crate::ClusterMode`].
pub(crate) const RECORDING_MODE: Kind = Kind::Choice(&Choice {
    words: &["off", "on", "node", "proxy", "node-sync", "proxy-sync"],
    on: "on",
    off: "off",
    numbers: false,
});

/// The words of [`crate::SessionMfa`].
pub(crate) const SESSION_MFA: Kind = Kind::Choice(&Choice {
    words: &[
        "no",
        "yes",
        "hardware_key",
        "hardware_key_touch",
        "hardware_key_pin",
        "hardware_key_touch_and_pin",
    ],
    on: "yes",
    off: "no",
    numbers: true,
});

/// `deskreel.yaml`. One row a key: read as a table.
#[rustfmt::skip]
pub(crate) static CONFIG: Schema = Schema {
    noun: "key",
    keys: &[
        key("data_dir", Kind::Path, "./data"),
        key("plugin_dirs", Kind::Paths, "[]"),
        key("gateway.listen", Kind::Address, "127.0.0.1:3389"),
        key("gateway.listeners", Kind::Sections, "[]"),
        required("gateway.listeners[].listen", Kind::Address),
        required("gateway.listeners[].desktop", Kind::Text),
        key("gateway.client_security", Kind::Words(&["nla", "tls"]), "[nla, tls]"),
        key("gateway.graphics", Kind::Word(&["auto", "legacy", "gfx"]), "auto"),
        key("gateway.tls_min", Kind::Word(&["1.2", "1.3"]), "1.2"),
        key("gateway.certificate", Kind::Path, "null"),
        key("gateway.private_key", Kind::Path, "null"),
        key("gateway.default_desktop", Kind::Text, "null"),
        key("gateway.handshake_timeout", secs(1, 600), "20s"),
        key("gateway.activation_timeout", secs(1, 3600), "60s"),
        key("gateway.connect_timeout", secs(1, 600), "10s"),
        key("gateway.shutdown_timeout", secs(0, 3600), "10s"),
        key("gateway.sessions_max", count(1, 65_535), "100"),
        key("gateway.sessions_per_desktop_max", count(1, 65_535), "100"),
        key("gateway.connections_pending_max", count(1, 65_535), "100"),
        key("gateway.connections_per_address_max", count(1, 65_535), "20"),
        key("gateway.screen_max_pixels", count(64 << 10, 64 << 20), "33554432"),
        key("gateway.logon_failures_max", count(1, 10_000), "10"),
        key("gateway.logon_failures_per_address_max", count(1, 10_000), "30"),
        key("gateway.logon_block", secs(1, 86_400), "5m"),
        key("gateway.logon_trust", secs(0, 30 * 86_400), "12h"),
        key("gateway.secret_timeout", secs(1, 600), "10s"),
        key("gateway.bandwidth_max", size(64 * KIB, 64 * GIB), "null"),
        key("session_recording.mode", RECORDING_MODE, "on"),
        key("session_recording.on_failure", Kind::Word(&["strict", "best_effort"]), "strict"),
        key("session_recording.input", Kind::Word(&["none", "mouse", "all"]), "all"),
        key("session_recording.clipboard", Kind::Word(&["none", "facts", "text"]), "text"),
        key("recording.segment_max_age", secs(1, 3600), "null"),
        key("recording.segment_max_bytes", size(64 * KIB, 256 * MIB), "4MiB"),
        key("recording.keyframe_interval", secs(1, 3600), "30s"),
        key("recording.frame_interval", millis(1, 10_000), "40ms"),
        key("recording.queue_max_bytes", size(256 * KIB, GIB), "8MiB"),
        key("recording.stall_max", secs(1, 3600), "15s"),
        key("recording.repaint_max", millis(100, 600_000), "10s"),
        key("recording.undecoded_max_bytes", size(0, TIB), "64MiB"),
        key("recording.trusted_keys", Kind::Paths, "[]"),
        key("spool.path", Kind::Path, "null"),
        key("spool.max_bytes", size(MIB, 1024 * TIB), "20GiB"),
        key("spool.min_free_bytes", size(0, 1024 * TIB), "512MiB"),
        key("spool.reserve_bytes", size(0, TIB), "32MiB"),
        key("storages", Kind::Sections, "[{name: disk, plugin: local, settings: {path: ./recordings}}]"),
        required("storages[].name", Kind::Name),
        required("storages[].plugin", Kind::Name),
        key("storages[].path", Kind::Path, "null"),
        key("storages[].sha256", Kind::Sha256, "null"),
        key("storages[].mode", MODES, "async"),
        key("storages[].required", Kind::Bool, "true"),
        key("storages[].op_timeout", secs(1, 3600), "null"),
        key("storages[].concurrency_max", count(1, 1024), "null"),
        key("storages[].puts_per_second_max", count(1, 1_000_000), "null"),
        key("storages[].bytes_per_second_max", size(KIB, TIB), "null"),
        key("storages[].settings", Kind::Settings, "{}"),
        key("retention.default", Kind::Limit, "never"),
        key("retention.rules", Kind::Sections, "[]"),
        required("retention.rules[].keep", Kind::Limit),
        key("retention.rules[].users", Kind::Texts, "[]"),
        key("retention.rules[].desktops", Kind::Texts, "[]"),
        key("retention.rules[].labels", Kind::Patterns, "{}"),
        key("retention.rules[].where", Kind::Text, "null"),
        key("retention.purge_interval", secs(10, 604_800), "1h"),
        key("retention.purge_batch_max", count(1, 100_000), "100"),
        key("catalog.sync_interval", secs(1, 604_800), "5m"),
        key(
            "exporters",
            Kind::Sections,
            "[{name: mp4, plugin: mp4}, {name: webm, plugin: webm}, {name: frames, plugin: frames}, \
             {name: gif, plugin: gif}, {name: json, plugin: json}]",
        ),
        required("exporters[].name", Kind::Name),
        required("exporters[].plugin", Kind::Name),
        key("exporters[].path", Kind::Path, "null"),
        key("exporters[].sha256", Kind::Sha256, "null"),
        key("exporters[].mode", MODES, "sync"),
        key("exporters[].when", Kind::Text, "null"),
        key("exporters[].format", Kind::Name, "null"),
        key("exporters[].settings", Kind::Settings, "{}"),
        key("exports.jobs_max", count(1, 64), "1"),
        key("exports.attempts_max", count(1, 100), "5"),
        key("exports.retry_after", secs(1, 86_400), "1m"),
        key("exports.retry_max", secs(1, 604_800), "1h"),
        key("exports.timeout", secs(1, 604_800), "6h"),
        key("exports.max_bytes", size(4 * KIB, TIB), "16GiB"),
        key("access.resources_dir", Kind::Path, "./resources"),
        key("access.claimed_identity", Kind::Word(&["deny", "allow"]), "deny"),
        key("access.claimed_roles", Kind::Texts, "[access]"),
        key("access.session_ttl_max", Kind::Limit, "never"),
        key("access.client_idle_timeout", Kind::Limit, "never"),
        key("access.locking_mode", Kind::Word(&["best_effort", "strict"]), "best_effort"),
        key("access.lock_stale_max", secs(1, 86_400), "5m"),
        key("access.require_session_mfa", SESSION_MFA, "no"),
        key("access.host_labels", Kind::Sections, "[]"),
        required("access.host_labels[].match", Kind::Text),
        required("access.host_labels[].labels", Kind::Labels),
        key("audit.file_max_bytes", size(64 * KIB, 64 * GIB), "64MiB"),
        key("audit.files_max", count(2, 1_000_000), "64"),
        key("audit.queue_max", count(16, 65_536), "4096"),
        key("audit.on_failure", Kind::Word(&["strict", "best_effort"]), "null"),
        key("audit.syslog", Kind::Switch, "false"),
        key("audit.cluster_name", Kind::Text, "null"),
        key("web.listen", Kind::Address, "null"),
        key("web.certificate", Kind::Path, "null"),
        key("web.private_key", Kind::Path, "null"),
        key("web.external_url", Kind::Text, "null"),
        key("web.session_ttl", secs(60, 30 * 86_400), "8h"),
        key("log.level", Kind::Word(&["error", "warn", "info", "debug", "trace"]), "info"),
        key("log.format", Kind::Word(&["text", "json"]), "text"),
    ],
    scalar_forms: &[("session_recording", "mode")],
    later: &[
        "recording.capture_wire", "recording.encryption",
        "storages[].isolation",
    ],
    foreign: &[],
    ignored: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema::{DESKTOP, LOCK, RECORDING, ROLE, USER};

    const SCHEMAS: [&Schema; 6] = [&CONFIG, &DESKTOP, &ROLE, &USER, &RECORDING, &LOCK];

    #[test]
    fn registry_is_in_itself_consistent() {
        for schema in SCHEMAS {
            for (index, key) in schema.keys.iter().enumerate() {
                assert!(
                    !schema.keys[..index].iter().any(|other| other.path == key.path),
                    "{} twice",
                    key.path
                );
                let is_list = matches!(key.kind, Kind::Sections);
                assert_eq!(schema.is_section(&format!("{}[]", key.path)), is_list, "{}", key.path);
                assert!(!schema.is_section(key.path), "{} is a key and a section", key.path);
            }
            for later in schema.later {
                assert!(
                    schema.key(later).is_none() && !schema.is_section(later),
                    "{later} is known by now"
                );
            }
        }
    }

    #[test]
    fn suggests_the_nearest() {
        let near = |section, name| CONFIG.nearest(section, name);
        assert_eq!(near("gateway", "listn").as_deref(), Some("listen"));
        assert_eq!(near("gateway", "privateKey").as_deref(), Some("private_key"));
        assert_eq!(near("", "listen").as_deref(), Some("gateway.listen"));
        assert_eq!(near("", "storage").as_deref(), Some("storages"));
        assert_eq!(near("storages[]", "requires").as_deref(), Some("required"));
        assert_eq!(near("", "zzzzzz"), None);
    }

    #[test]
    fn patterns() {
        assert_eq!(pattern_of("storages[12].settings"), "storages[].settings");
        assert_eq!(pattern_of("a.b"), "a.b");
    }
}

//! Options of all roles of a user, merged: the narrowest counts.

use std::collections::BTreeMap;
use std::time::Duration;

use deskreel_config::{ClipboardRight, DeviceTrust, LockingMode, RoleOptions, SessionMfa};

use crate::roles::CompiledRole;
use crate::{Cluster, Limits, Rights};

/// Longest session of a role that does not say.
const SESSION_TTL_MAX: Duration = Duration::from_secs(30 * 3600);

/// What made a value that nobody wrote.
const DEFAULT: &str = "default";

/// No rights: the session is not allowed (yet).
pub(crate) fn no_rights() -> Rights {
    Rights {
        clipboard: ClipboardRight::Off,
        drives: false,
        printer: false,
        smart_card: false,
        serial_port: false,
        usb: false,
        audio_output: false,
        audio_input: false,
        camera: false,
        other_channels: false,
        because: BTreeMap::new(),
    }
}

/// What all roles leave open.
pub(crate) fn rights(roles: &[&CompiledRole]) -> Rights {
    let mut because = BTreeMap::new();
    let clipboard = clipboard(roles, &mut because);
    let mut right = |name: &str, says: fn(&RoleOptions) -> Option<bool>| {
        let closing = names(roles, |options| says(options) == Some(false));
        let open = closing.is_none();
        because.insert(name.to_owned(), closing.unwrap_or_else(|| DEFAULT.to_owned()));
        open
    };
    Rights {
        clipboard,
        drives: right("drives", |options| options.desktop_directory_sharing),
        printer: right("printer", |options| options.desktop_printer),
        smart_card: right("smart_card", |options| options.desktop_smart_card),
        serial_port: right("serial_port", |options| options.desktop_serial_port),
        usb: right("usb", |options| options.desktop_usb),
        audio_output: right("audio_output", |options| options.desktop_audio_output),
        audio_input: right("audio_input", |options| options.desktop_audio_input),
        camera: right("camera", |options| options.desktop_camera),
        other_channels: right("other_channels", |options| options.desktop_other_channels),
        because,
    }
}

/// Intersection of the directions.
fn clipboard(roles: &[&CompiledRole], because: &mut BTreeMap<String, String>) -> ClipboardRight {
    let says = |options: &RoleOptions| options.desktop_clipboard.unwrap_or(ClipboardRight::Both);
    let all = |direction: fn(ClipboardRight) -> bool| roles.iter().all(|role| direction(says(&role.options)));
    let closing = names(roles, |options| says(options) != ClipboardRight::Both);
    because.insert("clipboard".to_owned(), closing.unwrap_or_else(|| DEFAULT.to_owned()));
    let to_desktop = all(|right| matches!(right, ClipboardRight::Both | ClipboardRight::ToDesktop));
    let from_desktop = all(|right| matches!(right, ClipboardRight::Both | ClipboardRight::FromDesktop));
    match (to_desktop, from_desktop) {
        (true, true) => ClipboardRight::Both,
        (true, false) => ClipboardRight::ToDesktop,
        (false, true) => ClipboardRight::FromDesktop,
        (false, false) => ClipboardRight::Off,
    }
}

/// `role a, role b` of those that say so; `None` if none does.
fn names(roles: &[&CompiledRole], says: impl Fn(&RoleOptions) -> bool) -> Option<String> {
    let saying = roles.iter().filter(|role| says(&role.options));
    let names: Vec<_> = saying.map(|role| format!("role {}", role.name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The tightest of all limits, the cluster's included.
pub(crate) fn limits(cluster: &Cluster, roles: &[&CompiledRole]) -> Limits {
    let mut because = BTreeMap::new();
    let ends_after = roles
        .iter()
        .map(|role| session_ttl(&role.options))
        .min()
        .unwrap_or(SESSION_TTL_MAX);
    let by_cluster = cluster
        .session_ttl_max
        .filter(|most| !most.is_zero() && *most < ends_after);
    let ends_because = match by_cluster {
        Some(_) => Some("access.session_ttl_max".to_owned()),
        None => names(roles, |options| options.max_session_ttl == Some(ends_after)),
    };
    because.insert(
        "ends_after".to_owned(),
        ends_because.unwrap_or_else(|| DEFAULT.to_owned()),
    );

    let idle = |options: &RoleOptions| options.client_idle_timeout.filter(|idle| !idle.is_zero());
    let of_roles = roles.iter().filter_map(|role| idle(&role.options)).min();
    let of_cluster = cluster.client_idle_timeout.filter(|idle| !idle.is_zero());
    let idle_timeout = of_roles.into_iter().chain(of_cluster).min();
    let idle_because = match idle_timeout {
        Some(least) if of_cluster == Some(least) => Some("access.client_idle_timeout".to_owned()),
        least => names(roles, |options| least.is_some() && idle(options) == least),
    };
    because.insert(
        "idle_timeout".to_owned(),
        idle_because.unwrap_or_else(|| DEFAULT.to_owned()),
    );

    let connections = |options: &RoleOptions| options.max_connections.filter(|most| *most > 0);
    let sessions_max = roles.iter().filter_map(|role| connections(&role.options)).min();
    let sessions_because = names(roles, |options| {
        sessions_max.is_some() && connections(options) == sessions_max
    });
    because.insert(
        "sessions_max".to_owned(),
        sessions_because.unwrap_or_else(|| DEFAULT.to_owned()),
    );

    let (lock_mode, lock_because) = lock_mode(cluster, roles);
    because.insert("lock_mode".to_owned(), lock_because);
    Limits {
        ends_after: by_cluster.unwrap_or(ends_after),
        idle_timeout,
        sessions_max,
        lock_mode,
        because,
    }
}

fn session_ttl(options: &RoleOptions) -> Duration {
    options
        .max_session_ttl
        .filter(|ttl| !ttl.is_zero())
        .unwrap_or(SESSION_TTL_MAX)
}

/// Strict if any role says so, else best_effort if any says so, even against a strict cluster.
fn lock_mode(cluster: &Cluster, roles: &[&CompiledRole]) -> (LockingMode, String) {
    for mode in [LockingMode::Strict, LockingMode::BestEffort] {
        if let Some(names) = names(roles, |options| options.lock == Some(mode)) {
            let relaxes = mode == LockingMode::BestEffort && cluster.locking_mode == LockingMode::Strict;
            let note = if relaxes {
                " (relaxes access.locking_mode: strict)"
            } else {
                ""
            };
            return (mode, format!("{names}{note}"));
        }
    }
    (cluster.locking_mode, "access.locking_mode".to_owned())
}

/// Options that ask for what can't be checked yet: where they stand, and what they ask for.
pub(crate) fn unavailable(options: &RoleOptions) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mfa = options.require_session_mfa.is_some_and(|mfa| mfa != SessionMfa::No);
    let device = options.device_trust_mode == Some(DeviceTrust::Required);
    [
        mfa.then_some(("spec.options.require_session_mfa", "a second factor")),
        device.then_some(("spec.options.device_trust_mode", "whether a device is trusted")),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use deskreel_config::{ClipboardRight, LockingMode, Metadata, Role, RoleOptions};

    use super::{limits, rights};
    use crate::{Cluster, RoleSet};

    fn set(options: [RoleOptions; 2]) -> RoleSet {
        let roles = ["a", "b"].into_iter().zip(options).map(|(name, options)| Role {
            metadata: Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            },
            options,
            ..Role::default()
        });
        RoleSet::compile(&roles.collect::<Vec<_>>()).0
    }

    #[test]
    fn each_value_says_what_made_it() {
        let set = set([
            RoleOptions {
                desktop_clipboard: Some(ClipboardRight::ToDesktop),
                desktop_usb: Some(false),
                max_session_ttl: Some(Duration::from_secs(3600)),
                client_idle_timeout: Some(Duration::from_secs(300)),
                lock: Some(LockingMode::BestEffort),
                ..RoleOptions::default()
            },
            RoleOptions {
                desktop_usb: Some(false),
                desktop_camera: Some(true),
                max_connections: Some(2),
                ..RoleOptions::default()
            },
        ]);
        let roles: Vec<_> = ["a", "b"].iter().filter_map(|name| set.role(name)).collect();
        let rights = rights(&roles);
        let because = |name: &str| rights.because[name].as_str();
        assert_eq!(because("clipboard"), "role a");
        assert_eq!(because("usb"), "role a, role b");
        assert_eq!(because("camera"), "default");
        let mut cluster = Cluster {
            locking_mode: LockingMode::Strict,
            ..Cluster::default()
        };
        let merged = limits(&cluster, &roles);
        let because = |name: &str| merged.because[name].clone();
        assert_eq!(because("ends_after"), "role a");
        assert_eq!(because("idle_timeout"), "role a");
        assert_eq!(because("sessions_max"), "role b");
        assert_eq!(because("lock_mode"), "role a (relaxes access.locking_mode: strict)");
        cluster.session_ttl_max = Some(Duration::from_secs(60));
        cluster.client_idle_timeout = Some(Duration::from_secs(60));
        let merged = limits(&cluster, &roles);
        assert_eq!(merged.because["ends_after"], "access.session_ttl_max");
        assert_eq!(merged.because["idle_timeout"], "access.client_idle_timeout");
        let merged = limits(&Cluster::default(), &[]);
        assert_eq!(merged.ends_after, Duration::from_secs(30 * 3600));
        assert_eq!(merged.because["ends_after"], "default");
        assert_eq!(merged.because["lock_mode"], "access.locking_mode");
    }
}

//! May this user open this login on this desktop?

use std::time::Duration;

use deskreel_config::{ClipboardLevel, ClipboardRight, InputLevel};

use crate::{
    AccessRequest, Cluster, Decision, Level, Limits, Locks, Reason, RecordingDecision, Rights, RoleSet, StorageMode,
    Verdict,
};

/// Decides, totally and deterministically: equal inputs give equal bytes. Nothing is read but the arguments.
#[must_use]
pub fn evaluate(_roles: &RoleSet, cluster: &Cluster, _locks: &Locks, request: &AccessRequest) -> Decision {
    Decision {
        verdict: Verdict::Deny,
        reason: Some(Reason::NoDesktop),
        message: "access denied".to_owned(),
        why: "roles are not evaluated yet".to_owned(),
        user: request.user.name.clone(),
        identity: request.identity,
        roles: Vec::new(),
        desktop: request.desktop.as_ref().map(|desktop| desktop.name.clone()),
        login: request.login.clone(),
        logins: Vec::new(),
        recording: RecordingDecision {
            level: Level::Off,
            storage_mode: StorageMode::None,
            input: InputLevel::None,
            clipboard: ClipboardLevel::None,
            because: Vec::new(),
            not_recorded: None,
        },
        rights: Rights {
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
            because: std::collections::BTreeMap::new(),
        },
        limits: Limits {
            ends_after: Duration::from_secs(30 * 3600),
            idle_timeout: None,
            sessions_max: None,
            lock_mode: cluster.locking_mode,
            because: std::collections::BTreeMap::new(),
        },
        matched: Vec::new(),
        warnings: Vec::new(),
        inputs_digest: String::new(),
        evaluated_at: request.now,
    }
}

/// What a user may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// Index of the desktop in the list that was given.
    pub index: usize,
    /// Name of the desktop.
    pub desktop: String,
    /// Accounts that evaluate to allow, sorted; never empty.
    pub logins: Vec<String>,
}

/// Those of `desktops` on which the user of `request` has some allowed login, in their order. Desktop and login of the
/// request don't count. For lists: far cheaper than one [`evaluate`] for each.
#[must_use]
pub fn reachable<'d>(
    _roles: &RoleSet,
    _cluster: &Cluster,
    _locks: &Locks,
    _request: &AccessRequest,
    _desktops: impl IntoIterator<Item = &'d crate::DesktopFacts>,
) -> Vec<Reachable> {
    Vec::new()
}

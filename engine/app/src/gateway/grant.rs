//! What a session was granted: who it is, and the Decision that rules it from then on.

use std::collections::BTreeMap;

use deskreel_policy::{Decision, Identity};
use deskreel_rdp::phase::Facts;

use crate::catalog::IdentityKind;

/// A session that may go on.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Who asks.
    pub(crate) user: String,
    /// The account on the desktop, as the client sent it.
    pub(crate) login: String,
    /// The desktop's labels that it was decided by.
    pub(crate) labels: BTreeMap<String, String>,
    /// The policy's word; its verdict is allow.
    pub(crate) decision: Decision,
}

impl Grant {
    /// Whether the user's name is proven.
    pub(crate) fn identity(&self) -> IdentityKind {
        identity_kind(self.decision.identity)
    }
}

/// Whether something proved the user's name.
pub(super) fn identity_kind(identity: Identity) -> IdentityKind {
    match identity {
        Identity::Proven { .. } => IdentityKind::Proven,
        Identity::Claimed => IdentityKind::Claimed,
    }
}

/// Who asks, as the client says: the selector's user where there is one, else the name that logs on.
pub(super) fn claimed_user(facts: &Facts) -> &str {
    facts
        .selector
        .as_ref()
        .map_or(&facts.user_name, |selector| &selector.user)
}

#[cfg(test)]
pub(crate) mod testing {
    //! A Decision for tests that ask no roles.

    use std::time::Duration;

    use deskreel_config::{ClipboardLevel, ClipboardRight, ClusterMode, InputLevel, LockingMode, OnFailure};
    use deskreel_policy::{
        Decision, Identity, Level, Limits, NotRecorded, RecordingDecision, Rights, StorageMode, Verdict,
    };
    use time::OffsetDateTime;

    /// Everything is allowed, and recorded as the configuration says.
    pub(crate) fn everything(mode: ClusterMode, on_failure: OnFailure) -> Decision {
        let level = match (mode, on_failure) {
            (ClusterMode::Off, _) => Level::Off,
            (_, OnFailure::Strict) => Level::Strict,
            (_, OnFailure::BestEffort) => Level::BestEffort,
        };
        Decision {
            verdict: Verdict::Allow,
            reason: None,
            message: String::new(),
            why: "no roles were asked".to_owned(),
            user: String::new(),
            identity: Identity::Claimed,
            roles: Vec::new(),
            desktop: None,
            login: None,
            logins: Vec::new(),
            recording: RecordingDecision {
                level,
                storage_mode: match mode {
                    ClusterMode::Off => StorageMode::None,
                    ClusterMode::On => StorageMode::AsConfigured,
                    ClusterMode::Sync => StorageMode::Sync,
                },
                input: InputLevel::Mouse,
                clipboard: ClipboardLevel::Facts,
                because: Vec::new(),
                not_recorded: (level == Level::Off).then_some(NotRecorded::ClusterOff),
            },
            rights: Rights {
                clipboard: ClipboardRight::Both,
                drives: true,
                printer: true,
                smart_card: true,
                serial_port: true,
                usb: true,
                audio_output: true,
                audio_input: true,
                camera: true,
                other_channels: true,
                because: std::collections::BTreeMap::new(),
            },
            limits: Limits {
                ends_after: Duration::from_secs(30 * 3600),
                idle_timeout: None,
                sessions_max: None,
                lock_mode: LockingMode::BestEffort,
                because: std::collections::BTreeMap::new(),
            },
            matched: Vec::new(),
            warnings: Vec::new(),
            inputs_digest: String::new(),
            evaluated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }
}

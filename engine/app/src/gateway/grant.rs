//! What a session was granted: who it is, and the Decision that rules it from then on.

use std::net::SocketAddr;
use std::sync::Arc;

use deskreel_policy::{Decision, Identity, Reason, Verdict};
use deskreel_rdp::phase::{ClientLogon, Facts, Selector};
use time::OffsetDateTime;

use super::Shared;
use super::end::{EndReason, Ended};
use crate::access::Ask;
use crate::catalog::IdentityKind;

/// A session that may go on.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Who asks.
    pub(crate) user: String,
    /// The account on the desktop, as the client sent it.
    pub(crate) login: String,
    /// The policy's word; its verdict is allow.
    pub(crate) decision: Decision,
}

impl Grant {
    /// Whether the user's name is proven.
    pub(crate) fn identity(&self) -> IdentityKind {
        match self.decision.identity {
            Identity::Proven { .. } => IdentityKind::Proven,
            Identity::Claimed => IdentityKind::Claimed,
        }
    }
}

impl Shared {
    /// Decides over a session whose Client Info was held back, by what the client says of itself: all of it is claimed.
    ///
    /// # Errors
    /// Why the session may not go on.
    pub(super) fn grant(
        &self,
        desktop: &str,
        peer: SocketAddr,
        logon: &ClientLogon,
        selector: Option<&Selector>,
    ) -> Result<Arc<Grant>, Ended> {
        let user = selector.map_or(&logon.user_name, |selector| &selector.user);
        let login = selector
            .and_then(|selector| selector.login.as_ref())
            .unwrap_or(&logon.user_name);
        let view = self.access.view();
        let request = view.request(&Ask {
            user,
            identity: Identity::Claimed,
            desktop: Some(desktop),
            login: Some(login),
            source: Some(peer.ip()),
            now: OffsetDateTime::now_utc(),
            open_sessions: self.registry.open_sessions(user),
        });
        let decision = view.decide(&request);
        if decision.verdict != Verdict::Allow {
            return Err(denied(&decision));
        }
        Ok(Arc::new(Grant {
            user: user.clone(),
            login: login.clone(),
            decision,
        }))
    }
}

/// The end of a session that was denied.
fn denied(decision: &Decision) -> Ended {
    let reason = match decision.reason {
        Some(Reason::IdentityNotProven) => EndReason::IdentityDenied,
        Some(Reason::Locked) => EndReason::Locked,
        Some(Reason::LockViewStale) => EndReason::LockViewStale,
        Some(Reason::TooManySessions) => EndReason::TooManyOfUser,
        _ => EndReason::AccessDenied,
    };
    let detail = match decision.verdict {
        Verdict::NeedLogin => "the client names no login",
        Verdict::Allow | Verdict::Deny => &decision.why,
    };
    Ended::new(reason, detail).by(decision)
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

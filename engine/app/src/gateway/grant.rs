//! What a session was granted: who it is, and the Decision that rules it from then on.

use std::collections::BTreeMap;

use deskreel_policy::{Decision, Identity};
use deskreel_rdp::phase::Facts;

use super::name::split_domain;
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

    /// The account and its domain as listings and rules have them, of a logon with this `login` and `domain`: spelled as the
    /// role spells it. Accounts ignore case, `where` does not: who types ROOT must not get past what is said of root.
    pub(super) fn account(&self, login: &str, domain: &str) -> (String, Option<String>) {
        let known = split_domain(self.decision.login.as_deref().unwrap_or_default()).1;
        let same = |name: &str| !known.is_empty() && name.to_lowercase() == known.to_lowercase();
        let (login, within) = match login.rsplit_once('@') {
            _ if same(login) => (known, ""),
            Some((name, within)) if same(name) => (known, within),
            _ => (login, ""),
        };
        let domain = if domain.is_empty() { within } else { domain };
        (
            login.to_owned(),
            Some(domain.to_owned()).filter(|domain| !domain.is_empty()),
        )
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

#[cfg(test)]
mod tests {
    use deskreel_config::{ClusterMode, OnFailure};

    use super::*;

    #[test]
    fn an_account_is_spelled_as_the_role_spells_it() {
        for (of_role, login, domain, expected) in [
            ("root", "ROOT", "", ("root", None)),
            ("root", "Root", "CORP", ("root", Some("CORP"))),
            ("root", "Root@corp.example", "", ("root", Some("corp.example"))),
            ("CORP\\root", "ROOT", "CORP", ("root", Some("CORP"))),
            ("svc@corp.example", "SVC@corp.example", "", ("svc@corp.example", None)),
            ("root", "toor", "", ("toor", None)),
            ("", "", "", ("", None)),
            ("", "@corp", "", ("@corp", None)),
        ] {
            let mut decision = testing::everything(ClusterMode::On, OnFailure::Strict);
            decision.login = Some(of_role.to_owned());
            let grant = Grant {
                user: "ann".to_owned(),
                login: login.to_owned(),
                labels: BTreeMap::new(),
                decision,
            };
            let (login, domain) = grant.account(login, domain);
            assert_eq!((login.as_str(), domain.as_deref()), expected, "{of_role}");
        }
    }
}

//! Who is at the keyboard: the node's root and the service's own account act for the node; any other account of the
//! operating system is the Deskreel user of its name, or nobody.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use deskreel_config::ResourceKind;
use deskreel_policy::{Identity, ObjectFacts, ProvenBy, Resource, RuleQuery, UserFacts, Verb};
use time::OffsetDateTime;

use super::view::View;

/// Who is at the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root or the owner of `data_dir`: may do everything.
    Local {
        /// Name of the account.
        os_user: String,
    },
    /// The Deskreel user of the account's name.
    User(String),
}

impl Who {
    /// The account that runs this process.
    pub(crate) fn is(data_dir: &Path) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let os_user = os_user(uid);
        let owner = std::fs::metadata(data_dir).map(|metadata| metadata.uid()).ok();
        // nobody has made the folder yet: whoever does will own it
        if uid == 0 || owner.is_none_or(|owner| owner == uid) {
            Self::Local { os_user }
        } else {
            Self::User(os_user)
        }
    }

    /// An account that acts for the node.
    pub(crate) fn local(uid: u32) -> Self {
        Self::Local { os_user: os_user(uid) }
    }

    /// The name in the audit log.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Local { os_user } => format!("local:{os_user}"),
            Self::User(name) => name.clone(),
        }
    }

    /// The user that rules are asked about.
    pub(crate) fn facts(&self, view: &View) -> UserFacts {
        match self {
            Self::Local { .. } => UserFacts {
                name: self.name(),
                exists: true,
                ..UserFacts::default()
            },
            Self::User(name) => view.user(
                name,
                Identity::Proven {
                    by: ProvenBy::LocalAccount,
                },
            ),
        }
    }

    /// Whether they may do that with a resource.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may(&self, view: &View, kind: ResourceKind, verb: Verb, name: Option<&str>) -> Result<(), String> {
        if matches!(self, Self::Local { .. }) {
            return Ok(());
        }
        let user = self.facts(view);
        let object = ObjectFacts {
            name: name.unwrap_or_default().to_owned(),
            ..ObjectFacts::default()
        };
        let now = OffsetDateTime::now_utc();
        if let Some(lock) = view.locks().on_user(&user.name, &user.roles, now) {
            return Err(format!("{} is locked by lock/{}", user.name, lock.metadata.name));
        }
        let decision = deskreel_policy::may(
            &view.roles,
            &RuleQuery {
                user: &user,
                resource: rule_resource(kind),
                verb,
                session: None,
                object: name.map(|_| &object),
                now,
            },
        );
        if decision.allowed { Ok(()) } else { Err(decision.why) }
    }
}

fn rule_resource(kind: ResourceKind) -> Resource {
    match kind {
        ResourceKind::Role => Resource::Role,
        ResourceKind::User => Resource::User,
        ResourceKind::WindowsDesktop => Resource::WindowsDesktop,
        ResourceKind::SessionRecordingConfig => Resource::SessionRecordingConfig,
        ResourceKind::Lock => Resource::Lock,
    }
}

/// Name of an account: as `/etc/passwd` says, else its number.
fn os_user(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    };
    passwd.lines().find_map(of).unwrap_or_else(|| uid.to_string())
}

//! Who is at the keyboard: the node's root and the service's own account act for the node; any other account of the
//! operating system is the Deskreel user of its name, or nobody.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use deskreel_config::ResourceKind;
use deskreel_policy::{Identity, ObjectFacts, ProvenBy, Resource, RuleDecision, RuleQuery, UserFacts, Verb};
use rustix::fs::Access;
use time::OffsetDateTime;

use super::recordings::Asker;
use super::view::{Ask, View};
use crate::audit::Actor;

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

/// Who became this process's account by sudo, as sudo says.
pub(crate) fn sudo_user() -> Option<String> {
    std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty())
}

impl Who {
    /// The account that runs this process.
    ///
    /// # Errors
    /// Another account than root and the owner of `data_dir`, to which that folder is closed: it can't be ruled what it may
    /// do, so it may do nothing.
    pub(crate) fn is(data_dir: &Path) -> anyhow::Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let owner = match std::fs::metadata(data_dir) {
            Ok(metadata) => metadata.uid(),
            // nobody has made the folder yet: whoever does will own it
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => uid,
            Err(error) => return Err(error).with_context(|| format!("look at data_dir {}", data_dir.display())),
        };
        let who = Self::of(uid, owner);
        if matches!(who, Self::User(_)) && rustix::fs::access(data_dir, Access::READ_OK | Access::EXEC_OK).is_err() {
            bail!(closed(data_dir, uid, owner));
        }
        Ok(who)
    }

    /// The account with this number, as the kernel says of who is at the other end of a socket. `owner` is the account that
    /// the gateway runs as.
    pub(crate) fn of(uid: u32, owner: u32) -> Self {
        let os_user = os_user(uid);
        if uid == 0 || uid == owner {
            Self::Local { os_user }
        } else {
            Self::User(os_user)
        }
    }

    /// The same for recordings and running sessions.
    pub(crate) fn asker(&self, view: &View) -> Asker {
        match self {
            Self::Local { os_user } => Asker::Local {
                os_user: os_user.clone(),
            },
            Self::User(_) => Asker::User(self.facts(view)),
        }
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

    /// Who acts, for the audit log, where that is this process's account.
    pub(crate) fn actor(&self) -> Actor {
        self.actor_from(sudo_user())
    }

    /// Who acts, for the audit log. Beside a local account is told who became it [by sudo](sudo_user).
    pub(crate) fn actor_from(&self, sudo_user: Option<String>) -> Actor {
        Actor {
            user: self.name(),
            sudo_user: sudo_user.filter(|_| matches!(self, Self::Local { .. })),
        }
    }

    /// Whether they may do that with resources of a kind; with `object`, with this one.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may(
        &self,
        view: &View,
        kind: ResourceKind,
        verb: Verb,
        object: Option<&ObjectFacts>,
    ) -> Result<(), String> {
        if matches!(self, Self::Local { .. }) {
            return Ok(());
        }
        let rule = self.rule(view, kind, verb, object);
        if rule.allowed { Ok(()) } else { Err(rule.why) }
    }

    /// Whether they may see a resource. A desktop that nothing but the rule for everybody shows, only if it can be opened.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_see(
        &self,
        view: &View,
        kind: ResourceKind,
        verb: Verb,
        object: &ObjectFacts,
    ) -> Result<(), String> {
        if matches!(self, Self::Local { .. }) {
            return Ok(());
        }
        let rule = self.rule(view, kind, verb, Some(object));
        if !rule.allowed {
            return Err(rule.why);
        }
        let user = self.facts(view);
        let by_own_role = rule.role.is_some_and(|role| user.roles.contains(&role));
        if kind != ResourceKind::WindowsDesktop || by_own_role || self.opens(view, &object.name) {
            return Ok(());
        }
        Err(format!("no role of {} opens {}", user.name, object.name))
    }

    /// Whether they could open a session on a desktop, with some login.
    fn opens(&self, view: &View, desktop: &str) -> bool {
        let now = OffsetDateTime::now_utc();
        let Some(desktop) = view.desktop(desktop, now) else {
            return false;
        };
        let request = view.request(&Ask {
            user: &self.name(),
            identity: Identity::Proven {
                by: ProvenBy::LocalAccount,
            },
            desktop: None,
            login: None,
            source: None,
            now,
            open_sessions: 0,
        });
        !deskreel_policy::reachable(&view.roles, &view.cluster, &view.locks(), &request, [&desktop.facts]).is_empty()
    }

    fn rule(&self, view: &View, kind: ResourceKind, verb: Verb, object: Option<&ObjectFacts>) -> RuleDecision {
        let user = self.facts(view);
        let now = OffsetDateTime::now_utc();
        if let Some(why) = &view.unavailable {
            return RuleDecision {
                allowed: false,
                role: None,
                rule: None,
                why: format!("nothing can be ruled: {why}"),
            };
        }
        if let Some(lock) = view.locks().on_user(&user.name, &user.roles, now) {
            return RuleDecision {
                allowed: false,
                role: None,
                rule: None,
                why: format!("{} is locked by lock/{}", user.name, lock.metadata.name),
            };
        }
        let query = RuleQuery {
            user: &user,
            resource: rule_resource(kind),
            verb,
            session: None,
            object,
            now,
        };
        deskreel_policy::may(&view.roles, &query)
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

/// What an account that `data_dir` is closed to can do.
pub(crate) fn closed(data_dir: &Path, uid: u32, owner: u32) -> String {
    let (owner_name, asker) = (os_user(owner), os_user(uid));
    let how = match owner {
        0 => "run this as root, as in `sudo deskreel ...`".to_owned(),
        _ => format!("run this as {owner_name} or root, as in `sudo -u {owner_name} deskreel ...`"),
    };
    format!(
        "data_dir {} belongs to {owner_name} and is closed to {asker}: {how}, or use the pages of web.listen as a Deskreel \
         user (docs/operations.md, \"Who may use the command line\")",
        data_dir.display()
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_shut_out_hears_what_to_do() {
        let said = closed(Path::new("/var/lib/deskreel"), 4_000_000_001, 4_000_000_002);
        assert!(
            said.contains(
                "belongs to 4000000002 and is closed to 4000000001: run this as 4000000002 or root, as in `sudo -u"
            ),
            "{said}"
        );
        let said = closed(Path::new("/var/lib/deskreel"), 4_000_000_001, 0);
        assert!(
            said.contains("run this as root, as in `sudo deskreel ...`, or use the pages"),
            "{said}"
        );
    }
}

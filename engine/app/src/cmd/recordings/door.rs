//! How a command comes to recordings: who is at the keyboard, the rules, the audit log, the catalog.

use anyhow::Context as _;
use deskreel_config::Loaded;
use deskreel_policy::{Locks, RoleSet};
use time::OffsetDateTime;

use crate::access::recordings::{Asker, Gate, Ruler};
use crate::access::{self, Who};
use crate::audit::{Actor, Audit};
use crate::catalog::{Catalog, SessionRow};

/// Whoever is at the keyboard, if it is root or the owner of `data_dir`: storages know no rules that others could be asked
/// about.
///
/// # Errors
/// It is somebody else.
pub(in crate::cmd) fn local(loaded: &Loaded, action: &str) -> anyhow::Result<Actor> {
    match Who::is(&loaded.config.data_dir)? {
        who @ Who::Local { .. } => Ok(who.actor()),
        Who::User(name) => anyhow::bail!("{name} may not {action}: only root and the account that owns data_dir may"),
    }
}

/// The rules, as whoever is at the keyboard meets them.
pub(in crate::cmd) struct Rules {
    actor: Actor,
    asker: Asker,
    roles: RoleSet,
    locks: Locks,
    unavailable: Option<String>,
}

impl Rules {
    /// # Errors
    /// Resources that can't be read: what can't be ruled is refused. Local accounts need none, so that a broken resource
    /// locks nobody out of the node.
    pub(in crate::cmd) fn open(loaded: &Loaded) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        let who = Who::is(&loaded.config.data_dir)?;
        let actor = who.actor();
        if let Who::Local { os_user } = who {
            return Ok(Self {
                actor,
                asker: Asker::Local { os_user },
                roles: RoleSet::default(),
                locks: Locks {
                    locks: Vec::new(),
                    viewed_at: now,
                },
                unavailable: None,
            });
        }
        let view = access::look(loaded)
            .context("read the resources that rule access to recordings")?
            .view(now);
        Ok(Self {
            actor,
            asker: Asker::User(who.facts(&view)),
            locks: view.locks(),
            unavailable: view.unavailable,
            roles: view.roles,
        })
    }

    pub(in crate::cmd) fn ruler(&self) -> Ruler<'_> {
        Ruler {
            asker: &self.asker,
            roles: &self.roles,
            locks: &self.locks,
            unavailable: self.unavailable.as_deref(),
        }
    }

    /// The one session whose id begins with `prefix`, among those that whoever asks may know of.
    ///
    /// # Errors
    /// None or several; a catalog that can't be read.
    pub(in crate::cmd) fn known(&self, loaded: &Loaded, prefix: &str) -> anyhow::Result<SessionRow> {
        Ok(self
            .ruler()
            .known(&Catalog::open_or_nothing(&loaded.config.data_dir)?, prefix)?)
    }

    /// Who asks, for the audit log.
    pub(in crate::cmd) fn actor(&self) -> Actor {
        self.actor.clone()
    }
}

/// All of it.
pub(in crate::cmd) struct Door {
    rules: Rules,
    audit: Audit,
    catalog: Catalog,
}

impl Door {
    /// # Errors
    /// Resources, audit log or catalog that can't be opened.
    pub(in crate::cmd) fn open(loaded: &Loaded) -> anyhow::Result<Self> {
        Ok(Self {
            rules: Rules::open(loaded)?,
            // Where nothing was recorded yet, storages can be read all the same.
            catalog: Catalog::open_or_nothing(&loaded.config.data_dir)?,
            audit: Audit::open(&loaded.config).context("open the audit log, without which nothing is shown")?,
        })
    }

    pub(in crate::cmd) fn gate(&self) -> Gate<'_> {
        Gate {
            ruler: self.rules.ruler(),
            audit: &self.audit,
            catalog: &self.catalog,
            actor: self.rules.actor(),
            address: None,
        }
    }
}

//! What there is to see, and who may: the gateway's recordings, or one that a command shows.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use deskreel_config::Config;
use deskreel_policy::{Identity, ProvenBy, Verb};
use ed25519_dalek::VerifyingKey;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::alone::Alone;
use super::answer::Failure;
use super::auth::{Doors, Signed};
use super::shelf::Kept;
use crate::access::Access;
use crate::access::recordings::{Asker, Gate, Purpose, Ruler, facts};
use crate::audit::{Actor, Audit, Event, Login, RecordingAction};
use crate::catalog::{Catalog, SessionRow, State};
use crate::credentials::{Credentials, Proof};
use crate::gateway::guard::{Guard, GuardLimits};
use crate::gateway::registry::Registry;
use crate::host::StorageHandle;
use crate::pipeline::Storage;
use crate::replay::{Known, Library, Objects, Source};

/// Recordings of which the last read segments are kept, up to 32 MiB each.
const OPEN_MAX: usize = 8;

/// Where the recordings are.
pub(super) enum Desk {
    /// All that the gateway knows.
    Gateway(Box<Gateway>),
    /// One, for whoever started the command.
    Alone(Box<Alone>),
}

/// The gateway's side.
pub(super) struct Gateway {
    access: Arc<Access>,
    pub(super) catalog: Arc<Catalog>,
    audit: Audit,
    pub(super) registry: Registry,
    credentials: Credentials,
    guard: Guard,
    library: Arc<Library>,
    open: Mutex<Kept<Uuid, Option<Arc<Objects>>>>,
    pub(super) spool: PathBuf,
    runtime: Handle,
    keys: Vec<VerifyingKey>,
}

/// What a password turned out to be.
pub(super) enum Checked {
    /// The user's.
    Right,
    /// Not the user's, or there is no such user.
    Wrong,
    /// Nobody looked.
    Blocked,
}

/// What a user may do with a recording.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct May {
    pub(super) play: bool,
    pub(super) export: bool,
    pub(super) download: bool,
    pub(super) watch: bool,
    pub(super) terminate: bool,
}

impl Gateway {
    /// Must be called on the engine's runtime.
    pub(super) fn open(
        config: &Config,
        access: Arc<Access>,
        registry: Registry,
        audit: Audit,
        storages: Vec<Arc<StorageHandle>>,
    ) -> anyhow::Result<Self> {
        let limits = GuardLimits {
            per_user_max: config.gateway.logon_failures_max,
            per_address_max: config.gateway.logon_failures_per_address_max,
            block: config.gateway.logon_block,
            trust: config.gateway.logon_trust,
        };
        let trust = crate::keys::trust(config).context("read the keys that seals are checked with")?;
        Ok(Self {
            access,
            catalog: Arc::new(Catalog::open_beside(&config.data_dir).context("open the catalog for the pages")?),
            audit,
            registry,
            credentials: Credentials::open(&config.data_dir)?,
            guard: Guard::new(limits),
            library: Library::new(&config.spool.path, storages.into_iter().map(as_storage).collect()),
            open: Mutex::new(Kept::new(OPEN_MAX)),
            spool: config.spool.path.clone(),
            runtime: Handle::current(),
            keys: trust.own.into_iter().chain(trust.others).collect(),
        })
    }

    /// Checks a password. Tickets open desktops, not pages. Blocks.
    pub(super) fn check(&self, user: &str, password: &str, address: IpAddr) -> Result<Checked, Failure> {
        let Ok(attempt) = self.guard.listen(user, address, Instant::now()) else {
            return Ok(Checked::Blocked);
        };
        let proof = self.credentials.verify(user, password, OffsetDateTime::now_utc())?;
        if proof == Some(Proof::Password) && self.lets_in(user) {
            attempt.succeeded();
            return Ok(Checked::Right);
        }
        Ok(Checked::Wrong)
    }

    /// Tells the audit log who signs in, or tried to. Blocks.
    ///
    /// # Errors
    /// The event can't be written, and `audit.on_failure` is strict.
    pub(super) fn tell(&self, user: &str, login: Login) -> Result<(), Failure> {
        let actor = Actor {
            user: user.to_owned(),
            ..Actor::default()
        };
        let told = self.audit.emit_or_fail(actor, &Event::Login(login));
        told.map_err(|error| Failure::Internal(error.into()))
    }

    /// Who is signed in from before.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) fn doors(&self, ttl: Duration) -> anyhow::Result<Doors> {
        let doors = Doors::stored(ttl, Arc::clone(&self.catalog)).context("read who is signed in")?;
        doors.sweep(|user, begun| self.still_lets_in(user, begun))?;
        Ok(doors)
    }

    /// Whether a sign-in still counts: not when the user is locked out or the password was set anew since. Blocks.
    pub(super) fn still_lets_in(&self, user: &str, begun: OffsetDateTime) -> bool {
        let is_old = || match self.catalog.password_set(user) {
            Ok(set) => set.is_none_or(|set| set > begun),
            // Whoever can't be looked at stays until that is possible.
            Err(_) => false,
        };
        self.lets_in(user) && !is_old()
    }

    /// Whether the user exists and isn't locked out.
    fn lets_in(&self, user: &str) -> bool {
        self.ruled(user, |ruler| ruler.shuts_out(OffsetDateTime::now_utc()).is_none())
    }

    /// Asks the rules, as they are now, for a user who has proven the name.
    pub(super) fn ruled<T>(&self, user: &str, ask: impl FnOnce(Ruler<'_>) -> T) -> T {
        let view = self.access.view();
        let identity = Identity::Proven { by: ProvenBy::Password };
        let asker = Asker::User(view.user(user, identity));
        let locks = view.locks();
        ask(Ruler {
            asker: &asker,
            roles: &view.roles,
            locks: &locks,
            unavailable: view.unavailable.as_deref(),
        })
    }

    /// As [`Gateway::ruled`], with the audit log: for all that shows or ends something.
    pub(super) fn gated<T>(&self, signed: &Signed, work: impl FnOnce(Gate<'_>) -> T) -> T {
        self.ruled(&signed.user, |ruler| {
            work(Gate {
                ruler,
                audit: &self.audit,
                catalog: &self.catalog,
                actor: Actor {
                    user: signed.user.clone(),
                    ..Actor::default()
                },
                address: Some(signed.address.to_string()),
            })
        })
    }

    /// A recording's objects, with the digests that the catalog knows by now. Blocks.
    pub(super) fn source(&self, id: Uuid) -> Result<Source, Failure> {
        let known = Known::from_catalog(&self.catalog, id)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = open.entry(id);
        let objects = match slot {
            Some(objects) => {
                objects.learn(known);
                Arc::clone(objects)
            }
            None => Arc::clone(slot.insert(self.library.objects(id, known))),
        };
        Ok(Source::shared(objects, self.runtime.clone()))
    }

    /// As [`Gateway::source`], for whoever reads it once. Blocks.
    pub(super) fn unshared(&self, id: Uuid) -> Result<Source, Failure> {
        let known = Known::from_catalog(&self.catalog, id)?;
        Ok(Source::shared(self.library.objects(id, known), self.runtime.clone()))
    }

    /// As [`Gateway::source`], of a recording that was opened before.
    fn opened(&self, id: Uuid) -> Result<Source, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = open.get(&id).cloned().flatten();
        drop(open);
        match objects {
            Some(objects) => Ok(Source::shared(objects, self.runtime.clone())),
            None => self.source(id),
        }
    }
}

fn as_storage(handle: Arc<StorageHandle>) -> Arc<dyn Storage> {
    handle
}

impl Desk {
    pub(super) fn lets_in(&self, user: &str) -> bool {
        match self {
            Self::Gateway(gateway) => gateway.lets_in(user),
            Self::Alone(_) => true,
        }
    }

    /// What a user may do with a recording.
    pub(super) fn may(&self, user: &str, row: &SessionRow) -> May {
        let Self::Gateway(gateway) = self else {
            return May {
                play: true,
                export: true,
                download: false,
                watch: false,
                terminate: false,
            };
        };
        let (session, now) = (facts(row), OffsetDateTime::now_utc());
        let is_recorded = !matches!(row.state, State::NotRecorded | State::Deleted);
        gateway.ruled(user, |ruler| {
            let may = |verb| ruler.may(verb, &session, now).allowed;
            May {
                play: is_recorded && may(Verb::Read),
                export: is_recorded && may(Verb::Export),
                download: is_recorded && may(Verb::Download),
                watch: is_recorded && may(Verb::Watch),
                terminate: may(Verb::Terminate),
            }
        })
    }

    /// The recording, if the user may do that with it; a refusal is told to the audit log, and so is what is about to be shown.
    /// Blocks.
    ///
    /// # Errors
    /// No such recording for this user, a refusal, an audit log that can't be written.
    pub(super) fn show(&self, signed: &Signed, id: Uuid, purpose: Purpose) -> Result<(SessionRow, Source), Failure> {
        match self {
            Self::Alone(alone) if alone.row.id == id => Ok((alone.row.clone(), alone.source())),
            Self::Alone(_) => Err(Failure::NotFound),
            Self::Gateway(gateway) => gateway.gated(signed, |gate| {
                let looked = gate.look(&id.to_string(), purpose)?;
                if matches!(looked.row.state, State::NotRecorded | State::Deleted) {
                    return Err(Failure::NotFound);
                }
                let pass = gate
                    .begin(&looked, serde_json::Map::new())
                    .map_err(anyhow::Error::from)?;
                pass.shown();
                Ok((looked.row.clone(), gateway.source(id)?))
            }),
        }
    }

    /// The recording, for what needs the right to list or read it and is no event. Blocks.
    ///
    /// # Errors
    /// No such recording for this user.
    pub(super) fn glance(&self, user: &str, id: Uuid) -> Result<(SessionRow, Source), Failure> {
        match self {
            Self::Alone(alone) if alone.row.id == id => Ok((alone.row.clone(), alone.source())),
            Self::Alone(_) => Err(Failure::NotFound),
            Self::Gateway(gateway) => {
                let row = gateway.catalog.session(&id.to_string())?;
                let (session, now) = (facts(&row), OffsetDateTime::now_utc());
                let known = gateway.ruled(user, |ruler| ruler.knows(&session, now));
                if known {
                    let source = gateway.source(id)?;
                    Ok((row, source))
                } else {
                    Err(Failure::NotFound)
                }
            }
        }
    }

    /// The objects of a recording that was opened before, while the rules still allow it. Blocks.
    ///
    /// # Errors
    /// The rules have changed.
    pub(super) fn again(&self, user: &str, row: &SessionRow) -> Result<Source, Failure> {
        match self {
            Self::Alone(alone) => Ok(alone.source()),
            Self::Gateway(gateway) if self.may(user, row).play => gateway.opened(row.id),
            Self::Gateway(_) => Err(Failure::NotFound),
        }
    }

    /// The keys that seals are checked with.
    pub(super) fn keys(&self) -> &[VerifyingKey] {
        match self {
            Self::Gateway(gateway) => &gateway.keys,
            Self::Alone(alone) => &alone.keys,
        }
    }

    /// What the export command is told to work on.
    pub(super) fn target(&self, id: Uuid) -> String {
        match self {
            Self::Gateway(_) => id.to_string(),
            Self::Alone(alone) => alone.target.clone(),
        }
    }
}

/// Opening the player.
pub(super) const PLAY: Purpose = Purpose {
    verb: Verb::Read,
    what: RecordingAction::Access,
    action: "play",
};

/// Taking a copy of it.
pub(super) const DOWNLOAD: Purpose = Purpose {
    verb: Verb::Download,
    what: RecordingAction::Download,
    action: "download",
};

/// Fetching what an exporter has made of it.
pub(super) const FETCH: Purpose = Purpose {
    verb: Verb::Export,
    what: RecordingAction::Export,
    action: "fetch",
};

/// Checking the seals.
pub(super) const VERIFY: Purpose = Purpose {
    verb: Verb::Read,
    what: RecordingAction::Verify,
    action: "verify",
};

/// Following a running session.
pub(super) const WATCH: Purpose = Purpose {
    verb: Verb::Watch,
    what: RecordingAction::Watch,
    action: "watch",
};

/// Ending one.
pub(super) const TERMINATE: Purpose = Purpose {
    verb: Verb::Terminate,
    what: RecordingAction::Terminate,
    action: "terminate",
};

//! The resources of the running gateway, kept up to date.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use deskreel_config::Loaded;
use time::OffsetDateTime;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::Who;
use super::configured::Configured;
use super::entry::{Entry, ResourceOrigin};
use super::snapshot::{of_stored, take_out};
use super::store::{events, store_configured};
use super::view::{Settings, Snapshot, View};
use crate::audit::Audit;
use crate::catalog::{self, Catalog};

/// Pause between two looks at the catalog. A change is in force after one of them.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Looks in a row that fail before new sessions are refused: about five seconds, so that a busy database is no outage.
const FAILURES_MAX: u32 = 20;

/// The resources in force, live.
pub(crate) struct Access {
    /// `None` only in tests, where nothing changes.
    state: Option<Mutex<State>>,
    view: watch::Sender<Arc<View>>,
    viewed_at: Arc<AtomicI64>,
    /// Warnings of decisions since the start.
    warnings: AtomicU64,
}

struct State {
    catalog: Catalog,
    audit: Audit,
    snapshot: Snapshot,
    /// Of the catalog, at the last look.
    data_version: u64,
    revision: u64,
}

impl Access {
    /// Reads the configuration's resources, stores them, and puts everything in force.
    ///
    /// # Errors
    /// A usage error with everything that is wrong in the configuration, if its resources were never loaded; a catalog or
    /// an audit log that can't be written.
    pub(crate) fn start(loaded: &Loaded) -> anyhow::Result<Arc<Self>> {
        let catalog = Catalog::open(&loaded.config.data_dir)?;
        let settings = Settings::of(loaded)?;
        let audit = Audit::open(&loaded.config).context("open the audit log")?;
        let stored = catalog.resources()?;
        let loaded_before = !catalog.resources_state()?.1.is_empty();
        let configured = Configured::in_force(loaded, &settings, &stored, loaded_before)?;
        // before what is read: a change of another process in between must be looked for
        let data_version = catalog.data_version()?;
        let (revision, snapshot) = take_over(&catalog, &audit, settings, &configured, loaded)?;
        let now = OffsetDateTime::now_utc();
        let viewed_at = Arc::new(AtomicI64::new(nanos(now)));
        let view = View::build(&snapshot, now, None, Arc::clone(&viewed_at));
        tell(&view);
        tell_off(&snapshot);
        let state = State {
            data_version,
            catalog,
            audit,
            snapshot,
            revision,
        };
        let access = Arc::new(Self {
            state: Some(Mutex::new(state)),
            view: watch::Sender::new(Arc::new(view)),
            viewed_at,
            warnings: AtomicU64::new(0),
        });
        Self::keep(Arc::downgrade(&access));
        Ok(access)
    }

    /// These desktops and the presets, for ever.
    #[cfg(test)]
    pub(crate) fn fixed(config: &deskreel_config::Config, desktops: &[deskreel_config::WindowsDesktop]) -> Arc<Self> {
        let now = OffsetDateTime::now_utc();
        let viewed_at = Arc::new(AtomicI64::new(nanos(now)));
        let snapshot = of_stored(Settings::of_config(config), &[]);
        let mut view = View::build(&snapshot, now, None, Arc::clone(&viewed_at));
        // no store says it here, so the configuration does
        view.cluster.recording = config.session_recording;
        view.add(desktops);
        Arc::new(Self {
            state: None,
            view: watch::Sender::new(Arc::new(view)),
            viewed_at,
            warnings: AtomicU64::new(0),
        })
    }

    /// What is in force now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Counts a warning of a decision, such as that it goes by an old view of the locks; how many there were since the start.
    pub(crate) fn count_warning(&self) -> u64 {
        self.warnings.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sees every change of what is in force.
    pub(crate) fn changed(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Reads the configuration's resources again. On an error everything stays as it is.
    ///
    /// # Errors
    /// A usage error with everything that is wrong in the configuration; a catalog or an audit log that can't be written.
    pub(crate) fn reload(&self, loaded: &Loaded) -> anyhow::Result<()> {
        let settings = Settings::of(loaded)?;
        let Some(state) = &self.state else { return Ok(()) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = Configured::in_force(loaded, &settings, &state.catalog.resources()?, false)?;
        (state.revision, state.snapshot) = take_over(&state.catalog, &state.audit, settings, &configured, loaded)?;
        self.publish(&state);
        Ok(())
    }

    /// Looks for changes until nobody holds the resources any more.
    fn keep(access: Weak<Self>) {
        let run = move || {
            let mut failures = 0u32;
            loop {
                std::thread::sleep(POLL_INTERVAL);
                let Some(access) = access.upgrade() else { return };
                match access.poll() {
                    Ok(()) => {
                        if failures >= FAILURES_MAX {
                            access.publish_anew(None);
                        }
                        failures = 0;
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        let error = format!("{error:#}");
                        if failures == 1 {
                            error!(error, "changes of resources can't be seen");
                        }
                        // nobody knows who was locked out or what was withdrawn meanwhile
                        if failures == FAILURES_MAX {
                            access.publish_anew(Some(format!("resources can't be read: {error}")));
                        }
                    }
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("resources".to_owned()).spawn(run) {
            error!(%error, "changes of resources will not be seen");
        }
    }

    fn poll(&self) -> catalog::Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = OffsetDateTime::now_utc();
        let data_version = state.catalog.data_version()?;
        let mut is_new = self.view.borrow().next_expiry.is_some_and(|expiry| expiry <= now);
        if data_version != state.data_version {
            let (revision, _) = state.catalog.resources_state()?;
            if revision != state.revision {
                state.refresh()?;
                is_new = true;
            }
            state.data_version = data_version;
        }
        self.viewed_at.store(nanos(now), Ordering::Relaxed);
        if is_new {
            self.publish(&state);
        }
        Ok(())
    }

    /// Publishes what is known, with a reason why no new session may rely on it.
    fn publish_anew(&self, unavailable: Option<String>) {
        let Some(state) = &self.state else { return };
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = self.view();
        let viewed_at = Arc::clone(&self.viewed_at);
        let mut view = View::build(&state.snapshot, OffsetDateTime::now_utc(), Some(&previous), viewed_at);
        if unavailable.is_some() {
            view.unavailable = unavailable;
            tell(&view);
        }
        self.view.send_replace(Arc::new(view));
    }

    fn publish(&self, state: &State) {
        let now = OffsetDateTime::now_utc();
        self.viewed_at.store(nanos(now), Ordering::Relaxed);
        let previous = self.view();
        let view = View::build(&state.snapshot, now, Some(&previous), Arc::clone(&self.viewed_at));
        if view.problems != previous.problems {
            tell(&view);
        }
        if view.cluster.recording != previous.cluster.recording {
            tell_off(&state.snapshot);
        }
        info!(revision = state.revision, "resources have changed");
        self.view.send_replace(Arc::new(view));
    }
}

impl State {
    /// Reads what has another revision than before. What can't be read stays as it was.
    fn refresh(&mut self) -> catalog::Result<()> {
        let (revision, keys) = self.catalog.resource_keys()?;
        let old = &self.snapshot;
        let mut new = of_stored(old.settings.clone(), &[]);
        new.refused.clone_from(&old.refused);
        for (kind, name, revision) in keys {
            let key = (kind, name);
            let known = old.entries.get(&key).filter(|entry| entry.revision > 0);
            if let Some(same) = known.filter(|entry| entry.revision == revision && entry.problem.is_none()) {
                new.entries.insert(key, Arc::clone(same));
                continue;
            }
            let Some(stored) = self.catalog.resource(key.0, &key.1)? else {
                continue;
            };
            match (Entry::read(&stored), known) {
                (Ok(entry), _) => drop(new.entries.insert(key, Arc::new(entry))),
                (Err(unreadable), Some(known)) => {
                    let mut entry = Entry::clone(known);
                    entry.problem = Some(unreadable.problem);
                    new.entries.insert(key, Arc::new(entry));
                }
                (Err(unreadable), None) => take_out(&mut new, unreadable),
            }
        }
        self.snapshot = new;
        self.revision = revision;
        Ok(())
    }
}

/// Stores what the configuration says, and tells the audit log what that changes; what is in force then.
fn take_over(
    catalog: &Catalog,
    audit: &Audit,
    settings: Settings,
    configured: &Configured,
    loaded: &Loaded,
) -> anyhow::Result<(u64, Snapshot)> {
    let actor = Who::is(&loaded.config.data_dir)?.actor();
    store_configured(catalog, configured, |changes| {
        Ok(audit.emit_all(actor, &events(changes, ResourceOrigin::ConfigFile))?)
    })?;
    let (revision, stored) = catalog.resources_at()?;
    let mut snapshot = of_stored(settings, &stored);
    snapshot.refused.clone_from(&configured.refused);
    Ok((revision, snapshot))
}

/// Says what is wrong with what is in force.
fn tell(view: &View) {
    for problem in &view.problems {
        warn!(problem, "resource");
    }
    if let Some(why) = &view.unavailable {
        error!(why, "configuration is unavailable: new sessions are refused");
    }
}

/// Says that a command switched recording off.
fn tell_off(snapshot: &Snapshot) {
    if let Some(why) = snapshot.switched_off() {
        warn!(why, "recording is off");
    }
}

fn nanos(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

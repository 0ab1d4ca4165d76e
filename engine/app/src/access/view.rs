//! What is in force at one moment: compiled roles, settings, locks, users, desktops.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use deskreel_config::{
    ClusterMode, Config, Document, Graphics, Loaded, Metadata, Resource, ResourceKind, Role, RoleConditions, Rule, User,
};
use deskreel_policy::{
    AccessRequest, Cluster, Decision, DesktopFacts, Identity, LockedOut, Locks, ObjectFacts, Problem, Reason, RoleSet,
    Severity, UserFacts,
};
use serde_json::Value;
use time::OffsetDateTime;

use super::entry::{Entry, ORIGIN_LABEL, ResourceOrigin, Unreadable};
use super::facts::{Desktop, HostLabelRules};
use super::snapshot::of_stored;

/// Settings of the configuration that decisions read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    cluster: Cluster,
    host_labels: HostLabelRules,
}

impl Settings {
    /// The settings of a configuration.
    ///
    /// # Errors
    /// A pattern of `access.host_labels` that is none.
    pub(crate) fn of(loaded: &Loaded) -> anyhow::Result<Self> {
        Ok(Self {
            host_labels: HostLabelRules::compile(loaded)?,
            ..Self::of_config(&loaded.config)
        })
    }

    /// The settings but for `access.host_labels`.
    pub(super) fn of_config(config: &Config) -> Self {
        let access = &config.access;
        Self {
            cluster: Cluster {
                recording: config.session_recording,
                session_ttl_max: access.session_ttl_max,
                client_idle_timeout: access.client_idle_timeout,
                locking_mode: access.locking_mode,
                lock_stale_max: access.lock_stale_max,
                require_session_mfa: access.require_session_mfa,
                claimed_identity: access.claimed_identity,
                claimed_roles: access.claimed_roles.clone(),
            },
            host_labels: HostLabelRules::default(),
        }
    }
}

/// Everything that a view is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Settings of the configuration.
    pub(crate) settings: Settings,
    /// Resources in force, by kind and name.
    pub(crate) entries: BTreeMap<(ResourceKind, String), Arc<Entry>>,
    /// Stored resources that can't be read and have no earlier version.
    pub(crate) unreadable: Vec<Unreadable>,
    /// Why the configuration's resources can't be loaded, one line a finding; what they said before is in force.
    pub(crate) refused: Option<String>,
}

impl Snapshot {
    /// What is in force where nobody says anything.
    pub(crate) fn built_in() -> Self {
        of_stored(Settings::default(), &[])
    }

    /// The same without what the configuration says: what is there when its folder is loaded anew.
    pub(crate) fn without_configured(&self) -> Self {
        let mut other = self.clone();
        other
            .entries
            .retain(|_, entry| entry.origin != ResourceOrigin::ConfigFile);
        for (key, entry) in Self::built_in().entries {
            other.entries.entry(key).or_insert(entry);
        }
        other
    }

    /// The same with other resources in place of those of their names: said by whoever says those, else by a command.
    pub(crate) fn with(&self, documents: impl IntoIterator<Item = Document>) -> Self {
        let mut other = self.clone();
        for document in documents {
            let key = (document.kind, document.name.clone());
            let old = self.entries.get(&key).map(|entry| entry.origin);
            let origin = match old {
                Some(ResourceOrigin::ConfigFile) => ResourceOrigin::ConfigFile,
                _ => ResourceOrigin::Dynamic,
            };
            // one that can't be read closes nothing any more when another takes its place
            other
                .unreadable
                .retain(|unreadable| (unreadable.kind, &unreadable.name) != (key.0, &key.1));
            other.entries.insert(key, Arc::new(Entry::proposed(document, origin)));
        }
        other
    }

    /// Says that a command switched recording off, where nobody who reads the configuration would see it.
    pub(crate) fn switched_off(&self) -> Option<String> {
        let key = (
            ResourceKind::SessionRecordingConfig,
            deskreel_config::RECORDING_CONFIG_NAME.to_owned(),
        );
        let entry = self.entries.get(&key)?;
        let off =
            matches!(&entry.document.resource, Resource::Recording(recording) if recording.mode == ClusterMode::Off);
        (off && entry.origin == ResourceOrigin::Dynamic).then(|| {
            "session_recording_config, which a command made, says mode: off: nothing is recorded, whatever deskreel.yaml says"
                .to_owned()
        })
    }

    /// What `where` sees of a resource as `resource.…`: of a desktop also the computed labels.
    pub(crate) fn object(&self, document: &Document, origin: ResourceOrigin) -> ObjectFacts {
        if let Resource::Desktop(desktop) = &document.resource {
            let Desktop { facts, .. } = Desktop::new(desktop, origin, &self.settings.host_labels);
            return ObjectFacts {
                name: facts.name,
                labels: facts.labels,
            };
        }
        let labels = document.source.pointer("/metadata/labels").and_then(Value::as_object);
        let label = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let mut labels: BTreeMap<String, String> = labels.into_iter().flatten().filter_map(label).collect();
        labels.insert(ORIGIN_LABEL.to_owned(), origin.as_str().to_owned());
        ObjectFacts {
            name: document.name.clone(),
            labels,
        }
    }

    /// What is in force at `now`.
    pub(crate) fn view(&self, now: OffsetDateTime) -> View {
        View::build(self, now, None, Arc::new(AtomicI64::new(nanos(now))))
    }
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Name of the user.
    pub(crate) user: &'a str,
    /// Whether that is proven.
    pub(crate) identity: Identity,
    /// Name of the desktop.
    pub(crate) desktop: Option<&'a str>,
    /// The account on the desktop, as the client wrote it; `None` = not known yet.
    pub(crate) login: Option<&'a str>,
    /// Address of the client.
    pub(crate) source: Option<IpAddr>,
    /// The time.
    pub(crate) now: OffsetDateTime,
    /// Sessions of the user that are open, this one not counted.
    pub(crate) open_sessions: u32,
}

/// What is in force at one moment; immutable.
#[derive(Debug)]
pub(crate) struct View {
    /// Compiled roles, presets included.
    pub(crate) roles: RoleSet,
    /// Settings that hold for everybody.
    pub(crate) cluster: Cluster,
    /// Users by name.
    pub(crate) users: BTreeMap<String, User>,
    /// Desktops by name; [`View::desktop`] leaves out those that have expired since.
    pub(crate) desktops: BTreeMap<String, Desktop>,
    /// Why nothing can be decided: a stored resource that everything depends on can't be read.
    pub(crate) unavailable: Option<String>,
    /// What is wrong with resources, for log and command line.
    pub(crate) problems: Vec<String>,
    locks: Vec<deskreel_config::Lock>,
    /// When the resources were last known to be these, in nanoseconds since 1970.
    viewed_at: Arc<AtomicI64>,
    /// Roles and revisions that [`View::roles`] is compiled from.
    compiled: Vec<(String, u64)>,
    /// What is wrong with roles by themselves.
    role_problems: Vec<String>,
    /// When the next role, user or recording setting expires.
    pub(super) next_expiry: Option<OffsetDateTime>,
}

fn nanos(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

impl View {
    /// Builds a view. Roles of `previous` are used again when they are the same.
    pub(super) fn build(
        snapshot: &Snapshot,
        now: OffsetDateTime,
        previous: Option<&Self>,
        viewed_at: Arc<AtomicI64>,
    ) -> Self {
        let mut cluster = snapshot.settings.cluster.clone();
        let (mut users, mut desktops, mut locks) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut roles: Vec<(&Role, &Entry)> = Vec::new();
        let mut next_expiry: Option<OffsetDateTime> = None;
        for entry in snapshot.entries.values() {
            if let Some(expires) = entry.document.expires {
                if expires <= now {
                    continue;
                }
                next_expiry = Some(next_expiry.map_or(expires, |next| next.min(expires)));
            }
            match &entry.document.resource {
                Resource::Role(role) => roles.push((role, entry)),
                Resource::User(user) => drop(users.insert(user.metadata.name.clone(), user.clone())),
                Resource::Desktop(desktop) => {
                    let desktop = Desktop::new(desktop, entry.origin, &snapshot.settings.host_labels);
                    desktops.insert(desktop.facts.name.clone(), desktop);
                }
                Resource::Recording(recording) => cluster.recording = *recording,
                Resource::Lock(lock) => locks.push(lock.clone()),
            }
        }
        let unreadable = snapshot
            .unreadable
            .iter()
            .map(|unreadable| (unreadable.name.clone(), u64::MAX));
        let compiled: Vec<(String, u64)> = roles
            .iter()
            .map(|(role, entry)| (role.metadata.name.clone(), entry.revision))
            .chain(unreadable)
            .collect();
        // what is only proposed has revision 0 too, but never a previous view
        let (set, role_problems) = match previous.filter(|previous| previous.compiled == compiled) {
            Some(previous) => (previous.roles.clone(), previous.role_problems.clone()),
            None => {
                let closed: Vec<Role> = closed_roles(snapshot).collect();
                let (set, problems) = RoleSet::compile(roles.iter().map(|(role, _)| *role).chain(&closed));
                (set, role_errors(&problems, snapshot))
            }
        };
        let mut problems = snapshot_problems(snapshot);
        problems.extend(role_problems.iter().cloned());
        Self {
            roles: set,
            cluster,
            users,
            desktops,
            unavailable: unavailable(snapshot),
            problems,
            locks,
            viewed_at,
            compiled,
            role_problems,
            next_expiry,
        }
    }

    /// Adds desktops without looking where they come from.
    #[cfg(test)]
    pub(crate) fn add(&mut self, desktops: &[deskreel_config::WindowsDesktop]) {
        for desktop in desktops {
            let desktop = Desktop::new(desktop, ResourceOrigin::ConfigFile, &HostLabelRules::default());
            self.desktops.insert(desktop.facts.name.clone(), desktop);
        }
    }

    /// The desktop of this name, if it is there at `now`.
    pub(crate) fn desktop(&self, name: &str, now: OffsetDateTime) -> Option<&Desktop> {
        self.desktops.get(name).filter(|desktop| desktop.is_there(now))
    }

    /// Whether a desktop that is there at `now` may use the graphics pipeline by its own settings.
    pub(crate) fn has_graphics(&self, now: OffsetDateTime) -> bool {
        let mut there = self.desktops.values().filter(|desktop| desktop.is_there(now));
        there.any(|desktop| matches!(desktop.resource.gateway.graphics, Some(Graphics::Auto | Graphics::Gfx)))
    }

    /// Desktops that are there at `now`.
    pub(crate) fn desktop_facts(&self, now: OffsetDateTime) -> impl Iterator<Item = &DesktopFacts> {
        let there = self.desktops.values().filter(move |desktop| desktop.is_there(now));
        there.map(|desktop| &desktop.facts)
    }

    /// The locks, and when they were last known to be all.
    pub(crate) fn locks(&self) -> Locks {
        let viewed_at = self.viewed_at.load(Ordering::Relaxed);
        Locks {
            locks: self.locks.clone(),
            viewed_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(viewed_at))
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        }
    }

    /// What is known of a user. A name that is merely claimed has `access.claimed_roles`, whoever else bears it.
    pub(crate) fn user(&self, name: &str, identity: Identity) -> UserFacts {
        match identity {
            Identity::Claimed => UserFacts {
                name: name.to_owned(),
                roles: self.cluster.claimed_roles.clone(),
                traits: BTreeMap::from([("windows_logins".to_owned(), vec![name.to_owned()])]),
                exists: true,
                ..UserFacts::default()
            },
            Identity::Proven { .. } => self
                .users
                .get(name)
                .map_or_else(|| UserFacts::unknown(name), UserFacts::from),
        }
    }

    /// The request that `ask` comes to.
    pub(crate) fn request(&self, ask: &Ask<'_>) -> AccessRequest {
        AccessRequest {
            user: self.user(ask.user, ask.identity),
            identity: ask.identity,
            desktop: ask
                .desktop
                .and_then(|name| self.desktop(name, ask.now))
                .map(|desktop| desktop.facts.clone()),
            login: ask.login.map(str::to_owned),
            source: ask.source,
            now: ask.now,
            mfa_verified: false,
            open_sessions: ask.open_sessions,
        }
    }

    /// Decides. While the configuration can't be read, everything is denied.
    pub(crate) fn decide(&self, request: &AccessRequest) -> Decision {
        let Some(why) = &self.unavailable else {
            return deskreel_policy::evaluate(&self.roles, &self.cluster, &self.locks(), request);
        };
        // nobody passes without roles: level off, no rights
        let nobody = AccessRequest {
            user: UserFacts::unknown(&request.user.name),
            ..request.clone()
        };
        let locks = Locks {
            locks: Vec::new(),
            viewed_at: request.now,
        };
        let mut decision = deskreel_policy::evaluate(&RoleSet::default(), &self.cluster, &locks, &nobody);
        decision.reason = Some(Reason::ConfigUnavailable);
        decision.message = "access can't be decided at the moment".to_owned();
        decision.why.clone_from(why);
        decision
    }

    /// Whether a running session must end.
    pub(crate) fn locked_out(
        &self,
        decision: &Decision,
        login: Option<&str>,
        now: OffsetDateTime,
    ) -> Option<LockedOut> {
        deskreel_policy::locked_out(decision, login, &self.cluster, &self.locks(), now)
    }
}

/// In place of each role that can't be read, one that closes everything to its users: the role may have had a deny, and a
/// preset of its name must not come back for it.
fn closed_roles(snapshot: &Snapshot) -> impl Iterator<Item = Role> {
    let all = || vec!["*".to_owned()];
    let unreadable = snapshot.unreadable.iter();
    let roles = unreadable.filter(|unreadable| unreadable.kind == ResourceKind::Role);
    roles.map(move |unreadable| Role {
        metadata: Metadata {
            name: unreadable.name.clone(),
            ..Metadata::default()
        },
        deny: RoleConditions {
            windows_desktop_labels: BTreeMap::from([("*".to_owned(), all())]),
            windows_desktop_logins: all(),
            rules: vec![Rule {
                resources: all(),
                verbs: all(),
                condition: None,
            }],
            ..RoleConditions::default()
        },
        ..Role::default()
    })
}

/// Errors of roles that are in force all the same, in words.
fn role_errors(problems: &[Problem], snapshot: &Snapshot) -> Vec<String> {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let word = |problem: &Problem| {
        let entry = snapshot.entries.get(&(ResourceKind::Role, problem.role.clone()));
        let place = entry
            .map(|entry| entry.place.as_str())
            .filter(|place| !place.is_empty());
        match place {
            Some(place) => format!("{place}: {problem}"),
            None => problem.to_string(),
        }
    };
    errors.map(word).collect()
}

/// What can't be loaded of the configuration's resources, in words.
pub(crate) fn refused_problems(refused: Option<&str>) -> Vec<String> {
    let lines = refused.into_iter().flat_map(str::lines);
    lines
        .map(|line| format!("{line} (what the resource folder said before stays in force)"))
        .collect()
}

fn snapshot_problems(snapshot: &Snapshot) -> Vec<String> {
    let mut problems = refused_problems(snapshot.refused.as_deref());
    for entry in snapshot.entries.values() {
        if let Some(problem) = &entry.problem {
            problems.push(format!(
                "{}: the version before it stays in force: {problem}",
                entry.document.subject()
            ));
        }
    }
    for Unreadable { kind, name, problem } in &snapshot.unreadable {
        let so = match kind {
            ResourceKind::Role => "so it denies everything to whoever has it",
            ResourceKind::Lock | ResourceKind::SessionRecordingConfig => "so no new session is let in",
            ResourceKind::User | ResourceKind::WindowsDesktop => "so it is not there",
        };
        problems.push(format!("{kind}/{name} can't be read, {so}: {problem}"));
    }
    problems
}

/// A lock or the recording settings can't be left out: that would allow more.
fn unavailable(snapshot: &Snapshot) -> Option<String> {
    let vital = |kind| matches!(kind, ResourceKind::Lock | ResourceKind::SessionRecordingConfig);
    let unreadable = snapshot.unreadable.iter().find(|unreadable| vital(unreadable.kind))?;
    let Unreadable { kind, name, problem } = unreadable;
    Some(format!("{kind}/{name} can't be read: {problem}"))
}

//! What the catalog holds, as types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// Where a session's recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// The session runs, or the gateway died while it ran and recovery has not looked at it yet.
    Recording,
    /// The session is over and the recording is closed; not every required storage has all of it yet.
    Delivering,
    /// Every required storage has every segment and the manifest.
    Complete,
    /// The gateway died during the session; the recording was closed later, up to where it was durable.
    Recovered,
    /// Something that should be there is not, or is not what was written; `problem` says what.
    Damaged,
    /// The session was not recorded; `problem` says why.
    NotRecorded,
    /// The recording was deleted; the row is what is left.
    Deleted,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Delivering => "delivering",
            Self::Complete => "complete",
            Self::Recovered => "recovered",
            Self::Damaged => "damaged",
            Self::NotRecorded => "not_recorded",
            Self::Deleted => "deleted",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [
            Self::Recording,
            Self::Delivering,
            Self::Complete,
            Self::Recovered,
            Self::Damaged,
            Self::NotRecorded,
            Self::Deleted,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// Whether something proved who the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdentityKind {
    /// The gateway itself checked the user's credentials.
    Proven,
    /// The name is what the client said; only the desktop checked the password.
    Claimed,
}

impl IdentityKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Claimed => "claimed",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Proven, Self::Claimed]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for IdentityKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// What is known of a session when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewSession {
    /// UUIDv7: session id and recording id are one.
    pub(crate) id: Uuid,
    /// Wall-clock start.
    pub(crate) started: OffsetDateTime,
    /// Who asks.
    pub(crate) user: String,
    /// Whether that is proven.
    pub(crate) identity: IdentityKind,
    /// The account on the desktop (`DOMAIN\name` where there is a domain).
    pub(crate) login: String,
    /// Name of the desktop resource.
    pub(crate) desktop: String,
    /// Its address.
    pub(crate) desktop_addr: String,
    /// Its labels now.
    pub(crate) labels: BTreeMap<String, String>,
    /// Roles that counted.
    pub(crate) roles: Vec<String>,
    /// The whole Decision, where there was one.
    pub(crate) decision: Option<serde_json::Value>,
    /// Address and port that the client came from.
    pub(crate) client_addr: String,
    /// The computer name that the client gave.
    pub(crate) client_name: String,
}

/// A recording's length in milliseconds, rounded up: what is shown then is its last picture.
pub(crate) const fn duration_ms(duration_ns: u64) -> u64 {
    duration_ns.div_ceil(1_000_000)
}

/// One session, as listings show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SessionRow {
    /// UUIDv7: session id and recording id are one.
    pub(crate) id: Uuid,
    /// Where the recording stands.
    pub(crate) state: State,
    /// Wall-clock start.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) started: OffsetDateTime,
    /// Wall-clock end; of a recovered recording the last moment that is recorded.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) ended: Option<OffsetDateTime>,
    /// Length in milliseconds; while the session runs, up to the last sealed segment.
    pub(crate) duration_ms: u64,
    /// Who asked.
    pub(crate) user: String,
    /// Whether that is proven.
    pub(crate) identity: IdentityKind,
    /// The account on the desktop.
    pub(crate) login: String,
    /// Name of the desktop resource.
    pub(crate) desktop: String,
    /// Its address.
    pub(crate) desktop_addr: String,
    /// Its labels at the session's start.
    pub(crate) labels: BTreeMap<String, String>,
    /// Roles that counted.
    pub(crate) roles: Vec<String>,
    /// Address and port of the client.
    pub(crate) client_addr: String,
    /// The computer name that the client gave.
    pub(crate) client_name: String,
    /// Bytes in sealed segments.
    pub(crate) bytes: u64,
    /// How many sealed segments.
    pub(crate) segments: u32,
    /// How many gaps.
    pub(crate) gaps: u32,
    /// How many PDUs could not be decoded and are kept raw (or, above the limit, only counted).
    pub(crate) undecoded: u64,
    /// Why the session ended.
    pub(crate) end_reason: Option<String>,
    /// What is wrong with the recording, or why there is none.
    pub(crate) problem: Option<String>,
    /// SHA-256 of the manifest, hexadecimal.
    pub(crate) manifest_sha256: Option<String>,
    /// Why the recording must not be deleted.
    pub(crate) hold: Option<String>,
    /// When it was deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) deleted: Option<OffsetDateTime>,
    /// Who deleted it.
    pub(crate) deleted_by: Option<String>,
    /// Why.
    pub(crate) deleted_why: Option<String>,
    /// The node that recorded it, if it is not this one.
    pub(crate) node: Option<String>,
    /// Whose key signed it, if it is another node's: SHA-256 of the public key, hexadecimal.
    pub(crate) key_id: Option<String>,
    /// Nobody who is trusted signed it: what it says of its session is a claim.
    pub(crate) unproven: bool,
    /// Since when it must not be deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) held: Option<OffsetDateTime>,
    /// Who said so.
    pub(crate) held_by: Option<String>,
    /// When its deletion was tried last, which is not done.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) doomed: Option<OffsetDateTime>,
    /// What keeps a storage from deleting it.
    pub(crate) doomed_problem: Option<String>,
}

impl SessionRow {
    /// A recording of which nothing but the id is known.
    pub(crate) fn unlisted(id: Uuid) -> Self {
        Self {
            id,
            state: State::Complete,
            started: OffsetDateTime::UNIX_EPOCH,
            ended: None,
            duration_ms: 0,
            user: String::new(),
            identity: IdentityKind::Claimed,
            login: String::new(),
            desktop: String::new(),
            desktop_addr: String::new(),
            labels: BTreeMap::new(),
            roles: Vec::new(),
            client_addr: String::new(),
            client_name: String::new(),
            bytes: 0,
            segments: 0,
            gaps: 0,
            undecoded: 0,
            end_reason: None,
            problem: None,
            manifest_sha256: None,
            hold: None,
            deleted: None,
            deleted_by: None,
            deleted_why: None,
            node: None,
            key_id: None,
            unproven: false,
            held: None,
            held_by: None,
            doomed: None,
            doomed_problem: None,
        }
    }
}

/// One sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SegmentRow {
    /// Number within the recording, from 0.
    pub(crate) number: u32,
    /// Size of the object.
    pub(crate) bytes: u64,
    /// SHA-256 of the whole object, hexadecimal.
    pub(crate) sha256: String,
    /// Time of the first event, nanoseconds since session start.
    pub(crate) first_ns: u64,
    /// Time of the last event, nanoseconds since session start.
    pub(crate) last_ns: u64,
    /// Whether decoding can start with it.
    pub(crate) starts_with_key: bool,
}

/// What a placement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Object {
    /// A segment, by number.
    Segment(u32),
    /// The manifest, which goes last.
    Manifest,
}

impl Object {
    pub(super) fn to_sql(self) -> i64 {
        match self {
            Self::Segment(number) => i64::from(number),
            Self::Manifest => -1,
        }
    }

    pub(super) fn from_sql(value: i64) -> Option<Self> {
        if value == -1 {
            Some(Self::Manifest)
        } else {
            u32::try_from(value).ok().map(Self::Segment)
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(number) => write!(formatter, "segment {number}"),
            Self::Manifest => formatter.write_str("manifest"),
        }
    }
}

/// One object at one storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PlacementRow {
    /// Segment or manifest.
    pub(crate) object: Object,
    /// The storage's name in the configuration.
    pub(crate) storage: String,
    /// Whether the recording is incomplete without it.
    pub(crate) required: bool,
    /// Since when the storage has it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) stored: Option<OffsetDateTime>,
    /// Why it never will, if so.
    pub(crate) problem: Option<String>,
}

/// How much of a recording a storage has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PlaceRow {
    /// The storage's name.
    pub(crate) storage: String,
    /// Whether the recording is incomplete without it.
    pub(crate) required: bool,
    /// Objects that are or should be there.
    pub(crate) objects: u32,
    /// Objects that are there.
    pub(crate) stored: u32,
    /// Objects that are still on their way.
    pub(crate) pending: u32,
    /// Objects that will not arrive.
    pub(crate) failed: u32,
    /// Whether the manifest is there.
    pub(crate) manifest: bool,
}

/// What waits for a storage, and what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Backlog {
    /// Objects that it has.
    pub(crate) stored: u64,
    /// Objects that it has yet to get.
    pub(crate) pending: u64,
    /// Bytes of the segments among them.
    pub(crate) pending_bytes: u64,
    /// Objects that it refused for good.
    pub(crate) failed: u64,
}

/// A stretch known to be unrecorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GapRow {
    /// Start, nanoseconds since session start.
    pub(crate) from_ns: u64,
    /// End, nanoseconds since session start.
    pub(crate) to_ns: u64,
    /// Why.
    pub(crate) reason: String,
}

//! Who may do what: the resources in force, where they come from, and the decisions made from them.
//!
//! Resources are built in ([`entry::defaults`]), said by the configuration ([`configured`]) or made by commands
//! ([`store`]). The catalog holds the last two, so every process of a `data_dir` sees the same; [`watch`] tells the
//! running gateway of changes. [`View`] is what decisions read: a new one after each change, immutable.

mod actor;
mod check;
mod configured;
mod entry;
mod facts;
pub(crate) mod recordings;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod withdrawn;

pub(crate) use actor::{Who, closed, sudo_user};
pub(crate) use check::{Checked, check, languages, lint};
pub(crate) use entry::{Entry, ResourceOrigin};
#[allow(
    unused_imports,
    reason = "the gateway names the type where it keeps TLS settings a desktop"
)]
pub(crate) use facts::Desktop;
pub(crate) use snapshot::{Unloaded, configured_place, look, open_for_change, unloaded};
pub(crate) use store::{Change, ChangeVerb, Force, Refused, events, remove, replace, subject};
pub(crate) use view::{Ask, Snapshot, View, refused_problems};
pub(crate) use watch::Access;
pub(crate) use withdrawn::withdrawn;

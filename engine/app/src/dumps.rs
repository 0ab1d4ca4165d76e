//! Core dumps: a crash must not write passwords to a file.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids this process to dump its memory, by both ways: a limit of 0 for the file, which children inherit, and "not
/// dumpable", which also counts where the kernel hands dumps to a program and ignores the limit. The second keeps debuggers
/// of the same account away too, and gives what `/proc` has of this process to root.
///
/// # Errors
/// The kernel's.
pub(crate) fn forbid() -> anyhow::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).context("set the limit of core dumps to 0")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbid core dumps")
}

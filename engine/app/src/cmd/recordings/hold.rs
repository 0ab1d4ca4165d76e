//! `recordings hold` and `recordings release`.

use anyhow::bail;
use deskreel_policy::Verb;
use serde_json::json;
use time::OffsetDateTime;

use super::door::Door;
use super::target::{details, runtime};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, State};
use crate::cmd::{Global, Outcome, UsageError};
use crate::keep::hold::{self, Mark, REASON_MAX_BYTES};
use crate::keep::open_all;

/// Arguments of `recordings hold`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel recordings hold 01902b6e --reason 'case 17/2026'")]
pub(super) struct HoldArgs {
    /// Id of a recording (a unique begin is enough)
    #[arg(value_name = "ID")]
    recording: String,
    /// Why it must not be deleted
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Arguments of `recordings release`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel recordings release 01902b6e --reason 'case 17/2026 is closed'")]
pub(super) struct ReleaseArgs {
    /// Id of a recording (a unique begin is enough)
    #[arg(value_name = "ID")]
    recording: String,
    /// Why it may be deleted again, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) fn hold(global: &Global, args: &HoldArgs) -> anyhow::Result<Outcome> {
    let reason = reason(&args.reason)?;
    let loaded = global.load_quietly()?;
    let door = Door::open(&loaded)?;
    let purpose = Purpose {
        verb: Verb::Delete,
        what: RecordingAction::Hold,
        action: "hold",
    };
    let looked = door.gate().look(&args.recording, purpose)?;
    let id = looked.row.id;
    if matches!(looked.row.state, State::Deleted | State::NotRecorded) {
        let why = format!("there is nothing of recording {id} to hold: it is {}", looked.row.state);
        door.gate().refuse(&looked, &why)?;
        bail!(why);
    }
    let digest = looked.row.manifest_sha256.clone();
    let told = details([("reason", reason.into()), ("digest", digest.into())]);
    let pass = door.gate().begin(&looked, told)?;
    let mark = Mark {
        recording: id,
        reason: reason.to_owned(),
        by: door.gate().actor.user,
        at: OffsetDateTime::now_utc(),
    };
    let catalog = Catalog::open_beside(&loaded.config.data_dir)?;
    if !catalog.hold(id, &mark.reason, &mark.by, mark.at)? {
        bail!("recording {id} was deleted meanwhile");
    }
    let runtime = runtime()?;
    let failed = hold::put(runtime.handle(), &open_all(&loaded, runtime.handle()), &mark);
    pass.done(Ok(details([("not_marked", json!(failed))])))?;
    println!("recording {id} is held: neither retention nor `recordings rm` deletes it");
    for (storage, error) in &failed {
        eprintln!("deskreel: storage {storage} has no mark of it, so other nodes don't know of the hold: {error}");
    }
    Ok(if failed.is_empty() {
        Outcome::Fine
    } else {
        Outcome::Findings
    })
}

pub(super) fn release(global: &Global, args: &ReleaseArgs) -> anyhow::Result<Outcome> {
    let reason = reason(&args.reason)?;
    let loaded = global.load_quietly()?;
    let door = Door::open(&loaded)?;
    let purpose = Purpose {
        verb: Verb::Delete,
        what: RecordingAction::Release,
        action: "release",
    };
    let looked = door.gate().look(&args.recording, purpose)?;
    let id = looked.row.id;
    let told = details([("reason", reason.into()), ("held_for", looked.row.hold.clone().into())]);
    let pass = door.gate().begin(&looked, told)?;
    let runtime = runtime()?;
    let failed = hold::remove(runtime.handle(), &open_all(&loaded, runtime.handle()), id);
    let catalog = Catalog::open_beside(&loaded.config.data_dir)?;
    let was_held = catalog.release(id)?;
    pass.done(Ok(details([("marks_left", json!(failed))])))?;
    if was_held {
        println!("recording {id} is not held any more");
    } else {
        println!("recording {id} was not held here; marks of other nodes are removed");
    }
    for (storage, error) in &failed {
        eprintln!(
            "deskreel: storage {storage} keeps the mark, and with it the hold comes back at the next look: run this again: {error}"
        );
    }
    Ok(if failed.is_empty() {
        Outcome::Fine
    } else {
        Outcome::Findings
    })
}

fn reason(text: &str) -> Result<&str, UsageError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UsageError("--reason: say why".to_owned()));
    }
    if text.len() > REASON_MAX_BYTES {
        return Err(UsageError(format!("--reason: longer than {REASON_MAX_BYTES} bytes")));
    }
    Ok(text)
}

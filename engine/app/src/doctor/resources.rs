//! Resources: what is wrong with those of the folder, which version is in force meanwhile, what is stored and can't be read.

use deskreel_config::{ClaimedIdentity, Loaded, ResourceKind, load_resources};
use time::OffsetDateTime;

use super::Report;
use crate::access::{Snapshot, Unloaded, look, subject, unloaded};
use crate::catalog;
use crate::usage::UsageError;

const CHECK: &str = "resources";

/// Looks at the resources.
pub(super) fn examine(loaded: &Loaded, report: &mut Report) {
    let folder = loaded.config.access.resources_dir.display();
    if let Ok(resources) = load_resources(&loaded.config.access.resources_dir) {
        for warning in loaded.warnings(&resources) {
            report.warn(CHECK, warning.to_string(), "change it, or leave it if it is meant so");
        }
    }
    let snapshot = look(loaded);
    match unloaded(loaded) {
        Ok(Unloaded::Nothing) => {}
        Ok(Unloaded::Changed) if report.running => report.warn(
            CHECK,
            format!("{folder} or deskreel.yaml has changed since the gateway read it"),
            "send the gateway SIGHUP, or restart it",
        ),
        Ok(Unloaded::Changed) => {}
        Ok(Unloaded::Refused(refused)) => {
            for line in refused.lines() {
                let in_force = snapshot.as_ref().map_or_else(
                    |_| "the folder was never loaded, so the gateway does not start".to_owned(),
                    |snapshot| in_force(snapshot, line),
                );
                report.error(
                    CHECK,
                    format!("{line} ({in_force})"),
                    "mend it there, then send the gateway SIGHUP or start it; `deskreel resources check` says whether it is right",
                );
            }
        }
        // told where the catalog is looked at
        Err(error) if error.is::<catalog::Error>() => {}
        Err(error) => report.error(CHECK, format!("{error:#}"), "mend what it names"),
    }
    match snapshot {
        Ok(snapshot) => stored(&snapshot, report),
        // what the folder gets wrong has been told
        Err(error) if error.is::<UsageError>() || error.is::<catalog::Error>() => {}
        Err(error) => report.error(CHECK, format!("{error:#}"), "mend what it names"),
    }
}

/// Which version stays in force while this one can't be loaded.
fn in_force(snapshot: &Snapshot, line: &str) -> String {
    let blamed = |entry: &&std::sync::Arc<crate::access::Entry>| {
        let subject = format!(" {}/{}: ", entry.kind(), entry.name());
        line.contains(&subject)
    };
    match snapshot.entries.values().find(blamed) {
        Some(entry) if entry.revision > 0 => format!(
            "in force is revision {} of {}, from {}",
            entry.revision,
            subject(entry.kind(), entry.name()),
            if entry.place.is_empty() {
                "a command"
            } else {
                &entry.place
            }
        ),
        Some(entry) => format!("in force is the built-in {}", subject(entry.kind(), entry.name())),
        None => "nothing of this folder is in force but what it said before".to_owned(),
    }
}

fn stored(snapshot: &Snapshot, report: &mut Report) {
    let view = snapshot.view(OffsetDateTime::now_utc());
    let refused = crate::access::refused_problems(snapshot.refused.as_deref());
    for problem in view.problems.iter().filter(|problem| !refused.contains(problem)) {
        let running = if report.running {
            "; a gateway that was running when that happened goes on with the version before"
        } else {
            ""
        };
        report.error(
            CHECK,
            format!("{problem}{running}"),
            "store it again with `deskreel create -f FILE`, or remove it with `deskreel rm KIND/NAME`",
        );
    }
    if let Some(why) = &view.unavailable {
        report.error(
            CHECK,
            format!("no new session is let in: {why}"),
            "store it again, or remove it",
        );
    }
    if let Some(why) = snapshot.switched_off() {
        report.warn(
            CHECK,
            why,
            "end it with `deskreel rm session_recording_config`, or leave it if it is meant so",
        );
    }
    if view.cluster.claimed_identity == ClaimedIdentity::Allow {
        for role in view
            .cluster
            .claimed_roles
            .iter()
            .filter(|role| !view.roles.contains(role))
        {
            report.error(
                CHECK,
                format!("access.claimed_roles names the role {role}, which does not exist: claimed names are refused"),
                format!("make role/{role}, or take it out of access.claimed_roles"),
            );
        }
    }
    for user in view.users.values() {
        for role in user.roles.iter().filter(|role| !view.roles.contains(role)) {
            let name = &user.metadata.name;
            report.error(
                CHECK,
                format!("user/{name} has the role {role}, which does not exist: {name} is refused"),
                format!("make role/{role}, or take it from the user with `deskreel edit user/{name}`"),
            );
        }
    }
    let count = |kind: ResourceKind| snapshot.entries.keys().filter(|(of, _)| *of == kind).count();
    report.ok(
        CHECK,
        format!(
            "in force: {} roles, {} users, {} desktops, {} locks",
            count(ResourceKind::Role),
            count(ResourceKind::User),
            count(ResourceKind::WindowsDesktop),
            count(ResourceKind::Lock)
        ),
    );
}

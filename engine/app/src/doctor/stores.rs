//! What this node has written: catalog and audit log, and whether the clock agrees with them.

use deskreel_config::Config;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::Report;
use crate::audit;
use crate::catalog::{Catalog, Error, State};

/// Problems of one store that are told; the rest is counted.
const TOLD_MAX: usize = 10;
/// How far the clock may be behind what was written.
const CLOCK_SLACK: Duration = Duration::minutes(5);
/// No clock that is right shows a time before this: Deskreel did not exist.
const CLOCK_MIN_UNIX: i64 = 1_735_689_600;

/// Looks at catalog, audit log and clock.
pub(super) fn examine(config: &Config, now: OffsetDateTime, report: &mut Report) {
    let mut newest = catalog(config, report);
    if let Some(last) = trail(config, report) {
        newest = Some(newest.map_or(last, |newest| newest.max(last)));
    }
    let remedy = "set the clock, and let it be kept right (NTP); tickets, locks, expiry and retention go by it";
    let shown = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    match newest {
        _ if now.unix_timestamp() < CLOCK_MIN_UNIX => {
            report.error("clock", format!("it is {} here, which can't be", shown(now)), remedy);
        }
        Some(newest) if newest > now + CLOCK_SLACK => {
            let what = format!(
                "it is {} here, but something was written at {}",
                shown(now),
                shown(newest)
            );
            report.error("clock", what, remedy);
        }
        _ => report.ok("clock", shown(now)),
    }
}

/// Start of the newest session.
fn catalog(config: &Config, report: &mut Report) -> Option<OffsetDateTime> {
    let catalog = match Catalog::open_read_only(&config.data_dir) {
        Ok(catalog) => catalog,
        Err(Error::Missing(path)) => {
            report.ok(
                "catalog",
                format!("{} is not there yet: no gateway has run here", path.display()),
            );
            return None;
        }
        Err(error) => {
            report.error(
                "catalog",
                format!("{:#}", anyhow::Error::from(error)),
                "run the version of Deskreel that wrote it, or restore the file from a backup",
            );
            return None;
        }
    };
    match catalog.integrity(TOLD_MAX) {
        Ok(problems) if problems.is_empty() => report.ok("catalog", "opens and is whole"),
        Ok(problems) => report.broken(
            "catalog",
            format!("is damaged: {}", problems.join("; ")),
            "stop the gateway, keep a copy of data_dir, restore the catalog from a backup; recordings can be read without it",
        ),
        Err(error) => report.broken(
            "catalog",
            format!("can't be checked: {:#}", anyhow::Error::from(error)),
            "stop the gateway, keep a copy of data_dir, restore the catalog from a backup",
        ),
    }
    let damaged = catalog.sessions_in(State::Damaged).map_or(0, |damaged| damaged.len());
    if damaged > 0 {
        report.warn(
            "catalog",
            format!("{damaged} recordings are damaged"),
            "`deskreel recordings ls` names them, `deskreel recordings verify ID` says what is wrong",
        );
    }
    let failed = catalog.exports_failed().unwrap_or(0);
    if failed > 0 {
        report.warn(
            "exports",
            format!("{failed} exports have failed for good"),
            "`deskreel exports ls --state failed` says why, `deskreel exports retry ID` begins anew",
        );
    }
    catalog.newest_start().ok()?
}

/// Time of the last event.
fn trail(config: &Config, report: &mut Report) -> Option<OffsetDateTime> {
    if !audit::exists(&config.data_dir) {
        report.ok("audit", "there is no audit log yet");
        return None;
    }
    let fails = match config.audit.on_failure {
        deskreel_config::OnFailure::Strict => "sessions are refused meanwhile",
        deskreel_config::OnFailure::BestEffort => "sessions go on meanwhile (audit.on_failure)",
    };
    if let Err(error) = audit::writable(&config.data_dir) {
        report.error(
            "audit",
            format!("can't be written: {error:#}; {fails}"),
            "give the folder and its files to the gateway's account",
        );
    }
    if let Some(socket) = config.audit.syslog.as_ref().filter(|socket| !socket.exists()) {
        report.warn(
            "audit",
            format!(
                "audit.syslog {} is not there: nothing is copied to syslog",
                socket.display()
            ),
            "start the syslog daemon, or take the key out",
        );
    }
    let checked = match audit::verify(&config.data_dir, None) {
        Ok(checked) => checked,
        Err(error) => {
            report.error(
                "audit",
                format!("{error:#}"),
                "run this as root or as the account that data_dir belongs to",
            );
            return None;
        }
    };
    for finding in checked.findings.iter().take(TOLD_MAX) {
        report.broken(
            "audit",
            format!("{}:{}: {}", finding.file, finding.line, finding.problem),
            "keep a copy of the folder and find out who changed it; `deskreel audit verify` says more",
        );
    }
    for note in checked.notes.iter().take(TOLD_MAX) {
        report.warn(
            "audit",
            format!("{}:{}: {}", note.file, note.line, note.problem),
            "find out what happened then: a crash, a full disk",
        );
    }
    if checked.whole {
        let (lines, last, head) = (checked.lines, &checked.to, &checked.head);
        report.ok(
            "audit",
            format!("whole: {lines} lines, the last of {last}, head {head}"),
        );
    }
    OffsetDateTime::parse(&checked.to, &Rfc3339).ok()
}

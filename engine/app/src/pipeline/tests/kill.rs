//! `kill -9`, really: a process of this test binary records, is killed at some moment, and what it left is recovered.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deskreel_config::Mode;
use deskreel_recording::Outcome;

use super::bed::{Bed, Fixture, ended};
use crate::catalog::State;

const FOLDER: &str = "PIPELINE_TEST_FOLDER";
const MODE: &str = "PIPELINE_TEST_MODE";
const KILL_AT: &str = "DESKREEL_KILL_AT";
/// Kills at each of so many moments.
const ROUNDS: u32 = 6;

fn bed(folder: &Path, mode: &str) -> Bed {
    let mode = if mode == "sync" { Mode::Sync } else { Mode::Async };
    let mut bed = Bed::at(folder, &[("disk", mode, true)]);
    bed.config.recording.segment_max_age = Some(Duration::from_millis(200));
    bed
}

/// The process that is killed: one session after the other, a line for each batch.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started and killed by the tests below"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let bed = bed(Path::new(&folder), &std::env::var(MODE).unwrap());
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    loop {
        let recorder = sessions.open(fixture.facts()).await.unwrap();
        for (direction, bytes) in fixture.batches() {
            recorder.enqueue(direction, bytes).await.unwrap();
            println!("\nbatch");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        recorder.ended(ended());
        recorder.closed().await;
    }
}

fn child_in(folder: &Path, mode: &str, kill_at: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["pipeline::tests::kill::child", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(MODE, mode)
        .env_remove(KILL_AT)
        .stdout(Stdio::piped());
    if let Some(step) = kill_at {
        command.env(KILL_AT, step).stderr(Stdio::null());
    }
    command.spawn().unwrap()
}

/// Starts anew and checks everything that any run has left.
async fn all_is_well(folder: &Path, mode: &str, what: &str) -> usize {
    let bed = bed(folder, mode);
    let sessions = bed.start().await;
    sessions.shutdown().await;
    let sessions = bed.start().await;
    let rows = bed.catalog().sessions().unwrap();
    let count = rows.len();
    for row in rows {
        if row.state == State::Delivering {
            bed.wait_for(row.id, State::Complete).await;
        }
        let row = bed.catalog().session(&row.id.to_string()).unwrap();
        if row.segments == 0 {
            let problem = row.problem.as_deref();
            assert_eq!(
                problem,
                Some("the gateway stopped before anything was durable"),
                "{what}"
            );
            continue;
        }
        let manifest = || bed.recording(0, row.id).manifest.is_some();
        super::bed::eventually("the manifest is stored", manifest).await;
        let recording = bed.recording(0, row.id);
        assert_eq!(recording.segments.len(), row.segments as usize, "{what}: {row:?}");
        let report = recording.verify(&bed);
        let wanted = match row.state {
            State::Complete => Outcome::Whole,
            State::Recovered => Outcome::Findings,
            _ => panic!("{what}: {row:?}"),
        };
        assert_eq!(report.outcome, wanted, "{what}: {:?}", report.findings);
    }
    sessions.shutdown().await;
    assert!(bed.spool_files().is_empty(), "{what}: {:?}", bed.spool_files());
    count
}

async fn killed_again_and_again(mode: &str) {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=ROUNDS {
        let mut child = child_in(folder.path(), mode, None);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let batches = lines
            .map_while(Result::ok)
            .filter(|line| line == "batch")
            .take(37 * round as usize)
            .count();
        assert_eq!(batches, 37 * round as usize, "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let recordings = all_is_well(folder.path(), mode, &format!("round {round}")).await;
        assert!(recordings >= round as usize);
    }
}

/// The child kills itself when it reaches the step so many times.
fn killed_at(folder: &Path, mode: &str, step: &str) {
    let mut child = child_in(folder, mode, Some(step));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = lines.map_while(Result::ok).filter(|line| line == "killed");
    assert!(last.next().is_some(), "{step} is never reached");
    assert!(!child.wait().unwrap().success());
}

/// Each step that makes something durable, or takes it away, at its first and a later time.
const STEPS: [&str; 13] = [
    "append: written",
    "append: synced",
    "seal: synced",
    "seal: named",
    "segment: durable",
    "segment: in the catalog",
    "manifest: durable",
    "manifest: in the catalog",
    "put: begun",
    "put: stored",
    "put: in the catalog",
    "release: removed",
    "complete: in the catalog",
];
/// Steps of closing what a kill left open.
const RECOVERY_STEPS: [&str; 5] = [
    "recovery: sealed",
    "write: synced",
    "write: named",
    "recovery: manifest",
    "recovery: in the catalog",
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_an_async_session() {
    let folder = tempfile::tempdir().unwrap();
    for step in STEPS {
        for time in [1, 3] {
            let step = format!("{step}#{time}");
            killed_at(folder.path(), "async", &step);
            all_is_well(folder.path(), "async", &step).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_recovery() {
    let folder = tempfile::tempdir().unwrap();
    for step in RECOVERY_STEPS {
        killed_at(folder.path(), "async", "append: synced#4");
        let step = format!("{step}#1");
        killed_at(folder.path(), "async", &step);
        all_is_well(folder.path(), "async", &step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_sync_session() {
    let folder = tempfile::tempdir().unwrap();
    for step in STEPS
        .iter()
        .filter(|step| !step.starts_with("append") && !step.starts_with("seal"))
    {
        let step = format!("{step}#2");
        if step.starts_with("release") {
            continue; // nothing is in the spool
        }
        killed_at(folder.path(), "sync", &step);
        all_is_well(folder.path(), "sync", &step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_recording_to_a_sync_storage() {
    killed_again_and_again("sync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_recording_to_the_spool() {
    killed_again_and_again("async").await;
}

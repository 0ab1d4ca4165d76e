//! `kill -9`, really: a process of this test binary records, is killed at some moment, and what it left is recovered.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use deskreel_config::Mode;
use deskreel_recording::Outcome;

use super::bed::{Bed, Fixture, ended};
use crate::catalog::State;

const FOLDER: &str = "PIPELINE_TEST_FOLDER";
const MODE: &str = "PIPELINE_TEST_MODE";
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

async fn killed_again_and_again(mode: &str) {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["pipeline::tests::kill::child", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(MODE, mode)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let batches = lines
            .map_while(Result::ok)
            .filter(|line| line == "batch")
            .take(37 * round as usize)
            .count();
        assert_eq!(batches, 37 * round as usize, "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();

        let bed = bed(folder.path(), mode);
        let sessions = bed.start().await;
        sessions.shutdown().await;
        let sessions = bed.start().await;
        let rows = bed.catalog().sessions().unwrap();
        assert!(rows.len() >= round as usize);
        for row in rows {
            if row.state == State::Delivering {
                bed.wait_for(row.id, State::Complete).await;
            }
            let row = bed.catalog().session(&row.id.to_string()).unwrap();
            if row.segments == 0 {
                assert_eq!(
                    row.problem.as_deref(),
                    Some("the gateway stopped before anything was durable")
                );
                continue;
            }
            let manifest = || bed.recording(0, row.id).manifest.is_some();
            super::bed::eventually("the manifest is stored", manifest).await;
            let recording = bed.recording(0, row.id);
            assert_eq!(
                recording.segments.len(),
                row.segments as usize,
                "round {round}: {row:?}"
            );
            let report = recording.verify(&bed);
            let wanted = match row.state {
                State::Complete => Outcome::Whole,
                State::Recovered => Outcome::Findings,
                _ => panic!("round {round}: {row:?}"),
            };
            assert_eq!(report.outcome, wanted, "round {round}: {:?}", report.findings);
        }
        sessions.shutdown().await;
        assert!(bed.spool_files().is_empty(), "round {round}: {:?}", bed.spool_files());
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

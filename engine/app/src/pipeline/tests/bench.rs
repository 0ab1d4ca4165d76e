//! Measurements, run by hand: docs/performance.md has the commands and what they showed.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deskreel_config::Mode;
use deskreel_recording::sha256;
use time::OffsetDateTime;

use super::bed::{Bed, Folder};
use super::crash::{Parts, new_session};
use crate::catalog::{Catalog, Closed, State};
use crate::keys::NodeKey;
use crate::pipeline::sink::segment_row;

/// Recordings that were closed and of which no storage has anything yet; answers with how many objects that are.
fn fill_spool(bed: &Bed, objects: usize) -> usize {
    fs::create_dir_all(&bed.config.data_dir).unwrap();
    let key = NodeKey::load_or_create(&bed.config.data_dir).unwrap();
    let catalog = Catalog::open(&bed.config.data_dir).unwrap();
    let targets = [("disk", true)];
    let mut count = 0;
    while count < objects {
        let parts = Parts::new(key.signing());
        let folder = bed.config.spool.path.join(parts.id.to_string());
        fs::create_dir_all(&folder).unwrap();
        catalog.session_started(&new_session(parts.id)).unwrap();
        for segment in &parts.segments {
            fs::write(folder.join(format!("{:08}.mcap", segment.number)), &segment.bytes).unwrap();
            let row = segment_row(&segment.seal, &segment.bytes);
            catalog.segment_sealed(parts.id, &row, &targets).unwrap();
            count += 1;
        }
        fs::write(folder.join("manifest.json"), &parts.manifest).unwrap();
        count += 1;
        let closed = Closed {
            state: State::Delivering,
            ended: OffsetDateTime::now_utc(),
            duration_ms: 4000,
            undecoded: 0,
            end_reason: "client_closed".to_owned(),
            problem: None,
            manifest_sha256: Some(hex::encode(sha256(&parts.manifest))),
        };
        catalog.closed(parts.id, &closed, &targets).unwrap();
    }
    count
}

fn memory_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// `DESKREEL_BENCH_PENDING`: how many objects wait (10,000).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn start_with_a_full_spool() {
    let pending = std::env::var("DESKREEL_BENCH_PENDING").ok();
    let pending = pending.map_or(10_000, |text| text.parse().unwrap());
    let mut bed = Bed::new(&[]);
    let storage = bed.config.data_dir.parent().unwrap().join("storage");
    bed.storages
        .push(Arc::new(Folder::new("disk", Mode::Async, true, storage)));
    let pending = fill_spool(&bed, pending);
    let before = memory_mb();
    let begun = Instant::now();
    let started = bed.start_unrecovered();
    let sessions = started.await;
    let start = begun.elapsed();
    let mut first = None;
    let mut most = 0;
    loop {
        let arrived = bed.storages[0].arrived();
        if arrived > 0 {
            first.get_or_insert_with(|| begun.elapsed());
        }
        most = most.max(memory_mb());
        if arrived == pending {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let all = begun.elapsed();
    println!(
        "{pending} pending: started after {start:.2?}, first stored by {:.2?}, all after {all:.1?} ({:.0} a second); \
         memory {before} MB before, {most} MB at most",
        first.unwrap(),
        pending as f64 / all.as_secs_f64()
    );
    sessions.shutdown().await;
}

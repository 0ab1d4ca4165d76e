//! A start with much that waits for delivery. `cargo bench -p deskreel-tests --bench pending` runs the same with more of it and
//! reads what it prints.

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

/// Objects that wait, unless `DESKREEL_BENCH_PENDING` says how many.
const PENDING: usize = 200;

/// Everything arrives, once, without being read into memory all at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_spool_is_delivered_at_the_next_start() {
    let pending = std::env::var("DESKREEL_BENCH_PENDING").ok();
    let pending = pending.map_or(PENDING, |text| text.parse().unwrap());
    let mut bed = Bed::new(&[]);
    let storage = bed.config.data_dir.parent().unwrap().join("storage");
    bed.storages
        .push(Arc::new(Folder::new("disk", Mode::Async, true, storage)));
    let pending = fill_spool(&bed, pending);
    let before = memory_mb();
    let begun = Instant::now();
    let sessions = bed.start_unrecovered().await;
    let start = begun.elapsed();
    let mut first = None;
    let mut most = 0;
    loop {
        let arrived = bed.storages[0].arrived();
        if arrived > 0 {
            first.get_or_insert_with(|| begun.elapsed());
        }
        most = most.max(memory_mb());
        if arrived >= pending {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE_EACH * u32::try_from(pending).unwrap(),
            "{arrived} of {pending} arrived"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let all = begun.elapsed();
    sessions.shutdown().await;
    assert_eq!(bed.storages[0].arrived(), pending);
    // For the benchmark.
    println!(
        "pending={pending} started_s={:.3} first_s={:.3} all_s={:.1} memory_before_mb={before} memory_most_mb={most}",
        start.as_secs_f64(),
        first.unwrap().as_secs_f64(),
        all.as_secs_f64()
    );
}

/// How long one object may take, on average, before the test gives up.
const PATIENCE_EACH: Duration = Duration::from_secs(1);

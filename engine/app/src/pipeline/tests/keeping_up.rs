//! Many sessions at once whose storage is sync. `cargo bench -p deskreel-tests --bench sync` runs the same with more of them, on a
//! real server, and reads what it prints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_config::{Mode, Sources};
use deskreel_rdp::Direction;
use deskreel_sdk::PutOptions;
use uuid::Uuid;

use super::bed::{Bed, Fixture, Folder, PATIENCE, ended};
use crate::catalog::State;
use crate::host::Plugins;
use crate::pipeline::delivery::ObjectId;
use crate::pipeline::{Sessions, Storage, steps};

/// Columns and rows of the picture that changes. With four bytes a pixel it still fits into one PDU.
const SIDE: (u16, u16) = (64, 56);
/// What such a change takes in the recording: noise can't be compressed.
const CHANGE_BYTES: u64 = 64 * 56 * 3;

/// How much is recorded.
struct Load {
    sessions: u32,
    seconds: u32,
    /// By each session.
    bytes_per_minute: u64,
    /// An entry of `storages`; without it a folder.
    storage: Option<String>,
}

impl Load {
    fn asked() -> Self {
        let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
        Self {
            sessions: number("DESKREEL_BENCH_SESSIONS", 6),
            seconds: number("DESKREEL_BENCH_SECONDS", 2),
            bytes_per_minute: 2_000_000,
            storage: std::env::var("DESKREEL_BENCH_STORAGE").ok(),
        }
    }

    fn between_changes(&self) -> Duration {
        Duration::from_secs(60) * u32::try_from(CHANGE_BYTES).unwrap() / u32::try_from(self.bytes_per_minute).unwrap()
    }
}

/// A fast-path bitmap update ([MS-RDPBCGR] 2.2.9.1.2.1.2) with noise somewhere on the screen.
fn change(random: &mut u64, screen: (u16, u16)) -> Bytes {
    let mut next = || {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random
    };
    let mut at = |room: u16| (next() % u64::from(room)) as u16;
    let (left, top) = (at(screen.0 - SIDE.0), at(screen.1 - SIDE.1));
    let pixels: Vec<u8> = (0..u32::from(SIDE.0) * u32::from(SIDE.1) / 2)
        .flat_map(|_| next().to_le_bytes())
        .collect();
    let mut update = vec![1, 0, 1, 0];
    for field in [
        left,
        top,
        left + SIDE.0 - 1,
        top + SIDE.1 - 1,
        SIDE.0,
        SIDE.1,
        32,
        0,
        pixels.len() as u16,
    ] {
        update.extend(field.to_le_bytes());
    }
    update.extend(pixels);
    let length = (update.len() as u16 + 6) | 0x8000;
    let mut pdu = vec![0];
    pdu.extend(length.to_be_bytes());
    pdu.push(1);
    pdu.extend((update.len() as u16).to_le_bytes());
    pdu.extend(update);
    pdu.into()
}

/// One session; gives how late the last of its changes was taken.
async fn session(sessions: Sessions, fixture: Arc<Fixture>, load: Arc<Load>, number: u32) -> (Uuid, Duration) {
    // They don't begin all at once, so that they don't seal all at once.
    tokio::time::sleep(Duration::from_secs(10).min(Duration::from_secs(load.seconds.into())) * number / load.sessions)
        .await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    let mut random = 0x9E37_79B9_7F4A_7C15 ^ u64::from(number + 1);
    let begun = Instant::now();
    let mut late = Duration::ZERO;
    let between = load.between_changes();
    for due in (0..).map(|n| between * n) {
        if due > Duration::from_secs(load.seconds.into()) {
            break;
        }
        tokio::time::sleep_until((begun + due).into()).await;
        let change = change(&mut random, fixture.size());
        recorder.enqueue(Direction::ToClient, change).await.unwrap();
        late = late.max(begun.elapsed().saturating_sub(due));
    }
    recorder.ended(ended());
    recorder.closed().await;
    (id, late)
}

/// The p99, of at least one.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// What happened to each object, in the order of puts.
#[derive(Default)]
struct Times {
    sealed: Option<Instant>,
    put: Option<Instant>,
    answered: Option<Instant>,
    stored: Option<Instant>,
}

fn times() -> BTreeMap<ObjectId, Times> {
    let mut times: BTreeMap<ObjectId, Times> = BTreeMap::new();
    for (step, id, at) in steps::noted() {
        let times = times.entry(id).or_default();
        *match step {
            "sealed" => &mut times.sealed,
            "put" => &mut times.put,
            "answered" => &mut times.answered,
            _ => &mut times.stored,
        } = Some(at);
    }
    times
}

/// The same puts at the same moments, by nobody but the plugin: what the server takes for them.
async fn alone(storage: Arc<dyn Storage>, puts: Vec<(Duration, usize)>) -> Vec<Duration> {
    let begun = Instant::now();
    let prefix = Uuid::now_v7();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, (due, size)) in puts.into_iter().enumerate() {
        let storage = Arc::clone(&storage);
        tasks.spawn(async move {
            tokio::time::sleep_until((begun + due).into()).await;
            let bytes = Bytes::from(vec![number as u8; size]);
            let key = format!("{prefix}/{number:08}.mcap");
            let asked = Instant::now();
            storage.put(key, bytes, PutOptions::default()).await.unwrap();
            asked.elapsed()
        });
    }
    tasks.join_all().await
}

fn cpu_seconds() -> f64 {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = usage.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn opened(bed: &Bed, load: &Load) -> Arc<dyn Storage> {
    let Some(entry) = &load.storage else {
        let path = bed.config.data_dir.parent().unwrap().join("storage");
        return Arc::new(Folder::new("disk", Mode::Sync, true, path));
    };
    let file = bed.config.data_dir.parent().unwrap().join("bench.yaml");
    std::fs::write(&file, format!("storages: [{entry}]\n")).unwrap();
    let sources = Sources {
        working_dir: file.parent().unwrap().to_owned(),
        file: Some(file),
        ..Sources::default()
    };
    let loaded = deskreel_config::load(&sources).unwrap();
    Plugins::new(&loaded)
        .open_storage(&loaded.config.storages[0])
        .await
        .unwrap()
}

/// Nothing waits, nothing is spilled, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn sync_sessions_are_stored_as_fast_as_they_are_sealed() {
    let load = Arc::new(Load::asked());
    let mut bed = Bed::new(&[]);
    // As it is by default, but for the tests' wish for many segments.
    bed.config.recording.frame_interval = Duration::from_millis(50);
    bed.config.recording.segment_max_bytes = 4 << 20;
    if load.storage.is_none() {
        bed.config.recording.segment_max_age = Some(Duration::from_millis(300));
    }
    let storage = opened(&bed, &load).await;
    let fixture = Arc::new(Fixture::load("xrdp-planar"));
    let sessions = Sessions::start(&bed.config, vec![Arc::clone(&storage)]).await.unwrap();
    sessions.recovered().await;
    steps::noted();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut running = tokio::task::JoinSet::new();
    for number in 0..load.sessions {
        running.spawn(session(
            sessions.clone(),
            Arc::clone(&fixture),
            Arc::clone(&load),
            number,
        ));
    }
    let mut spilled = 0;
    let mut ended = Vec::new();
    while let Some(next) = running.join_next().await {
        spilled = spilled.max(bed.spool_files().len());
        ended.push(next.unwrap());
    }
    let all_ended = Instant::now();
    for (id, _) in &ended {
        bed.wait_for(*id, State::Complete).await;
    }
    let (took, after, cpu) = (begun.elapsed(), all_ended.elapsed(), cpu_seconds() - cpu);
    assert_eq!(spilled, 0, "files in the spool of healthy sync sessions");
    let late = ended.iter().map(|(_, late)| *late).max().unwrap();
    let catalog = bed.catalog();
    let rows: Vec<_> = ended
        .iter()
        .map(|(id, _)| catalog.session(&id.to_string()).unwrap())
        .collect();
    assert!(rows.iter().all(|row| (row.gaps, row.undecoded) == (0, 0)), "{rows:?}");
    let bytes: u64 = rows.iter().map(|row| row.bytes).sum();

    let times: Vec<Times> = times().into_values().collect();
    let from = |begin: Option<Instant>, end: Option<Instant>| begin.zip(end).map(|(begin, end)| end - begin);
    let segments: Vec<Duration> = times
        .iter()
        .filter_map(|times| from(times.sealed, times.stored))
        .collect();
    let puts: Vec<Duration> = times
        .iter()
        .filter_map(|times| from(times.put, times.answered))
        .collect();
    assert!(
        segments.len() >= ended.len() && puts.len() > segments.len(),
        "{} {}",
        segments.len(),
        puts.len()
    );
    let put = |times: &Times| times.sealed.and(from(Some(begun), times.put));
    let schedule: Vec<Duration> = times.iter().filter_map(put).collect();
    let size = usize::try_from(bytes / segments.len() as u64).unwrap();
    let count = segments.len();
    sessions.shutdown().await;
    let own = alone(storage, schedule.into_iter().map(|due| (due, size)).collect()).await;
    assert!(after < PATIENCE, "{after:?}");
    // For the benchmark.
    println!(
        "sessions={} segments={count} segment_kb={:.0} mb_per_minute={:.2} stored_p99_ms={:.1} put_p99_ms={:.1} \
         alone_p99_ms={:.1} late_ms={:.0} rest_s={:.2} cpu_s={cpu:.1} took_s={:.1} memory_mb={}",
        load.sessions,
        size as f64 / 1000.0,
        bytes as f64 / 1e6 / f64::from(load.sessions) / (f64::from(load.seconds) / 60.0),
        p99(segments).as_secs_f64() * 1e3,
        p99(puts).as_secs_f64() * 1e3,
        p99(own).as_secs_f64() * 1e3,
        late.as_secs_f64() * 1e3,
        after.as_secs_f64(),
        took.as_secs_f64(),
        memory_mb(),
    );
}

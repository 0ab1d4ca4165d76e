//! How fast a storage is: puts, gets and deletes of objects as large as segments, several at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_sdk::{Error, ErrorKind, Key, PutOptions};
use rand::Rng as _;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::check::{FOLDER, micros};
use crate::host::StorageHandle;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Objects.
    pub(crate) objects: u32,
    /// Bytes of each.
    pub(crate) size: u64,
    /// At a time.
    pub(crate) concurrency: usize,
}

/// What one kind of operation took.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    /// `put`, `get`, `delete`.
    pub(crate) operation: &'static str,
    /// How many succeeded.
    pub(crate) count: usize,
    /// Of all together.
    pub(crate) seconds: f64,
    /// Throughput; none where no bytes move.
    pub(crate) mib_per_second: Option<f64>,
    /// Latency of one, in milliseconds.
    pub(crate) p50_ms: f64,
    /// Latency of one, in milliseconds.
    pub(crate) p90_ms: f64,
    /// Latency of one, in milliseconds.
    pub(crate) p99_ms: f64,
    /// Latency of one, in milliseconds.
    pub(crate) max_ms: f64,
}

/// Measures; removes what it wrote, also when it fails.
///
/// # Errors
/// What the storage says first.
pub(crate) fn bench(handle: &Handle, storage: &Arc<StorageHandle>, load: Load) -> anyhow::Result<Vec<Measured>> {
    let run = Uuid::now_v7();
    let keys = (0..load.objects).map(|number| Key::new(format!("{FOLDER}/{run}/{number:06}")));
    let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
    let mut bytes = vec![0; usize::try_from(load.size)?];
    // What compresses or repeats would flatter a storage that saves on it.
    rand::rng().fill_bytes(&mut bytes);
    let bytes = Bytes::from(bytes);
    let mut measured = Vec::new();
    let outcome = (|| -> Result<(), Error> {
        let put = |storage: Arc<StorageHandle>, key: Key| {
            let bytes = bytes.clone();
            async move { storage.put(&key, bytes, &PutOptions::default()).await }
        };
        measured.push(handle.block_on(measure("put", storage, &keys, load, true, put))?);
        let size = load.size;
        let get = move |storage: Arc<StorageHandle>, key: Key| async move {
            let found = storage.get(&key).await?;
            if found.len() as u64 == size {
                return Ok(());
            }
            Err(Error::new(
                ErrorKind::Corrupt,
                format!("{key} has {} bytes", found.len()),
            ))
        };
        measured.push(handle.block_on(measure("get", storage, &keys, load, true, get))?);
        Ok(())
    })();
    let delete = |storage: Arc<StorageHandle>, key: Key| async move { storage.delete(&key).await };
    let deleted = handle.block_on(measure("delete", storage, &keys, load, false, delete));
    outcome?;
    measured.push(deleted?);
    Ok(measured)
}

async fn measure<F>(
    operation: &'static str,
    storage: &Arc<StorageHandle>,
    keys: &[Key],
    load: Load,
    moves_bytes: bool,
    act: impl Fn(Arc<StorageHandle>, Key) -> F,
) -> Result<Measured, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let mut waiting = keys.iter();
    let mut taken: Vec<Duration> = Vec::new();
    let mut failed = None;
    loop {
        while running.len() < load.concurrency.max(1)
            && let Some(key) = waiting.next()
        {
            let work = act(Arc::clone(storage), key.clone());
            running.spawn(async move {
                let begun = Instant::now();
                work.await.map(|()| begun.elapsed())
            });
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Ok(elapsed))) => taken.push(elapsed),
            Some(Ok(Err(error))) => drop(failed.get_or_insert(error)),
            Some(Err(error)) => drop(failed.get_or_insert(Error::new(ErrorKind::Internal, error.to_string()))),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    taken.sort_unstable();
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = (load.size * taken.len() as u64) as f64 / f64::from(1 << 20);
    Ok(Measured {
        operation,
        count: taken.len(),
        seconds,
        mib_per_second: moves_bytes.then(|| mib / seconds.max(1e-9)),
        p50_ms: percentile(&taken, 50),
        p90_ms: percentile(&taken, 90),
        p99_ms: percentile(&taken, 99),
        max_ms: percentile(&taken, 100),
    })
}

/// Of sorted durations, the smallest that so many percent don't exceed, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let ms = sorted.get(rank).map_or(0, |taken| micros(*taken)) as f64 / 1000.0;
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let taken: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        for (percent, ms) in [(50, 50.0), (90, 90.0), (99, 99.0), (100, 100.0)] {
            assert!((percentile(&taken, percent) - ms).abs() < 1e-9, "{percent}");
        }
        assert!(percentile(&[], 50).abs() < 1e-9);
        assert!((percentile(&[Duration::from_millis(7)], 50) - 7.0).abs() < 1e-9);
    }
}

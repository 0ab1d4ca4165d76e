//! Encoding on several threads.
//!
//! A group of pictures (a keyframe and all up to the next) needs nothing of another group, so groups go to the threads in turn, each
//! to an encoder of its own: the video is the same for any number of threads. A thread has its own copy of the picture and gets only
//! what changed. What waits is bounded in bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::video::pace::Due;
use crate::video::planes::{Patch, Planes};

/// Bytes of pictures that may wait for the threads.
const WAITING_MAX: usize = 48 << 20;

/// The encoder of a group of pictures, which begins with a keyframe, or of some. It is made and used by one thread.
pub trait Encode {
    /// Encodes the next picture; `key`: as a keyframe. Gives its bytes, and whether it became a keyframe.
    ///
    /// # Errors
    /// Those of the codec; the export then fails.
    fn encode(&mut self, planes: &Planes, key: bool) -> Result<(Vec<u8>, bool)>;
}

/// One encoded picture.
#[derive(Debug)]
pub struct Packet {
    /// When it is shown first.
    pub time_ns: u64,
    /// Whether it is a keyframe.
    pub key: bool,
    /// What the codec made.
    pub bytes: Vec<u8>,
    index: u64,
}

/// One picture to encode.
struct Work {
    index: u64,
    time_ns: u64,
    key: bool,
    /// With a new encoder, which knows nothing of what came before.
    fresh: bool,
    patches: Vec<Patch>,
    cost: usize,
}

struct Worker {
    work: Sender<Work>,
    thread: JoinHandle<()>,
}

/// What the threads share with the job.
#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<usize>,
    less_waits: Condvar,
    stop: AtomicBool,
}

impl Shared {
    /// Waits until something may be added, then adds it. One thing always may, whatever its size.
    fn add(&self, cost: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while *waiting > 0 && *waiting + cost > WAITING_MAX && !self.stop.load(Ordering::Relaxed) {
            waiting = self.less_waits.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        *waiting += cost;
    }

    fn remove(&self, cost: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_sub(cost);
        self.less_waits.notify_all();
    }

    fn stop(&self) {
        // Under the lock, so that `add` can't miss it between its check and its wait.
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop.store(true, Ordering::Relaxed);
        self.less_waits.notify_all();
    }
}

/// Makes the encoder of a group.
type Make<E> = dyn Fn() -> Result<E> + Send + Sync;

/// The threads and what is under way.
pub struct Encoders<E> {
    make: Arc<Make<E>>,
    black: Planes,
    threads: usize,
    workers: Vec<Worker>,
    current: usize,
    group_frames: u64,
    results: Receiver<Result<Packet>>,
    result: Sender<Result<Packet>>,
    shared: Arc<Shared>,
    submitted: u64,
    delivered: u64,
    early: BTreeMap<u64, Packet>,
}

impl<E: Encode + 'static> Encoders<E> {
    /// `threads` of them (0 counts as 1), which begin with the picture `black`; `make` makes the encoder of a group.
    pub fn new(black: Planes, threads: usize, make: impl Fn() -> Result<E> + Send + Sync + 'static) -> Self {
        let (result, results) = channel();
        Self {
            make: Arc::new(make),
            black,
            threads: threads.max(1),
            workers: Vec::new(),
            current: 0,
            group_frames: 0,
            results,
            result,
            shared: Arc::new(Shared::default()),
            submitted: 0,
            delivered: 0,
            early: BTreeMap::new(),
        }
    }

    /// Hands over the next picture, which is shown from `due` on; `patches` is all of it where it is a keyframe, and else what
    /// changed. Waits while too much waits.
    ///
    /// # Errors
    /// What an encoder said of an earlier picture.
    pub fn submit(&mut self, due: Due, patches: Vec<Patch>) -> Result<()> {
        let key = due.key;
        // Two keyframes that follow each other must differ in their idr_pic_id (H.264 section 7.4.3), which only one encoder
        // sees to: a group of one picture keeps its successor on its thread and encoder.
        let fresh = key && self.group_frames != 1;
        if fresh && self.submitted > 0 {
            self.current = (self.current + 1) % self.threads;
        }
        if key {
            self.group_frames = 0;
        }
        self.group_frames += 1;
        while self.workers.len() <= self.current {
            let worker = self.start()?;
            self.workers.push(worker);
        }
        let cost = patches.iter().map(Patch::len).sum();
        self.shared.add(cost);
        let work = Work {
            index: self.submitted,
            time_ns: due.time_ns,
            key,
            fresh,
            patches,
            cost,
        };
        self.submitted += 1;
        let sent = self
            .workers
            .get(self.current)
            .map(|worker| worker.work.send(work).is_ok());
        if sent == Some(true) {
            return Ok(());
        }
        // Its thread ended: the reason is among the results.
        self.ready()
            .and_then(|_| Err(Error::internal("an encoder thread ended")))
    }

    fn start(&self) -> Result<Worker> {
        let (work, todo) = channel();
        let (make, result, shared) = (Arc::clone(&self.make), self.result.clone(), Arc::clone(&self.shared));
        let planes = self.black.clone();
        let thread = std::thread::Builder::new()
            .name("encoder".into())
            .spawn(move || run(&*make, planes, &todo, &result, &shared))
            .map_err(|error| Error::from(error).with_context("start an encoder thread"))?;
        Ok(Worker { work, thread })
    }

    /// Whether no picture was submitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.submitted == 0
    }

    /// What is done, in order.
    ///
    /// # Errors
    /// What an encoder said.
    pub fn ready(&mut self) -> Result<Vec<Packet>> {
        while let Ok(packet) = self.results.try_recv() {
            let packet = packet?;
            self.early.insert(packet.index, packet);
        }
        let mut ready = Vec::new();
        while let Some(packet) = self.early.remove(&self.delivered) {
            self.delivered += 1;
            ready.push(packet);
        }
        Ok(ready)
    }

    /// Waits for everything and returns what [`ready`](Self::ready) has not.
    ///
    /// # Errors
    /// What an encoder said.
    pub fn finish(mut self) -> Result<Vec<Packet>> {
        let mut panicked = false;
        for worker in std::mem::take(&mut self.workers) {
            drop(worker.work);
            panicked |= worker.thread.join().is_err();
        }
        if panicked {
            return Err(Error::new(ErrorKind::Panic, "an encoder thread panicked"));
        }
        let rest = self.ready()?;
        if self.delivered != self.submitted {
            return Err(Error::internal("an encoder thread lost pictures"));
        }
        Ok(rest)
    }
}

impl<E> Drop for Encoders<E> {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in std::mem::take(&mut self.workers) {
            drop(worker.work);
            // Its panic, if any, is nobody's concern any more: the export was given up.
            let _ = worker.thread.join();
        }
    }
}

/// Frees those who wait for this thread, however it ends.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

fn run<E: Encode>(
    make: &Make<E>,
    mut planes: Planes,
    todo: &Receiver<Work>,
    result: &Sender<Result<Packet>>,
    shared: &Shared,
) {
    let _stop = StopOnPanic(shared);
    let mut current = None;
    while let Ok(work) = todo.recv() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        for patch in &work.patches {
            planes.paste(patch);
        }
        drop(work.patches);
        shared.remove(work.cost);
        if work.fresh {
            current = None;
        }
        let encoded = with_encoder(&mut current, make).and_then(|encoder| encoder.encode(&planes, work.key));
        let packet = encoded.map(|(bytes, key)| Packet {
            time_ns: work.time_ns,
            key,
            bytes,
            index: work.index,
        });
        let failed = packet.is_err();
        if result.send(packet).is_err() {
            return;
        }
        if failed {
            shared.stop();
            return;
        }
    }
}

/// The encoder of the group, made for its first picture.
fn with_encoder<'a, E>(current: &'a mut Option<E>, make: &Make<E>) -> Result<&'a mut E> {
    match current {
        Some(encoder) => Ok(encoder),
        none => Ok(none.insert(make()?)),
    }
}

#[cfg(test)]
#[path = "encoders_tests.rs"]
mod tests;

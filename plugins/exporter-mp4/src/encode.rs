//! H.264 encoding on several threads.
//!
//! A group of pictures (a keyframe and all up to the next) needs nothing of another group, so groups go to the threads in turn, each
//! to an encoder of its own: the video is the same for any number of threads. A thread has its own copy of the picture and gets only what changed. What waits is bounded in bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use deskreel_sdk::{Error, ErrorKind, Result};
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, Profile, QpRange, RateControlMode, UsageType,
    VuiConfig,
};
use openh264::formats::YUVSource;
use openh264::{OpenH264API, Timestamp};

use crate::canvas::{Patch, Planes};

/// Bytes of pictures that may wait for the threads.
const WAITING_MAX: usize = 128 << 20;

/// How to encode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frame_rate_max: u32,
    pub(crate) quantizer: u8,
    pub(crate) threads: usize,
}

/// One encoded picture, as an Annex B byte stream.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) index: u64,
    pub(crate) key: bool,
    pub(crate) bytes: Vec<u8>,
}

/// One picture to encode.
struct Work {
    index: u64,
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

/// The threads and what is under way.
pub(crate) struct Encoders {
    options: Options,
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

impl Encoders {
    pub(crate) fn new(options: Options) -> Self {
        let (result, results) = channel();
        Self {
            options,
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

    /// Hands over the next picture; `patches` is all of it when `key`. Waits while too much waits.
    pub(crate) fn submit(&mut self, key: bool, patches: Vec<Patch>) -> Result<()> {
        // Two keyframes that follow each other must differ in their idr_pic_id (H.264 section 7.4.3), which only one encoder
        // sees to: a group of one picture keeps its successor on its thread and encoder.
        let fresh = key && self.group_frames != 1;
        if fresh && self.submitted > 0 {
            self.current = (self.current + 1) % self.options.threads.max(1);
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
        let (options, result, shared) = (self.options, self.result.clone(), Arc::clone(&self.shared));
        let thread = std::thread::Builder::new()
            .name("mp4-encoder".into())
            .spawn(move || run(options, &todo, &result, &shared))
            .map_err(|error| Error::from(error).with_context("start an encoder thread"))?;
        Ok(Worker { work, thread })
    }

    /// What is done, in order.
    pub(crate) fn ready(&mut self) -> Result<Vec<Packet>> {
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
    pub(crate) fn finish(mut self) -> Result<Vec<Packet>> {
        for worker in std::mem::take(&mut self.workers) {
            drop(worker.work);
            if worker.thread.join().is_err() {
                return Err(Error::new(ErrorKind::Panic, "an encoder thread panicked"));
            }
        }
        let rest = self.ready()?;
        if self.delivered != self.submitted {
            return Err(Error::internal("an encoder thread lost pictures"));
        }
        Ok(rest)
    }
}

impl Drop for Encoders {
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

fn run(options: Options, todo: &Receiver<Work>, result: &Sender<Result<Packet>>, shared: &Shared) {
    let _stop = StopOnPanic(shared);
    let mut current = None;
    let mut planes = Planes::black(options.width, options.height);
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
        let packet = with_encoder(&mut current, options).and_then(|encoder| {
            if work.key {
                encoder.force_intra_frame();
            }
            encode(encoder, &planes, work.index)
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
fn with_encoder(current: &mut Option<Encoder>, options: Options) -> Result<&mut Encoder> {
    match current {
        Some(encoder) => Ok(encoder),
        none => Ok(none.insert(encoder(options)?)),
    }
}

fn encode(encoder: &mut Encoder, planes: &Planes, index: u64) -> Result<Packet> {
    // The rate control that looks at the time is off; it must only grow.
    let time = Timestamp::from_millis(index * 33);
    let stream = encoder.encode_at(planes, time).map_err(|error| failed(&error))?;
    Ok(Packet {
        index,
        key: stream.frame_type() == FrameType::IDR,
        bytes: stream.to_vec(),
    })
}

fn encoder(options: Options) -> Result<Encoder> {
    let config = EncoderConfig::new()
        .usage_type(UsageType::ScreenContentRealTime)
        .complexity(Complexity::Low)
        .profile(Profile::Main)
        // Constant quantizer: this mode keeps to the range, skips nothing and warns of nothing on stderr.
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(options.quantizer, options.quantizer))
        .bitrate(BitRate::from_bps(50_000_000))
        .skip_frames(false)
        .max_frame_rate(FrameRate::from_hz(options.frame_rate_max as f32))
        .adaptive_quantization(false)
        .background_detection(false)
        .num_threads(1)
        .vui(VuiConfig::bt709());
    Encoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| failed(&error))
}

fn failed(error: &openh264::Error) -> Error {
    Error::internal(format!("H.264 encoder: {error}"))
}

impl YUVSource for Planes {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }
    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }
    fn y(&self) -> &[u8] {
        &self.y
    }
    fn u(&self) -> &[u8] {
        &self.cb
    }
    fn v(&self) -> &[u8] {
        &self.cr
    }
}

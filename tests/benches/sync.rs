//! How soon the segments of many sessions are stored whose storage is sync, on a real S3 server: the engine's own test of that, with
//! more of it. `cargo bench -p deskreel-tests --bench sync`; docs/performance.md holds the last numbers. `BENCH_SESSIONS` (default
//! `100`), `BENCH_SECONDS` (default `60`), `BENCH_PROFILE` (default `release`) the build.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::process::Command;

use peers::seaweed::{BUCKET, KEY, SECRET, Seaweed};

const TEST: &str = "pipeline::tests::keeping_up::sync_sessions_are_stored_as_fast_as_they_are_sealed";
/// Bar: from sealing to stored, p99, in p99 of the server's own puts.
const RATIO_BAR: f64 = 3.0;
/// Bar: what each session records, in MB a minute.
const RATE_BAR_MB: f64 = 2.0;
/// They keep up while no change waits longer than this to be taken.
const LATE_BAR_MS: f64 = 1000.0;

fn main() {
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let dir = tempfile::tempdir().unwrap();
    let server = Seaweed::start(dir.path()).unwrap();
    // Cargo built it for this program, too.
    let plugin = std::env::current_exe()
        .unwrap()
        .with_file_name("libdeskreel_storage_s3.so");
    let storage = format!(
        "{{name: cloud, plugin: s3, path: {}, mode: sync, settings: {{bucket: {BUCKET}, prefix: sync, access_key_id: {KEY}, \
         secret_access_key: {SECRET}, endpoint: 'http://127.0.0.1:{}'}}}}",
        plugin.display(),
        server.port
    );
    let output = Command::new(env!("CARGO"))
        .args(["test", "--package", "deskreel", "--bin", "deskreel", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .args([
            "--profile",
            &set("BENCH_PROFILE", "release"),
            "--",
            "--exact",
            TEST,
            "--nocapture",
        ])
        .env("DESKREEL_BENCH_SESSIONS", set("BENCH_SESSIONS", "100"))
        .env("DESKREEL_BENCH_SECONDS", set("BENCH_SECONDS", "60"))
        .env("DESKREEL_BENCH_STORAGE", storage)
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let number = |name: &str| -> f64 {
        let mut words = said.split_whitespace();
        let word = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.unwrap_or_else(|| panic!("no {name} in {said}")).parse().unwrap()
    };
    println!(
        "| sessions | MB a minute each | segments | kB each | sealed to stored p99 ms | its puts p99 ms | the same puts alone p99 ms | CPU s | s | memory MB |\n\
         |---|---|---|---|---|---|---|---|---|---|\n\
         | {:.0} | {:.2} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
        number("sessions"),
        number("mb_per_minute"),
        number("segments"),
        number("segment_kb"),
        number("stored_p99_ms"),
        number("put_p99_ms"),
        number("alone_p99_ms"),
        number("cpu_s"),
        number("took_s"),
        number("memory_mb"),
    );
    println!(
        "sealed to stored: {:.2} of the server's own (bar: {RATIO_BAR}); {:.2} MB a minute each (bar: {RATE_BAR_MB}), a change \
         waited {:.0} ms at most (bar: {LATE_BAR_MS}), complete {:.1} s after the last session ended",
        number("stored_p99_ms") / number("alone_p99_ms"),
        number("mb_per_minute"),
        number("late_ms"),
        number("rest_s"),
    );
}

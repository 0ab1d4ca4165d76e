//! What a put to the `local` storage costs beside what the disk can do: files of a segment's size, each written and fsynced under a
//! temporary name, renamed, and its folder fsynced, by the plugin and by fio in turn. fio can't rename: it makes and fsyncs the
//! files, and then as many of 4 KiB, each of which is one more durable change of the folder. Its files alone are told, too. `cargo bench -p deskreel-tests --bench local`; docs/performance.md holds the last numbers.
//! `BENCH_REPEATS` (default 5) rounds, the median counts; `BENCH_FILES` (default 64) of 4 MiB each; `BENCH_DIR` says on which disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use deskreel_sdk::BlockingStorage as _;
use deskreel_sdk::prelude::*;
use deskreel_storage_local::{Local, Settings};

const FILE_BYTES: usize = 4 << 20;
/// What fio makes and fsyncs for a rename that is made durable.
const NAME_BYTES: usize = 4 << 10;
/// Puts at once: what the plugin recommends.
const LANES: usize = 4;
const BAR: f64 = 0.8;

fn main() {
    let number = |name: &str, default: usize| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (repeats, files) = (number("BENCH_REPEATS", 5), number("BENCH_FILES", 64));
    let disk = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let mut bytes = vec![0; FILE_BYTES];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
    let bytes = Bytes::from(bytes);
    println!(
        "| at once | plugin MiB/s | fio, files and names MiB/s | fio, files alone MiB/s | plugin to fio (bar: {BAR}) | to files alone |"
    );
    println!("|---|---|---|---|---|---|");
    for lanes in [1, LANES] {
        let (mut plugin, mut names, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..repeats {
            let folder = || {
                // A virtual machine gives free memory back: who needs as much first after a rest would wait for it alone.
                let before = tempfile::tempdir_in(&disk).unwrap();
                for number in 0..files {
                    fs::write(before.path().join(number.to_string()), &bytes).unwrap();
                }
                drop(before);
                tempfile::tempdir_in(&disk).unwrap()
            };
            let mut fio = || {
                let large = by_fio(folder().path(), FILE_BYTES, files, lanes);
                let small = by_fio(folder().path(), NAME_BYTES, files, lanes);
                alone.push(mib_per_second(files, large));
                names.push(mib_per_second(files, large + small));
            };
            // In turn, and who begins changes: disks remember.
            if round % 2 == 1 {
                fio();
            }
            plugin.push(by_plugin(folder().path(), &bytes, files, lanes));
            if round % 2 == 0 {
                fio();
            }
        }
        let (plugin, names, alone) = (median(plugin), median(names), median(alone));
        let (to_names, to_alone) = (plugin / names, plugin / alone);
        println!("| {lanes} | {plugin:.0} | {names:.0} | {alone:.0} | {to_names:.2} | {to_alone:.2} |");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn mib_per_second(files: usize, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's MiB are far below 2^52")]
    let mib = ((files * FILE_BYTES) >> 20) as f64;
    mib / seconds
}

fn by_plugin(folder: &Path, bytes: &Bytes, files: usize, lanes: usize) -> f64 {
    let settings = serde_json::json!({"path": folder.join("objects"), "min_free": 0});
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let storage = Local::open(settings, Context::new("bench")).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let storage = &storage;
            scope.spawn(move || {
                for number in (lane..files).step_by(lanes) {
                    let key = Key::new(format!("01902b6e-7f00-7000-8000-00000000000a/{number:08}.mcap")).unwrap();
                    storage.put(&key, bytes.clone(), &PutOptions::default()).unwrap();
                }
            });
        }
    });
    mib_per_second(files, begun.elapsed().as_secs_f64())
}

/// New files, each written once from start to end and fsynced; the seconds that it took.
fn by_fio(folder: &Path, file_bytes: usize, files: usize, lanes: usize) -> f64 {
    let files_each = files / lanes;
    let output = Command::new("fio")
        .args([
            "--name=segments",
            "--rw=write",
            "--ioengine=psync",
            "--fsync_on_close=1",
            "--create_on_open=1",
        ])
        .args([
            "--openfiles=1",
            "--file_service_type=sequential",
            "--refill_buffers",
            "--group_reporting",
        ])
        .arg("--output-format=json")
        .arg(format!("--bs={}", file_bytes.min(1 << 20)))
        .arg(format!("--directory={}", folder.display()))
        .arg(format!("--nrfiles={files_each}"))
        .arg(format!("--size={}", files_each * file_bytes))
        .arg(format!("--numjobs={lanes}"))
        .output()
        .expect("fio starts: .ci/install bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // The sum of the lanes'.
    report["jobs"][0]["job_runtime"].as_f64().unwrap() / lanes as f64 / 1000.0
}

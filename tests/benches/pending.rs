//! How soon a gateway delivers again that was killed with much in its spool: the engine's own test of that, with more of it.
//! `cargo bench -p deskreel-tests --bench pending`; docs/performance.md holds the last numbers. `BENCH_PENDING` (default
//! `10000`) is a list of how many objects wait, `BENCH_PROFILE` (default `release`) the build.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::process::Command;

const TEST: &str = "pipeline::tests::pending::what_waits_in_the_spool_is_delivered_at_the_next_start";
/// Bar: delivery runs again within this many seconds of the start.
const FIRST_BAR_S: f64 = 2.0;
/// Bar: what waits is not held in memory.
const MEMORY_BAR_MB: f64 = 64.0;

fn main() {
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let profile = set("BENCH_PROFILE", "release");
    println!(
        "| pending | started s | first stored s | all stored s | a second | memory above before MB |\n|---|---|---|---|---|---|"
    );
    for pending in set("BENCH_PENDING", "10000").split(',') {
        let output = Command::new(env!("CARGO"))
            .args([
                "test",
                "--package",
                "deskreel",
                "--bin",
                "deskreel",
                "--profile",
                &profile,
                "--manifest-path",
            ])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .args(["--", "--exact", TEST, "--nocapture"])
            .env("DESKREEL_BENCH_PENDING", pending)
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
        let (first, all) = (number("first_s"), number("all_s"));
        let memory = number("memory_most_mb") - number("memory_before_mb");
        println!(
            "| {:.0} | {:.2} | {first:.2} | {all:.1} | {:.0} | {memory:.0} |",
            number("pending"),
            number("started_s"),
            number("pending") / all
        );
        println!("first stored: {first:.2} s (bar: {FIRST_BAR_S}); memory: {memory:.0} MB (bar: {MEMORY_BAR_MB})");
    }
}

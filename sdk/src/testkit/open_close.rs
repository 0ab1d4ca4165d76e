//! Opening and closing leaves no thread and no file open.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::testkit::{Check, Direct};
use crate::{Result, Storage};

/// The check of this module.
pub const CHECK: Check = Check {
    name: "open_and_close",
    about: "opening and closing 200 times leaves no thread and no file open",
};

/// How often it is opened and closed before the first count, for what is made once.
const WARM_UP: u32 = 20;
/// How often from then on.
const ROUNDS: u32 = 200;
/// Threads and files that may come and go beside; a leak has [`ROUNDS`].
const SLACK: usize = 16;
/// Closing may take a moment: pools keep idle threads that long.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// Says so where the test runs in a process of its own.
const ALONE: &str = "DESKREEL_TESTKIT_ALONE";

/// (threads, open files) of this process.
fn counts() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Opens and drops what `open` makes, over and over, and counts. The process must do nothing else meanwhile.
///
/// # Panics
/// When it can't be opened, or something stays.
pub async fn run<T, F: Future<Output = Result<T>>>(open: impl Fn() -> F) {
    for _ in 0..WARM_UP {
        drop(open().await.expect("the storage opens"));
    }
    let before = counts();
    for _ in 0..ROUNDS {
        drop(open().await.expect("the storage opens"));
    }
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let after = counts();
        if after.0 <= before.0 + SLACK && after.1 <= before.1 + SLACK {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{ROUNDS} times opened and closed: {} threads and {} open files became {} and {}",
            before.0,
            before.1,
            after.0,
            after.1
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The check as a test of the author's crate: it starts the test binary anew for this test alone, as the threads and files of the
/// other tests would be counted.
///
/// # Panics
/// When the check fails.
pub fn check<S: Storage>(test: &str, settings: impl Fn(&Path) -> Value) {
    if std::env::var_os(ALONE).is_some() {
        // Some storages are open already in the settings' folder: opening again must be possible.
        let folder = crate::testkit::Folder::new().expect("a temporary folder");
        let settings = settings(folder.path());
        crate::testkit::block_on(run(|| Direct::<S>::open(settings.clone())));
        return;
    }
    // The test's name in this binary is its path without the crate.
    let name = test.split_once("::").map_or(test, |(_, rest)| rest);
    let binary = std::env::current_exe().expect("the path of this binary");
    let output = std::process::Command::new(binary)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("this binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

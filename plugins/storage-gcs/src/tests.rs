#![allow(clippy::unwrap_used, reason = "tests")]

mod faults;
mod options;
mod resolving;

use deskreel_sdk::serde_json::{Value, json};
use deskreel_sdk::testkit::{Folder, block_on as run, bytes, key, put, whole, with};
use peers::gcs;

use super::*;

mod conformance {
    use super::*;

    deskreel_sdk::storage_tests! {
        storage: Gcs,
        settings: |folder| settings_in(folder, port()),
        sample: sample(),
    }
}

/// What sample.yaml shows.
fn sample() -> Value {
    json!({
        "bucket": "recordings", "prefix": "deskreel", "credentials_file": "/etc/deskreel/gcs.json", "storage_class": "NEARLINE",
        "object_lock": "governance",
    })
}

fn port() -> u16 {
    gcs::Gcs::shared().unwrap()
}

/// A prefix of its own for each test, named like its folder.
fn settings_in(folder: &Path, port: u16) -> Value {
    json!({
        "bucket": gcs::BUCKET,
        "prefix": folder.file_name().unwrap().to_string_lossy(),
        "endpoint": format!("http://127.0.0.1:{port}"),
        "anonymous": true,
    })
}

async fn open(settings: Value) -> Result<Gcs> {
    deskreel_sdk::testkit::open(&settings).await
}

#[test]
fn the_sample_file_shows_the_settings_that_the_tests_use() {
    let file = include_str!("../sample.yaml");
    for (name, value) in sample().as_object().unwrap() {
        let line = format!("{name}: {}", value.as_str().unwrap());
        assert!(file.contains(&line), "{line}");
    }
}

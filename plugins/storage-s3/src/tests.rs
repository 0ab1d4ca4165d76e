#![allow(clippy::unwrap_used, reason = "tests")]

mod faults;
mod logs;
mod options;
mod resolving;
mod wire;

use deskreel_sdk::serde_json::{Value, json};
use deskreel_sdk::testkit::{Folder, block_on as run, bytes, key, put, whole, with};
use peers::seaweed::{self, Seaweed};

use super::*;

mod conformance {
    use super::*;

    deskreel_sdk::storage_tests! {
        storage: S3,
        settings: |folder| settings_in(folder, port()),
        sample: sample(),
    }
}

/// What sample.yaml shows.
fn sample() -> Value {
    json!({
        "bucket": "recordings", "prefix": "deskreel", "region": "eu-central-1", "encryption": "aws_kms",
        "storage_class": "STANDARD_IA", "object_lock": "governance",
    })
}

fn port() -> u16 {
    Seaweed::shared().unwrap()
}

/// A prefix of its own for each test, named like its folder.
fn settings_in(folder: &Path, port: u16) -> Value {
    json!({
        "bucket": seaweed::BUCKET,
        "prefix": folder.file_name().unwrap().to_string_lossy(),
        "endpoint": format!("http://127.0.0.1:{port}"),
        "access_key_id": seaweed::KEY,
        "secret_access_key": seaweed::SECRET,
    })
}

async fn open(settings: Value) -> Result<S3> {
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

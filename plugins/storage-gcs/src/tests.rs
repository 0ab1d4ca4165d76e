#![allow(clippy::unwrap_used, reason = "tests")]

mod faults;
mod options;
mod resolving;

use deskreel_sdk::serde_json::{Value, json};
use deskreel_sdk::testkit::Folder;
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

fn with(mut settings: Value, more: &Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut settings, more) else {
        panic!("settings are objects")
    };
    fields.extend(more.clone());
    settings
}

async fn open(settings: Value) -> Result<Gcs> {
    Gcs::open(
        deskreel_sdk::serde_json::from_value(settings).unwrap(),
        Context::new("gcs"),
    )
    .await
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn bytes(seed: u8, length: usize) -> Bytes {
    (0..length)
        .map(|at| seed.wrapping_add((at % 251) as u8))
        .collect::<Vec<_>>()
        .into()
}

async fn put(storage: &Gcs, name: &str, content: Bytes) -> Result<()> {
    storage.put(&key(name), content, &PutOptions::default()).await
}

async fn whole(storage: &Gcs, name: &str) -> Result<Bytes> {
    storage.get(&key(name), 0..u64::MAX).await
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn the_sample_file_shows_the_settings_that_the_tests_use() {
    let file = include_str!("../sample.yaml");
    for (name, value) in sample().as_object().unwrap() {
        let line = format!("{name}: {}", value.as_str().unwrap());
        assert!(file.contains(&line), "{line}");
    }
}

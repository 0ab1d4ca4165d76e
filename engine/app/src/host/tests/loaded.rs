//! Plugins that load: what they do through the engine's handles.

use std::ops::Range;

use bytes::Bytes;
use deskreel_config::Mode;
use deskreel_sdk::abi::meta::Kind;
use deskreel_sdk::testkit::{self, Subject};
use deskreel_sdk::{ErrorKind, ObjectInfo, Page, Prefix, Result};

use super::*;
use crate::host::settings;

struct Opened {
    handle: Arc<StorageHandle>,
    _setup: Setup,
}

impl Subject for Opened {
    async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        self.handle.put(key, bytes, options).await
    }
    async fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.handle.get_range(key, range).await
    }
    async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        self.handle.stat(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        self.handle.list_page(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.handle.delete(key).await
    }
    async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        self.handle.put_file(key, file, options).await
    }
    async fn check(&self) -> Result<()> {
        self.handle.check().await
    }
    fn max_object_bytes(&self) -> Option<u64> {
        self.handle.profile.max_object_bytes
    }
}

/// The test kit's list on the built file of `local`.
macro_rules! local_through_the_host {
    ($($check:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let setup = Setup::new();
                let mut handles =
                    setup.open(&["{name: disk, plugin: local, settings: {path: ./recordings}}"]).await.unwrap();
                let subject = Opened { handle: handles.remove(0), _setup: setup };
                testkit::storage::$check(Arc::new(subject)).await;
            }
        )+
    };
}
local_through_the_host! {
    sizes, same_key_same_bytes, same_key_other_bytes, racing_put, ranges, missing_objects, odd_keys,
    stat_list_and_delete_agree, parallel, given_up_puts, put_file, check_leaves_nothing, paging
}

#[tokio::test]
async fn two_plugins_of_one_kind_and_two_instances_of_one_plugin_are_different() {
    let setup = Setup::new();
    let storages = [
        "{name: disk, plugin: local, mode: sync, settings: {path: ./a}}",
        "{name: mem, plugin: memory, mode: async, required: false}",
        "{name: disk2, plugin: local, settings: {path: ./b}}",
    ];
    let handles = setup.open(&storages).await.unwrap();
    for (index, handle) in handles.iter().enumerate() {
        handle
            .put(&key("same/key"), Bytes::from(vec![index as u8; 5]), &options())
            .await
            .unwrap();
    }
    for (index, handle) in handles.iter().enumerate() {
        assert_eq!(handle.get(&key("same/key")).await.unwrap(), vec![index as u8; 5]);
    }
    let [disk, mem, _] = &handles[..] else { panic!() };
    assert_eq!((disk.profile.concurrency, mem.profile.concurrency), (4, 8));
    assert_eq!(
        (disk.mode, mem.mode, disk.required, mem.required),
        (Mode::Sync, Mode::Async, true, false)
    );
    // Relative paths start at the configuration file's folder.
    assert_eq!(std::fs::read(setup.path("a/same/key")).unwrap(), [0; 5]);
    assert_eq!(std::fs::read(setup.path("b/same/key")).unwrap(), [2; 5]);
}

#[tokio::test]
async fn an_operation_ends_within_op_timeout_and_a_large_object_is_refused_before_it() {
    let setup = Setup::new();
    let storage = "{name: mem, plugin: memory, op_timeout: 1s, settings: {max_object_bytes: 10}}";
    let handle = setup.open(&[storage]).await.unwrap().remove(0);
    let error = handle
        .put(&key("fault/hang"), Bytes::new(), &options())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.message(), "storage mem: put took longer than 1s");
    let error = handle
        .put(&key("a"), Bytes::from(vec![0; 11]), &options())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "storage mem: a: 11 bytes, the storage takes at most 10"
    );
    handle
        .put(&key("a"), Bytes::from(vec![0; 10]), &options())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_listing_is_paged_to_its_end() {
    let setup = Setup::new();
    let handle = setup.open(&["{name: mem, plugin: memory}"]).await.unwrap().remove(0);
    for n in 0..345 {
        handle
            .put(&key(&format!("x/{n:03}")), Bytes::new(), &options())
            .await
            .unwrap();
    }
    assert_eq!(handle.list(&Prefix::new("x/").unwrap()).await.unwrap().len(), 345);
    assert!(handle.list(&Prefix::new("fault/garbage").unwrap()).await.is_err());
}

#[tokio::test]
async fn what_a_plugin_says_without_end_is_cut() {
    let setup = Setup::new();
    let handle = setup.open(&["{name: mem, plugin: memory}"]).await.unwrap().remove(0);
    let error = handle.stat(&key("fault/verbose")).await.unwrap_err();
    assert!(error.message().starts_with("storage mem: ää"));
    assert!(error.message().len() < 5000, "{} bytes", error.message().len());
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(std::time::Duration::from_millis(1500)));
}

#[tokio::test]
async fn panics_of_a_plugin_are_survived() {
    let setup = Setup::new();
    let error = setup
        .error("{name: mem, plugin: memory, settings: {fault: open}}")
        .await;
    assert!(
        error.to_string().contains("plugin panicked: asked to panic in open"),
        "{error}"
    );
    let error = setup
        .error("{name: mem, plugin: memory, settings: {fault: profile}}")
        .await;
    assert!(
        error.to_string().contains("plugin panicked: asked to panic in profile"),
        "{error}"
    );
    let handle = setup
        .open(&["{name: mem, plugin: memory, settings: {fault: drop}}"])
        .await
        .unwrap()
        .remove(0);
    for _ in 0..3 {
        let error = handle
            .put(&key("fault/panic"), Bytes::new(), &options())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic);
    }
    handle.put(&key("a"), Bytes::new(), &options()).await.unwrap();
    drop(handle);
    setup.open(&["{name: mem, plugin: memory}"]).await.unwrap();
}

#[tokio::test]
async fn settings_errors_name_file_line_and_key() {
    let setup = Setup::new();
    let error = setup.error("{name: disk, plugin: local, settings: {pahs: ./x}}").await;
    assert!(error.is::<crate::usage::UsageError>());
    let file = setup.path("deskreel.yaml");
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    for (key, message) in [
        ("path", "is missing"),
        ("pahs", "unknown setting, did you mean `path`?"),
    ] {
        let wanted = format!("storages[0].settings.{key}: {message}");
        let line = lines
            .iter()
            .find(|line| line.ends_with(&wanted))
            .unwrap_or_else(|| panic!("{wanted} in {lines:?}"));
        assert!(line.starts_with(&format!("{}:2:", file.display())), "{line}");
    }
    let error = setup
        .error("{name: mem, plugin: memory, settings: {token: wrong}}")
        .await;
    assert!(!error.is::<crate::usage::UsageError>());
    assert!(
        error.to_string().ends_with("token: refused (unauthenticated)"),
        "{error}"
    );
}

#[test]
fn the_sample_of_every_storage_fits_its_schema() {
    let sample = include_str!("../../../../../plugins/storage-local/sample.yaml");
    let sample: serde_json::Value = serde_saphyr::from_str(sample).unwrap();
    let library = crate::host::library::load_storage(&built("libdeskreel_storage_local.so")).unwrap();
    let settings = &sample["storages"][0]["settings"];
    settings::resolve(settings, &library.info().settings_schema, Path::new("/")).unwrap();
}

#[test]
fn the_list_shows_what_is_found_and_what_is_configured() {
    let setup = Setup::new();
    std::fs::write(setup.path("libdeskreel_storage_text.so"), "text").unwrap();
    let text = format!(
        "{{name: t, plugin: text, path: {}}}",
        setup.path("libdeskreel_storage_text.so").display()
    );
    let loaded = setup.load(&[
        "{name: disk, plugin: local, settings: {path: x}}",
        "{name: gone, plugin: gone}",
        &text,
    ]);
    let rows = Plugins::new(&loaded).list();
    let row = |name: &str| {
        rows.iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("{name} in {rows:?}"))
    };
    let local = row("local");
    assert_eq!(
        (local.kind, local.abi, local.problem.as_deref()),
        (Some(Kind::Storage), Some(1), None)
    );
    assert_eq!(local.configured_as, ["storages/disk"]);
    assert_eq!(local.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(row("memory").version.as_deref(), Some("0.7.0"));
    assert!(row("memory").configured_as.is_empty());
    assert!(
        row("gone")
            .problem
            .as_ref()
            .unwrap()
            .starts_with("storages[1]: no storage plugin `gone`")
    );
    assert_eq!(
        row("text").problem.as_deref(),
        Some("storages[2]: is not a Deskreel plugin: not a shared library")
    );
}

#[test]
fn secrets_are_shown_nowhere() {
    let setup = Setup::new();
    let loaded = setup.load(&[
        "{name: a, plugin: memory, settings: {token: s3cret, path: ./shown}}",
        "{name: b, plugin: gone, settings: {anything: s3cret}}",
    ]);
    let shown = Plugins::new(&loaded).without_secrets();
    let entries: Vec<String> = shown
        .entries()
        .iter()
        .map(|entry| format!("{} {}", entry.key, entry.value))
        .collect();
    assert!(!entries.iter().any(|entry| entry.contains("s3cret")), "{entries:?}");
    for wanted in [r#"token "(hidden)""#, r#"path "./shown""#, r#"anything "(hidden)""#] {
        assert!(
            entries.iter().any(|entry| entry.ends_with(wanted)),
            "{wanted} in {entries:?}"
        );
    }
}

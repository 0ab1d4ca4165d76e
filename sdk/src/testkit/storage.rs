//! The checks. Each takes an empty storage and panics when it doesn't keep the contract of [`Storage`].

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::testkit::{Check, Folder, Subject};
use crate::{ErrorKind, Key, ObjectInfo, Prefix, PutOptions, Result, Storage};

/// Objects of the paging check.
const PAGING_KEYS: usize = 2_500;
/// The largest object that a check writes, should the profile allow more.
const LARGEST_BYTES: u64 = 64 << 20;

macro_rules! list {
    ($($check:ident: $about:literal,)+) => {
        /// Every check of this module that takes a storage, in the order in which they are run.
        pub const CHECKS: &[Check] = &[$(Check { name: stringify!($check), about: $about }),+];

        /// Runs a check by its name on an empty storage; `false` where there is none of that name.
        ///
        /// # Panics
        /// When the check fails.
        pub async fn run<S: Subject>(name: &str, subject: Arc<S>) -> bool {
            match name {
                $(stringify!($check) => Box::pin($check(subject)).await,)+
                _ => return false,
            }
            true
        }
    };
}
crate::__storage_checks! { [list] }

/// First parts of the keys that the checks write, beside [`ODD_KEYS`].
const FOLDERS: &[&str] = &[
    "agree", "file", "given-up", "here", "killed", "other", "page0", "page1", "page2", "parallel", "race", "range",
    "same", "sizes",
];

/// Keys that a storage may stumble over.
const ODD_KEYS: [&str; 16] = [
    "-dash",
    ".hidden",
    "...",
    "a-b",
    "a.b",
    "a/b",
    "a/b.tmp",
    "a0",
    "a=b",
    "a_b",
    "A/b",
    "deep/1/2/3/4/5/6/7/8/9",
    "e..f",
    "e/.g",
    "=",
    "con/nul",
];

/// Whether a check wrote this key. No recording's key is one.
#[must_use]
pub fn is_ours(key: &Key) -> bool {
    let part = key.parts().next().unwrap_or_default();
    FOLDERS.contains(&part) || ODD_KEYS.contains(&key.as_str()) || key.as_str() == "x".repeat(crate::KEY_PART_MAX_BYTES)
}

/// Deletes what checks wrote, and nothing else.
///
/// # Errors
/// What the storage says.
pub async fn sweep<S: Subject>(subject: &S) -> Result<()> {
    let mut after: Option<Key> = None;
    loop {
        let page = subject.list(&Prefix::all(), after.as_ref()).await?;
        after = page.objects.last().map(|object| object.key.clone());
        for object in page.objects.iter().filter(|object| is_ours(&object.key)) {
            subject.delete(&object.key).await?;
        }
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key of the test kit")
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text).expect("a prefix of the test kit")
}

/// Bytes that differ by seed and place.
#[must_use]
pub fn bytes(seed: u8, length: usize) -> Bytes {
    (0..length)
        .map(|index| seed.wrapping_add((index % 251) as u8).wrapping_mul(31))
        .collect::<Vec<u8>>()
        .into()
}

async fn put<S: Subject>(subject: &S, name: &str, bytes: Bytes) -> Result<()> {
    subject.put(&key(name), bytes, &PutOptions::default()).await
}

async fn put_ok<S: Subject>(subject: &S, name: &str, bytes: Bytes) {
    let length = bytes.len();
    if let Err(error) = put(subject, name, bytes).await {
        panic!("put of `{name}` with {length} bytes failed: {error}");
    }
}

async fn whole<S: Subject>(subject: &S, name: &str) -> Result<Bytes> {
    subject.get(&key(name), 0..u64::MAX).await
}

async fn list_all<S: Subject>(subject: &S, start: &Prefix) -> Vec<ObjectInfo> {
    let mut all: Vec<ObjectInfo> = Vec::new();
    loop {
        let page = subject
            .list(start, all.last().map(|object| &object.key))
            .await
            .expect("list");
        let (empty, more) = (page.objects.is_empty(), page.more);
        for object in page.objects {
            assert!(start.matches(&object.key), "listing of `{start}` has `{}`", object.key);
            assert!(
                all.last().is_none_or(|last| last.key < object.key),
                "`{}` is out of order",
                object.key
            );
            all.push(object);
        }
        if !more {
            return all;
        }
        assert!(!empty, "an empty page says that there is more");
    }
}

async fn keys<S: Subject>(subject: &S, start: &str) -> Vec<String> {
    list_all(subject, &prefix(start))
        .await
        .into_iter()
        .map(|object| object.key.to_string())
        .collect()
}

#[track_caller]
fn fails_as<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind, what: &str) {
    match outcome {
        Ok(value) => panic!("{what} should fail as `{kind}`, but gave {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}

/// Objects of 0 bytes, 1 byte, some, and the profile's limit come back as they were; one over the limit is refused.
pub async fn sizes<S: Subject>(subject: Arc<S>) {
    let mut sizes = vec![0, 1, 4096, 1_000_003];
    let limit = subject.max_object_bytes().filter(|limit| *limit <= LARGEST_BYTES);
    sizes.extend(limit.and_then(|limit| usize::try_from(limit).ok()));
    for size in sizes {
        let (name, content) = (format!("sizes/{size}"), bytes(7, size));
        put_ok(&*subject, &name, content.clone()).await;
        assert!(
            whole(&*subject, &name).await.expect("get") == content,
            "{size} bytes came back changed"
        );
        assert_eq!(subject.stat(&key(&name)).await.expect("stat").size, size as u64);
    }
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) {
        fails_as(
            put(&*subject, "sizes/over", bytes(7, limit + 1)).await,
            ErrorKind::InvalidInput,
            "a put over the limit",
        );
    }
}

/// The same key with the same bytes is a success.
pub async fn same_key_same_bytes<S: Subject>(subject: Arc<S>) {
    for content in [bytes(1, 0), bytes(1, 70_000)] {
        let name = format!("same/{}", content.len());
        for _ in 0..3 {
            put_ok(&*subject, &name, content.clone()).await;
        }
        assert!(whole(&*subject, &name).await.expect("get") == content);
    }
}

/// The same key with other bytes fails and changes nothing.
pub async fn same_key_other_bytes<S: Subject>(subject: Arc<S>) {
    let content = bytes(1, 70_000);
    put_ok(&*subject, "other/a", content.clone()).await;
    let mut flipped = content.to_vec();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    for (what, other) in [
        ("other bytes of the same length", Bytes::from(flipped)),
        ("fewer bytes", content.slice(..69_999)),
        ("no bytes", Bytes::new()),
        ("more bytes", bytes(1, 70_001)),
    ] {
        fails_as(put(&*subject, "other/a", other).await, ErrorKind::AlreadyExists, what);
    }
    assert!(
        whole(&*subject, "other/a").await.expect("get") == content,
        "a refused put changed the object"
    );
}

/// Of 16 puts at once with different bytes exactly one wins; with the same bytes all do.
pub async fn racing_put<S: Subject>(subject: Arc<S>) {
    for round in 0..4 {
        let name = format!("race/other-{round}");
        let mut puts = JoinSet::new();
        for racer in 0..16_u8 {
            let (subject, name) = (Arc::clone(&subject), name.clone());
            puts.spawn(async move { (racer, put(&*subject, &name, bytes(racer, 30_000)).await) });
        }
        let mut winners = Vec::new();
        for (racer, outcome) in puts.join_all().await {
            match outcome {
                Ok(()) => winners.push(racer),
                error => fails_as(error, ErrorKind::AlreadyExists, "a lost race"),
            }
        }
        assert_eq!(winners.len(), 1, "winners of one race: {winners:?}");
        assert!(
            whole(&*subject, &name).await.expect("get") == bytes(winners[0], 30_000),
            "not the winner's bytes"
        );

        let name = format!("race/same-{round}");
        let mut puts = JoinSet::new();
        for _ in 0..16 {
            let (subject, name) = (Arc::clone(&subject), name.clone());
            puts.spawn(async move { put(&*subject, &name, bytes(9, 30_000)).await });
        }
        for outcome in puts.join_all().await {
            outcome.expect("a put of the same bytes");
        }
    }
}

/// Ranges inside, at the edges of and past an object.
pub async fn ranges<S: Subject>(subject: Arc<S>) {
    let content = bytes(3, 1000);
    put_ok(&*subject, "range/a", content.clone()).await;
    put_ok(&*subject, "range/empty", Bytes::new()).await;
    let a = key("range/a");
    for (from, to) in [
        (0, 0),
        (0, 1),
        (0, 1000),
        (1, 999),
        (999, 1000),
        (1000, 1000),
        (500, 500),
    ] {
        let part = subject
            .get(&a, from..to)
            .await
            .unwrap_or_else(|error| panic!("get {from}..{to}: {error}"));
        assert!(
            part == content.slice(from as usize..to as usize),
            "{from}..{to} is not what was put"
        );
    }
    for (from, to) in [(0, 1001), (990, 5000), (0, u64::MAX), (1000, u64::MAX), (1000, 1001)] {
        let part = subject
            .get(&a, from..to)
            .await
            .unwrap_or_else(|error| panic!("get {from}..{to}: {error}"));
        assert!(
            part == content.slice(from as usize..),
            "{from}..{to} doesn't end at the object's end"
        );
    }
    for (from, to) in [(1001, 1002), (u64::MAX - 1, u64::MAX), (2, 1)] {
        fails_as(
            subject.get(&a, from..to).await,
            ErrorKind::InvalidInput,
            &format!("get {from}..{to} of 1000 bytes"),
        );
    }
    assert!(
        subject
            .get(&key("range/empty"), 0..10)
            .await
            .expect("get of an empty object")
            .is_empty()
    );
}

/// What isn't there is not found, and deleting it is a success.
pub async fn missing_objects<S: Subject>(subject: Arc<S>) {
    put_ok(&*subject, "here/a", bytes(1, 10)).await;
    for name in ["gone", "here", "here/b", "here/a/b", "gone/a"] {
        fails_as(
            whole(&*subject, name).await,
            ErrorKind::NotFound,
            &format!("get of `{name}`"),
        );
        fails_as(
            subject.stat(&key(name)).await,
            ErrorKind::NotFound,
            &format!("stat of `{name}`"),
        );
        if let Err(error) = subject.delete(&key(name)).await {
            panic!("delete of the missing `{name}` failed: {error}");
        }
    }
    assert_eq!(keys(&*subject, "").await, ["here/a"]);
    assert!(keys(&*subject, "gone/").await.is_empty());
}

/// 2,500 keys come once each, in order, over as many pages as it takes, with any prefix and from any key on.
pub async fn paging<S: Subject>(subject: Arc<S>) {
    let mut expected: Vec<String> = (0..PAGING_KEYS).map(|n| format!("page{}/{:04}", n % 3, n)).collect();
    let mut puts = JoinSet::new();
    for names in expected.chunks(PAGING_KEYS / 20) {
        let (subject, names) = (Arc::clone(&subject), names.to_vec());
        puts.spawn(async move {
            for name in names {
                put_ok(&*subject, &name, Bytes::from(name.clone())).await;
            }
        });
    }
    puts.join_all().await;
    expected.sort();
    assert!(
        keys(&*subject, "").await == expected,
        "the listing of all keys is not what was put"
    );
    for start in ["page1/", "page", "page2/00", "page0/0999", "page3"] {
        let of_prefix: Vec<_> = expected.iter().filter(|name| name.starts_with(start)).collect();
        assert!(
            keys(&*subject, start).await.iter().eq(of_prefix),
            "the listing of `{start}` is not what was put"
        );
    }
    for after in ["page0/0999", "page0/", "page1/0500.5", "page2/9999", "a", "z"] {
        let Ok(after) = Key::new(after.trim_end_matches('/')) else {
            continue;
        };
        let page = subject.list(&Prefix::all(), Some(&after)).await.expect("list");
        let first = expected.iter().find(|name| name.as_str() > after.as_str());
        assert_eq!(
            page.objects.first().map(|object| object.key.as_str()),
            first.map(String::as_str),
            "after `{after}`"
        );
    }
}

/// Every key that the SDK allows works, and sorts by its bytes.
pub async fn odd_keys<S: Subject>(subject: Arc<S>) {
    let long = "x".repeat(crate::KEY_PART_MAX_BYTES);
    let mut expected: Vec<String> = ODD_KEYS.map(str::to_owned).to_vec();
    expected.push(long);
    for name in &expected {
        put_ok(&*subject, name, Bytes::from(name.clone())).await;
    }
    expected.sort();
    assert_eq!(keys(&*subject, "").await, expected);
    for name in &expected {
        assert_eq!(whole(&*subject, name).await.expect("get"), name.as_bytes());
    }
    assert_eq!(
        keys(&*subject, "a").await,
        ["a-b", "a.b", "a/b", "a/b.tmp", "a0", "a=b", "a_b"]
    );
    assert_eq!(keys(&*subject, "deep/1/2").await.len(), 1);
}

/// `stat` and `list` tell the same, and a deleted object is gone from both; its key can be used again.
pub async fn stat_list_and_delete_agree<S: Subject>(subject: Arc<S>) {
    for size in [0, 5, 70_000] {
        put_ok(&*subject, &format!("agree/{size}"), bytes(2, size)).await;
    }
    let listed = list_all(&*subject, &prefix("agree/")).await;
    assert_eq!(listed.len(), 3);
    for object in listed {
        let stat = subject.stat(&object.key).await.expect("stat");
        assert_eq!((&stat.key, stat.size), (&object.key, object.size));
        subject.delete(&object.key).await.expect("delete");
        fails_as(
            subject.stat(&object.key).await,
            ErrorKind::NotFound,
            "stat of a deleted object",
        );
    }
    assert!(keys(&*subject, "").await.is_empty(), "deleted objects are listed");
    put_ok(&*subject, "agree/5", bytes(4, 6)).await;
    assert!(whole(&*subject, "agree/5").await.expect("get") == bytes(4, 6));
}

/// 64 puts, gets, listings and deletions at once don't disturb each other.
pub async fn parallel<S: Subject>(subject: Arc<S>) {
    let mut tasks = JoinSet::new();
    for n in 0..64_u8 {
        let subject = Arc::clone(&subject);
        tasks.spawn(async move {
            // Folders appear and go while others use them.
            let (name, content) = (format!("parallel/{}/{n}", n % 4), bytes(n, 10_000 + usize::from(n)));
            for _ in 0..3 {
                put_ok(&*subject, &name, content.clone()).await;
                assert!(whole(&*subject, &name).await.expect("get") == content);
                assert!(keys(&*subject, "parallel/").await.contains(&name));
                subject.delete(&key(&name)).await.expect("delete");
            }
            put_ok(&*subject, &name, content).await;
        });
    }
    tasks.join_all().await;
    assert_eq!(keys(&*subject, "parallel/").await.len(), 64);
}

/// A put that was given up leaves its object whole or not at all, and nothing else.
pub async fn given_up_puts<S: Subject>(subject: Arc<S>) {
    let length = subject
        .max_object_bytes()
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    let content = bytes(5, length.min(2_000_000));
    for n in 0..20_u32 {
        let (name, options) = (key(&format!("given-up/{n}")), PutOptions::default());
        let put = subject.put(&name, content.clone(), &options);
        // From given up before it starts to given up while it writes.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(u64::from(n) * 150), put).await;
    }
    for object in list_all(&*subject, &Prefix::all()).await {
        assert!(
            object.key.as_str().starts_with("given-up/"),
            "a put left `{}` behind",
            object.key
        );
        let stored = subject.get(&object.key, 0..u64::MAX).await.expect("get");
        assert!(
            stored == content,
            "`{}` is there with {} bytes",
            object.key,
            stored.len()
        );
    }
    for n in 0..20 {
        put_ok(&*subject, &format!("given-up/{n}"), content.clone()).await;
    }
}

/// A file is stored as its bytes would be, and stays.
pub async fn put_file<S: Subject>(subject: Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    let (path, content) = (folder.path().join("export.bin"), bytes(6, 300_000));
    std::fs::write(&path, &content).expect("write a temporary file");
    let options = PutOptions::default();
    for _ in 0..2 {
        subject
            .put_file(&key("file/a"), &path, &options)
            .await
            .expect("put_file");
    }
    assert!(whole(&*subject, "file/a").await.expect("get") == content);
    assert!(path.exists(), "put_file took the file away");
    std::fs::write(&path, b"other").expect("write a temporary file");
    fails_as(
        subject.put_file(&key("file/a"), &path, &options).await,
        ErrorKind::AlreadyExists,
        "another file",
    );
    let missing = subject
        .put_file(&key("file/b"), &folder.path().join("missing"), &options)
        .await;
    fails_as(missing, ErrorKind::NotFound, "a missing file");
}

/// `check` passes and leaves nothing.
pub async fn check_leaves_nothing<S: Subject>(subject: Arc<S>) {
    for _ in 0..3 {
        subject.check().await.expect("check");
    }
    assert!(keys(&*subject, "").await.is_empty(), "check left an object behind");
}

/// The settings read the sample and refuse unknown keys, wrong types and nonsense; the schema says so too.
///
/// # Panics
/// When they don't.
pub fn settings<S: Storage>(sample: &Value) {
    settings_of::<S::Settings>(sample);
}

pub(super) fn settings_of<T: DeserializeOwned + JsonSchema>(sample: &Value) {
    let read = |settings: &Value| {
        let read = serde_json::from_value::<T>(settings.clone());
        read.map(drop).map_err(|error| error.to_string())
    };
    settings_with(sample, &Value::from(schemars::schema_for!(T)), read);
}

/// As [`settings`], for a plugin whose settings `read` reads and `schema` describes.
///
/// # Panics
/// When they don't.
pub fn settings_with(sample: &Value, schema: &Value, read: impl Fn(&Value) -> Result<(), String>) {
    if let Err(error) = read(sample) {
        panic!("the settings don't read the sample: {error}");
    }
    let Value::Object(fields) = sample else {
        panic!("the sample isn't an object")
    };
    let mut with_unknown = fields.clone();
    with_unknown.insert("no_such_setting".to_owned(), json!(1));
    assert!(
        read(&Value::Object(with_unknown)).is_err(),
        "an unknown key is accepted: use deny_unknown_fields"
    );
    for name in fields.keys() {
        let mut wrong = fields.clone();
        wrong.insert(name.clone(), json!([[{}]]));
        assert!(read(&Value::Object(wrong)).is_err(), "`{name}` takes nonsense");
    }
    // A list may pass for a struct's fields in their order; this one fits none.
    for junk in [json!(null), json!(5), json!("x"), json!([[{}]])] {
        assert!(read(&junk).is_err(), "{junk} passes as settings");
    }
    assert_eq!(
        schema["additionalProperties"],
        json!(false),
        "the schema allows unknown keys"
    );
    for name in fields.keys() {
        assert!(schema["properties"][name].is_object(), "the schema lacks `{name}`");
    }
}

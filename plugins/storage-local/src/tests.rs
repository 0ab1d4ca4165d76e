#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use deskreel_sdk::serde_json::json;
use deskreel_sdk::testkit::Folder;

use super::*;

mod conformance {
    use super::*;

    deskreel_sdk::storage_tests! {
        storage: Blocking<Local>,
        settings: |folder| json!({"path": folder.join("objects")}),
        sample: json!({"path": "./recordings", "min_free": "1GiB"}),
    }
}

fn open(folder: &Folder) -> Local {
    Local::open(
        Settings {
            path: SettingPath(folder.path().to_owned()),
            min_free: None,
        },
        Context::new("disk"),
    )
    .unwrap()
}

fn put(storage: &Local, key: &str) -> Result<()> {
    storage.put(
        &Key::new(key).unwrap(),
        Bytes::from_static(b"x"),
        &PutOptions::default(),
    )
}

#[test]
fn files_have_the_keys_path_and_are_not_for_everyone() {
    let folder = Folder::new().unwrap();
    let storage = open(&folder);
    put(&storage, "a/b.mcap").unwrap();
    let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    // A stricter umask may take more away.
    assert_eq!(mode("a/b.mcap") & !0o640, 0);
    assert_eq!(mode("a") & !0o750, 0);
    assert_eq!(fs::read(folder.path().join("a/b.mcap")).unwrap(), b"x");
    assert_eq!(fs::read_dir(folder.path().join(write::TEMPORARY)).unwrap().count(), 0);
}

#[test]
fn a_key_below_an_object_and_a_folder_as_a_key_are_refused() {
    let folder = Folder::new().unwrap();
    let storage = open(&folder);
    put(&storage, "a/b").unwrap();
    for key in ["a", "a/b/c", "a/b/c/d"] {
        assert_eq!(put(&storage, key).unwrap_err().kind(), ErrorKind::InvalidInput, "{key}");
    }
    assert_eq!(
        storage.stat(&Key::new("a").unwrap()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn strangers_and_leftovers_are_not_listed_and_only_old_leftovers_go() {
    let folder = Folder::new().unwrap();
    let leftovers = folder.path().join(write::TEMPORARY);
    fs::create_dir(&leftovers).unwrap();
    for (name, age_hours) in [("old", 25), ("young", 1)] {
        let file = File::create(leftovers.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(age_hours))
            .unwrap();
    }
    fs::write(folder.path().join("notes of a stranger"), b"x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let storage = open(&folder);
    assert!(!leftovers.join("old").exists());
    assert!(leftovers.join("young").exists());
    assert!(storage.list(&Prefix::all(), None).unwrap().objects.is_empty());
    assert_eq!(
        storage.stat(&Key::new("link").unwrap()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_folder_that_is_gone_is_not_made_again_by_a_put() {
    let folder = Folder::new().unwrap();
    let storage = open(&folder);
    fs::remove_dir_all(folder.path()).unwrap();
    let error = put(&storage, "a/b").unwrap_err();
    assert!(error.kind().is_retryable(), "{error}");
    assert!(!folder.path().exists());
}

/// Another folder under the same path is what an unmounted file system leaves.
#[test]
fn another_folder_under_the_path_is_not_used() {
    let folder = Folder::new().unwrap();
    let mounted = folder.path().join("objects");
    let aside = folder.path().join("aside");
    let storage = Local::open(
        Settings {
            path: SettingPath(mounted.clone()),
            min_free: None,
        },
        Context::new("disk"),
    )
    .unwrap();
    put(&storage, "a/b").unwrap();
    fs::rename(&mounted, &aside).unwrap();
    fs::create_dir(&mounted).unwrap();
    let key = Key::new("a/b").unwrap();
    let all = Prefix::all();
    let errors = [
        put(&storage, "a/c").unwrap_err(),
        put(&storage, "a/b").unwrap_err(),
        storage.check().unwrap_err(),
        storage.get(&key, 0..1).unwrap_err(),
        storage.stat(&key).unwrap_err(),
        storage.list(&all, None).unwrap_err(),
        storage.delete(&key).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("mounted?"), "{error}");
    }
    assert_eq!(fs::read_dir(&mounted).unwrap().count(), 0);
    // The file system comes back.
    fs::remove_dir(&mounted).unwrap();
    fs::rename(&aside, &mounted).unwrap();
    put(&storage, "a/c").unwrap();
    storage.check().unwrap();
    assert_eq!(storage.list(&all, None).unwrap().objects.len(), 2);
}

/// What whoever made the folders did about them is not known: it may have been killed.
#[test]
fn folders_that_others_made_are_made_durable_once() {
    let folder = Folder::new().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    let storage = open(&folder);
    let synced_by = |key: &str| {
        root::SYNCED.take();
        put(&storage, key).unwrap();
        let below = |synced: PathBuf| synced.strip_prefix(folder.path()).unwrap().display().to_string();
        root::SYNCED.take().into_iter().map(below).collect::<Vec<_>>()
    };
    assert_eq!(synced_by("a/b/c"), ["a/b", "a", ""]);
    assert_eq!(synced_by("a/b/d"), ["a/b"]);
    assert_eq!(synced_by("a/b/d"), ["a/b"], "one that is there already");
    assert_eq!(synced_by("a/e/f"), ["a/e", "a"]);
    for key in ["a/b/c", "a/b/d"] {
        storage.delete(&Key::new(key).unwrap()).unwrap();
    }
    assert_eq!(synced_by("a/b/c"), ["a/b", "a"], "a folder that was deleted in between");
}

#[test]
fn the_folder_itself_is_made_durable() {
    let folder = Folder::new().unwrap();
    root::SYNCED.take();
    let path = folder.path().join("x/y");
    Local::open(
        Settings {
            path: SettingPath(path),
            min_free: None,
        },
        Context::new("disk"),
    )
    .unwrap();
    assert_eq!(root::SYNCED.take(), [folder.path().join("x"), folder.path().to_owned()]);
}

#[test]
fn the_last_deletion_takes_the_folders_along() {
    let folder = Folder::new().unwrap();
    let storage = open(&folder);
    for key in ["a/b/c", "a/b/d", "a/e"] {
        put(&storage, key).unwrap();
    }
    storage.delete(&Key::new("a/b/c").unwrap()).unwrap();
    assert!(folder.path().join("a/b").exists());
    storage.delete(&Key::new("a/b/d").unwrap()).unwrap();
    assert!(!folder.path().join("a/b").exists());
    assert!(folder.path().join("a/e").exists());
}

#[test]
fn the_sample_file_shows_the_settings_that_the_tests_use() {
    let sample = include_str!("../sample.yaml");
    assert!(sample.contains("path: ./recordings"), "{sample}");
    assert!(sample.contains("min_free: 1GiB"), "{sample}");
}

/// Ids of recordings of one and the same four hours, of the next, and of long ago.
const IDS: [&str; 4] = [
    "01902b6e-7f00-7000-8000-00000000000a",
    "01902b6e-7f00-7000-8000-00000000000b",
    "01902c00-0000-7000-8000-000000000001",
    "00000000-0000-7000-8000-000000000001",
];

fn all(storage: &Local, page_keys: usize) -> Vec<String> {
    let mut keys: Vec<Key> = Vec::new();
    loop {
        let page = list::page(&storage.root, &Prefix::all(), keys.last(), page_keys).unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        if !page.more {
            return keys.into_iter().map(|key| key.to_string()).collect();
        }
    }
}

#[test]
fn recordings_are_spread_over_folders_by_their_time() {
    let folder = Folder::new().unwrap();
    let storage = open(&folder);
    for id in IDS {
        put(&storage, &format!("{id}/00000001.mcap")).unwrap();
    }
    let path = |path: &str| folder.path().join(path);
    assert!(path("~01902b").join(IDS[0]).join("00000001.mcap").is_file());
    assert!(path("~01902b").join(IDS[1]).is_dir() && path("~01902c").join(IDS[2]).is_dir());
    storage
        .delete(&Key::new(format!("{}/00000001.mcap", IDS[2])).unwrap())
        .unwrap();
    assert!(!path("~01902c").exists() && path("~01902b").exists());
}

/// What versions before wrote is read, listed, held against puts and deleted where it is; nothing of it has to be moved.
#[test]
fn folders_of_versions_that_did_not_shard_are_used_as_they_are() {
    let folder = Folder::new().unwrap();
    for (id, name) in [
        (IDS[0], "00000001.mcap"),
        (IDS[0], "00000002.mcap"),
        (IDS[2], "00000001.mcap"),
    ] {
        fs::create_dir_all(folder.path().join(id)).unwrap();
        fs::write(folder.path().join(id).join(name), "x").unwrap();
    }
    let storage = open(&folder);
    let key = |id: &str, name: &str| Key::new(format!("{id}/{name}")).unwrap();
    let old = key(IDS[0], "00000001.mcap");
    assert_eq!(storage.get(&old, 0..9).unwrap(), "x");
    assert_eq!(storage.stat(&old).unwrap().size, 1);
    put(&storage, old.as_str()).unwrap();
    let other = storage.put(&old, Bytes::from_static(b"y"), &PutOptions::default());
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AlreadyExists);
    // The recording goes on, in the new place.
    put(&storage, key(IDS[0], "00000003.mcap").as_str()).unwrap();
    put(&storage, key(IDS[0], "0").as_str()).unwrap();
    assert!(
        folder
            .path()
            .join("~01902b")
            .join(IDS[0])
            .join("00000003.mcap")
            .is_file()
    );
    assert!(
        !folder
            .path()
            .join("~01902b")
            .join(IDS[0])
            .join("00000001.mcap")
            .exists()
    );
    let mut names = vec![
        "0190",
        "01902a/z",
        "01902b-",
        "01902b/a",
        "01902b6e",
        "01902bz/a",
        "01902c/a",
        "1/a",
    ];
    for name in &names {
        put(&storage, name).unwrap();
    }
    put(&storage, key(IDS[1], "00000001.mcap").as_str()).unwrap();
    let more = [
        (IDS[0], "0"),
        (IDS[0], "00000001.mcap"),
        (IDS[0], "00000002.mcap"),
        (IDS[0], "00000003.mcap"),
        (IDS[1], "00000001.mcap"),
        (IDS[2], "00000001.mcap"),
    ]
    .map(|(id, name)| key(id, name).to_string());
    names.extend(more.iter().map(String::as_str));
    names.sort_unstable();
    for page_keys in [1, 2, 3, 100] {
        assert_eq!(all(&storage, page_keys), names, "{page_keys} a page");
    }
    let of_first = Prefix::new(format!("{}/", IDS[0])).unwrap();
    assert_eq!(storage.list(&of_first, Some(&old)).unwrap().objects.len(), 2);
    for name in &names {
        storage.delete(&Key::new(*name).unwrap()).unwrap();
    }
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [write::TEMPORARY]);
}

#[test]
fn the_last_of_the_disk_is_left_free() {
    let folder = Folder::new().unwrap();
    let opened = |min_free| {
        let path = SettingPath(folder.path().join("objects"));
        Local::open(Settings { path, min_free }, Context::new("disk")).unwrap()
    };
    let facts = rustix::fs::statvfs(folder.path()).unwrap();
    let free = facts.f_bavail * facts.f_frsize;
    put(&opened(Some(SettingSize(0))), "a/b").unwrap();
    let storage = opened(Some(SettingSize(free * 2)));
    for error in [put(&storage, "a/c").unwrap_err(), storage.check().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(
            error.to_string().contains("are to stay free (setting `min_free`)"),
            "{error}"
        );
    }
    // What is there needs no room.
    put(&storage, "a/b").unwrap();
    assert_eq!(storage.get(&Key::new("a/b").unwrap(), 0..9).unwrap(), "x");
    storage.delete(&Key::new("a/b").unwrap()).unwrap();
    let keys = storage.list(&Prefix::all(), None).unwrap().objects;
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(
        fs::read_dir(folder.path().join("objects").join(write::TEMPORARY))
            .unwrap()
            .count(),
        0
    );
}

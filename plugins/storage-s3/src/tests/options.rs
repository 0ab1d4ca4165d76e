//! Settings and options on a real server.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::write::Guard;

#[test]
fn the_first_put_finds_out_that_the_server_honours_conditions() {
    run(async {
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), port())).await.unwrap();
        assert_eq!(storage.bucket.guard(), Guard::Both);
        put(&storage, "a", bytes(1, 100)).await.unwrap();
        assert_eq!(storage.bucket.guard(), Guard::Server);
        let storage = open(settings_in(folder.path(), port())).await.unwrap();
        storage.check().await.unwrap();
        assert_eq!(storage.bucket.guard(), Guard::Server);
    });
}

#[test]
fn looking_first_keeps_objects_too() {
    run(async {
        let folder = Folder::new().unwrap();
        let settings = with(
            settings_in(folder.path(), port()),
            &json!({"create_only": "check_first"}),
        );
        let storage = open(settings).await.unwrap();
        put(&storage, "a", bytes(1, 100)).await.unwrap();
        put(&storage, "a", bytes(1, 100)).await.unwrap();
        assert_eq!(
            put(&storage, "a", bytes(2, 100)).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(whole(&storage, "a").await.unwrap(), bytes(1, 100));
    });
}

/// An object that another tool copied there has no digest beside it: its bytes are compared.
#[test]
fn an_object_without_a_digest_is_compared_by_its_bytes() {
    run(async {
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), port())).await.unwrap();
        let bucket = &storage.bucket;
        let body = bytes(1, 9_000_000);
        let foreign = bucket
            .client
            .put_object()
            .bucket(&bucket.name)
            .key(bucket.object("a"))
            .body(body.clone().into());
        foreign.send().await.unwrap();
        put(&storage, "a", body.clone()).await.unwrap();
        let mut other = body.to_vec();
        other[8_500_000] ^= 1;
        assert_eq!(
            put(&storage, "a", other.into()).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
    });
}

#[test]
fn encryption_class_metadata_and_no_checksums_are_taken() {
    run(async {
        let folder = Folder::new().unwrap();
        let more = json!({"encryption": "aes256", "storage_class": "STANDARD", "checksums": "when_required"});
        let storage = open(with(settings_in(folder.path(), port()), &more)).await.unwrap();
        let mut options = PutOptions::default();
        options.content_type = Some("application/x-test".to_owned());
        options.metadata = [("Desktop", "lab"), ("odd", "a\nb"), ("", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        storage.put(&key("a"), bytes(1, 5000), &options).await.unwrap();
        let bucket = &storage.bucket;
        let head = bucket
            .client
            .head_object()
            .bucket(&bucket.name)
            .key(bucket.object("a"))
            .send()
            .await
            .unwrap();
        assert_eq!(head.content_type(), Some("application/x-test"));
        assert_eq!(head.server_side_encryption().unwrap().as_str(), "AES256");
        let metadata = head.metadata().unwrap();
        assert_eq!(metadata["desktop"], "lab");
        assert_eq!(metadata.len(), 2, "{metadata:?}");
        assert_eq!(whole(&storage, "a").await.unwrap(), bytes(1, 5000));
    });
}

#[test]
fn locked_objects_stay_until_their_time() {
    run(async {
        let folder = Folder::new().unwrap();
        let more = json!({"bucket": seaweed::LOCKED_BUCKET, "object_lock": "governance"});
        let settings = with(settings_in(folder.path(), port()), &more);
        assert!(S3::profile(&deskreel_sdk::serde_json::from_value(settings.clone()).unwrap()).object_lock);
        let storage = open(settings).await.unwrap();
        let mut options = PutOptions::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        options.retain_until_unix_s = Some(now + 3600);
        storage.put(&key("a"), bytes(1, 100), &options).await.unwrap();
        storage.put(&key("a"), bytes(1, 100), &options).await.unwrap();
        let error = storage.delete(&key("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.message().contains("retained until"), "{error}");
        assert_eq!(whole(&storage, "a").await.unwrap(), bytes(1, 100));
        put(&storage, "b", bytes(1, 100)).await.unwrap();
        storage.delete(&key("b")).await.unwrap();
        let versions = storage
            .bucket
            .client
            .list_object_versions()
            .bucket(&storage.bucket.name)
            .prefix(storage.bucket.object("b"));
        let versions = versions.send().await.unwrap();
        assert!(versions.versions().is_empty(), "only hidden: {:?}", versions.versions());
        storage.check().await.unwrap();
    });
}

#[test]
fn locks_are_refused_where_the_settings_have_none() {
    run(async {
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), port())).await.unwrap();
        let mut options = PutOptions::default();
        options.legal_hold = true;
        let error = storage.put(&key("a"), bytes(1, 1), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn large_files_go_in_parts_and_overwrite_nothing() {
    run(async {
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), port())).await.unwrap();
        let file = folder.path().join("export.mp4");
        let content = bytes(3, 21 << 20);
        std::fs::write(&file, &content).unwrap();
        let options = PutOptions::default();
        for _ in 0..2 {
            storage.put_file(&key("x/export.mp4"), &file, &options).await.unwrap();
        }
        assert!(whole(&storage, "x/export.mp4").await.unwrap() == content);
        std::fs::write(&file, bytes(4, 21 << 20)).unwrap();
        let error = storage
            .put_file(&key("x/export.mp4"), &file, &options)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(unfinished(&storage).await, 0);
    });
}

/// Uploads below the storage's prefix that were neither completed nor aborted.
pub(super) async fn unfinished(storage: &S3) -> usize {
    let list = storage
        .bucket
        .client
        .list_multipart_uploads()
        .bucket(&storage.bucket.name);
    let list = list.send().await.unwrap();
    let ours = |name: &str| name.starts_with(&storage.bucket.prefix);
    list.uploads()
        .iter()
        .filter(|upload| upload.key().is_some_and(ours))
        .count()
}

#[test]
fn what_is_missing_is_said_in_plain_words() {
    run(async {
        let folder = Folder::new().unwrap();
        let settings = || settings_in(folder.path(), port());
        let storage = open(with(settings(), &json!({"bucket": "no-such-bucket"})))
            .await
            .unwrap();
        for error in [
            storage.check().await.unwrap_err(),
            put(&storage, "a", bytes(1, 1)).await.unwrap_err(),
            storage.list(&Prefix::all(), None).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
            assert!(error.message().contains("no bucket `no-such-bucket`"), "{error}");
        }
        let reader = json!({"access_key_id": seaweed::READER_KEY, "secret_access_key": seaweed::READER_SECRET});
        let storage = open(with(settings(), &reader)).await.unwrap();
        let error = storage.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(
            error.message().ends_with("permissions are missing: s3:PutObject"),
            "{error}"
        );
        let error = storage.delete(&key("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.message().contains("s3:DeleteObject is missing"), "{error}");
        for wrong in [
            json!({"secret_access_key": "s3cret-x"}),
            json!({"access_key_id": "nobody"}),
        ] {
            let storage = open(with(settings(), &wrong)).await.unwrap();
            let error = storage.check().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(!error.message().contains("s3cret"), "{error}");
        }
    });
}

#[test]
fn opening_often_leaves_no_threads_and_files() {
    run(async {
        let folder = Folder::new().unwrap();
        let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
        let round = |times: usize| {
            let settings = settings_in(folder.path(), port());
            async move {
                for n in 0..times {
                    let storage = open(settings.clone()).await.unwrap();
                    if n % 20 == 0 {
                        storage.list(&Prefix::all(), None).await.unwrap();
                    }
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        round(20).await;
        let before = (count("task"), count("fd"));
        round(200).await;
        let after = (count("task"), count("fd"));
        // Other tests run at the same time.
        assert!(
            after.0 < before.0 + 100 && after.1 < before.1 + 150,
            "threads and files: {before:?}, then {after:?}"
        );
    });
}

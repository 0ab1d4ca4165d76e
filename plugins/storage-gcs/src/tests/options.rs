//! Settings and options on a server.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

#[test]
fn credentials_get_tokens_and_denials_name_the_permission() {
    run(async {
        let folder = Folder::new().unwrap();
        let account = |name: &str| {
            let mut settings = settings_in(folder.path(), port());
            settings.as_object_mut().unwrap().remove("anonymous");
            with(settings, &json!({"credentials_json": gcs::credentials(port(), name)}))
        };
        let writer = open(account("writer")).await.unwrap();
        writer.check().await.unwrap();
        put(&writer, "a", bytes(1, 100)).await.unwrap();
        let reader = open(account("reader")).await.unwrap();
        assert_eq!(whole(&reader, "a").await.unwrap(), bytes(1, 100));
        let error = reader.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(
            error
                .message()
                .ends_with("permissions are missing: storage.objects.create"),
            "{error}"
        );
        for (error, permission) in [
            (
                put(&reader, "b", bytes(1, 1)).await.unwrap_err(),
                "storage.objects.create is missing",
            ),
            (
                reader.delete(&key("a")).await.unwrap_err(),
                "storage.objects.delete is missing",
            ),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.message().contains(permission), "{error}");
        }
        let nobody = open(account("nobody")).await.unwrap();
        let error = nobody.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(!error.message().contains("hush-client"), "{error}");
    });
}

#[test]
fn a_missing_bucket_is_told() {
    run(async {
        let folder = Folder::new().unwrap();
        let storage = open(with(
            settings_in(folder.path(), port()),
            &json!({"bucket": "no-such-bucket"}),
        ));
        let storage = storage.await.unwrap();
        for error in [
            storage.check().await.unwrap_err(),
            storage.list(&Prefix::all(), None).await.unwrap_err(),
            storage.stat(&key("a")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
            assert!(error.message().contains("no bucket `no-such-bucket`"), "{error}");
        }
    });
}

#[test]
fn holds_and_retention_keep_objects() {
    run(async {
        let folder = Folder::new().unwrap();
        let settings = with(
            settings_in(folder.path(), port()),
            &json!({"object_lock": "governance"}),
        );
        assert!(Gcs::profile(&deskreel_sdk::serde_json::from_value(settings.clone()).unwrap()).object_lock);
        let storage = open(settings).await.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut held = PutOptions::default();
        held.legal_hold = true;
        let mut retained = PutOptions::default();
        retained.retain_until_unix_s = Some(now + 3600);
        for (name, options) in [("held", held), ("retained", retained)] {
            storage.put(&key(name), bytes(1, 100), &options).await.unwrap();
            storage.put(&key(name), bytes(1, 100), &options).await.unwrap();
            let error = storage.delete(&key(name)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.message().contains("held or retained"), "{error}");
        }
        let plain = open(settings_in(folder.path(), port())).await.unwrap();
        let mut options = PutOptions::default();
        options.legal_hold = true;
        let error = plain.put(&key("x"), bytes(1, 1), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn class_key_type_and_metadata_are_taken() {
    run(async {
        let folder = Folder::new().unwrap();
        let kms = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
        let more = json!({"storage_class": "NEARLINE", "kms_key": kms});
        let storage = open(with(settings_in(folder.path(), port()), &more)).await.unwrap();
        let mut options = PutOptions::default();
        options.content_type = Some("application/x-test".to_owned());
        options.metadata = [("Desktop", "lab"), ("odd", "a\nb")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        storage.put(&key("a"), bytes(1, 100), &options).await.unwrap();
        let name = storage.bucket.object("a").replace('/', "%2F");
        let (status, body) =
            peers::http::request(port(), "GET", &format!("/storage/v1/b/{}/o/{name}", gcs::BUCKET), "").unwrap();
        assert_eq!(status, 200);
        let meta: Value = deskreel_sdk::serde_json::from_str(&body).unwrap();
        assert_eq!(meta["storageClass"], "NEARLINE");
        assert_eq!(meta["kmsKeyName"], kms);
        assert_eq!(meta["contentType"], "application/x-test");
        assert_eq!(meta["metadata"]["desktop"], "lab");
        assert_eq!(meta["metadata"].as_object().unwrap().len(), 2);
        let wrong = json!({"kms_key": "projects/p/locations/l/keyRings/r/cryptoKeys/no-such-key"});
        let storage = open(with(settings_in(folder.path(), port()), &wrong)).await.unwrap();
        let error = put(&storage, "b", bytes(1, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
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

//! What networks and servers do to requests.

use peers::faults::{Fault, Faults};

use super::*;

#[test]
fn small_faults_are_not_noticed() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
        let content = bytes(1, 3_000_000);
        for (number, (method, fault)) in [
            ("POST", Fault::Answer(503, "backendError")),
            ("POST", Fault::Answer(429, "rateLimitExceeded")),
            ("POST", Fault::CutRequest(1_000_000)),
            // Stored, but the answer is lost: the second attempt finds it.
            ("POST", Fault::CutAnswer(None)),
            ("POST", Fault::Late(Duration::from_millis(300))),
            ("GET", Fault::Answer(503, "backendError")),
            ("GET", Fault::CutAnswer(None)),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("small-{number}");
            let hits = faults.hits();
            faults.add(
                method,
                if method == "GET" { &name } else { "/upload/" },
                1,
                fault.clone(),
            );
            put(&storage, &name, content.clone())
                .await
                .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            let back = whole(&storage, &name)
                .await
                .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert!(back == content, "{fault:?}");
            assert_eq!(faults.hits(), hits + 1, "{fault:?}");
        }
    });
}

#[test]
fn bodies_that_break_off_are_resumed_and_wrong_ones_read_again() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
        let content = bytes(2, 4_000_000);
        put(&storage, "a", content.clone()).await.unwrap();
        faults.add("GET", "alt=media", 3, Fault::CutAnswer(Some(1_200_000)));
        assert!(whole(&storage, "a").await.unwrap() == content);
        faults.add("GET", "alt=media", 1, Fault::CutAnswer(Some(100_000)));
        assert!(storage.get(&key("a"), 5..3_000_000).await.unwrap() == content.slice(5..3_000_000));
        faults.add("GET", "alt=media", 1, Fault::GarbleAnswer);
        assert!(whole(&storage, "a").await.unwrap() == content);
        faults.add("GET", "alt=media", 100, Fault::GarbleAnswer);
        let error = whole(&storage, "a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    });
}

#[test]
fn large_faults_are_told_by_their_kind() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
        for (fault, kind) in [
            (Fault::Answer(503, "backendError"), ErrorKind::Unavailable),
            (Fault::Answer(429, "rateLimitExceeded"), ErrorKind::RateLimited),
            (Fault::Answer(401, "authError"), ErrorKind::Unauthenticated),
            (Fault::Answer(403, "forbidden"), ErrorKind::PermissionDenied),
            (Fault::Answer(404, "notFound"), ErrorKind::InvalidSettings),
            (Fault::CutRequest(1000), ErrorKind::Unavailable),
            // The server compares checksums.
            (Fault::GarbleRequest, ErrorKind::Interrupted),
        ] {
            faults.add("POST", "/upload/", 100, fault.clone());
            let error = put(&storage, "large", bytes(1, 100_000)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            faults.clear();
        }
        put(&storage, "large", bytes(1, 100_000)).await.unwrap();
    });
}

#[test]
fn puts_whose_answers_are_lost_are_found() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
        faults.add("POST", "/upload/", 100, Fault::CutAnswer(None));
        put(&storage, "lost", bytes(1, 100_000)).await.unwrap();
        let error = put(&storage, "lost", bytes(2, 100_000)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    });
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    run(async {
        let folder = Folder::new().unwrap();
        let free = peers::process::free_port().unwrap();
        let storage = open(settings_in(folder.path(), free)).await.unwrap();
        for error in [
            storage.check().await.unwrap_err(),
            put(&storage, "a", bytes(1, 1)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(!error.message().contains('?'), "addresses stay short: {error}");
        }
    });
}

/// Large objects go at once for good where the server names an address at which nobody is, and only there.
#[test]
fn a_fault_is_no_reason_to_send_all_large_objects_at_once() {
    use std::sync::atomic::Ordering;
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
        let file = folder.path().join("export.mp4");
        let content = bytes(3, 20 << 20);
        std::fs::write(&file, &content).unwrap();
        let put_file = async |name: &str| storage.put_file(&key(name), &file, &PutOptions::default()).await;
        let sessions = || {
            faults
                .heads()
                .iter()
                .filter(|head| head.contains("uploadType=resumable"))
                .count()
        };
        faults.add("POST", "uploadType=resumable", 100, Fault::CutAnswer(None));
        put_file("a").await.unwrap();
        assert!(faults.hits() > 0 && !storage.bucket.at_once.load(Ordering::Relaxed));
        faults.clear();
        let before = sessions();
        put_file("b").await.unwrap();
        assert_eq!(sessions(), before + 1, "in parts again");
        // The server answers names like this with an address of nobody.
        put_file("nowhere/a").await.unwrap();
        assert!(storage.bucket.at_once.load(Ordering::Relaxed));
        let before = sessions();
        put_file("c").await.unwrap();
        assert_eq!(sessions(), before);
        for name in ["a", "b", "nowhere/a", "c"] {
            assert!(whole(&storage, name).await.unwrap() == content, "{name}");
        }
    });
}

/// As emulators are: no ranges, and none of Google's headers.
#[test]
fn a_server_without_ranges_is_read_in_ranges() {
    run(async {
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), port())).await.unwrap();
        let content = bytes(5, 1_000_000);
        put(&storage, "plain/a", content.clone()).await.unwrap();
        for range in [0..10, 5..500_000, 999_990..1_000_000, 999_990..2_000_000, 0..1_000_000] {
            let end = range.end.min(1_000_000);
            let part = content.slice(usize::try_from(range.start).unwrap()..usize::try_from(end).unwrap());
            let got = storage.get(&key("plain/a"), range.clone()).await;
            assert!(got.unwrap() == part, "{range:?}");
        }
        assert!(storage.bucket.is_bare.load(std::sync::atomic::Ordering::Relaxed));
    });
}

/// Puts that were answered are there after the server was killed.
#[test]
fn a_server_that_is_killed_keeps_what_it_answered() {
    run(async {
        let dir = Folder::new().unwrap();
        let mut server = gcs::Gcs::start(dir.path()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = std::sync::Arc::new(open(settings_in(folder.path(), server.port)).await.unwrap());
        let mut stored = Vec::new();
        for round in 0..3_u8 {
            let writer = {
                let storage = std::sync::Arc::clone(&storage);
                tokio::spawn(async move {
                    let mut stored = Vec::new();
                    for n in 0..200_u8 {
                        let name = format!("killed/{round}-{n}");
                        match put(&*storage, &name, bytes(n, 50_000)).await {
                            Ok(()) => stored.push((name, n)),
                            Err(error) => {
                                assert!(error.kind().is_retryable(), "{error}");
                                return stored;
                            }
                        }
                    }
                    stored
                })
            };
            tokio::time::sleep(Duration::from_millis(300)).await;
            tokio::task::block_in_place(|| server.kill());
            stored.extend(writer.await.unwrap());
            tokio::task::block_in_place(|| server.restart()).unwrap();
            for (name, n) in &stored {
                assert!(whole(&*storage, name).await.unwrap() == bytes(*n, 50_000), "{name}");
            }
        }
        assert!(!stored.is_empty());
    });
}

/// A server that takes requests and never answers, as one does whose machine has lost its power.
#[test]
fn a_server_that_keeps_silent_is_given_up_in_the_time_that_the_settings_name() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let settings = with(
            settings_in(folder.path(), faults.port),
            &json!({"answer_timeout": "300ms"}),
        );
        let storage = open(settings).await.unwrap();
        put(&storage, "a", bytes(1, 10)).await.unwrap();
        for method in ["PUT", "POST", "GET", "HEAD", "DELETE"] {
            faults.add(method, "", 100, Fault::Silence);
        }
        let begun = std::time::Instant::now();
        for error in [
            put(&storage, "b", bytes(1, 10)).await.unwrap_err(),
            whole(&storage, "a").await.unwrap_err(),
            storage.stat(&key("a")).await.unwrap_err(),
            storage.list(&Prefix::all(), None).await.unwrap_err(),
            storage.delete(&key("a")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        // Without the setting, one attempt of each takes as long.
        assert!(
            begun.elapsed() < 5 * deskreel_sdk::bucket::ANSWER_TIMEOUT,
            "{:?}",
            begun.elapsed()
        );
        faults.clear();
        put(&storage, "b", bytes(1, 10)).await.unwrap();
        let error = open(with(
            settings_in(folder.path(), faults.port),
            &json!({"answer_timeout": "1ms"}),
        ))
        .await
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
    });
}

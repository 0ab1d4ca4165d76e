//! What networks and servers do to requests.

use peers::faults::{Certificate, Fault, Faults};

use super::*;
use crate::tests::options::unfinished;
use crate::write::Guard;

async fn through(faults: &Faults, folder: &Folder) -> S3 {
    let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
    // It is known from here on what the server does; the requests that follow can be counted.
    storage.check().await.unwrap();
    storage
}

#[test]
fn small_faults_are_not_noticed() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = through(&faults, &folder).await;
        let content = bytes(1, 3_000_000);
        for (number, (method, fault)) in [
            ("PUT", Fault::Answer(503, "SlowDown")),
            ("PUT", Fault::Answer(500, "InternalError")),
            ("PUT", Fault::CutRequest(1_000_000)),
            // Stored, but the answer is lost: the second attempt finds it.
            ("PUT", Fault::CutAnswer(None)),
            ("PUT", Fault::Late(Duration::from_millis(300))),
            ("GET", Fault::CutAnswer(None)),
            ("GET", Fault::CutAnswer(Some(1_000_000))),
            ("GET", Fault::GarbleAnswer),
            ("GET", Fault::Answer(503, "SlowDown")),
            ("GET", Fault::Dribble(8_000_000)),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("small/{number}");
            let hits = faults.hits();
            faults.add(method, &name, 1, fault.clone());
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

/// Where the body broke off it is taken up again, and what has arrived isn't asked for twice.
#[test]
fn a_body_that_breaks_off_is_resumed() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = through(&faults, &folder).await;
        let content = bytes(2, 4_000_000);
        put(&storage, "a", content.clone()).await.unwrap();
        faults.add("GET", "/a", 3, Fault::CutAnswer(Some(1_200_000)));
        assert!(whole(&storage, "a").await.unwrap() == content);
        let ranges: Vec<_> = faults
            .heads()
            .iter()
            .filter(|head| head.to_ascii_lowercase().contains("\r\nrange: bytes="))
            .cloned()
            .collect();
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        faults.add("GET", "/a", 2, Fault::CutAnswer(Some(100_000)));
        assert!(storage.get(&key("a"), 5..3_000_000).await.unwrap() == content.slice(5..3_000_000));
    });
}

#[test]
fn large_faults_are_told_by_their_kind() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = through(&faults, &folder).await;
        for (fault, kind) in [
            (Fault::Answer(503, "SlowDown"), ErrorKind::RateLimited),
            (Fault::Answer(503, "ServiceUnavailable"), ErrorKind::Unavailable),
            (Fault::Answer(500, "InternalError"), ErrorKind::Unavailable),
            (Fault::Answer(507, "InsufficientStorage"), ErrorKind::NoSpace),
            (Fault::Answer(403, "AccessDenied"), ErrorKind::PermissionDenied),
            (Fault::Answer(403, "ExpiredToken"), ErrorKind::Unauthenticated),
            (Fault::Answer(403, "RequestTimeTooSkewed"), ErrorKind::Unavailable),
            (Fault::Answer(301, "PermanentRedirect"), ErrorKind::InvalidSettings),
            (
                Fault::Answer(400, "AuthorizationHeaderMalformed"),
                ErrorKind::InvalidSettings,
            ),
            (Fault::Answer(400, "KMS.DisabledException"), ErrorKind::InvalidSettings),
            (Fault::CutRequest(1000), ErrorKind::Unavailable),
            // The server compares checksums.
            (Fault::GarbleRequest, ErrorKind::Interrupted),
        ] {
            faults.add("PUT", "/large", 100, fault.clone());
            let error = put(&storage, "large", bytes(1, 100_000)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            faults.clear();
        }
        put(&storage, "large", bytes(1, 100_000)).await.unwrap();
    });
}

/// Every answer to a put is lost, and yet it is known to be there.
#[test]
fn a_put_whose_answers_are_lost_is_found() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = through(&faults, &folder).await;
        faults.add("PUT", "/lost", 100, Fault::CutAnswer(None));
        put(&storage, "lost", bytes(1, 100_000)).await.unwrap();
        let error = put(&storage, "lost", bytes(2, 100_000)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    });
}

/// Bytes that were changed at rest: the server's own checksum can't know.
#[test]
fn damaged_objects_are_corrupt() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = through(&faults, &folder).await;
        put(&storage, "a", bytes(1, 100_000)).await.unwrap();
        faults.add("GET", "/a", 100, Fault::GarbleAnswer);
        let error = whole(&storage, "a").await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Interrupted),
            "{error}"
        );
    });
}

#[test]
fn a_server_that_ignores_conditions_is_found_out() {
    // Servers that don't know the header don't agree on what to say.
    for (status, code) in [(501, "NotImplemented"), (400, "InvalidArgument"), (400, "")] {
        run(async {
            let faults = Faults::start(port()).unwrap();
            let folder = Folder::new().unwrap();
            let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
            faults.add("PUT", "/a", 1, Fault::Answer(status, code));
            put(&storage, "a", bytes(1, 10)).await.unwrap();
            assert_eq!(storage.bucket.guard(), Guard::Look);
            assert_eq!(
                put(&storage, "a", bytes(2, 10)).await.unwrap_err().kind(),
                ErrorKind::AlreadyExists
            );
            assert_eq!(conditional(&faults), 1, "{status} {code}");
        });
    }
}

/// A request that is refused without the condition too was not refused for it.
#[test]
fn a_refusal_of_something_else_says_nothing_of_conditions() {
    for (status, code) in [
        (400, "InvalidRequest"),
        (400, "InvalidArgument"),
        (501, "NotImplemented"),
    ] {
        run(async {
            let faults = Faults::start(port()).unwrap();
            let folder = Folder::new().unwrap();
            let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
            faults.add("PUT", "", 100, Fault::Answer(status, code));
            put(&storage, "a", bytes(1, 10)).await.unwrap_err();
            assert_eq!(storage.bucket.guard(), Guard::Both, "{status} {code}");
            storage.check().await.unwrap_err();
            assert_eq!(storage.bucket.guard(), Guard::Both, "{status} {code}");
            faults.clear();
            put(&storage, "a", bytes(1, 10)).await.unwrap();
            assert_eq!(storage.bucket.guard(), Guard::Server, "{status} {code}");
        });
    }
}

/// Requests so far that ask for a free key.
fn conditional(faults: &Faults) -> usize {
    let asks = |head: &String| head.to_ascii_lowercase().contains("if-none-match");
    faults.heads().iter().filter(|head| asks(head)).count()
}

#[test]
fn a_server_that_knows_the_condition_of_puts_only_takes_files_too() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = open(settings_in(folder.path(), faults.port)).await.unwrap();
        put(&storage, "small", bytes(1, 10)).await.unwrap();
        assert_eq!(storage.bucket.guard(), Guard::Server);
        let file = folder.path().join("export.mp4");
        std::fs::write(&file, bytes(3, 20 << 20)).unwrap();
        let put_file = async |name: &str| storage.put_file(&key(name), &file, &PutOptions::default()).await;
        let before = conditional(&faults);
        faults.add("POST", "uploadId", 1, Fault::Answer(501, "NotImplemented"));
        put_file("large").await.unwrap();
        assert_eq!((faults.hits(), conditional(&faults)), (1, before + 1));
        assert!(whole(&storage, "large").await.unwrap() == bytes(3, 20 << 20));
        std::fs::write(&file, bytes(4, 20 << 20)).unwrap();
        assert_eq!(put_file("large").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    });
}

#[test]
fn an_upload_that_fails_leaves_no_parts() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = through(&faults, &folder).await;
        let file = folder.path().join("export.mp4");
        std::fs::write(&file, bytes(3, 20 << 20)).unwrap();
        faults.add("PUT", "partNumber=2", 100, Fault::Answer(403, "AccessDenied"));
        let error = storage
            .put_file(&key("x"), &file, &PutOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        faults.clear();
        for _ in 0..50 {
            if unfinished(&storage).await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(unfinished(&storage).await, 0);
        faults.add("PUT", "partNumber=2", 1, Fault::CutRequest(500_000));
        faults.add("POST", "uploadId", 1, Fault::CutAnswer(None));
        storage
            .put_file(&key("x"), &file, &PutOptions::default())
            .await
            .unwrap();
        assert!(whole(&storage, "x").await.unwrap() == bytes(3, 20 << 20));
    });
}

#[test]
fn nobody_there_and_nobody_answering_are_told_apart() {
    run(async {
        let folder = Folder::new().unwrap();
        let free = peers::process::free_port().unwrap();
        let storage = open(settings_in(folder.path(), free)).await.unwrap();
        let error = storage.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("can't be reached"), "{error}");
    });
}

#[test]
fn certificates_are_checked() {
    run(async {
        let folder = Folder::new().unwrap();
        let good = Certificate::good().unwrap();
        let ca = folder.path().join("ca.pem");
        for (certificate, trusted, works) in [
            (&good, Some(&good), true),
            (&good, None, false),
            (&good, Some(&Certificate::good().unwrap()), false),
            (&Certificate::of_another_host().unwrap(), None, false),
            (&Certificate::expired().unwrap(), None, false),
        ] {
            let trusted = trusted.unwrap_or(if works || certificate.pem == good.pem {
                &good
            } else {
                certificate
            });
            let faults = Faults::start_tls(port(), certificate).unwrap();
            std::fs::write(&ca, &trusted.pem).unwrap();
            let mut more = json!({"endpoint": format!("https://127.0.0.1:{}", faults.port), "ca": ca});
            if !works && certificate.pem == good.pem && trusted.pem == good.pem {
                // Trusted by nobody but who is told so.
                more.as_object_mut().unwrap().remove("ca");
            }
            let storage = open(with(settings_in(folder.path(), 1), &more)).await.unwrap();
            match storage.check().await {
                Ok(()) => assert!(works, "a bad certificate is accepted"),
                Err(error) => {
                    assert!(!works, "{error}");
                    assert!(
                        error.kind().is_retryable() && error.message().contains("certificate is not trusted"),
                        "{error}"
                    );
                    assert!(faults.heads().is_empty(), "something was sent all the same");
                }
            }
        }
    });
}

/// The proxy here is the fault proxy: it passes requests for any host to the server.
#[test]
fn requests_go_through_the_proxy_with_its_password() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let more = json!({
            "endpoint": "http://storage.example",
            "proxy": format!("http://user:s3cret@127.0.0.1:{}", faults.port),
        });
        let storage = open(with(settings_in(folder.path(), 1), &more)).await.unwrap();
        put(&storage, "a", bytes(1, 10)).await.unwrap();
        let heads = faults.heads();
        assert!(!heads.is_empty());
        for head in heads {
            assert!(head.contains(" http://storage.example/"), "{head}");
            assert!(
                head.to_ascii_lowercase().contains("proxy-authorization: basic "),
                "{head}"
            );
        }
    });
}

/// Puts that were answered are there after the server was killed, and again after the next time.
#[test]
fn a_server_that_is_killed_keeps_what_it_answered() {
    run(async {
        let dir = Folder::new().unwrap();
        let mut server = Seaweed::start(dir.path()).unwrap();
        let folder = Folder::new().unwrap();
        let storage = std::sync::Arc::new(open(settings_in(folder.path(), server.port)).await.unwrap());
        let mut stored = Vec::new();
        for round in 0..2_u8 {
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
                assert!(read_soon(&storage, name).await == bytes(*n, 50_000));
            }
        }
        assert!(!stored.is_empty());
    });
}

/// What a server that has just started gives as soon as it can; until then its errors say "later".
async fn read_soon(storage: &S3, name: &str) -> Bytes {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match whole(storage, name).await {
            Ok(content) => return content,
            Err(error) => {
                assert!(
                    error.kind().is_retryable() && std::time::Instant::now() < deadline,
                    "{name}: {error}"
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
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

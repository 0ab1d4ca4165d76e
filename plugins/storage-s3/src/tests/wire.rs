//! What goes over the wire, seen between the plugin and the server.

use peers::faults::{Fault, Faults};

use super::*;

/// The head of the first request of this method whose address has `part` in it, in small letters.
fn head(faults: &Faults, method: &str, part: &str) -> String {
    let heads = faults.heads();
    let found = heads
        .iter()
        .find(|head| head.starts_with(method) && head.split(' ').nth(1).is_some_and(|path| path.contains(part)));
    found.unwrap_or_else(|| panic!("{heads:?}")).to_ascii_lowercase()
}

#[test]
fn what_the_settings_say_goes_with_each_object() {
    run(async {
        let faults = Faults::start(port()).unwrap();
        let folder = Folder::new().unwrap();
        let more = json!({
            "bucket": seaweed::LOCKED_BUCKET, "encryption": "aws_kms", "kms_key": "alias/recordings",
            "storage_class": "STANDARD_IA", "acl": "bucket-owner-full-control", "object_lock": "compliance",
            "create_only": "if_none_match",
        });
        let storage = open(with(settings_in(folder.path(), faults.port), &more))
            .await
            .unwrap();
        // No server for tests has all of it: what it would say doesn't matter.
        for method in ["PUT", "POST"] {
            faults.add(method, "", 100, Fault::Answer(403, "AccessDenied"));
        }
        let mut options = PutOptions::default();
        options.retain_until_unix_s = Some(4_000_000_000);
        options.legal_hold = true;
        options.content_type = Some("application/x-test".to_owned());
        storage.put(&key("a"), bytes(1, 10), &options).await.unwrap_err();
        let file = folder.path().join("export.mp4");
        std::fs::write(&file, bytes(2, 17 << 20)).unwrap();
        storage.put_file(&key("b"), &file, &options).await.unwrap_err();
        for head in [head(&faults, "PUT", "/a"), head(&faults, "POST", "/b?uploads")] {
            for line in [
                "x-amz-server-side-encryption: aws:kms\r\n",
                "x-amz-server-side-encryption-aws-kms-key-id: alias/recordings\r\n",
                "x-amz-storage-class: standard_ia\r\n",
                "x-amz-acl: bucket-owner-full-control\r\n",
                "x-amz-object-lock-mode: compliance\r\n",
                "x-amz-object-lock-retain-until-date: 2096-10-02t07:06:40z\r\n",
                "x-amz-object-lock-legal-hold: on\r\n",
                "content-type: application/x-test\r\n",
                "x-amz-meta-deskreel-sha256: ",
            ] {
                assert!(head.contains(line), "{line}: {head}");
            }
        }
        let put = head(&faults, "PUT", "/a");
        assert!(
            put.contains("if-none-match: *\r\n")
                && put.contains("x-amz-checksum-sha256: ")
                && put.contains("x-amz-sdk-checksum-algorithm: sha256\r\n"),
            "{put}"
        );
    });
}

/// Without an `endpoint`, requests are for Amazon's own; of those, FIPS chooses others.
#[test]
fn amazons_endpoints_are_chosen_by_region_and_fips() {
    run(async {
        for (more, host) in [
            (json!({}), "recordings.s3.us-gov-west-1.amazonaws.com:443"),
            (
                json!({"fips": true}),
                "recordings.s3-fips.us-gov-west-1.amazonaws.com:443",
            ),
            (
                json!({"fips": true, "path_style": true}),
                "s3-fips.us-gov-west-1.amazonaws.com:443",
            ),
        ] {
            let proxy = Faults::start(port()).unwrap();
            proxy.add("CONNECT", "", 100, Fault::Answer(502, "BadGateway"));
            let settings = json!({
                "bucket": seaweed::BUCKET, "region": "us-gov-west-1", "access_key_id": "a", "secret_access_key": "b",
                "proxy": format!("http://127.0.0.1:{}", proxy.port),
            });
            let storage = open(with(settings, &more)).await.unwrap();
            let error = storage.stat(&key("a")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let heads = proxy.heads();
            assert!(!heads.is_empty(), "{error}");
            for head in heads {
                assert!(head.starts_with(&format!("CONNECT {host} ")), "{head}");
            }
        }
    });
}

#[test]
fn a_bucket_that_can_not_lock_and_a_port_without_tls_are_told() {
    run(async {
        let folder = Folder::new().unwrap();
        let settings = settings_in(folder.path(), port());
        let storage = open(with(settings.clone(), &json!({"object_lock": "governance"})))
            .await
            .unwrap();
        let error = storage.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
        assert!(
            error.message().contains("object_lock: the bucket has no object lock"),
            "{error}"
        );
        let tls = json!({"endpoint": format!("https://127.0.0.1:{}", port())});
        let error = open(with(settings, &tls)).await.unwrap().check().await.unwrap_err();
        assert!(error.message().contains("does not speak TLS there"), "{error}");
    });
}

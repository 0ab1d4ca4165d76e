//! What settings come to, without a server.

use super::*;
use crate::settings::Resolved;

fn resolve(settings: Value) -> Result<Resolved> {
    deskreel_sdk::serde_json::from_value::<Settings>(settings)
        .unwrap()
        .resolve()
}

fn refused(settings: &Value) -> String {
    let Err(error) = resolve(settings.clone()) else {
        panic!("{settings} passes")
    };
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
    error.message().to_owned()
}

#[test]
fn teleports_form_says_the_same_as_the_keys() {
    let url = "s3://bucket/a/b?region=eu-west-1&endpoint=minio.example:9000&insecure=true&sse_kms_key=k&acl=private";
    let resolved = resolve(json!({"url": url})).unwrap();
    assert_eq!(resolved.bucket, "bucket");
    assert_eq!(resolved.prefix, "a/b/");
    assert_eq!(resolved.region.as_deref(), Some("eu-west-1"));
    assert_eq!(resolved.endpoint.as_deref(), Some("http://minio.example:9000"));
    assert_eq!(resolved.kms_key.as_deref(), Some("k"));
    assert!(resolved.encryption == Some(Encryption::AwsKms) && resolved.acl == Some(Acl::Private));
    assert!(resolved.path_style);
    let resolved =
        resolve(json!({"url": "s3://bucket?endpoint=https://x&use_s3_virtual_style_addressing=true"})).unwrap();
    assert_eq!(
        (resolved.endpoint.as_deref(), resolved.path_style),
        (Some("https://x"), false)
    );
    let resolved =
        resolve(json!({"url": "s3://bucket?region=us-gov-west-1&use_fips_endpoint=true&complete_initiators=x"}))
            .unwrap();
    assert!(resolved.fips && !resolved.path_style);
}

#[test]
fn what_can_not_work_is_refused_by_the_keys_name() {
    for (settings, starts) in [
        (json!({}), "bucket: "),
        (json!({"bucket": "a/b"}), "bucket: "),
        (json!({"url": "gs://bucket"}), "url: "),
        (
            json!({"url": "s3://bucket?regoin=x"}),
            "url: unknown parameter `regoin`",
        ),
        (
            json!({"url": "s3://bucket", "bucket": "bucket"}),
            "bucket: is in `url` too",
        ),
        (
            json!({"url": "s3://bucket/a", "prefix": "a"}),
            "prefix: is in `url` too",
        ),
        (json!({"url": "s3://bucket?acl=public-read"}), "url: acl: "),
        (json!({"url": "s3://bucket?insecure=true"}), "url: insecure: "),
        (json!({"url": "s3://bucket?insecure=maybe"}), "url: insecure: "),
        (json!({"bucket": "b", "prefix": "../x"}), "prefix: "),
        (json!({"bucket": "b", "prefix": "x".repeat(257)}), "prefix: "),
        (json!({"bucket": "b", "endpoint": "minio:9000"}), "endpoint: "),
        (json!({"bucket": "b", "endpoint": "ftp://minio"}), "endpoint: "),
        (json!({"bucket": "b", "endpoint": "https://minio/bucket"}), "endpoint: "),
        (
            json!({"bucket": "b", "endpoint": "https://minio", "fips": true}),
            "fips: ",
        ),
        (json!({"bucket": "b", "kms_key": "k"}), "kms_key: "),
        (
            json!({"bucket": "b", "kms_key": "k", "encryption": "aes256"}),
            "kms_key: ",
        ),
        (json!({"bucket": "b", "region": ""}), "region: "),
        (
            json!({"bucket": "b", "access_key_id": "a", "region": "r"}),
            "secret_access_key: ",
        ),
        (
            json!({"bucket": "b", "secret_access_key": "a", "region": "r"}),
            "access_key_id: ",
        ),
        (
            json!({"bucket": "b", "access_key_id": "", "secret_access_key": "s"}),
            "access_key_id: ",
        ),
        (
            json!({"bucket": "b", "access_key_id": "a", "secret_access_key": "s"}),
            "region: is missing",
        ),
        (
            json!({"bucket": "b", "access_key_id": "a", "secret_access_key": "s", "profile": "p", "region": "r"}),
            "profile: ",
        ),
        (json!({"bucket": "b", "session_token": "t"}), "session_token: "),
        (json!({"bucket": "b", "proxy": "user:s3cret@host"}), "proxy: "),
        (json!({"bucket": "b", "proxy": "socks5://user:s3cret@host"}), "proxy: "),
        (json!({"bucket": "b", "ca": "/no/such/file"}), "ca: /no/such/file: "),
    ] {
        let said = refused(&settings);
        assert!(
            said.starts_with(starts) && !said.contains("s3cret"),
            "{settings}: {said}"
        );
    }
}

#[test]
fn a_file_that_holds_no_certificates_is_refused() {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("ca.pem");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "junk", junk, "-----BEGIN CERTIFICATE-----\n"] {
        std::fs::write(&path, text).unwrap();
        assert!(
            refused(&json!({"bucket": "b", "ca": path})).starts_with("ca: "),
            "{text}"
        );
    }
    let good = peers::faults::Certificate::good().unwrap();
    std::fs::write(&path, good.pem).unwrap();
    assert!(resolve(json!({"bucket": "b", "ca": path})).unwrap().ca.is_some());
}

#[test]
fn secrets_are_in_no_debug_output() {
    let settings = json!({
        "bucket": "b", "region": "r", "access_key_id": "key-id", "secret_access_key": "s3cret-b", "session_token": "s3cret-c",
        "proxy": "http://user:s3cret-d@proxy:3128",
    });
    let parsed: Settings = deskreel_sdk::serde_json::from_value(settings.clone()).unwrap();
    assert!(!format!("{parsed:?}").contains("s3cret"));
    run(async {
        let storage = open(settings).await.unwrap();
        assert!(!format!("{storage:?} {:?}", storage.bucket.client).contains("s3cret"));
    });
}

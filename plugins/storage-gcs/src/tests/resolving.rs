//! What settings come to, without a server.

use super::*;
use crate::settings::{Credentials, Resolved};

fn resolve(settings: Value) -> Result<Resolved> {
    deskreel_sdk::serde_json::from_value::<Settings>(settings)
        .unwrap()
        .resolve()
}

#[test]
fn teleports_form_says_the_same_as_the_keys() {
    let folder = Folder::new().unwrap();
    let file = folder.path().join("key.json");
    std::fs::write(&file, gcs::credentials(1, "writer")).unwrap();
    let key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
    let url = format!(
        "gs://bucket/a/b?projectID=p&credentialsPath={}&endpoint=storage.example:443&keyName={key}",
        file.display()
    );
    let resolved = resolve(json!({"url": url})).unwrap();
    assert_eq!((resolved.bucket.as_str(), resolved.prefix.as_str()), ("bucket", "a/b/"));
    assert_eq!(resolved.endpoint.as_deref(), Some("https://storage.example:443"));
    assert_eq!(resolved.kms_key.as_deref(), Some(key));
    assert!(matches!(resolved.credentials, Credentials::Json { kind, .. } if kind == "authorized_user"));
    assert!(matches!(
        resolve(json!({"url": "gs://bucket"})).unwrap().credentials,
        Credentials::Default
    ));
}

#[test]
fn what_can_not_work_is_refused_by_the_keys_name() {
    for (settings, starts) in [
        (json!({}), "bucket: "),
        (json!({"bucket": "a/b"}), "bucket: "),
        (json!({"url": "s3://bucket"}), "url: "),
        (
            json!({"url": "gs://bucket?project=x"}),
            "url: unknown parameter `project`",
        ),
        (
            json!({"url": "gs://bucket", "bucket": "bucket"}),
            "bucket: is in `url` too",
        ),
        (
            json!({"url": "gs://bucket?credentialsPath=key.json"}),
            "url: credentialsPath: ",
        ),
        (json!({"bucket": "b", "prefix": "../x"}), "prefix: "),
        (json!({"bucket": "b", "endpoint": "localhost:4443"}), "endpoint: "),
        (
            json!({"bucket": "b", "endpoint": "http://localhost/storage"}),
            "endpoint: ",
        ),
        (
            json!({"bucket": "b", "anonymous": true}),
            "anonymous: is only for an `endpoint`",
        ),
        (
            json!({"bucket": "b", "credentials_json": "{}", "credentials_file": "/x"}),
            "credentials_json: ",
        ),
        (
            json!({"bucket": "b", "credentials_json": "{}", "anonymous": true, "endpoint": "http://x"}),
            "anonymous: ",
        ),
        (
            json!({"bucket": "b", "credentials_json": "s3cret"}),
            "credentials_json: is not JSON",
        ),
        (
            json!({"bucket": "b", "credentials_json": r#"{"private_key": "s3cret"}"#}),
            "credentials_json: has no `type`",
        ),
        (
            json!({"bucket": "b", "credentials_file": "/no/such/file"}),
            "credentials_file: /no/such/file: ",
        ),
        (json!({"bucket": "b", "kms_key": "k"}), "kms_key: "),
        (json!({"bucket": "b", "storage_class": ""}), "storage_class: "),
    ] {
        let Err(error) = resolve(settings.clone()) else {
            panic!("{settings} passes")
        };
        assert_eq!(error.kind(), ErrorKind::InvalidSettings);
        let said = error.message();
        assert!(
            said.starts_with(starts) && !said.contains("s3cret"),
            "{settings}: {said}"
        );
    }
}

#[test]
fn wrong_credentials_are_refused_without_being_shown() {
    run(async {
        for (json, says) in [
            (json!({"type": "s3cret"}), "of unknown type"),
            (
                json!({"type": "service_account", "private_key": "s3cret"}),
                "service_account",
            ),
        ] {
            let error = open(json!({"bucket": "b", "credentials_json": json.to_string()}))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSettings);
            assert!(
                error.message().contains(says) && !error.message().contains("s3cret"),
                "{error}"
            );
        }
    });
}

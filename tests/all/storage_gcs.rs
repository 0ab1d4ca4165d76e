//! A bucket of Google Cloud Storage behind the whole engine: loaded plugin, configuration, commands.

use std::fs;

use peers::faults::Faults;
use peers::gcs::{BUCKET, Gcs, credentials};

use crate::storage_s3::{check, configure};

#[test]
fn a_bucket_passes_the_check_with_credentials_from_a_file() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let port = Gcs::shared()?;
    let settings = format!("bucket: {BUCKET}, endpoint: 'http://127.0.0.1:{port}', credentials_file: ./gcs.json");
    configure(dir.path(), 1, "gcs", "sync", &settings)?;
    fs::write(dir.path().join("gcs.json"), credentials(port, "writer"))?;
    let (code, said) = check(dir.path(), &[])?;
    assert_eq!(code, Some(0), "{said}");
    fs::write(dir.path().join("gcs.json"), credentials(port, "reader"))?;
    let (code, said) = check(dir.path(), &[])?;
    assert!(code != Some(0) && said.contains("storage.objects.create"), "{said}");
    assert!(!said.contains("hush-client"), "{said}");
    Ok(())
}

/// Credentials in the settings are all that is used; without any, the chain ends at the metadata service.
#[test]
fn credentials_in_the_settings_ask_no_metadata_service() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let port = Gcs::shared()?;
    let metadata = Faults::start(port)?;
    let variables = [("GCE_METADATA_HOST", format!("127.0.0.1:{}", metadata.port))];
    let bucket = format!("bucket: {BUCKET}, endpoint: 'http://127.0.0.1:{port}'");
    fs::write(dir.path().join("gcs.json"), credentials(port, "writer"))?;
    for explicit in ["credentials_file: ./gcs.json", "anonymous: true"] {
        configure(dir.path(), 1, "gcs", "sync", &format!("{bucket}, {explicit}"))?;
        let (code, said) = check(dir.path(), &variables)?;
        assert_eq!(code, Some(0), "{explicit}: {said}");
        assert!(metadata.heads().is_empty(), "{explicit}: {:?}", metadata.heads());
    }
    configure(dir.path(), 1, "gcs", "sync", &bucket)?;
    let (code, said) = check(dir.path(), &variables)?;
    assert!(code != Some(0), "{said}");
    assert!(!metadata.heads().is_empty(), "nobody asked: {said}");
    Ok(())
}

//! A log that can't be written: strict refuses, best effort writes later.

use std::fs::File;
use std::time::Duration;

use super::*;

/// Puts a folder where the file should be, so that nothing can be written, even by root.
fn block(config: &Config) {
    std::fs::create_dir_all(config.data_dir.join("audit/audit.jsonl")).unwrap();
}

fn unblock(config: &Config) {
    std::fs::remove_dir(config.data_dir.join("audit/audit.jsonl")).unwrap();
}

fn names(config: &Config) -> Vec<String> {
    let name = |line: &Value| line["channel"].as_str().or(line["event"].as_str()).unwrap().to_owned();
    lines(&config.data_dir).iter().map(name).collect()
}

#[tokio::test]
async fn strict_refuses_and_ends_sessions_until_it_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), OnFailure::Strict);
    let audit = Audit::open(&config).unwrap();
    block(&config);
    let error = audit.write(Scope::Node {}, event("refused")).await.unwrap_err();
    assert!(error.to_string().contains("audit.jsonl"), "{error}");
    let failed = tokio::time::timeout(Duration::from_secs(60), audit.failed())
        .await
        .unwrap();
    assert_eq!(failed.reason, error.reason);
    audit.note(Scope::Node {}, event("of a session that ends"));
    unblock(&config);
    // No new event is needed: what could not be written is tried again.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while audit.inner.failing.borrow().is_some() && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    audit.write(Scope::Node {}, event("after")).await.unwrap();
    drop(audit);
    // What was refused did not happen.
    assert_eq!(names(&config), ["of a session that ends", "after"]);
}

#[tokio::test]
async fn best_effort_goes_on_and_counts_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), OnFailure::BestEffort);
    config.audit.queue_max = 2;
    let audit = Audit::open(&config).unwrap();
    block(&config);
    for name in ["one", "two", "three", "four", "five"] {
        audit.write(Scope::Node {}, event(name)).await.unwrap();
    }
    let never = tokio::time::timeout(Duration::from_millis(50), audit.failed()).await;
    assert!(never.is_err(), "best effort never ends a session");
    unblock(&config);
    audit.write(Scope::Node {}, event("after")).await.unwrap();
    drop(audit);
    assert_eq!(names(&config), ["one", "two", "audit.log.lost", "after"]);
    let lost = &lines(&config.data_dir)[2];
    assert_eq!(lost["count"], 3);
    assert!(lost["error"].as_str().unwrap().contains("audit.jsonl"), "{lost}");
    let report = verify(&config.data_dir, None).unwrap();
    assert!(report.whole && report.notes.len() == 1, "{report:#?}");
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), OnFailure::Strict);
    config.recording.stall_max = Duration::from_millis(100);
    let audit = Audit::open(&config).unwrap();
    let held = File::open(config.data_dir.join("audit/lock")).unwrap();
    held.lock().unwrap();
    let error = audit.write(Scope::Node {}, event("refused")).await.unwrap_err();
    assert!(error.to_string().contains("holds"), "{error}");
    drop(held);
    audit.write(Scope::Node {}, event("after")).await.unwrap();
}

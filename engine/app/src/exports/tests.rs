#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::catalog::{Closed, ExportState, IdentityKind, MadeRow, NewSession, State};

fn session(catalog: &Catalog, user: &str) -> Uuid {
    let id = Uuid::now_v7();
    let session = NewSession {
        id,
        started: OffsetDateTime::UNIX_EPOCH,
        user: user.to_owned(),
        identity: IdentityKind::Proven,
        login: user.to_owned(),
        desktop: "lab".to_owned(),
        desktop_addr: String::new(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        roles: Vec::new(),
        decision: None,
        client_addr: String::new(),
        client_name: String::new(),
    };
    catalog.session_started(&session).unwrap();
    id
}

fn close(catalog: &Catalog, id: Uuid) {
    let closed = Closed {
        state: State::Delivering,
        ended: OffsetDateTime::UNIX_EPOCH,
        duration_ms: 1000,
        undecoded: 0,
        end_reason: "client_closed".to_owned(),
        problem: None,
        manifest_sha256: None,
    };
    catalog.closed(id, &closed, &[]).unwrap();
}

fn made() -> MadeRow {
    MadeRow {
        format: "mp4".to_owned(),
        object: "exports/video.mp4".to_owned(),
        mime: "video/mp4".to_owned(),
        files: 1,
        bytes: 9,
        sha256: "ab".to_owned(),
        notes: vec!["1 gaps".to_owned()],
    }
}

/// Exporters as a configuration has them.
fn config(exporters: &str) -> Config {
    let sources = deskreel_config::Sources {
        flags: vec![("exporters".to_owned(), exporters.to_owned(), "--set".to_owned())],
        ..Default::default()
    };
    deskreel_config::load(&sources).unwrap().config
}

#[test]
fn when_selects_sessions() {
    let catalog = Catalog::nothing().unwrap();
    let config = config(
        "[{name: all, plugin: mp4, mode: async}, {name: never, plugin: mp4}, \
         {name: alice, plugin: mp4, mode: async, when: 'session.user == \"alice\"'}, \
         {name: prod, plugin: mp4, mode: async, when: 'session.desktop_labels[\"env\"] == \"prod\"'}]",
    );
    assert_eq!(problems(&config), Vec::<String>::new());
    let choosers: Vec<Chooser> = choosers(&config).map(Result::unwrap).collect();
    let chosen = |user: &str| {
        let row = catalog.find(session(&catalog, user)).unwrap().unwrap();
        let now = OffsetDateTime::UNIX_EPOCH;
        let wanted = choosers.iter().filter(|chooser| chooser.wants(&row, now).is_some());
        wanted.map(|chooser| chooser.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(chosen("alice"), ["all", "alice", "prod"]);
    assert_eq!(chosen("bob"), ["all", "prod"]);
}

#[test]
fn a_wrong_when_is_named() {
    let config = config("[{name: a, plugin: mp4, mode: async, when: 'session.usr == 1'}]");
    let problems = problems(&config);
    assert!(problems[0].starts_with("exporters[0].when: "), "{problems:?}");
}

#[test]
fn what_was_closed_before_is_not_exported() {
    let catalog = Catalog::nothing().unwrap();
    let id = session(&catalog, "alice");
    assert_eq!(catalog.exports_unchosen(9).unwrap(), []);
    close(&catalog, id);
    assert_eq!(catalog.exports_unchosen(9).unwrap(), [], "it is not delivered yet");
    catalog.delivered(id).unwrap();
    assert_eq!(catalog.exports_unchosen(9).unwrap().len(), 1);
    catalog.choose_exports(id, &[], OffsetDateTime::UNIX_EPOCH).unwrap();
    assert_eq!(catalog.exports_unchosen(9).unwrap(), []);
    // Whatever closes it once more: what was chosen is chosen once.
    let now = OffsetDateTime::UNIX_EPOCH;
    catalog.choose_exports(id, &[("a", None)], now).unwrap();
    catalog
        .export_done(&catalog.exports(id).unwrap()[0], now, None)
        .unwrap();
    catalog.choose_exports(id, &[("a", None)], now).unwrap();
    assert_eq!(catalog.exports(id).unwrap()[0].state, ExportState::Done);
}

#[test]
fn the_life_of_an_export() {
    let catalog = Catalog::nothing().unwrap();
    let id = session(&catalog, "alice");
    close(&catalog, id);
    let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1000);
    let later = now + Duration::from_secs(60);
    let wrong = Some("when fails".to_owned());
    catalog
        .choose_exports(id, &[("video", None), ("x", wrong)], now)
        .unwrap();
    assert_eq!(catalog.exports_due(now, 9).unwrap(), [], "not delivered yet");
    catalog.delivered(id).unwrap();
    let row = |exporter: &str| {
        let rows = catalog.exports(id).unwrap();
        rows.into_iter().find(|row| row.exporter == exporter).unwrap()
    };
    assert_eq!(
        (row("x").state, row("x").problem.as_deref()),
        (ExportState::Failed, Some("when fails"))
    );
    let due = catalog.exports_due(now, 9).unwrap();
    assert_eq!(due.len(), 1);
    catalog.export_begun(&due[0]).unwrap();
    assert!(!catalog.ask_export(id, "video", "local:root", now).unwrap());
    assert_eq!((row("video").state, row("video").attempts), (ExportState::Running, 1));
    // The engine is killed: the attempt doesn't count, and what was made stays known.
    catalog.export_made(&due[0], &made()).unwrap();
    assert_eq!(catalog.exports_interrupted().unwrap(), 1);
    let taken_up = catalog.exports_due(now, 9).unwrap();
    assert_eq!((taken_up[0].attempts, taken_up[0].made.as_ref()), (0, Some(&made())));
    // An attempt fails, and is not made before its time.
    catalog.export_begun(&taken_up[0]).unwrap();
    catalog
        .export_failed(&taken_up[0], "no room", now, Some(later))
        .unwrap();
    assert_eq!(catalog.exports_due(now, 9).unwrap(), []);
    assert_eq!(catalog.exports_due(later, 9).unwrap().len(), 1);
    catalog.export_failed(&taken_up[0], "no room", now, None).unwrap();
    assert_eq!(catalog.exports_failed().unwrap(), 2);
    assert_eq!(catalog.exports_due(later, 9).unwrap(), []);
    // Somebody mends it.
    assert!(catalog.ask_export(id, "video", "local:root", later).unwrap());
    let again = row("video");
    assert_eq!(
        (again.state, again.attempts, again.problem),
        (ExportState::Pending, 0, None)
    );
    assert_eq!(again.asked_by.as_deref(), Some("local:root"));
    catalog.export_stored(&due[0], &["disk".to_owned()]).unwrap();
    catalog.export_done(&due[0], later, None).unwrap();
    let done = row("video");
    assert_eq!(
        (done.state, done.storages),
        (ExportState::Done, vec!["disk".to_owned()])
    );
    // Nobody exports what is being deleted, and nothing is left of it.
    assert!(catalog.ask_export(id, "x", "local:root", later).unwrap());
    assert!(catalog.doom(id, "a", "b", later).unwrap());
    assert_eq!(catalog.exports_due(later, 9).unwrap(), []);
    catalog.export_begun(&row("x")).unwrap();
    catalog.deleted(id, later, "a", "b").unwrap();
    let left = catalog.exports(id).unwrap();
    assert_eq!(left.len(), 1, "whoever makes it cleans up: {left:?}");
    catalog.exports_interrupted().unwrap();
    assert_eq!(catalog.exports_orphaned().unwrap().len(), 1);
}

#[tokio::test]
async fn all_that_is_delivered_at_the_stop_is_chosen_for() {
    let catalog = Arc::new(Catalog::nothing().unwrap());
    let count = CHOOSE_MAX + 1;
    for _ in 0..count {
        let id = session(&catalog, "alice");
        close(&catalog, id);
        catalog.delivered(id).unwrap();
    }
    let config = config("[{name: all, plugin: mp4, mode: async}]");
    let exports = Exports::new(&config, Vec::new(), Vec::new(), Arc::clone(&catalog), Audit::nowhere()).unwrap();
    // As at a stop: the thread has done nothing more.
    let running = Running {
        exports: Arc::new(exports),
        thread: thread::current(),
    };
    running.stop();
    running.settle();
    assert_eq!(catalog.exports_unchosen(CHOOSE_MAX).unwrap(), []);
    assert_eq!(catalog.all_exports().unwrap().len(), count as usize);
}

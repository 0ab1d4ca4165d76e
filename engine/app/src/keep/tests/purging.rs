//! Retention, holds and deletion on real storages.

use deskreel_recording::SigningKey;
use time::Duration;
use uuid::Uuid;

use super::bed::{Bed, Wanted, key, now, row, trust, wanted};
use crate::audit::{Actor, Audit};
use crate::catalog::{Catalog, State};
use crate::keep::erase::Warrant;
use crate::keep::hold::{self, Mark};
use crate::keep::purge::{Purged, due, purge};
use crate::keep::retention::Rules;
use crate::keep::{Opened, sync::Scope};

const KEEP: &str = "retention: {default: 10d, rules: [{keep: never, users: [bob]}]}\n";

struct Purging {
    bed: Bed,
    catalog: Catalog,
    audit: Audit,
    rules: Rules,
    key: SigningKey,
}

impl Purging {
    fn new() -> Self {
        let bed = Bed::new(&["a", "b"], KEEP);
        Self {
            catalog: bed.catalog("data"),
            audit: Audit::open(&bed.loaded.config).unwrap(),
            rules: Rules::new(&bed.loaded.config.retention).unwrap(),
            key: key(1),
            bed,
        }
    }

    /// A recording of this node at both storages, which ended so long ago.
    fn recording(&self, user: &'static str, days: i64) -> Uuid {
        let wanted = Wanted {
            user,
            started: now() - Duration::days(days) - Duration::seconds(2),
            ..wanted()
        };
        let (id, objects) = super::bed::record(&self.key, &wanted);
        for storage in ["a", "b"] {
            self.bed.write(storage, &objects);
        }
        let trust = trust(&self.key);
        self.bed.rebuild(&self.catalog, &trust);
        let syncer = crate::keep::sync::Syncer {
            handle: self.bed.handle(),
            catalog: &self.catalog,
            trust: &trust,
            rebuild: false,
            now: now(),
        };
        syncer.sync(&self.bed.storages[1], Scope::All, &mut |_| {}).unwrap();
        id
    }

    fn due(&self, at: time::OffsetDateTime) -> Vec<Uuid> {
        let due = due(&self.catalog, &self.rules, at, usize::MAX, |_| true).unwrap();
        due.iter().map(|due| due.id).collect()
    }

    fn purge(&self, storages: &[Opened]) -> Vec<Purged> {
        let actor = Actor {
            user: "local:tester".into(),
            sudo_user: None,
        };
        let eraser = self.bed.eraser(&self.catalog, storages);
        let due = due(&self.catalog, &self.rules, now(), 100, |_| true).unwrap();
        due.into_iter()
            .map(|due| purge(&eraser, &self.audit, &actor, due, now()).unwrap())
            .collect()
    }

    fn objects(&self, storage: &str, id: Uuid) -> usize {
        self.bed.files(storage, id).len()
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.bed.path("data/audit/audit.jsonl")).unwrap()
    }

    fn mark(id: Uuid) -> Mark {
        Mark {
            recording: id,
            reason: "case 17".into(),
            by: "bob".into(),
            at: now(),
        }
    }
}

/// Storage `b` does not answer.
fn without_b(bed: &Bed) -> Vec<Opened> {
    let opened = |index: usize, storage| Opened {
        name: bed.storages[index].name.clone(),
        required: true,
        storage,
    };
    vec![
        opened(0, Ok(bed.storage(0))),
        opened(1, Err("object lock until 2040".to_owned())),
    ]
}

#[test]
fn only_what_is_due_goes_and_leaves_a_tombstone_and_a_trail() {
    let test = Purging::new();
    let (old, young, for_ever) = (
        test.recording("alice", 11),
        test.recording("alice", 9),
        test.recording("bob", 4000),
    );
    let digest = row(&test.catalog, old).manifest_sha256.unwrap();
    assert_eq!(test.due(now()), [old]);
    // What a dry run of the future says.
    assert_eq!(test.due(now() + Duration::days(2)), [old, young]);
    assert!(test.due(now() - Duration::days(2)).is_empty());

    let purged = test.purge(&test.bed.storages);
    assert_eq!(purged.len(), 1);
    assert_eq!(purged[0].error, None);
    let counts: Vec<u64> = purged[0].storages.iter().map(|storage| storage.objects).collect();
    assert_eq!(counts, [3, 3]);
    for storage in ["a", "b"] {
        assert_eq!(test.objects(storage, old), 0);
        assert_eq!((test.objects(storage, young), test.objects(storage, for_ever)), (3, 3));
    }
    let tombstone = row(&test.catalog, old);
    assert_eq!(tombstone.state, State::Deleted);
    assert_eq!(tombstone.deleted, Some(now()));
    assert_eq!(tombstone.deleted_by.as_deref(), Some("local:tester"));
    assert_eq!(tombstone.deleted_why.as_deref(), Some("retention.default"));
    assert_eq!(tombstone.manifest_sha256.as_deref(), Some(digest.as_str()));
    let audit = test.audit();
    let told: Vec<&str> = audit.lines().filter(|line| line.contains("\"DRA03I\"")).collect();
    assert_eq!(told.len(), 2, "begun and done: {audit}");
    assert!(
        told.iter()
            .all(|line| line.contains(&digest) && line.contains("retention.default")),
        "{told:?}"
    );
    // Nothing more to do, and no look at the storages raises it again.
    assert!(test.purge(&test.bed.storages).is_empty());
    test.bed.sync(&test.catalog, &trust(&test.key));
    assert_eq!(row(&test.catalog, old).state, State::Deleted);
}

#[test]
fn a_hold_keeps_and_lets_go() {
    let test = Purging::new();
    let id = test.recording("alice", 11);
    assert!(test.catalog.hold(id, "case 17", "bob", now()).unwrap());
    assert!(test.due(now()).is_empty());
    let warrant = Warrant {
        by: "x",
        why: "y",
        now: now(),
    };
    let eraser = test.bed.eraser(&test.catalog, &test.bed.storages);
    let refused = eraser.erase(&row(&test.catalog, id), warrant).unwrap_err().to_string();
    assert!(refused.contains("is held: case 17"), "{refused}");
    assert_eq!(test.objects("a", id), 3);
    assert!(test.catalog.release(id).unwrap());
    assert!(!test.catalog.release(id).unwrap());
    assert_eq!(test.purge(&test.bed.storages)[0].error, None);
    assert!(!test.catalog.hold(id, "too late", "bob", now()).unwrap());
}

#[test]
fn a_hold_of_another_node_stops_a_deletion_before_the_catalog_knows_of_it() {
    let test = Purging::new();
    let id = test.recording("alice", 11);
    assert!(hold::put(test.bed.handle(), &test.bed.storages[1..], &Purging::mark(id)).is_empty());
    let purged = test.purge(&test.bed.storages);
    let error = purged[0].error.clone().unwrap();
    assert!(error.contains("is held by bob: case 17"), "{error}");
    assert_eq!(test.objects("b", id), 4);
    assert_eq!(row(&test.catalog, id).doomed_problem, Some(error));
}

#[test]
fn what_a_storage_refuses_is_told_and_tried_again() {
    let test = Purging::new();
    let id = test.recording("alice", 11);
    let purged = test.purge(&without_b(&test.bed));
    assert!(purged[0].error.clone().unwrap().contains("b: object lock until 2040"));
    assert_eq!((test.objects("a", id), test.objects("b", id)), (0, 3));
    let half = row(&test.catalog, id);
    assert_eq!(half.state, State::Complete);
    assert!(half.doomed_problem.unwrap().contains("object lock"));
    assert!(test.audit().contains("\"DRA03W\""));
    // A hold that comes now stops the rest; without it the next attempt ends it.
    test.catalog.hold(id, "case 17", "bob", now()).unwrap();
    assert!(test.purge(&test.bed.storages).is_empty());
    test.catalog.release(id).unwrap();
    assert_eq!(test.purge(&test.bed.storages)[0].error, None);
    assert_eq!(test.objects("b", id), 0);
    assert_eq!(row(&test.catalog, id).state, State::Deleted);
}

#[test]
fn what_is_refused_for_years_does_not_keep_the_rest_waiting() {
    let test = Purging::new();
    for _ in 0..3 {
        test.recording("alice", 12);
    }
    assert_eq!(test.purge(&without_b(&test.bed)).len(), 3);
    let fresh = test.recording("alice", 11);
    let batch = due(&test.catalog, &test.rules, now(), 2, |_| true).unwrap();
    assert_eq!(batch.len(), 2);
    assert!(batch.iter().any(|due| due.id == fresh));
}

#[test]
fn a_longer_rule_saves_what_a_storage_had_refused() {
    let test = Purging::new();
    let id = test.recording("alice", 11);
    test.purge(&without_b(&test.bed));
    let longer = Bed::new(&["a"], "retention: {default: 30d}\n");
    let rules = Rules::new(&longer.loaded.config.retention).unwrap();
    assert!(due(&test.catalog, &rules, now(), 10, |_| true).unwrap().is_empty());
    assert_eq!(test.due(now()), [id]);
}

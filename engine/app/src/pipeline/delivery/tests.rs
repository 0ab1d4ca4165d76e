#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::*;

const STALL: Duration = Duration::from_secs(15);

fn required(concurrency: usize) -> Rules {
    Rules {
        required: true,
        sync: true,
        concurrency,
    }
}

fn optional() -> Rules {
    Rules {
        required: false,
        sync: false,
        concurrency: 1,
    }
}

fn id(recording: u128, object: Object) -> ObjectId {
    ObjectId {
        recording: Uuid::from_u128(recording),
        object,
    }
}

fn segment(number: u32) -> ObjectId {
    id(1, Object::Segment(number))
}

const MANIFEST: ObjectId = ObjectId {
    recording: Uuid::from_u128(1),
    object: Object::Manifest,
};

fn at(ms: u64) -> Time {
    Duration::from_millis(ms)
}

fn all(delivery: &mut Delivery, now: Time) -> Vec<Action> {
    std::iter::from_fn(|| delivery.next(now)).collect()
}

fn put(storage: usize, id: ObjectId) -> Action {
    Action::Put { storage, id }
}

#[test]
fn the_manifest_waits_for_every_segment() {
    let mut delivery = Delivery::new(vec![required(4)], STALL, 1);
    for number in 0..2 {
        delivery.add(at(0), segment(number), 10, Held::Spool, false, [0].into());
    }
    delivery.add(at(0), MANIFEST, 10, Held::Spool, false, [0].into());
    assert_eq!(all(&mut delivery, at(0)), [put(0, segment(0)), put(0, segment(1))]);
    delivery.stored(at(1), 0, segment(1));
    assert_eq!(all(&mut delivery, at(1)), [Action::Release { id: segment(1) }]);
    delivery.stored(at(2), 0, segment(0));
    assert_eq!(
        all(&mut delivery, at(2)),
        [Action::Release { id: segment(0) }, put(0, MANIFEST)]
    );
    delivery.stored(at(3), 0, MANIFEST);
    let recording = MANIFEST.recording;
    assert_eq!(
        all(&mut delivery, at(3)),
        [Action::Complete { recording }, Action::Release { id: MANIFEST }]
    );
    assert!(delivery.is_idle() && delivery.recordings.is_empty() && delivery.order.is_empty());
    assert_eq!(delivery.wake_at(), None);
}

#[test]
fn a_copy_is_kept_until_every_required_storage_has_it() {
    let mut delivery = Delivery::new(vec![required(1), required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, [0, 1].into());
    assert_eq!(all(&mut delivery, at(0)).len(), 2);
    delivery.stored(at(1), 0, segment(0));
    assert_eq!(all(&mut delivery, at(1)), []);
    delivery.failed(at(1), 1, segment(0), Remedy::Retry, "down");
    assert_eq!(all(&mut delivery, at(1)), []);
    let again = delivery.wake_at().unwrap();
    assert!(again >= at(1) + BACKOFF_MIN);
    assert_eq!(all(&mut delivery, again), [put(1, segment(0))]);
    delivery.stored(again, 1, segment(0));
    assert_eq!(all(&mut delivery, again), [Action::Release { id: segment(0) }]);
}

#[test]
fn a_failing_storage_is_probed_with_one_object_and_waits_longer_and_longer() {
    let mut delivery = Delivery::new(vec![required(4)], STALL, 7);
    for number in 0..9 {
        delivery.add(at(0), segment(number), 10, Held::Spool, false, [0].into());
    }
    let first = all(&mut delivery, at(0));
    assert_eq!(first.len(), 4);
    for number in 0..4 {
        delivery.failed(at(5), 0, segment(number), Remedy::Retry, "down");
    }
    let (mut now, mut waits) = (at(5), Vec::new());
    for _ in 0..40 {
        let next = delivery.wake_at().unwrap();
        waits.push(next - now);
        now = next;
        // The oldest object is the probe, every time.
        assert_eq!(all(&mut delivery, now), [put(0, segment(0))]);
        delivery.failed(now, 0, segment(0), Remedy::Retry, "down");
    }
    // Four puts that failed together count as one failure.
    assert!(waits[0] <= BACKOFF_MIN * 2, "{:?}", waits[0]);
    assert!(waits.iter().all(|wait| (BACKOFF_MIN..=BACKOFF_MAX).contains(wait)));
    assert!(
        waits.iter().skip(12).any(|wait| *wait > Duration::from_secs(10)),
        "{waits:?}"
    );
    now = delivery.wake_at().unwrap();
    assert_eq!(all(&mut delivery, now), [put(0, segment(0))]);
    assert_eq!(delivery.failing(0), Some("down"));
    delivery.stored(now, 0, segment(0));
    assert_eq!(delivery.failing(0), None);
    let puts = all(&mut delivery, now)
        .into_iter()
        .filter(|action| matches!(action, Action::Put { .. }))
        .count();
    assert_eq!(puts, 4);
}

#[test]
fn a_live_object_that_makes_no_progress_is_a_stall_and_the_backlog_is_not() {
    let mut delivery = Delivery::new(vec![required(1), required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Memory, true, [0, 1].into());
    delivery.add(at(0), id(2, Object::Segment(0)), 10, Held::Spool, false, [0].into());
    assert_eq!(all(&mut delivery, at(0)), [put(0, segment(0)), put(1, segment(0))]);
    delivery.stored(at(100), 1, segment(0));
    assert_eq!(delivery.wake_at(), Some(STALL));
    assert_eq!(all(&mut delivery, STALL - at(1)), []);
    let stalled = all(&mut delivery, STALL);
    let [
        Action::Stalled {
            recording,
            storage: 0,
            error,
        },
    ] = stalled.as_slice()
    else {
        panic!("{stalled:?}")
    };
    assert_eq!(
        (*recording, error.as_str()),
        (MANIFEST.recording, "nothing stored for 15s")
    );
    // Said once; what is in memory moves to the spool and is delivered whenever the storage is back.
    assert_eq!(all(&mut delivery, STALL * 2), []);
    assert_eq!(delivery.in_memory(Some(MANIFEST.recording)), [segment(0)]);
    delivery.spilled(segment(0));
    assert_eq!(delivery.in_memory(None), []);
    delivery.failed(STALL * 2, 0, segment(0), Remedy::Retry, "timeout");
    let again = delivery.wake_at().unwrap();
    assert_eq!(all(&mut delivery, again), [put(0, segment(0))]);
}

#[test]
fn a_slow_storage_that_makes_progress_is_no_stall() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 1);
    let mut now = at(0);
    for number in 0..20 {
        delivery.add(now, segment(number), 10, Held::Memory, true, [0].into());
    }
    for number in 0..20 {
        let actions = all(&mut delivery, now);
        assert!(actions.contains(&put(0, segment(number))), "{number}: {actions:?}");
        assert!(
            !actions.iter().any(|action| matches!(action, Action::Stalled { .. })),
            "{number}"
        );
        now += STALL - at(1);
        delivery.stored(now, 0, segment(number));
    }
    // Nothing to do for long is no stall either.
    now += STALL * 10;
    delivery.add(now, segment(99), 10, Held::Memory, true, [0].into());
    assert!(
        !all(&mut delivery, now)
            .iter()
            .any(|action| matches!(action, Action::Stalled { .. }))
    );
}

#[test]
fn running_sessions_go_before_the_backlog() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, [0].into());
    delivery.add(at(0), id(2, Object::Segment(5)), 10, Held::Memory, true, [0].into());
    assert_eq!(all(&mut delivery, at(0)), [put(0, id(2, Object::Segment(5)))]);
}

#[test]
fn a_refused_object_stays_and_holds_the_manifest_back() {
    let mut delivery = Delivery::new(vec![required(2)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Memory, true, [0].into());
    delivery.add(at(0), segment(1), 10, Held::Memory, true, [0].into());
    delivery.add(at(0), MANIFEST, 10, Held::Memory, true, [0].into());
    assert_eq!(
        all(&mut delivery, at(0)),
        [put(0, segment(0))],
        "live segments go one after the other"
    );
    delivery.failed(at(1), 0, segment(0), Remedy::None, "other bytes are there");
    let mut actions = all(&mut delivery, at(1));
    assert!(actions.contains(&put(0, segment(1))), "{actions:?}");
    actions.retain(|action| !matches!(action, Action::Put { .. }));
    delivery.stored(at(1), 0, segment(1));
    actions.extend(all(&mut delivery, at(1)));
    assert!(actions.contains(&Action::Lost {
        storage: 0,
        id: segment(0),
        error: "other bytes are there".into()
    }));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Stalled { storage: 0, .. })),
        "{actions:?}"
    );
    assert!(
        !actions.contains(&Action::Release { id: segment(0) }),
        "the refused copy is evidence"
    );
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Put { .. } | Action::Complete { .. }))
    );
    assert!(delivery.is_idle());
}

#[test]
fn an_optional_storage_neither_delays_completion_nor_fills_the_spool_for_ever() {
    let mut delivery = Delivery::new(vec![required(1), optional()], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, [0, 1].into());
    delivery.add(at(0), MANIFEST, 10, Held::Spool, false, [0, 1].into());
    let mut now = at(0);
    let mut actions = Vec::new();
    let mut puts = 0;
    for _ in 0..200 {
        for action in all(&mut delivery, now) {
            match action {
                Action::Put { storage: 0, id } => delivery.stored(now, 0, id),
                Action::Put { storage: _, id } => {
                    puts += 1;
                    assert_eq!(id, segment(0), "no manifest without its segment");
                    delivery.failed(now, 1, id, Remedy::Retry, "down");
                }
                other => actions.push(other),
            }
        }
        now = delivery.wake_at().unwrap_or(now);
    }
    assert_eq!(puts, OPTIONAL_PATIENCE);
    assert_eq!(
        actions[0],
        Action::Complete {
            recording: MANIFEST.recording
        }
    );
    let released = actions
        .iter()
        .filter(|action| matches!(action, Action::Release { .. }))
        .count();
    let lost = actions
        .iter()
        .filter(|action| matches!(action, Action::Lost { storage: 1, .. }))
        .count();
    assert_eq!((released, lost), (2, 2), "{actions:?}");
    assert!(delivery.recordings.is_empty());
}

#[test]
fn after_a_restart_what_everybody_has_is_only_dropped() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, BTreeSet::new());
    delivery.add(at(0), MANIFEST, 10, Held::Spool, false, BTreeSet::new());
    let recording = MANIFEST.recording;
    let expected = [
        Action::Release { id: segment(0) },
        Action::Complete { recording },
        Action::Release { id: MANIFEST },
    ];
    assert_eq!(all(&mut delivery, at(0)), expected);
    assert!(delivery.recordings.is_empty());
}

/// Storages that fail, refuse, answer late; sessions that seal, spill and end. Virtual time, one seed a run.
struct World {
    delivery: Delivery,
    rules: Vec<Rules>,
    random: StdRng,
    now: Time,
    /// (due, storage, object)
    under_way: Vec<(Time, usize, ObjectId)>,
    has: Vec<BTreeSet<ObjectId>>,
    down_until: Vec<Time>,
    copies: BTreeSet<ObjectId>,
    segments: BTreeMap<Uuid, u32>,
    complete: BTreeSet<Uuid>,
    lost: BTreeSet<(usize, ObjectId)>,
    stalled: BTreeSet<Uuid>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(1..=3);
        let mut rules: Vec<Rules> = (0..count)
            .map(|_| Rules {
                required: random.random_bool(0.7),
                sync: random.random_bool(0.5),
                concurrency: random.random_range(1..=4),
            })
            .collect();
        rules[0].required = true;
        Self {
            delivery: Delivery::new(rules.clone(), STALL, seed),
            now: Time::ZERO,
            under_way: Vec::new(),
            has: vec![BTreeSet::new(); count],
            down_until: vec![Time::ZERO; count],
            copies: BTreeSet::new(),
            segments: BTreeMap::new(),
            complete: BTreeSet::new(),
            lost: BTreeSet::new(),
            stalled: BTreeSet::new(),
            rules,
            random,
        }
    }

    fn add(&mut self, id: ObjectId) {
        let held = if self.random.random_bool(0.5) {
            Held::Memory
        } else {
            Held::Spool
        };
        // After a stall the session's objects are in the spool and nobody waits for them.
        let live = !self.stalled.contains(&id.recording) && (held == Held::Memory || self.random.random_bool(0.5));
        let held = if live { held } else { Held::Spool };
        self.copies.insert(id);
        self.delivery
            .add(self.now, id, 1000, held, live, (0..self.rules.len()).collect());
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Put { storage, id } => {
                assert!(self.copies.contains(&id), "the bytes of {id:?} are gone");
                assert!(!self.has[storage].contains(&id), "{id:?} again at {storage}");
                let here: Vec<_> = self
                    .under_way
                    .iter()
                    .filter(|(_, where_to, _)| *where_to == storage)
                    .collect();
                assert!(here.len() < self.rules[storage].concurrency);
                assert!(here.iter().all(|(_, _, other)| *other != id), "{id:?} twice at once");
                if id.object == Object::Manifest {
                    for number in 0..self.segments[&id.recording] {
                        let segment = ObjectId {
                            object: Object::Segment(number),
                            ..id
                        };
                        assert!(self.has[storage].contains(&segment), "manifest before {segment:?}");
                    }
                }
                let due = self.now + at(self.random.random_range(1..=30_000));
                self.under_way.push((due, storage, id));
            }
            Action::Stalled { recording, storage, .. } => {
                assert!(self.rules[storage].sync && self.stalled.insert(recording));
                for id in self.delivery.in_memory(Some(recording)) {
                    self.delivery.spilled(id);
                }
            }
            Action::Release { id } => {
                assert!(self.copies.remove(&id), "{id:?} released twice");
                for (storage, rules) in self.rules.iter().enumerate() {
                    let has = self.has[storage].contains(&id);
                    assert!(
                        has || (!rules.required && self.lost.contains(&(storage, id))),
                        "{id:?} not at {storage}"
                    );
                }
            }
            Action::Complete { recording } => {
                assert!(self.complete.insert(recording), "complete twice");
                for (storage, _) in self.rules.iter().enumerate().filter(|(_, rules)| rules.required) {
                    assert!(self.has[storage].contains(&ObjectId {
                        recording,
                        object: Object::Manifest
                    }));
                }
            }
            Action::Lost { storage, id, .. } => {
                assert!(!self.rules[storage].required, "nothing was refused");
                assert!(self.lost.insert((storage, id)));
            }
        }
    }

    fn finish(&mut self, index: usize) {
        let (_, storage, id) = self.under_way.swap_remove(index);
        if self.now < self.down_until[storage] {
            self.delivery.failed(self.now, storage, id, Remedy::Retry, "down");
        } else {
            self.has[storage].insert(id);
            self.delivery.stored(self.now, storage, id);
        }
    }

    /// Lets time pass to the next thing that happens, at most to `limit`.
    fn step(&mut self, limit: Time) {
        while let Some(action) = self.delivery.next(self.now) {
            self.act(&action);
        }
        let due = self
            .under_way
            .iter()
            .enumerate()
            .min_by_key(|(_, entry)| entry.0)
            .map(|(index, entry)| (entry.0, index));
        let wake = self.delivery.wake_at();
        if let Some(wake) = wake {
            assert!(wake > self.now, "a wake-up that finds nothing to do would spin");
        }
        match due {
            Some((due, index)) if due <= limit && wake.is_none_or(|wake| due <= wake) => {
                self.now = self.now.max(due);
                self.finish(index);
            }
            _ => self.now = wake.unwrap_or(limit).min(limit),
        }
    }
}

#[test]
fn everything_arrives_in_order_whatever_the_storages_do() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let recordings: Vec<Uuid> = (1..=4).map(Uuid::from_u128).collect();
        let mut open = recordings.clone();
        while !open.is_empty() {
            let limit = world.now + at(world.random.random_range(0..20_000));
            while world.now < limit {
                world.step(limit);
            }
            if world.random.random_bool(0.1) {
                let storage = world.random.random_range(0..world.rules.len());
                let outage = at(world.random.random_range(0..600_000));
                world.down_until[storage] = world.now + outage;
            }
            let which = world.random.random_range(0..open.len());
            let recording = open[which];
            if world.random.random_bool(0.1) {
                world.segments.entry(recording).or_insert(0);
                world.add(ObjectId {
                    recording,
                    object: Object::Manifest,
                });
                open.swap_remove(which);
            } else {
                let count = world.segments.entry(recording).or_insert(0);
                let object = Object::Segment(*count);
                *count += 1;
                world.add(ObjectId { recording, object });
            }
        }
        let end = world.now + Duration::from_secs(24 * 3600);
        while world.now < end {
            world.step(end);
        }
        assert_eq!(
            world.complete.len(),
            recordings.len(),
            "seed {seed}: not everything was delivered"
        );
        assert!(world.copies.is_empty(), "seed {seed}: copies left: {:?}", world.copies);
        assert!(
            world.delivery.is_idle() && world.delivery.recordings.is_empty(),
            "seed {seed}"
        );
        assert!(world.delivery.order.is_empty(), "seed {seed}");
    }
}

#![expect(clippy::unwrap_used, reason = "tests")]

use super::queue::{BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX};
use super::*;

const STALL: Duration = Duration::from_secs(15);

fn required(concurrency: usize) -> Rules {
    Rules {
        required: true,
        sync: true,
        concurrency,
        pace: Pace::default(),
    }
}

fn optional() -> Rules {
    Rules {
        required: false,
        sync: false,
        concurrency: 1,
        pace: Pace::default(),
    }
}

fn failure(remedy: Remedy, message: &str) -> Failure {
    Failure::new(remedy, message)
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
        delivery.add(at(0), segment(number), 10, Held::Spool, false, &[0].into());
    }
    delivery.add(at(0), MANIFEST, 10, Held::Spool, false, &[0].into());
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
    assert!(delivery.is_idle() && delivery.recordings.is_empty());
    assert_eq!(delivery.wake_at(), None);
}

#[test]
fn a_copy_is_kept_until_every_required_storage_has_it() {
    let mut delivery = Delivery::new(vec![required(1), required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, &[0, 1].into());
    assert_eq!(all(&mut delivery, at(0)).len(), 2);
    delivery.stored(at(1), 0, segment(0));
    assert_eq!(all(&mut delivery, at(1)), []);
    delivery.failed(at(1), 1, segment(0), &failure(Remedy::Retry, "down"));
    assert_eq!(all(&mut delivery, at(1)), []);
    let again = delivery.wake_at().unwrap();
    assert!(again >= at(1) + BACKOFF_MIN);
    assert_eq!(all(&mut delivery, again), [put(1, segment(0))]);
    delivery.stored(again, 1, segment(0));
    assert_eq!(all(&mut delivery, again), [Action::Release { id: segment(0) }]);
}

/// Everything that may go at a moment, and it fails.
fn fail_all(delivery: &mut Delivery, now: Time, failure: &Failure) -> usize {
    let mut puts = 0;
    for action in all(delivery, now) {
        if let Action::Put { storage, id } = action {
            puts += 1;
            delivery.failed(now, storage, id, failure);
        }
    }
    puts
}

#[test]
fn a_failing_storage_is_probed_with_one_object_and_waits_longer_and_longer() {
    let mut delivery = Delivery::new(vec![required(4)], STALL, 7);
    for number in 0..90 {
        delivery.add(at(0), segment(number), 10, Held::Spool, false, &[0].into());
    }
    let down = failure(Remedy::Retry, "down");
    assert_eq!(fail_all(&mut delivery, at(0), &down), 4);
    let (mut now, mut waits) = (at(0), Vec::new());
    for _ in 0..40 {
        let next = delivery.wake_at().unwrap();
        waits.push(next - now);
        now = next;
        assert_eq!(fail_all(&mut delivery, now, &down), 1, "a probe");
    }
    // Four puts that failed together count as one failure.
    assert!(waits[0] <= BACKOFF_MIN * 2, "{:?}", waits[0]);
    assert!(waits.iter().all(|wait| (BACKOFF_MIN..=BACKOFF_MAX).contains(wait)));
    let long = waits.iter().filter(|wait| **wait > Duration::from_secs(10)).count();
    assert!(long > 5 && long < 38, "full jitter: {waits:?}");
    now = delivery.wake_at().unwrap();
    let Some(Action::Put { id, .. }) = delivery.next(now) else {
        panic!("no probe")
    };
    assert_eq!(delivery.next(now), None);
    assert_eq!(delivery.failing(0), Some("down"));
    delivery.stored(now, 0, id);
    assert_eq!(delivery.failing(0), None);
    assert_eq!(fail_all(&mut delivery, now + BACKOFF_MAX, &down), 4, "it works again");
}

/// What the storage chokes on must not keep the rest from it.
#[test]
fn an_object_that_always_fails_holds_up_nobody() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 3);
    let choked = id(2, Object::Segment(0));
    delivery.add(at(0), choked, 10, Held::Spool, false, &[0].into());
    for number in 0..50 {
        delivery.add(at(0), segment(number), 10, Held::Spool, false, &[0].into());
    }
    let (mut now, mut stored) = (at(0), 0);
    while stored < 50 {
        for action in all(&mut delivery, now) {
            match action {
                Action::Put { storage, id } if id == choked => {
                    delivery.failed(now, storage, id, &failure(Remedy::Retry, "internal error"));
                }
                Action::Put { storage, id } => {
                    stored += 1;
                    delivery.stored(now, storage, id);
                }
                _ => {}
            }
        }
        now = delivery.wake_at().unwrap_or(now);
    }
    assert!(now < Duration::from_secs(5), "{now:?}");
    // Alone with it, the storage does not count as down more and more.
    for _ in 0..20 {
        now = delivery.wake_at().unwrap();
        fail_all(&mut delivery, now, &failure(Remedy::Retry, "internal error"));
    }
    delivery.add(now, segment(99), 10, Held::Memory, true, &[0].into());
    let soon = delivery.wake_at().unwrap();
    assert!(soon <= now + BACKOFF_MIN * 2, "{:?}", soon - now);
    assert_eq!(all(&mut delivery, soon), [put(0, segment(99))]);
}

/// A probe is due long before the session would count as stalled.
#[test]
fn a_running_session_does_not_wait_out_a_long_backoff() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 3);
    for number in 0..99 {
        delivery.add(
            at(0),
            id(2, Object::Segment(number)),
            10,
            Held::Spool,
            false,
            &[0].into(),
        );
    }
    let mut now = at(0);
    for _ in 0..30 {
        fail_all(&mut delivery, now, &failure(Remedy::Operator, "permission denied"));
        now = delivery.wake_at().unwrap();
    }
    fail_all(&mut delivery, now, &failure(Remedy::Operator, "permission denied"));
    delivery.add(now, segment(0), 10, Held::Memory, true, &[0].into());
    assert_eq!(delivery.wake_at(), Some(now + STALL / 4));
    assert_eq!(all(&mut delivery, now + STALL / 4), [put(0, segment(0))]);
}

#[test]
fn a_storage_is_left_alone_as_long_as_it_asks() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 3);
    delivery.add(at(0), segment(0), 10, Held::Memory, true, &[0].into());
    all(&mut delivery, at(0));
    let mut slow_down = failure(Remedy::Retry, "slow down");
    slow_down.retry_after = Some(Duration::from_secs(12));
    delivery.failed(at(0), 0, segment(0), &slow_down);
    assert_eq!(
        delivery.wake_at(),
        Some(Duration::from_secs(12)),
        "running session or not"
    );
    assert_eq!(all(&mut delivery, at(11_999)), []);
    assert_eq!(all(&mut delivery, at(12_000)), [put(0, segment(0))]);
    slow_down.retry_after = Some(Duration::from_secs(1_000_000));
    delivery.failed(at(12_000), 0, segment(0), &slow_down);
    let stalled = all(&mut delivery, STALL);
    assert!(matches!(stalled[..], [Action::Stalled { .. }]), "{stalled:?}");
    assert_eq!(delivery.wake_at(), Some(at(12_000) + RETRY_AFTER_MAX), "not for ever");
}

#[test]
fn no_more_than_the_configured_rate() {
    let rules = |pace| Rules { pace, ..required(1000) };
    let count = |pace, until: Time| {
        let mut delivery = Delivery::new(vec![rules(pace)], STALL, 3);
        for number in 0..1000 {
            delivery.add(at(0), segment(number), 1000, Held::Spool, false, &[0].into());
        }
        let (mut now, mut puts) = (at(0), 0);
        while now <= until {
            for action in all(&mut delivery, now) {
                if let Action::Put { storage, id } = action {
                    puts += 1;
                    delivery.stored(now, storage, id);
                }
            }
            let Some(next) = delivery.wake_at() else { break };
            assert!(next > now);
            now = next;
        }
        puts
    };
    let ten_puts = Pace {
        puts_per_second_max: Some(10),
        bytes_per_second_max: None,
    };
    // What a second allows may come at once.
    assert_eq!((count(ten_puts, at(0)), count(ten_puts, at(10_000))), (11, 111));
    let twenty_objects = Pace {
        puts_per_second_max: None,
        bytes_per_second_max: Some(20_000),
    };
    assert_eq!(count(twenty_objects, at(10_000)), 221);
    assert_eq!(count(Pace::default(), at(0)), 1000);
}

/// This machine's own failures say nothing of the storage.
#[test]
fn a_failing_disk_is_not_the_storages_fault() {
    let mut delivery = Delivery::new(vec![required(2)], STALL, 3);
    for number in 0..3 {
        delivery.add(at(0), segment(number), 10, Held::Spool, false, &[0].into());
    }
    assert_eq!(all(&mut delivery, at(0)).len(), 2);
    delivery.failed(at(1), 0, segment(0), &failure(Remedy::Here, "input/output error"));
    assert_eq!(delivery.failing(0), None);
    assert_eq!(all(&mut delivery, at(1)), [put(0, segment(2))]);
    let again = delivery.wake_at();
    assert_eq!(again, None, "both slots are taken");
    delivery.stored(at(2), 0, segment(1));
    let again = delivery.wake_at().unwrap();
    assert!(all(&mut delivery, again).contains(&put(0, segment(0))));
}

#[test]
fn what_stops_sends_what_is_in_memory_only() {
    let mut delivery = Delivery::new(vec![required(9)], STALL, 3);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, &[0].into());
    delivery.add(at(0), id(2, Object::Segment(0)), 10, Held::Memory, false, &[0].into());
    delivery.stop();
    delivery.add(at(0), segment(1), 10, Held::Spool, false, &[0].into());
    assert_eq!(all(&mut delivery, at(0)), [put(0, id(2, Object::Segment(0)))]);
    assert_eq!(delivery.wake_at(), None);
}

/// A spool of a hundred thousand segments: every step takes about the same time, however many wait.
#[test]
fn a_hundred_thousand_waiting_segments_are_delivered() {
    const COUNT: u32 = 100_000;
    let mut delivery = Delivery::new(vec![required(8), required(8)], STALL, 3);
    for number in 0..COUNT {
        let id = id(u128::from(number % 3), Object::Segment(number));
        delivery.add(at(0), id, 10, Held::Spool, false, &[0, 1].into());
    }
    let (mut puts, mut released) = (0, 0);
    while let Some(action) = delivery.next(at(0)) {
        match action {
            Action::Put { storage, id } => {
                puts += 1;
                delivery.stored(at(0), storage, id);
            }
            Action::Release { .. } => released += 1,
            other => panic!("{other:?}"),
        }
        let _ = delivery.wake_at();
    }
    assert_eq!((puts, released), (2 * COUNT, COUNT));
    assert!(delivery.is_idle());
}

#[test]
fn a_live_object_that_makes_no_progress_is_a_stall_and_the_backlog_is_not() {
    let mut delivery = Delivery::new(vec![required(1), required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Memory, true, &[0, 1].into());
    delivery.add(at(0), id(2, Object::Segment(0)), 10, Held::Spool, false, &[0].into());
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
    delivery.failed(STALL * 2, 0, segment(0), &failure(Remedy::Retry, "timeout"));
    let mut again = delivery.wake_at().unwrap();
    // While it rests, others may go.
    let other = id(2, Object::Segment(0));
    if delivery.next(again) == Some(put(0, other)) {
        delivery.stored(again, 0, other);
        all(&mut delivery, again);
        again = delivery.wake_at().unwrap();
    }
    assert_eq!(all(&mut delivery, again), [put(0, segment(0))]);
}

#[test]
fn a_slow_storage_that_makes_progress_is_no_stall() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 1);
    let mut now = at(0);
    for number in 0..20 {
        delivery.add(now, segment(number), 10, Held::Memory, true, &[0].into());
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
    delivery.add(now, segment(99), 10, Held::Memory, true, &[0].into());
    assert!(
        !all(&mut delivery, now)
            .iter()
            .any(|action| matches!(action, Action::Stalled { .. }))
    );
}

#[test]
fn running_sessions_go_before_the_backlog() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, &[0].into());
    delivery.add(at(0), id(2, Object::Segment(5)), 10, Held::Memory, true, &[0].into());
    assert_eq!(all(&mut delivery, at(0)), [put(0, id(2, Object::Segment(5)))]);
}

#[test]
fn a_refused_object_stays_and_holds_the_manifest_back() {
    let mut delivery = Delivery::new(vec![required(2)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Memory, true, &[0].into());
    delivery.add(at(0), segment(1), 10, Held::Memory, true, &[0].into());
    delivery.add(at(0), MANIFEST, 10, Held::Memory, true, &[0].into());
    assert_eq!(
        all(&mut delivery, at(0)),
        [put(0, segment(0))],
        "live segments go one after the other"
    );
    delivery.failed(at(1), 0, segment(0), &failure(Remedy::None, "other bytes are there"));
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

/// Delivers to storage 0 and fails at storage 1 for a while.
fn serve_the_first_only(delivery: &mut Delivery, now: &mut Time, rounds: u32) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..rounds {
        for action in all(delivery, *now) {
            match action {
                Action::Put { storage: 0, id } => delivery.stored(*now, 0, id),
                Action::Put { storage, id } => {
                    assert_eq!(id, segment(0), "no manifest without its segment");
                    delivery.failed(*now, storage, id, &failure(Remedy::Retry, "down"));
                }
                other => actions.push(other),
            }
        }
        *now = delivery.wake_at().unwrap_or(*now);
    }
    actions
}

#[test]
fn an_optional_storage_neither_delays_completion_nor_fills_the_spool_to_the_brim() {
    let mut delivery = Delivery::new(vec![required(1), optional()], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, &[0, 1].into());
    delivery.add(at(0), MANIFEST, 10, Held::Spool, false, &[0, 1].into());
    let mut now = at(0);
    let actions = serve_the_first_only(&mut delivery, &mut now, 2000);
    let recording = MANIFEST.recording;
    assert_eq!(
        actions,
        [Action::Complete { recording }],
        "while there is room, copies are kept"
    );
    assert!(now > Duration::from_secs(3600));
    delivery.pressed(true);
    let actions = serve_the_first_only(&mut delivery, &mut now, 2);
    let released = |action: &&Action| matches!(action, Action::Release { .. });
    let lost = |action: &&Action| matches!(action, Action::Lost { storage: 1, .. });
    let counts = (
        actions.iter().filter(released).count(),
        actions.iter().filter(lost).count(),
    );
    assert_eq!(counts, (2, 2), "{actions:?}");
    assert!(delivery.recordings.is_empty());

    // One that is back in time gets everything.
    let mut delivery = Delivery::new(vec![required(1), optional()], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, &[0, 1].into());
    serve_the_first_only(&mut delivery, &mut now, 50);
    let again = delivery.wake_at().unwrap();
    assert_eq!(all(&mut delivery, again), [put(1, segment(0))]);
    delivery.stored(again, 1, segment(0));
    assert_eq!(all(&mut delivery, again), [Action::Release { id: segment(0) }]);
}

#[test]
fn after_a_restart_what_everybody_has_is_only_dropped() {
    let mut delivery = Delivery::new(vec![required(1)], STALL, 1);
    delivery.add(at(0), segment(0), 10, Held::Spool, false, &BTreeSet::new());
    delivery.add(at(0), MANIFEST, 10, Held::Spool, false, &BTreeSet::new());
    let recording = MANIFEST.recording;
    let expected = [
        Action::Release { id: segment(0) },
        Action::Complete { recording },
        Action::Release { id: MANIFEST },
    ];
    assert_eq!(all(&mut delivery, at(0)), expected);
    assert!(delivery.recordings.is_empty());
}

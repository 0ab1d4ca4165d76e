//! kill -9 at any moment: what the spool holds becomes a recording that verifies.

use bytes::Bytes;
use deskreel_recording::{
    Event, FindingKind, Manifest, Outcome, SealedSegment, Segment, SegmentHeader,
    event::EndReason,
    recover::{Closing, reseal},
};

use crate::{
    desktop::{Desktop, Script},
    recording::{MS, Plan, id, key, recorder, step, verify},
};

/// Runs a session whose open segment is taken every five frames, and kills it.
fn killed(frames: u64) -> (Vec<SealedSegment>, Vec<u8>) {
    let mut recorder = recorder(&Plan::default());
    let mut desktop = Desktop::new(320, 240, Script::Windows);
    let mut sealed = Vec::new();
    let mut open = Vec::new();
    for i in 0..frames {
        step(&mut recorder, &mut desktop, i);
        let now = i * 40 * MS + 2 * MS;
        if i % 5 == 4 {
            open.extend_from_slice(&recorder.take_open_bytes().unwrap());
        }
        if recorder.seal_due(now) {
            let segment = recorder.seal(now).unwrap().unwrap();
            assert_eq!(segment.taken, open.len());
            assert_eq!(
                &segment.bytes[..open.len()],
                &open[..],
                "taken bytes are the segment's first"
            );
            sealed.push(segment);
            open.clear();
        }
    }
    (sealed, open)
}

/// Closes what a crash left, as the gateway does at its next start.
fn close(sealed: &[SealedSegment], open: &[u8]) -> (Vec<Bytes>, Vec<u8>) {
    let mut closing = Closing::new(id(1), vec![key(1).verifying_key()]);
    let mut objects: Vec<Bytes> = sealed.iter().map(|segment| segment.bytes.clone()).collect();
    for bytes in &objects {
        closing.segment(bytes).unwrap();
    }
    let expected = SegmentHeader {
        recording: id(1),
        number: sealed.len() as u32,
    };
    if let Ok(Some(last)) = reseal(Bytes::copy_from_slice(open), expected, closing.last_seal(), &key(1)) {
        closing.segment(&last.bytes).unwrap();
        objects.push(last.bytes);
    }
    (objects, closing.finish("gateway crashed", &key(1)).unwrap())
}

fn events(objects: &[Bytes]) -> Vec<(u64, Event)> {
    objects
        .iter()
        .flat_map(|bytes| {
            Segment::open(bytes.clone())
                .unwrap()
                .events()
                .map(Result::unwrap)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_killed_session_is_recovered() {
    let (sealed, open) = killed(48);
    assert!(!open.is_empty());
    let (objects, manifest) = close(&sealed, &open);
    assert_eq!(objects.len(), sealed.len() + 1);
    let report = verify((0..).zip(&objects), Some(&manifest));
    assert_eq!(report.outcome, Outcome::Findings, "{report:?}");
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::Recovered]);
    let manifest = Manifest::parse(&manifest).unwrap();
    assert!(manifest.body().recovered);
    assert_eq!(manifest.body().end.reason, EndReason::Recovered);
    assert_eq!(manifest.body().start.as_ref().unwrap().login, "ann");
    // Frame 44 was the last before the last take.
    assert_eq!(report.duration_ns, 44 * 40 * MS + MS);
}

#[test]
fn every_cut_of_the_open_segment_keeps_its_whole_events() {
    let (sealed, open) = killed(48);
    let all = events(&close(&sealed, &open).0);
    let mut kept_before = 0;
    for cut in (0..=open.len()).step_by(61).chain([open.len()]) {
        let (objects, manifest) = close(&sealed, &open[..cut]);
        let kept = events(&objects);
        assert_eq!(kept[..], all[..kept.len()], "nothing invented, nothing reordered");
        assert!(kept.len() >= kept_before, "a longer file keeps at least as much");
        kept_before = kept.len();
        let report = verify((0..).zip(&objects), Some(&manifest));
        assert_eq!(report.outcome, Outcome::Findings, "cut at {cut}: {report:?}");
    }
    assert_eq!(kept_before, all.len());
}

#[test]
fn zeros_behind_a_torn_write_are_not_events() {
    let (sealed, open) = killed(48);
    let all = events(&close(&sealed, &open).0);
    for keep in [open.len(), open.len() - 10, open.len() / 2] {
        let mut torn = open[..keep].to_vec();
        torn.resize(open.len() + 5000, 0);
        let kept = events(&close(&sealed, &torn).0);
        assert_eq!(kept[..], all[..kept.len()]);
    }
}

#[test]
fn a_sealed_segment_whose_end_was_cut_is_recovered_whole() {
    let (sealed, _) = killed(48);
    let whole = events(&[sealed[1].bytes.clone()]);
    let cut = sealed[1].bytes.slice(..sealed[1].bytes.len() - 50);
    let header = SegmentHeader {
        recording: id(1),
        number: 1,
    };
    let again = reseal(cut, header, Some(&sealed[0].seal), &key(1)).unwrap().unwrap();
    assert_eq!(events(std::slice::from_ref(&again.bytes)), whole);
    assert_eq!(
        verify([(0, &sealed[0].bytes), (1, &again.bytes)], None).outcome,
        Outcome::Findings
    );
}

#[test]
fn recovery_takes_nothing_foreign() {
    let (sealed, open) = killed(48);
    let open = Bytes::from(open);
    let wrong = SegmentHeader {
        recording: id(2),
        number: sealed.len() as u32,
    };
    assert!(reseal(open.clone(), wrong, None, &key(1)).is_err());
    let wrong = SegmentHeader {
        recording: id(1),
        number: 0,
    };
    assert!(reseal(open, wrong, None, &key(1)).is_err());
    let mut closing = Closing::new(id(1), vec![key(2).verifying_key()]);
    assert!(
        closing.segment(&sealed[0].bytes).is_err(),
        "sealed by a key that is not trusted"
    );
    let mut closing = Closing::new(id(1), vec![key(1).verifying_key()]);
    assert!(closing.segment(&sealed[1].bytes).is_err(), "not the next segment");
    closing.segment(&sealed[0].bytes).unwrap();
    assert!(closing.segment(&sealed[0].bytes).is_err());
    assert!(
        Closing::new(id(1), vec![]).finish("", &key(1)).is_err(),
        "nothing to close"
    );
}

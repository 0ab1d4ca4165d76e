//! Everything that must not verify.

use bytes::Bytes;
use deskreel_recording::{
    FindingKind, Manifest, Outcome, Report, Seal, SealBody, Segment, Verifier, VerifyOptions, sha256,
};

use crate::recording::{Plan, Recording, id, key, record, verify};

fn recording() -> Recording {
    record(&Plan::default())
}

/// The report is broken, and says so for this reason (among others) at this segment.
#[track_caller]
fn broken(report: &Report, kind: FindingKind, segment: Option<u32>) {
    assert_eq!(report.outcome, Outcome::Broken, "{report:?}");
    let found = report
        .findings
        .iter()
        .any(|finding| finding.kind == kind && finding.segment == segment);
    assert!(found, "expected {kind:?} at {segment:?}: {:?}", report.findings);
}

#[test]
fn any_changed_byte_is_found() {
    let recording = recording();
    let original = &recording.segments[1].bytes;
    // Every kind of place: header, chunks, seal, summary, footer.
    for at in (0..original.len())
        .step_by(97)
        .chain(original.len() - 300..original.len())
    {
        let mut bytes = original.to_vec();
        bytes[at] ^= 0x40;
        let changed = Bytes::from(bytes);
        let objects = recording
            .objects()
            .map(|(number, bytes)| (number, if number == 1 { &changed } else { bytes }));
        let report = verify(objects, Some(&recording.manifest));
        assert_eq!(report.outcome, Outcome::Broken, "byte {at} of {}", original.len());
        // While the session runs there is no manifest to compare with.
        let objects = recording
            .objects()
            .map(|(number, bytes)| (number, if number == 1 { &changed } else { bytes }));
        let report = verify(objects, None);
        assert_eq!(
            report.outcome,
            Outcome::Broken,
            "byte {at} of {} without a manifest",
            original.len()
        );
    }
}

#[test]
fn a_cut_segment_is_found() {
    let recording = recording();
    let whole = &recording.segments[1].bytes;
    for length in [0, 1, 8, 100, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let cut = whole.slice(..length);
        let objects = recording
            .objects()
            .map(|(number, bytes)| (number, if number == 1 { &cut } else { bytes }));
        broken(
            &verify(objects, Some(&recording.manifest)),
            FindingKind::Damaged,
            Some(1),
        );
    }
    let mut longer = whole.to_vec();
    longer.extend_from_slice(b"more");
    let longer = Bytes::from(longer);
    let objects = recording
        .objects()
        .map(|(number, bytes)| (number, if number == 1 { &longer } else { bytes }));
    broken(&verify(objects, None), FindingKind::Damaged, Some(1));
}

#[test]
fn missing_segments_are_found() {
    let recording = recording();
    let last = recording.segments.len() as u32 - 1;
    for gone in [0, 2, last] {
        let objects = recording.objects().filter(|(number, _)| *number != gone);
        broken(
            &verify(objects, Some(&recording.manifest)),
            FindingKind::Missing,
            Some(gone),
        );
    }
    let objects = recording.objects().filter(|(number, _)| *number != 1);
    broken(&verify(objects, None), FindingKind::Missing, Some(1));
    broken(&verify([], Some(&recording.manifest)), FindingKind::Missing, Some(0));
    broken(&verify([], None), FindingKind::Missing, None);
}

#[test]
fn a_dropped_segment_is_found_when_the_rest_is_renumbered() {
    let recording = recording();
    let renumbered = recording.objects().filter(|(number, _)| *number != 1);
    let objects = renumbered.enumerate().map(|(i, (_, bytes))| (i as u32, bytes));
    let report = verify(objects, None);
    broken(&report, FindingKind::Order, Some(1));
    broken(&report, FindingKind::Chain, Some(1));
}

#[test]
fn swapped_segments_are_found() {
    let recording = recording();
    let bytes = |number: usize| &recording.segments[number].bytes;
    let report = verify(
        [(0, bytes(0)), (1, bytes(2)), (2, bytes(1)), (3, bytes(3))],
        Some(&recording.manifest),
    );
    broken(&report, FindingKind::Order, Some(1));
    let report = verify([(0, bytes(0)), (2, bytes(2)), (1, bytes(1))], Some(&recording.manifest));
    broken(&report, FindingKind::Order, Some(1));
}

#[test]
fn a_segment_of_another_recording_is_found() {
    let recording = recording();
    let other = record(&Plan {
        recording: id(2),
        ..Plan::default()
    });
    let bytes = &other.segments[1].bytes;
    let objects = recording
        .objects()
        .map(|(number, own)| (number, if number == 1 { bytes } else { own }));
    broken(
        &verify(objects, Some(&recording.manifest)),
        FindingKind::OtherRecording,
        Some(1),
    );
    let objects = recording
        .objects()
        .map(|(number, own)| (number, if number == 1 { bytes } else { own }));
    let report = verify(objects, None);
    broken(&report, FindingKind::OtherRecording, Some(1));
    broken(&report, FindingKind::Chain, Some(1));
    broken(&report, FindingKind::Chain, Some(2));
}

#[test]
fn recordings_with_the_same_id_cannot_be_spliced() {
    // Same key, same id, other contents: what an operator could get by replaying an id.
    let one = recording();
    let other = record(&Plan {
        script: crate::desktop::Script::Typing,
        ..Plan::default()
    });
    let objects = one.objects().take(2).chain(other.objects().skip(2));
    broken(&verify(objects, None), FindingKind::Chain, Some(2));
    let objects = one.objects().take(2).chain(other.objects().skip(2));
    broken(&verify(objects, Some(&other.manifest)), FindingKind::Manifest, Some(0));
}

#[test]
fn the_recording_asked_for_counts() {
    let recording = recording();
    let options = VerifyOptions {
        recording: Some(id(9)),
        trusted: vec![key(1).verifying_key()],
        deep: false,
    };
    let mut verifier = Verifier::new(options);
    for (number, bytes) in recording.objects() {
        verifier.segment(number, bytes);
    }
    broken(
        &verifier.finish(Some(&recording.manifest)),
        FindingKind::OtherRecording,
        None,
    );
}

#[test]
fn a_manifest_of_another_recording_is_found() {
    let recording = recording();
    let other = record(&Plan {
        recording: id(2),
        ..Plan::default()
    });
    broken(
        &verify(recording.objects(), Some(&other.manifest)),
        FindingKind::OtherRecording,
        None,
    );
}

#[test]
fn a_rolled_back_manifest_is_found() {
    // The first half of the same recording, closed as if it had ended there.
    let long = recording();
    let short = record(&Plan {
        frames: 30,
        ..Plan::default()
    });
    let report = verify(long.objects(), Some(&short.manifest));
    broken(&report, FindingKind::RolledBack, Some(long.segments.len() as u32 - 1));
    // The other way round the tail is missing.
    broken(
        &verify(short.objects(), Some(&long.manifest)),
        FindingKind::Missing,
        Some(short.segments.len() as u32),
    );
}

#[test]
fn a_manifest_that_lies_with_the_right_key_is_found() {
    let recording = recording();
    let mut body = Manifest::parse(&recording.manifest).unwrap().body().clone();
    let honest = body.clone();
    let check = |body: &deskreel_recording::ManifestBody| {
        let forged = Manifest::sign(body.clone(), &key(1)).unwrap().to_bytes().unwrap();
        broken(&verify(recording.objects(), Some(&forged)), FindingKind::Manifest, None);
    };
    body.duration_ns += 1;
    check(&body);
    body = honest.clone();
    body.gaps_count = 1;
    check(&body);
    body = honest.clone();
    body.decision = None;
    check(&body);
    body = honest.clone();
    body.start.as_mut().unwrap().login = "bob".into();
    check(&body);
    body = honest.clone();
    body.end.reason = deskreel_recording::event::EndReason::OperatorEnded;
    check(&body);
    body = honest;
    body.events.insert("undecoded".into(), 5);
    check(&body);
}

#[test]
fn a_forged_recording_with_another_key_is_found() {
    // Well sealed in itself, but by a key that nobody trusts.
    let forged = record(&Plan {
        key: 2,
        ..Plan::default()
    });
    let report = forged.verify();
    broken(&report, FindingKind::Signature, Some(0));
    broken(&report, FindingKind::Signature, None);
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.kind == FindingKind::Signature),
        "{report:?}"
    );
    // With its own key it is whole: nothing else was wrong.
    let options = VerifyOptions {
        recording: None,
        trusted: vec![key(2).verifying_key()],
        deep: true,
    };
    let mut verifier = Verifier::new(options);
    for (number, bytes) in forged.objects() {
        verifier.segment(number, bytes);
    }
    assert_eq!(verifier.finish(Some(&forged.manifest)).outcome, Outcome::Whole);
}

#[test]
fn without_a_trusted_key_nothing_is_whole() {
    let recording = recording();
    let mut verifier = Verifier::new(VerifyOptions::default());
    for (number, bytes) in recording.objects() {
        verifier.segment(number, bytes);
    }
    broken(
        &verifier.finish(Some(&recording.manifest)),
        FindingKind::Signature,
        Some(0),
    );
}

#[test]
fn a_manifest_signature_is_checked() {
    let recording = recording();
    let text = String::from_utf8(recording.manifest.clone()).unwrap();
    let changed = text.replace("\\\"login\\\":\\\"ann\\\"", "\\\"login\\\":\\\"eve\\\"");
    assert_ne!(changed, text);
    broken(
        &verify(recording.objects(), Some(changed.as_bytes())),
        FindingKind::Signature,
        None,
    );
    broken(&verify(recording.objects(), Some(b"{}")), FindingKind::Manifest, None);
    broken(&verify(recording.objects(), Some(b"")), FindingKind::Manifest, None);
}

/// Signs a segment's seal anew with the trusted key after a change to what it states.
fn resealed(segment: &Bytes, change: impl FnOnce(&mut SealBody)) -> Bytes {
    let opened = Segment::open(segment.clone()).unwrap();
    let seal = opened.seal().unwrap();
    let mut body = seal.body().clone();
    change(&mut body);
    let forged = Seal::sign(body, &key(1)).unwrap();
    assert_eq!(
        forged.text().len(),
        seal.text().len(),
        "the forgery must keep the length"
    );
    let mut bytes = segment.to_vec();
    for (from, to) in [
        (seal.text().to_owned(), forged.text().to_owned()),
        (seal.signature_hex(), forged.signature_hex()),
    ] {
        let at = bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    // The footer and Data End carry CRCs over what changed; zero means "not available".
    let data_end = data_end(&bytes);
    bytes[data_end + 9..data_end + 13].fill(0);
    let footer_crc = bytes.len() - 8 - 4;
    bytes[footer_crc..footer_crc + 4].fill(0);
    Bytes::from(bytes)
}

fn data_end(bytes: &[u8]) -> usize {
    let mut at = 8;
    while bytes[at] != 0x0f {
        at += 9 + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
    }
    at
}

#[test]
fn a_seal_that_lies_with_the_right_key_is_found() {
    let recording = recording();
    type Lie = fn(&mut SealBody);
    let lies: [Lie; 3] = [
        |body| body.keys_ns[0] += 1,
        |body| *body.events.get_mut("input").unwrap() += 1,
        |body| body.recording = id(3),
    ];
    let honest = resealed(&recording.segments[0].bytes, |_| {});
    assert_eq!(verify([(0, &honest)], None).outcome, Outcome::Findings);
    for lie in lies {
        let bytes = resealed(&recording.segments[0].bytes, lie);
        broken(&verify([(0, &bytes)], None), FindingKind::Contents, Some(0));
    }
}

#[test]
fn a_summary_that_lies_is_found() {
    let recording = recording();
    let segment = &recording.segments[1];
    let mut bytes = segment.bytes.to_vec();
    // The statistics' message count, first field of its record.
    let mut at = data_end(&bytes);
    while bytes[at] != 0x0b {
        at += 9 + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
    }
    bytes[at + 9] ^= 1;
    let footer_crc = bytes.len() - 8 - 4;
    bytes[footer_crc..footer_crc + 4].fill(0);
    let bytes = Bytes::from(bytes);
    assert!(
        Segment::open(bytes.clone()).is_ok(),
        "a reader does not look at the summary"
    );
    let objects = [(0, &recording.segments[0].bytes), (1, &bytes)];
    broken(&verify(objects, None), FindingKind::Contents, Some(1));
}

#[test]
fn digest_of_nothing() {
    assert_eq!(
        hex::encode(sha256(b"")),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn only_holes_that_are_known_are_no_finding() {
    let recording = recording();
    let last = recording.segments.len() as u32 - 1;
    assert!(last >= 3, "{last}");
    let verify = |absent: &[u32], left_out: &[u32], manifest: Option<&[u8]>| {
        let mut verifier = Verifier::new(VerifyOptions {
            trusted: vec![key(1).verifying_key()],
            ..VerifyOptions::default()
        });
        verifier.known_absent(absent.iter().copied().collect());
        for (number, bytes) in recording.objects().filter(|(number, _)| !left_out.contains(number)) {
            verifier.segment(number, bytes);
        }
        verifier.finish(manifest)
    };
    let manifest = Some(&recording.manifest[..]);
    for left_out in [&[0][..], &[1], &[1, 2], &[last], &[0, last]] {
        assert_eq!(
            verify(left_out, left_out, manifest).outcome,
            Outcome::Whole,
            "{left_out:?}"
        );
        let open = verify(left_out, left_out, None);
        assert_eq!(open.outcome, Outcome::Findings, "{:?}", open.findings);
    }
    broken(&verify(&[1], &[1, 2], manifest), FindingKind::Missing, Some(2));
    broken(&verify(&[2], &[1, 2], manifest), FindingKind::Missing, Some(1));
    broken(&verify(&[1], &[1, last], manifest), FindingKind::Missing, Some(last));
    broken(&verify(&[1], &[0, 1, 2], manifest), FindingKind::Missing, Some(0));
    broken(&verify(&[1], &[0, 1, 2], manifest), FindingKind::Missing, Some(2));
    // One that is there is verified all the same.
    assert_eq!(verify(&[1, 2], &[], manifest).outcome, Outcome::Whole);
}

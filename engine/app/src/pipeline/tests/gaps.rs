//! Gaps of best effort: nothing that is not known is recorded as if it were, and the picture comes back whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_config::{Mode, OnFailure};
use deskreel_rdp::Direction;
use deskreel_rdp::tap::Loss;
use deskreel_rdp::wire::mcs::send_data;
use deskreel_recording::event::{Gap, GapReason, SessionEvent};
use deskreel_recording::{Event, Outcome, ScreenDecoder};
use uuid::Uuid;

use super::bed::{Bed, Fixture, ended, eventually};
use crate::catalog::State;
use crate::pipeline::queue::{Entry, Lost, What};
use crate::pipeline::session::{Refresh, Rules, SessionRecorder, Shared};
use crate::pipeline::{SessionFacts, Sessions};

/// The colour of the repainted screen, as 16 bits and as recorded.
const RED: (u16, [u8; 3]) = (0xF800, [255, 0, 0]);
/// Rows that one run of pixels can fill.
const STRIPE: u16 = 32;

/// Fast-path bitmaps that paint rows `from..to` of the screen in one colour.
fn paint(width: u16, from: u16, to: u16) -> Bytes {
    stripes(width, from, to, |pixels| pixels)
}

/// The same with bitmaps that end after their first pixel.
fn broken(width: u16, from: u16, to: u16) -> Bytes {
    stripes(width, from, to, |_| 1)
}

fn stripes(width: u16, from: u16, to: u16, length: fn(u16) -> u16) -> Bytes {
    let mut bitmaps = Vec::new();
    let mut count = 0_u16;
    for top in (from..to).step_by(STRIPE.into()) {
        let height = STRIPE.min(to - top);
        // One run of a colour (MEGA_MEGA_COLOR_RUN), at 16 bits a pixel, without a compression header.
        let mut run = vec![0xF3];
        run.extend(length(width * height).to_le_bytes());
        run.extend(RED.0.to_le_bytes());
        let fields = [0, top, width - 1, top + height - 1, width, height, 16, 0x0401, 5];
        bitmaps.extend(fields.iter().flat_map(|field: &u16| field.to_le_bytes()));
        bitmaps.extend(run);
        count += 1;
    }
    let mut update = vec![1, 0];
    update.extend(count.to_le_bytes());
    update.extend(bitmaps);
    fast_path(1, None, &update)
}

/// One fast-path update; `flags` are those of bulk compression.
fn fast_path(code: u8, flags: Option<u8>, data: &[u8]) -> Bytes {
    let mut body = vec![code | if flags.is_some() { 0x80 } else { 0 }];
    body.extend(flags);
    body.extend((data.len() as u16).to_le_bytes());
    body.extend(data);
    let mut pdu = vec![0];
    pdu.extend(((body.len() as u16 + 3) | 0x8000).to_be_bytes());
    pdu.extend(body);
    pdu.into()
}

/// A synchronize update: nothing of it is recorded.
fn nothing() -> Bytes {
    fast_path(3, None, &[])
}

struct Session {
    bed: Bed,
    sessions: Sessions,
    facts: SessionFacts,
    id: Uuid,
    recorder: SessionRecorder,
    width: u16,
    height: u16,
}

impl Session {
    /// A session in which a real desktop has shown what it has.
    async fn new(repaint_max: Duration) -> Self {
        let mut bed = Bed::new(&[("disk", Mode::Async, true)]);
        bed.config.session_recording.on_failure = OnFailure::BestEffort;
        bed.config.recording.repaint_max = repaint_max;
        let fixture = Fixture::load("xrdp-planar");
        let sessions = bed.start().await;
        let facts = fixture.facts();
        let recorder = sessions.open(facts.clone()).await.unwrap();
        fixture.feed(&recorder).await;
        let (width, height) = fixture.size();
        let session = Self {
            bed,
            sessions,
            id: facts.id,
            facts,
            recorder,
            width,
            height,
        };
        session.send(nothing()).await;
        session
    }

    fn shared(&self) -> &Arc<Shared> {
        self.recorder.shared().unwrap()
    }

    /// Sends something and waits until it is worked through.
    async fn send(&self, pdu: Bytes) {
        self.recorder.enqueue(Direction::ToClient, pdu).await.unwrap();
        let queue = &self.shared().queue;
        eventually("it is worked through", || queue.is_idle()).await;
    }

    /// A Demand Active ([MS-RDPBCGR] 2.2.1.13.1) with a General and a Bitmap set.
    fn resized(&self, height: u16) -> Bytes {
        let mut body = vec![1, 0, 1, 0, 4, 0, 38, 0];
        body.extend(b"RDP\0");
        body.extend([2, 0, 0, 0]);
        body.extend([1, 0, 6, 0, 0, 0, 2, 0, 28, 0, 16, 0, 1, 0, 1, 0, 1, 0]);
        body.extend([self.width.to_le_bytes(), height.to_le_bytes()].concat());
        body.extend([0; 16]);
        let head = [body.len() as u16 + 6, 0x11, 1002];
        let head: Vec<u8> = head.iter().flat_map(|field| field.to_le_bytes()).collect();
        let pdu = [head, body].concat();
        send_data(Direction::ToClient, 1002, self.facts.tap.io_channel, &pdu).into()
    }

    /// Ends the session and reads its events.
    async fn end(self) -> Vec<(u64, Event)> {
        self.recorder.ended(ended());
        self.recorder.closed().await;
        self.bed.wait_for(self.id, State::Complete).await;
        let recording = self.bed.recording(0, self.id);
        let report = recording.verify(&self.bed);
        assert_eq!(
            report.outcome,
            Outcome::Findings,
            "true, but with a gap: {:?}",
            report.findings
        );
        assert_eq!(self.bed.catalog().gaps(self.id).unwrap().len(), 1);
        self.sessions.shutdown().await;
        recording.events()
    }
}

/// The only gap, and where it stands among the events.
fn the_gap(events: &[(u64, Event)]) -> (usize, &Gap) {
    let mut gaps = events.iter().enumerate().filter_map(|(at, (_, event))| match event {
        Event::Gap(gap) => Some((at, gap)),
        _ => None,
    });
    let gap = gaps.next().unwrap();
    assert!(gaps.next().is_none());
    gap
}

/// The colours of the first picture behind `at`, which must be a key.
fn first_picture_after(events: &[(u64, Event)], at: usize) -> Vec<[u8; 3]> {
    let screen = events[at..].iter().find_map(|(_, event)| match event {
        Event::Screen(screen) => Some(screen),
        _ => None,
    });
    let screen = screen.expect("the picture resumes");
    assert!(screen.key);
    let mut decoder = ScreenDecoder::new();
    decoder.apply(screen).unwrap();
    let picture = decoder.picture().unwrap();
    let rows = picture.data.chunks(picture.stride).take(picture.height.into());
    let mut colors: Vec<[u8; 3]> = rows
        .flat_map(|row| row[..usize::from(picture.width) * 4].chunks(4))
        .map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    colors.sort_unstable();
    colors.dedup();
    colors
}

/// What was dropped unseen is missing in the decompressor's history: until that starts anew, nothing decodes rightly.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_lasts_until_the_tap_is_right_and_the_screen_is_repainted() {
    let session = Session::new(Duration::from_secs(600)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let before = session.facts.started_at.elapsed();
    session.send(nothing()).await;
    session.shared().queue.lost(Lost {
        reads: 2,
        loss: Loss::default(),
    });
    let asked = tokio::time::timeout(Duration::from_millis(1500), session.recorder.wants_refresh()).await;
    assert!(asked.is_err(), "not while the history is wrong");
    // The desktop's compressor starts anew.
    session.send(fast_path(3, Some(0x81), &[])).await;
    session.recorder.wants_refresh().await;
    let half = session.height / 2;
    session.send(paint(session.width, 0, half)).await;
    let first_half = session.facts.started_at.elapsed();
    tokio::time::sleep(Duration::from_millis(100)).await;
    session.send(paint(session.width, half, session.height)).await;
    let events = session.end().await;

    let (at, gap) = the_gap(&events);
    assert_eq!(gap.reason, GapReason::QueueFull);
    assert!(gap.detail.as_ref().unwrap().contains("2 reads were dropped"), "{gap:?}");
    assert!(
        u128::from(gap.from_ns) >= before.as_nanos(),
        "what was seen before the gap is not missing"
    );
    assert!(
        u128::from(gap.to_ns) > first_half.as_nanos(),
        "half a screen is not the screen"
    );
    let within =
        |(at, event): &&(u64, Event)| matches!(event, Event::Screen(_)) && (gap.from_ns..gap.to_ns).contains(at);
    assert!(events.iter().find(within).is_none(), "no picture within the gap");
    assert_eq!(first_picture_after(&events, at), [RED.1], "and nothing black after it");
}

/// Skipped PDUs are no loss to the decompressor: the desktop is asked at once.
#[tokio::test(flavor = "multi_thread")]
async fn skipping_ends_without_a_new_history() {
    let session = Session::new(Duration::from_secs(600)).await;
    session.shared().queue.shed();
    session.recorder.wants_refresh().await;
    session.send(paint(session.width, 0, session.height)).await;
    let events = session.end().await;
    let (at, gap) = the_gap(&events);
    assert!(!gap.detail.as_ref().unwrap().contains("dropped"), "{gap:?}");
    assert_eq!(first_picture_after(&events, at), [RED.1]);
}

/// A defect costs a gap, not the rest of the session: none of what comes with it or behind it is lost to the tap.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_panics_goes_on() {
    for what in [What::Panic, What::PanicInFrame] {
        let session = Session::new(Duration::from_secs(600)).await;
        let mut height = session.height;
        let in_frame = matches!(what, What::PanicInFrame);
        let mut entries = vec![(0, what)];
        if in_frame {
            height = 64;
            let to_client = |pdus| What::Pdus(Direction::ToClient, pdus);
            entries.push((0, to_client(paint(session.width, 0, 8))));
            // the first picture is due, and what is not worked through for that has another size
            let second = [nothing(), session.resized(height)].concat();
            entries.push((100, to_client(second.into())));
        }
        // all that was shown before is recorded
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = Instant::now();
        let painted = now.duration_since(session.facts.started_at).as_nanos();
        for (later, what) in entries {
            let at = now + Duration::from_millis(later);
            session.shared().queue.push_always(Entry { at, what });
        }
        session.recorder.wants_refresh().await;
        session.send(paint(session.width, 0, height)).await;
        let problem = "the recorder panicked: a defect";
        assert_eq!(session.shared().failure(), None);
        let events = session.end().await;
        let (at, gap) = the_gap(&events);
        assert_eq!(
            (gap.reason, gap.detail.as_deref()),
            (GapReason::RecorderFailed, Some(problem))
        );
        assert_eq!(first_picture_after(&events, at), [RED.1]);
        assert!(gap.from_ns < gap.to_ns);
        if in_frame {
            assert_eq!(u128::from(gap.from_ns), painted);
        }
    }
}

/// Bitmaps that can't be decoded end no gap; without one they are evidence of the next picture.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_not_painted() {
    let session = Session::new(Duration::from_secs(600)).await;
    let stripes = session.height.div_ceil(STRIPE);
    session.shared().queue.shed();
    session.recorder.wants_refresh().await;
    session.send(broken(session.width, 0, session.height)).await;
    let sent = session.facts.started_at.elapsed();
    tokio::time::sleep(Duration::from_millis(20)).await;
    session.send(paint(session.width, 0, session.height)).await;
    session.send(broken(session.width, 0, session.height)).await;
    let events = session.end().await;
    let (at, gap) = the_gap(&events);
    assert!(u128::from(gap.to_ns) > sent.as_nanos());
    assert_eq!(first_picture_after(&events, at), [RED.1]);
    let undecoded = events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Undecoded(_)))
        .count();
    assert_eq!(undecoded, 2 * usize::from(stripes));
}

/// Some desktops take a rectangle that ends with the last pixel for one that ends before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_that_leaves_the_edges_out_is_asked_for_them() {
    let session = Session::new(Duration::from_secs(8)).await;
    session.shared().queue.shed();
    assert_eq!(session.recorder.wants_refresh().await, Refresh::Whole);
    session.send(paint(session.width, 0, session.height - 1)).await;
    let edges = async { while session.recorder.wants_refresh().await != Refresh::WithEdges {} };
    tokio::time::timeout(Duration::from_secs(8), edges).await.unwrap();
    session
        .send(paint(session.width, session.height - 1, session.height))
        .await;
    let events = session.end().await;
    let (at, _) = the_gap(&events);
    assert_eq!(first_picture_after(&events, at), [RED.1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_that_does_not_repaint_is_not_waited_for_without_end() {
    let session = Session::new(Duration::from_secs(2)).await;
    session.shared().queue.shed();
    session.recorder.wants_refresh().await;
    session.send(paint(session.width, 0, STRIPE)).await;
    let sent = session.facts.started_at.elapsed();
    let queue = &session.shared().queue;
    while session.facts.started_at.elapsed() < sent + Duration::from_secs(4) || !queue.is_idle() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let missing = usize::from(session.width) * usize::from(session.height - STRIPE);
    let events = session.end().await;
    let (at, _) = the_gap(&events);
    assert_eq!(first_picture_after(&events, at), [[0, 0, 0], RED.1]);
    let alert = events[at..].iter().find_map(|(_, event)| match event {
        Event::Session(SessionEvent::Alert { name, detail }) if name == "not_repainted" => Some(detail),
        _ => None,
    });
    let alert = alert.expect("what is black is explained");
    assert!(alert.contains(&format!("did not repaint {missing} pixels")), "{alert}");
}

/// A gap that the session's end cuts short ends there, and no black picture follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_end_before_the_repaint() {
    let session = Session::new(Duration::from_secs(600)).await;
    session.shared().queue.shed();
    session.recorder.wants_refresh().await;
    let events = session.end().await;
    let (at, _) = the_gap(&events);
    assert!(!events[at..].iter().any(|(_, event)| matches!(event, Event::Screen(_))));
}

fn shared(facts: &SessionFacts) -> Arc<Shared> {
    let rules = Rules {
        all_sync: false,
        on_failure: OnFailure::BestEffort,
        stall_max: Duration::from_secs(15),
        queue_max_bytes: 100_000,
    };
    Arc::new(Shared::new(facts, &rules, false, true))
}

#[tokio::test]
async fn best_effort_never_waits_long_and_says_what_it_dropped() {
    let fixture = Fixture::load("xrdp-16");
    let shared = shared(&fixture.facts());
    let recorder = SessionRecorder::recording(Arc::clone(&shared));
    let pdu = || Bytes::from(vec![0; 30_000]);
    for _ in 0..3 {
        recorder.enqueue(Direction::ToClient, pdu()).await.unwrap();
    }
    // One short wait in all, not one a PDU: from now on nothing is waited for, so each is ready when first polled.
    let at_once = |pdu: Bytes| {
        let mut enqueue = std::pin::pin!(recorder.enqueue(Direction::ToClient, pdu));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(enqueue.as_mut().poll(&mut context).is_ready());
    };
    for _ in 0..7 {
        at_once(pdu());
    }
    // Fills the rest, so that an activation no longer fits.
    at_once(Bytes::from(vec![0; 8_600]));
    // The size of the picture and its codecs are said once, perhaps hours before the next time.
    let (_, activation) = fixture.batches().swap_remove(0);
    at_once(activation.clone());
    at_once(pdu());
    let mut batch = std::collections::VecDeque::new();
    let shed = shared.queue.take(&mut batch, Some(Instant::now()), Duration::ZERO);
    assert!(shed);
    let found: Vec<_> = batch
        .iter()
        .map(|entry| match &entry.what {
            What::Pdus(_, pdus) => Ok(pdus.len()),
            What::Lost(lost) => Err(*lost),
            other => panic!("{other:?}"),
        })
        .collect();
    let lost = |reads| {
        Err(Lost {
            reads,
            loss: Loss::default(),
        })
    };
    // Two below three quarters, one more to keep the decompressor right, the others dropped but for the activation.
    let wanted = [
        Ok(30_000),
        Ok(30_000),
        Ok(30_000),
        lost(7),
        Ok(8_600),
        Ok(activation.len()),
        lost(1),
    ];
    assert_eq!(found, wanted);
}

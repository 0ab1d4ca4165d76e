//! What is decoded later shows and tells what it would have at once.

use ironrdp_graphics::zgfx::wrap_uncompressed;

use super::graphics::{create_surface, fill, map, opened, packed};
use super::surfaces::ns_codec;
use super::*;

const SIZE: (u16, u16) = (150, 140);

fn defer(tap: &mut Tap, pdu: &[u8]) -> Vec<TapEvent> {
    let mut out = Vec::new();
    tap.defer(TO_CLIENT, pdu, &mut out);
    out
}

fn settle(tap: &mut Tap) -> Vec<TapEvent> {
    let mut out = Vec::new();
    tap.settle(&mut out);
    out
}

fn planar_at(x: u16, y: u16, edge: u16, seed: u32) -> Vec<u8> {
    let data = planar(edge.into(), edge.into(), &pattern(edge.into(), edge.into(), seed));
    share_data(2, 0, &bitmap_update(&[Bitmap::new(x, y, edge, edge, 32, 0x401, &data)]))
}

/// A run that is longer than its row.
fn broken_at(x: u16, y: u16, edge: u16) -> Vec<u8> {
    let data = [&[0x30][..], &[0x0F; 800]].concat();
    share_data(2, 0, &bitmap_update(&[Bitmap::new(x, y, edge, edge, 32, 0x401, &data)]))
}

#[test]
fn what_is_painted_over_is_not_decoded() {
    let mut tap = active(64, 64);
    for seed in 0..10 {
        assert_eq!(defer(&mut tap, &planar_at(0, 0, 64, seed)), [rect(0, 0, 64, 64)]);
        assert_eq!(defer(&mut tap, &planar_at(8, 8, 16, seed)), [rect(8, 8, 16, 16)]);
    }
    assert_eq!((pixel(&tap, 63, 63), tap.decoded().planar), ([0; 3], 0));
    assert_eq!(settle(&mut tap), []);
    assert_eq!(tap.decoded().planar, 2);
    let mut now = active(64, 64);
    feed(&mut now, TO_CLIENT, &planar_at(0, 0, 64, 9));
    feed(&mut now, TO_CLIENT, &planar_at(8, 8, 16, 9));
    assert!(tap.picture().unwrap().rgba == now.picture().unwrap().rgba);
    assert_eq!(settle(&mut tap), []);
    assert_eq!(tap.decoded().planar, 2);
    // four that make up the whole
    defer(&mut tap, &planar_at(0, 0, 64, 3));
    for (x, y) in [(0, 0), (32, 0), (0, 32), (32, 32)] {
        defer(&mut tap, &planar_at(x, y, 32, 4));
    }
    settle(&mut tap);
    assert_eq!(tap.decoded().planar, 6);
}

/// One that can't be decoded covers nothing.
#[test]
fn what_lies_below_something_broken_is_shown() {
    let mut tap = active(64, 64);
    defer(&mut tap, &planar_at(0, 0, 64, 1));
    assert_eq!(defer(&mut tap, &broken_at(0, 0, 64)), [rect(0, 0, 64, 64)]);
    defer(&mut tap, &planar_at(8, 8, 16, 2));
    let events = settle(&mut tap);
    let fault = undecoded(&events);
    assert_eq!((fault.kind, fault.length), (UndecodedKind::Bitmap, 18 + 801));
    let whole = Rect {
        x: 0,
        y: 0,
        width: 64,
        height: 64,
    };
    assert_eq!(fault.rect, Some(whole));
    let mut now = active(64, 64);
    feed(&mut now, TO_CLIENT, &planar_at(0, 0, 64, 1));
    feed(&mut now, TO_CLIENT, &planar_at(8, 8, 16, 2));
    assert!(tap.picture().unwrap().rgba == now.picture().unwrap().rgba);
    assert_eq!(settle(&mut tap), []);
    // below something sound it is not looked at, unless all is decoded because of another one
    defer(&mut tap, &broken_at(0, 0, 32));
    defer(&mut tap, &planar_at(0, 0, 64, 1));
    assert_eq!(settle(&mut tap), []);
    defer(&mut tap, &broken_at(0, 0, 32));
    defer(&mut tap, &planar_at(0, 0, 64, 1));
    defer(&mut tap, &broken_at(0, 0, 64));
    assert_eq!(settle(&mut tap).len(), 2);
    // what is wrong by its header is told at once
    let wrong = share_data(2, 0, &bitmap_update(&[Bitmap::new(0, 0, 4, 4, 33, 0, &[0; 64])]));
    assert_eq!(undecoded(&defer(&mut tap, &wrong)).error, "bitmap of 33 bpp");
}

/// What it has not painted is nowhere told, so nobody can have covered it.
#[test]
fn what_fails_half_way_is_told_though_its_begin_is_covered() {
    // more tiles than an update of such a screen may ask for
    let mut tiles = vec![(0, 0, [200, 90, 20]); 14];
    tiles.push((1, 0, [20, 90, 200]));
    let update = surface_bits(0, 0, 128, 64, 3, 32, &remote_fx(128, 64, &[], &tiles));
    let pdus = [fast_path(&[(4, 0, 0, &update)]), planar_at(0, 0, 64, 1)];
    let mut now = active(128, 64);
    let told: Vec<_> = pdus.iter().flat_map(|pdu| feed(&mut now, TO_CLIENT, pdu)).collect();
    let is_fault = |event: &&TapEvent| matches!(event, TapEvent::Undecoded(fault) if fault.error.contains("too much"));
    assert_eq!(told.iter().filter(is_fault).count(), 1, "{told:?}");
    let mut later = active(128, 64);
    for pdu in &pdus {
        assert!(!defer(&mut later, pdu).iter().any(|event| is_fault(&event)));
    }
    assert_eq!(settle(&mut later).iter().filter(is_fault).count(), 1);
    assert!(now.picture().unwrap().rgba == later.picture().unwrap().rgba);
}

/// What can't be all there by its length is told at once.
#[test]
fn what_is_too_short_covers_nothing() {
    let mut tap = active(64, 64);
    defer(&mut tap, &planar_at(0, 0, 64, 1));
    let raw = bitmap_update(&[Bitmap::new(0, 0, 64, 64, 32, 0, &[1; 64])]);
    undecoded(&defer(&mut tap, &share_data(2, 0, &raw)));
    let bits = surface_bits(0, 0, 64, 64, 0, 32, &[1; 64]);
    undecoded(&defer(&mut tap, &fast_path(&[(4, 0, 0, &bits)])));
    assert_eq!(settle(&mut tap), []);
    assert_eq!(tap.decoded().planar, 1);
}

#[test]
fn nothing_pending_outlives_a_gap_or_waits_behind_other_paint() {
    let mut tap = active(64, 64);
    defer(&mut tap, &broken_at(0, 0, 64));
    defer(&mut tap, &planar_at(0, 0, 16, 7));
    tap.skip(TO_CLIENT, &planar_at(0, 0, 64, 8));
    assert_eq!(pixel(&tap, 0, 15), pattern(16, 16, 7)[..3]);
    let mut events = Vec::new();
    tap.restart(&mut events);
    assert!(matches!(events.last(), Some(TapEvent::Undecoded(_))), "{events:?}");
    assert_eq!(pixel(&tap, 0, 15), [0; 3]);

    defer(&mut tap, &broken_at(0, 0, 16));
    let events = feed(&mut tap, TO_CLIENT, &planar_at(16, 0, 16, 7));
    assert!(
        matches!(&events[..], [TapEvent::Undecoded(_), TapEvent::Damage(_)]),
        "{events:?}"
    );

    // on another picture it means nothing
    defer(&mut tap, &planar_at(0, 0, 16, 7));
    feed_deferred(&mut tap, TO_CLIENT, &demand_active(64, 64));
    assert_eq!(settle(&mut tap), []);
    assert_eq!(pixel(&tap, 0, 15), [0; 3]);
}

fn feed_deferred(tap: &mut Tap, direction: Direction, pdu: &[u8]) -> Vec<TapEvent> {
    let mut out = Vec::new();
    tap.defer(direction, pdu, &mut out);
    out
}

#[test]
fn what_is_kept_is_bounded() {
    let mut tap = active(64, 64);
    // by number: each paints a row, of one pixel at first
    let row = |column: u16| bitmap_update(&[Bitmap::new(0, 0, 64, 1, 16, 0, &[column as u8; 128])]);
    for number in 0..20_000 {
        defer(&mut tap, &share_data(2, 0, &row(number)));
    }
    assert_ne!(pixel(&tap, 5, 0), [0; 3], "nothing was decoded");
    assert_eq!(tap.decoded().raw, 1);
    settle(&mut tap);
    assert_eq!(tap.decoded().raw, 2);
    // by bytes
    let large = bitmap_update(&[Bitmap::new(0, 8, 64, 56, 32, 0, &[9; 64 * 56 * 4])]);
    for _ in 0..2000 {
        defer(&mut tap, &fast_path(&[(1, 0, 0, &large)]));
    }
    assert_eq!(pixel(&tap, 0, 8), [9; 3]);
    let decoded = tap.decoded().raw;
    assert!((3..5).contains(&decoded), "{decoded}");
    // by rectangles: a tile has 2,048 parts
    let checks: Vec<_> = (0..64 * 32)
        .map(|index| (index % 32 * 2 + index / 32 % 2, index / 32, 1, 1))
        .collect();
    let message = remote_fx(64, 64, &checks, &[(0, 0, [200, 90, 20])]);
    let update = surface_bits(0, 0, 64, 64, 3, 32, &message);
    let mut tap = active(128, 128);
    for _ in 0..40 {
        let events = defer(&mut tap, &fast_path(&[(4, 0, 0, &update)]));
        assert!(
            events.iter().all(|event| !matches!(event, TapEvent::Undecoded(_))),
            "{events:?}"
        );
    }
    assert_eq!(tap.decoded().remote_fx, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Planar(u16, u16, u16, u32),
    Raw(u16, u16, u16, u16),
    Indexed(u16, u16, u8),
    Palette(u8),
    RemoteFx(u16, u16, Vec<(u16, u16, u16, u16)>, Vec<(u16, u16, u8)>),
    Nsc(u16, u16, u8),
    SurfaceRaw(u16, u16, u8),
    Fill([u16; 4], u8),
    Resize(u16),
    Codecs(bool),
    Skip,
}

fn step() -> impl Strategy<Value = Step> {
    let at = || (0_u16..140, 0_u16..130);
    let tile = (0_u16..3, 0_u16..3, any::<u8>());
    let region = (0_u16..150, 0_u16..150, 0_u16..150, 0_u16..150);
    prop_oneof![
        6 => (at(), 1_u16..100, 0_u32..250).prop_map(|((x, y), edge, seed)| Step::Planar(x, y, edge, seed)),
        3 => (at(), 1_u16..70, 1_u16..70).prop_map(|((x, y), width, height)| Step::Raw(x, y, width, height)),
        2 => (at(), any::<u8>()).prop_map(|((x, y), color)| Step::Indexed(x, y, color)),
        1 => any::<u8>().prop_map(Step::Palette),
        6 => (at(), prop::collection::vec(region, 0..4), prop::collection::vec(tile, 1..9))
            .prop_map(|((x, y), regions, tiles)| Step::RemoteFx(x / 2, y / 2, regions, tiles)),
        2 => (at(), any::<u8>()).prop_map(|((x, y), grey)| Step::Nsc(x, y, grey)),
        2 => (at(), any::<u8>()).prop_map(|((x, y), grey)| Step::SurfaceRaw(x, y, grey)),
        1 => (at(), any::<u8>()).prop_map(|((x, y), grey)| Step::Fill([x / 2, y / 2, x / 2 + 20, y / 2 + 20], grey)),
        1 => (140_u16..160).prop_map(Step::Resize),
        1 => any::<bool>().prop_map(Step::Codecs),
        1 => Just(Step::Skip),
    ]
}

fn pdus(step: &Step) -> Vec<(Direction, Vec<u8>)> {
    let bitmap = |x, y, width, height, bits, flags, data: &[u8]| {
        let update = bitmap_update(&[Bitmap::new(x, y, width, height, bits, flags, data)]);
        vec![(TO_CLIENT, fast_path(&[(1, 0, 0, &update)]))]
    };
    let surface = |update: &[u8]| vec![(TO_CLIENT, fast_path(&[(4, 0, 0, update)]))];
    match step {
        Step::Planar(x, y, edge, seed) => vec![(TO_CLIENT, planar_at(*x, *y, (*edge).min(60), *seed))],
        Step::Raw(x, y, width, height) => {
            let stride = (usize::from(*width) * 2).next_multiple_of(4);
            let data: Vec<u8> = (0..stride * usize::from(*height))
                .map(|index| (index as u16).wrapping_mul(x + 1) as u8)
                .collect();
            bitmap(*x, *y, *width, *height, 16, 0, &data)
        }
        Step::Indexed(x, y, color) => bitmap(*x, *y, 32, 20, 8, 0, &[*color; 32 * 20]),
        Step::Palette(shade) => {
            let mut palette = vec![2, 0, 0, 0, 0, 1, 0, 0];
            palette.extend((0..768_u32).map(|index| (index as u8).wrapping_mul(*shade)));
            vec![(TO_CLIENT, share_data(2, 0, &palette))]
        }
        Step::RemoteFx(x, y, regions, tiles) => {
            let tiles: Vec<_> = tiles
                .iter()
                .map(|(column, row, shade)| (*column, *row, [*shade, 255 - *shade, *shade / 2]))
                .collect();
            surface(&surface_bits(
                *x,
                *y,
                128,
                128,
                3,
                32,
                &remote_fx(200, 200, regions, &tiles),
            ))
        }
        Step::Nsc(x, y, grey) => surface(&surface_bits(*x, *y, 40, 30, 1, 32, &ns_codec(40, 30, *grey))),
        Step::SurfaceRaw(x, y, grey) => surface(&surface_bits(*x, *y, 30, 40, 0, 32, &[*grey; 30 * 40 * 4])),
        Step::Fill(edges, grey) => packed(&wrap_uncompressed(&fill(1, [*grey; 3], &[*edges])))
            .into_iter()
            .map(|pdu| (TO_CLIENT, pdu))
            .collect(),
        Step::Resize(width) => vec![(TO_CLIENT, demand_active(*width, SIZE.1))],
        Step::Codecs(swapped) => {
            let (remote_fx, nsc) = if *swapped { (1, 3) } else { (3, 1) };
            let pdu = confirm_active(&[(0x7677_2F12, remote_fx), (0xCA8D_1BB9, nsc)]);
            vec![(TO_DESKTOP, pdu)]
        }
        Step::Skip => Vec::new(),
    }
}

fn ready() -> Tap {
    let mut tap = opened(SIZE.0, SIZE.1);
    let surface = [create_surface(1, 100, 100), map(1, 9, 9)].concat();
    for pdu in packed(&wrap_uncompressed(&surface)) {
        feed(&mut tap, TO_CLIENT, &pdu);
    }
    feed(
        &mut tap,
        TO_DESKTOP,
        &confirm_active(&[(0x7677_2F12, 3), (0xCA8D_1BB9, 1)]),
    );
    tap
}

fn is_undecoded(event: &TapEvent) -> bool {
    matches!(event, TapEvent::Undecoded(_))
}

/// What was told since the last time that both pictures were equal.
#[derive(Default)]
struct Told {
    now: Vec<TapEvent>,
    later: Vec<Undecoded>,
}

impl Told {
    /// All that was told later was told at once, too; what was told at once and not later lies below what came after it.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for (at, event) in self.now.iter().enumerate() {
            let TapEvent::Undecoded(fault) = event else { continue };
            if let Some(found) = self.later.iter().position(|later| later == fault) {
                self.later.swap_remove(found);
                continue;
            }
            // of a message only the tile that can't be decoded has to be covered, which may be by a later one of the same
            let place = fault
                .rect
                .filter(|_| !fault.error.starts_with("tile "))
                .into_iter()
                .flat_map(|rect| {
                    (rect.y..rect.y + rect.height).flat_map(move |y| (rect.x..rect.x + rect.width).map(move |x| (x, y)))
                });
            let after: Vec<Rect> = self.now[at..]
                .iter()
                .filter_map(|event| match event {
                    TapEvent::Damage(rect) => Some(*rect),
                    TapEvent::Resized { width, height } => Some(Rect {
                        x: 0,
                        y: 0,
                        width: *width,
                        height: *height,
                    }),
                    _ => None,
                })
                .collect();
            prop_assert!(
                matches!(fault.kind, UndecodedKind::Bitmap | UndecodedKind::SurfaceCommand),
                "{fault:?}"
            );
            prop_assert!(
                !after.is_empty() || fault.error.starts_with("tile "),
                "{fault:?} is nowhere"
            );
            for (x, y) in place {
                let inside = |rect: &Rect| {
                    (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y)
                };
                let resized = self.now[at..]
                    .iter()
                    .any(|event| matches!(event, TapEvent::Resized { .. }));
                prop_assert!(resized || after.iter().any(inside), "{fault:?} is seen at {x}, {y}");
            }
        }
        prop_assert!(self.later.is_empty(), "{:?} was not told at once", self.later);
        self.now.clear();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The same PDUs, some of them broken, to a tap that decodes at once and to one that does now and then.
    #[test]
    fn later_is_as_at_once(
        steps in prop::collection::vec((step(), prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())), 0_u8..6), 1..40),
    ) {
        let (mut now, mut later) = (ready(), ready());
        let mut told = Told::default();
        for (step, broken, moment) in steps {
            for (direction, mut pdu) in pdus(&step) {
                if let Some((at, byte)) = &broken {
                    // the headers around it stay as they are
                    let headers = pdu.len().min(60);
                    let at = headers + at.index(pdu.len() - headers + 1);
                    if let Some(place) = pdu.get_mut(at) {
                        *place = *byte;
                    }
                }
                let events = feed(&mut now, direction, &pdu);
                let mut deferred = feed_deferred(&mut later, direction, &pdu);
                told.later.extend(deferred.iter().filter_map(|event| match event {
                    TapEvent::Undecoded(fault) => Some(fault.clone()),
                    _ => None,
                }));
                deferred.retain(|event| !is_undecoded(event));
                if !events.iter().any(is_undecoded) {
                    prop_assert_eq!(&events, &deferred);
                }
                told.now.extend(events);
            }
            let gap = matches!(step, Step::Skip);
            if moment == 0 || gap {
                told.later.extend(settle(&mut later).into_iter().filter_map(|event| match event {
                    TapEvent::Undecoded(fault) => Some(fault),
                    _ => None,
                }));
                let (now, later) = (now.picture().unwrap(), later.picture().unwrap());
                prop_assert_eq!((now.width, now.height), (later.width, later.height));
                prop_assert!(now.rgba == later.rgba, "the pictures differ");
                told.check()?;
            }
            if gap {
                for tap in [&mut now, &mut later] {
                    tap.skip(TO_CLIENT, &planar_at(3, 3, 20, 5));
                    tap.restart(&mut Vec::new());
                }
            }
        }
    }
}

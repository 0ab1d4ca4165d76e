//! What a few bytes can ask for.

use super::*;

#[track_caller]
fn assert_over(tap: &Tap, events: &[TapEvent], error: &str) {
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TapEvent::Undecoded(undecoded) => Some(undecoded),
            _ => None,
        })
        .collect();
    let [undecoded] = &told[..] else {
        panic!("{} undecoded", told.len());
    };
    assert_eq!(undecoded.error, error);
    assert!(!tap.is_right(), "what follows refers to what was not painted");
}

#[test]
fn fills_of_a_whole_surface_end() {
    let mut tap = opened(16, 16);
    send(&mut tap, &[create_surface(1, 8192, 1024)]);
    let once = fill(1, [1, 2, 3], &[[0, 0, 8192, 1024]]);
    let events = send(&mut tap, &vec![once; 100]);
    assert_over(&tap, &events, "message that asks for too much");
    // a few of them are none of its concern, in message after message
    let mut tap = opened(16, 16);
    send(&mut tap, &[create_surface(1, 2048, 1024)]);
    let once = fill(1, [1, 2, 3], &[[0, 0, 2048, 1024]]);
    for _ in 0..20 {
        assert_eq!(send(&mut tap, &vec![once.clone(); 5]), []);
    }
    assert!(tap.is_right());
}

#[test]
fn a_pixel_that_is_scaled_to_the_whole_picture_ends() {
    let mut tap = opened(1024, 1024);
    send(&mut tap, &[create_surface(1, 1, 1), map_scaled(1, 0, 0, 1024, 1024)]);
    let many = vec![[0, 0, 1, 1]; 65_535];
    let events = send(&mut tap, &[fill(1, [7, 7, 7], &many)]);
    assert_over(&tap, &events, "message that asks for too much");
    assert!(damage(&events).len() < 200, "{}", damage(&events).len());
}

#[test]
fn surfaces_and_outputs_that_come_and_go_end() {
    let mut tap = opened(16, 16);
    let again: Vec<_> = (0..40).map(|_| create_surface(1, 4096, 4096)).collect();
    let events = send(&mut tap, &again);
    assert_over(&tap, &events, "message that asks for too much");
    let mut tap = opened(16, 16);
    let again: Vec<_> = (0..40).map(|index| reset(4096, 4096 + index)).collect();
    let events = send(&mut tap, &again);
    assert_over(&tap, &events, "message that asks for too much");
}

#[test]
fn surfaces_that_are_reset_and_shown_again_end() {
    let setup = [
        create_surface(1, 8192, 1024),
        fill(1, [1, 1, 1], &[[0, 0, 1, 1]]),
        reset(16, 16),
        fill(1, [1, 1, 1], &[[0, 0, 1, 1]]),
    ];
    for again in [
        vec![map(1, 0, 0)],
        vec![reset(16, 16), fill(1, [1, 1, 1], &[[0, 0, 1, 1]])],
    ] {
        let mut tap = opened(16, 16);
        assert_eq!(send(&mut tap, &setup), []);
        let events = send(&mut tap, &vec![again.concat(); 1200]);
        assert_over(&tap, &events, "message that asks for too much");
    }
}

#[test]
fn bad_commands_are_evidence_in_a_bounded_number_of_events() {
    let mut tap = opened(16, 16);
    let events = send(&mut tap, &vec![encode(0x19, &[]); 256]);
    assert_eq!(events.len(), 256);
    assert!(tap.is_right());
    let events = send(&mut tap, &vec![encode(0x19, &[]); 1000]);
    assert_eq!(events.len(), 257);
    let Some(TapEvent::Undecoded(rest)) = events.last() else {
        panic!("{:?}", events.last());
    };
    assert_eq!(rest.error, "message of which too much can't be decoded");
    assert_eq!(rest.length, (1000 - 256) * 8);
    assert!(!tap.is_right());
}

#[test]
fn many_places_are_few_rectangles() {
    let mut tap = opened(512, 512);
    send(
        &mut tap,
        &[
            create_surface(1, 512, 512),
            map(1, 0, 0),
            fill(1, [5, 5, 5], &[[0, 0, 1, 1]]),
            to_cache(1, 3, [0, 0, 1, 1]),
        ],
    );
    // every other pixel, so that none continues the one before
    let places: Vec<_> = (0..65_535_u32)
        .map(|index| ((index % 256 * 2) as u16, (index / 256 * 2) as u16))
        .collect();
    let events = send(&mut tap, &[from_cache(3, 1, &places)]);
    assert_eq!(events.len(), 4097);
    let last = damage(&events).pop();
    let (left, top) = (0, 30);
    assert!(
        last.is_some_and(|(x, y, _, height)| x == left && y >= top && y + height == 511),
        "{last:?}"
    );
    assert_eq!((pixel(&tap, 0, 0), pixel(&tap, 508, 510)), ([5; 3], [5; 3]));
}

#[test]
fn blocks_without_content_are_not_unpacked() {
    let mut tap = opened(64, 64);
    send(&mut tap, &[create_surface(1, 64, 64)]);
    let end = [0xC2, 0xCC, 6, 0, 0, 0];
    assert_eq!(send(&mut tap, &[progressive_bits(1, &end.repeat(4096))]), []);
    let events = send(&mut tap, &[progressive_bits(1, &end.repeat(4097))]);
    assert!(
        undecoded(&events)
            .error
            .starts_with("progressive stream of more than 4096 blocks"),
        "{events:?}"
    );
    // the same tile again and again: four times each place of the surface are enough
    let tiles = vec![(0, 0, 60); 69];
    let events = send(
        &mut tap,
        &[progressive_bits(
            1,
            &progressive(true, &[(&[area(0, 0, 64, 64)], &tiles)]),
        )],
    );
    assert!(undecoded(&events).error.contains("or 68 tiles"), "{events:?}");
}

/// A desktop may count on the end of all surfaces when it resets the output.
#[test]
fn old_surfaces_make_room_for_new_ones() {
    let mut tap = opened(16, 16);
    let all: Vec<_> = (0..8).map(|id| create_surface(id, 8192, 1024)).collect();
    assert_eq!(send(&mut tap, &all), []);
    assert_eq!(send(&mut tap, &[reset(16, 16), create_surface(8, 8192, 1024)]), []);
    let dot = |id| fill(id, [1, 1, 1], &[[0, 0, 1, 1]]);
    let events = send(&mut tap, &[dot(0)]);
    assert_eq!(undecoded(&events).error, "unknown surface 0");
    assert_eq!(send(&mut tap, &[dot(1), dot(8)]), []);
    // one in the place of an old one is new
    assert_eq!(send(&mut tap, &[create_surface(1, 8192, 1024)]), []);
    let more: Vec<_> = (10..17).map(|id| create_surface(id, 8192, 1024)).collect();
    let events = send(&mut tap, &more);
    assert_eq!(undecoded(&events).error, "surface of 8192x1024 beside 8 others");
    assert_eq!(send(&mut tap, &[dot(1), dot(8), dot(15)]), []);
}

#[test]
fn outputs_above_the_limit_end_the_decoding() {
    let limited = |screen_max_pixels| {
        let mut tap = Tap::new(TapConfig {
            screen_max_pixels,
            ..graphics_config()
        });
        feed(&mut tap, TO_CLIENT, &demand_active(16, 16));
        open(&mut tap, ID);
        tap
    };
    let mut tap = limited(100 * 100);
    let resized = TapEvent::Resized {
        width: 100,
        height: 100,
    };
    assert_eq!(send(&mut tap, &[reset(100, 100)]), [resized]);
    let events = send(&mut tap, &[reset(101, 100), create_surface(1, 8, 8)]);
    let [
        TapEvent::ScreenTooLarge {
            width: 101,
            height: 100,
        },
        TapEvent::Undecoded(output),
        TapEvent::Undecoded(rest),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(output.error, "output of 101x100 is above the limit of 10000 pixels");
    assert_eq!(rest.error, "what it refers to is lost");
    assert!(!tap.is_right());
    // four screens of surfaces
    let mut tap = limited(100 * 100);
    let four: Vec<_> = (0..4).map(|id| create_surface(id, 100, 100)).collect();
    assert_eq!(send(&mut tap, &four), []);
    let events = send(&mut tap, &[create_surface(4, 1, 1)]);
    assert_eq!(undecoded(&events).error, "surface of 1x1 beside 4 others");
}

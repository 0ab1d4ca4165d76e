//! What clients forget and keep: capabilities, resets, caches, gaps.

use super::*;

fn from_client(message: &[u8]) -> Vec<Vec<u8>> {
    let parts = dvc::data(ID, message);
    let pdu = |part: &Vec<u8>| mcs(TO_DESKTOP, DRDYNVC, &single_chunk(part));
    parts.iter().map(pdu).collect()
}

fn advertise(tap: &mut Tap) {
    for pdu in from_client(&encode(
        command::CAPS_ADVERTISE,
        &[1, 0, 4, 0, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0],
    )) {
        assert_eq!(feed(tap, TO_DESKTOP, &pdu), []);
    }
}

fn confirm() -> Vec<u8> {
    encode(command::CAPS_CONFIRM, &[4, 0, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0])
}

fn dot(id: u16) -> Vec<u8> {
    fill(id, [1; 3], &[[0, 0, 1, 1]])
}

#[test]
fn a_client_that_advertises_again_begins_anew() {
    let mut tap = opened(16, 16);
    advertise(&mut tap);
    assert_eq!(send(&mut tap, &[confirm(), create_surface(1, 8, 8)]), []);
    assert_eq!(send(&mut tap, &[dot(1)]), [], "still there");
    advertise(&mut tap);
    assert_eq!(send(&mut tap, &[dot(1), confirm()]), []);
    assert_eq!(undecoded(&send(&mut tap, &[dot(1)])).error, "unknown surface 1");
    assert!(tap.is_right());
    // an answer that came before the question is the answer to it
    let mut tap = opened(16, 16);
    send(&mut tap, &[confirm()]);
    advertise(&mut tap);
    undecoded(&send(&mut tap, &[confirm()]));
    assert!(!tap.is_right());
}

#[test]
fn a_confirmation_that_nobody_asked_for_loses_the_channel() {
    for asked in [true, false] {
        let mut tap = opened(16, 16);
        if asked {
            advertise(&mut tap);
        }
        assert_eq!(send(&mut tap, &[confirm(), create_surface(1, 8, 8)]), []);
        // words of the client that ask for nothing, one of them in parts
        for length in [12, 4000] {
            for pdu in from_client(&encode(command::FRAME_ACKNOWLEDGE, &vec![0x12; length])) {
                feed(&mut tap, TO_DESKTOP, &pdu);
            }
        }
        let events = send(&mut tap, &[confirm(), dot(1)]);
        let [TapEvent::Undecoded(first), TapEvent::Undecoded(rest)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(first.error, "confirms capabilities that no client has advertised since");
        assert_eq!(rest.error, "what it refers to is lost");
        assert!(!tap.is_right());
    }
}

#[test]
fn pictures_that_the_client_has_kept_are_not_known() {
    let mut tap = opened(16, 16);
    let setup = [
        create_surface(1, 16, 16),
        map(1, 0, 0),
        dot(1),
        to_cache(1, 3, [0, 0, 1, 1]),
        to_cache(1, 4, [0, 0, 1, 1]),
    ];
    send(&mut tap, &setup);
    let reply = |fields_: &[u16]| encode(command::CACHE_IMPORT_REPLY, &fields(fields_));
    let events = send(&mut tap, &[reply(&[1, 3])]);
    assert!(
        undecoded(&events).error.starts_with("pictures out of a cache"),
        "{events:?}"
    );
    let events = send(&mut tap, &[from_cache(3, 1, &[(2, 2)])]);
    assert_eq!(undecoded(&events).error, "nothing in slot 3");
    assert_eq!(send(&mut tap, &[from_cache(4, 1, &[(2, 2)])]), [rect(2, 2, 1, 1)]);
    // one that ends early
    undecoded(&send(&mut tap, &[reply(&[9, 3])]));
    assert_eq!(
        undecoded(&send(&mut tap, &[from_cache(4, 1, &[(2, 2)])])).error,
        "nothing in slot 4"
    );
}

/// Some clients wipe all surfaces when the output is reset.
#[test]
fn what_was_painted_before_a_reset_is_not_copied() {
    let mut tap = opened(32, 32);
    let whole = |id| fill(id, [8; 3], &[[0, 0, 16, 16]]);
    let setup = [
        create_surface(1, 16, 16),
        create_surface(2, 16, 16),
        map(2, 0, 0),
        whole(1),
        whole(2),
    ];
    send(&mut tap, &setup);
    let before = "surface 1 was not painted there since the output was reset";
    let events = send(&mut tap, &[reset(32, 32), copy(1, [0, 0, 4, 4], 2, &[(0, 0)])]);
    assert_eq!(undecoded(&events).error, before);
    let events = send(&mut tap, &[to_cache(1, 3, [0, 0, 4, 4]), from_cache(3, 2, &[(0, 0)])]);
    let [TapEvent::Undecoded(cut), TapEvent::Undecoded(pasted)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (cut.error.as_str(), pasted.error.as_str()),
        (before, "nothing in slot 3")
    );
    // nothing of it is shown anew
    assert_eq!(send(&mut tap, &[map(2, 1, 1)]), []);
    let part = fill(1, [5; 3], &[[2, 2, 6, 4]]);
    let events = send(&mut tap, &[part, copy(1, [2, 2, 6, 4], 2, &[(0, 0)])]);
    assert_eq!(events, [rect(1, 1, 4, 2)]);
    let events = send(&mut tap, &[copy(1, [2, 2, 6, 5], 2, &[(0, 0)])]);
    assert_eq!(undecoded(&events).error, before);
    let events = feed(&mut tap, TO_CLIENT, &demand_active(32, 32));
    assert_eq!(damage(&events), [(1, 1, 4, 1), (1, 2, 4, 1)]);
    assert_eq!((pixel(&tap, 4, 2), pixel(&tap, 5, 2)), ([5; 3], [0; 3]));
    // once all is painted
    assert_eq!(
        send(&mut tap, &[whole(1), copy(1, [0, 0, 16, 16], 2, &[(0, 0)])]),
        [rect(1, 1, 16, 16)]
    );
    assert_eq!(send(&mut tap, &[map(2, 0, 0)]), [rect(0, 0, 16, 16)]);
}

#[test]
fn what_failed_during_a_gap_is_told_at_its_end() {
    let mut tap = opened(16, 16);
    send(&mut tap, &[create_surface(1, 16, 16), map(1, 0, 0), dot(1)]);
    let restart = |tap: &mut Tap| {
        let mut events = Vec::new();
        tap.restart(&mut events);
        let told = events.iter().filter_map(|event| match event {
            TapEvent::Undecoded(undecoded) => Some((undecoded.error.clone(), undecoded.length)),
            _ => None,
        });
        (told.collect::<Vec<_>>(), damage(&events))
    };
    for _ in 0..3 {
        for pdu in packed(&wrap_uncompressed(&bits(1, codec::AVC420, [0, 0, 16, 16], &[5; 9]))) {
            tap.skip(TO_CLIENT, &pdu);
        }
    }
    assert!(tap.is_right());
    let (told, shown) = restart(&mut tap);
    let error = "no decoder for H.264, or more, during a gap".to_owned();
    assert_eq!((told, shown), (vec![(error, 34)], vec![(0, 0, 16, 16)]));
    assert_eq!(restart(&mut tap).0, [], "once");
}

#[test]
fn an_output_above_the_limit_is_told_after_a_gap() {
    let mut tap = Tap::new(TapConfig {
        screen_max_pixels: 100,
        ..graphics_config()
    });
    feed(&mut tap, TO_CLIENT, &demand_active(10, 10));
    open(&mut tap, ID);
    for pdu in packed(&wrap_uncompressed(&reset(11, 10))) {
        tap.skip(TO_CLIENT, &pdu);
    }
    // so that the gap ends
    assert!(tap.is_right());
    let mut events = Vec::new();
    tap.restart(&mut events);
    let too_large = TapEvent::ScreenTooLarge { width: 11, height: 10 };
    assert!(events.contains(&too_large), "{events:?}");
    undecoded(&send(&mut tap, &[dot(1)]));
    assert!(!tap.is_right());
}

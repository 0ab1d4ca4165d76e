//! Reactivation, gaps, and what is lost in them.

use super::*;

#[test]
fn reactivation_keeps_history_and_takes_a_new_size() {
    let mut tap = active(64, 64);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let data = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let mut send = |tap: &mut Tap| {
        let (length, flags) = sender.compress(&update).unwrap();
        assert_ne!(flags & 0x20, 0);
        feed(
            tap,
            TO_CLIENT,
            &share_data(2, u8::try_from(flags).unwrap(), sender.compressed_data(length)),
        )
    };
    assert_eq!(send(&mut tap), [rect(0, 0, 16, 16)]);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_control(6, &[0; 6])),
        [TapEvent::Deactivated]
    );
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &demand_active(8, 100)),
        [TapEvent::Resized { width: 8, height: 100 }]
    );
    assert_eq!(pixel(&tap, 0, 0), [0; 3]);
    // The second time it is nearly all matches.
    assert_eq!(send(&mut tap), [rect(0, 0, 8, 16)]);
    assert_eq!(pixel(&tap, 0, 15), pattern(16, 16, 4)[..3]);

    let events = feed(&mut tap, TO_CLIENT, &demand_active(0, 100));
    assert!(undecoded(&events).error.contains("0x100"));
    assert!(tap.picture().is_none());
    assert_eq!(undecoded(&send(&mut tap)).error, "no picture to paint on");
}

#[test]
fn a_gap_keeps_histories_and_restarts_black() {
    let mut tap = active(16, 16);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let data = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let mut pdu = || {
        let (length, flags) = sender.compress(&update).unwrap();
        share_data(2, u8::try_from(flags).unwrap(), sender.compressed_data(length))
    };
    feed(&mut tap, TO_CLIENT, &pdu());
    for _ in 0..5 {
        tap.skip(TO_CLIENT, &pdu());
    }
    let shape = pointer_shape(Some(32), 3, (0, 0), (1, 1), &[3, 2, 1, 255], &[0, 0]);
    tap.skip(TO_CLIENT, &fast_path(&[(0xB, 0, 0, &shape)]));
    tap.skip(TO_CLIENT, &demand_active(20, 16));
    tap.skip(TO_CLIENT, &[3, 0]);
    let mut events = Vec::new();
    tap.restart(&mut events);
    let [resized, TapEvent::Pointer(PointerEvent::Shape(shape)), wanted] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(resized, &TapEvent::Resized { width: 20, height: 16 });
    assert_eq!(shape.rgba, [1, 2, 3, 255]);
    assert!(matches!(wanted, TapEvent::RefreshWanted { .. }));
    assert_eq!(pixel(&tap, 0, 0), [0; 3]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &pdu()), [rect(0, 0, 16, 16)]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &fast_path(&[(0xA, 0, 0, &[3, 0])])).len(), 1);
}

/// What was dropped unseen must not be guessed: whatever refers to it is undecoded until it is known again.
#[test]
fn what_refers_to_dropped_pdus_is_not_decoded() {
    let mut tap = active(16, 16);
    assert!(tap.is_right());
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let planar = |seed| planar(16, 16, &pattern(16, 16, seed));
    let mut pdu = |seed, flush: u8| {
        let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &planar(seed))]);
        let (length, flags) = sender.compress(&update).unwrap();
        assert_ne!(flags & 0x20, 0);
        share_data(2, u8::try_from(flags).unwrap() | flush, sender.compressed_data(length))
    };
    assert_eq!(feed(&mut tap, TO_CLIENT, &pdu(4, 0)), [rect(0, 0, 16, 16)]);
    let shape = pointer_shape(Some(32), 3, (0, 0), (1, 1), &[3, 2, 1, 255], &[0, 0]);
    feed(&mut tap, TO_CLIENT, &fast_path(&[(0xB, 0, 0, &shape)]));
    let first = fast_path(&[(1, 2, 0, &[1, 0])]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &first), []);

    // This one is dropped.
    pdu(9, 0);
    tap.lost(Loss::default());
    assert!(!tap.is_right());
    let events = feed(&mut tap, TO_CLIENT, &pdu(9, 0));
    assert!(undecoded(&events).error.contains("lost"), "{events:?}");
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 1, 0, &[0, 0])]));
    assert_eq!(
        undecoded(&events).error,
        "fragment of an update whose beginning is missing"
    );
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(0xA, 0, 0, &[3, 0])]));
    assert!(undecoded(&events).error.contains("nothing cached"), "{events:?}");
    // One byte a pixel: index 9, of a palette that may be another one by now.
    let index = Bitmap::new(0, 0, 4, 1, 8, 0, &[9; 4]);
    let events = feed(
        &mut tap,
        TO_CLIENT,
        &share_data(2, 0, &bitmap_update(std::slice::from_ref(&index))),
    );
    assert!(undecoded(&events).error.contains("palette"), "{events:?}");
    let mut palette = vec![2, 0, 0, 0, 0, 1, 0, 0];
    palette.extend([7; 768]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &share_data(2, 0, &palette)), []);
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, &bitmap_update(&[index])));
    assert_eq!(events, [rect(0, 0, 4, 1)]);
    assert!(!tap.is_right());

    // The sender starts anew, also while the gap goes on.
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let (length, flags) = sender.compress(&[5; 300]).unwrap();
    let flags = u8::try_from(flags).unwrap() | 0x80;
    tap.skip(TO_CLIENT, &share_data(99, flags, sender.compressed_data(length)));
    assert!(tap.is_right());
}

#[test]
fn a_lost_activation_is_waited_for() {
    let mut tap = active(16, 16);
    tap.lost(Loss {
        activation: true,
        ..Loss::default()
    });
    assert!(!tap.is_right());
    tap.skip(TO_DESKTOP, &confirm_active(&[]));
    assert!(!tap.is_right(), "that one confirms what was lost");
    tap.skip(TO_CLIENT, &demand_active(20, 16));
    assert!(!tap.is_right(), "its codecs are not known yet");
    tap.lost(Loss::default());
    tap.skip(TO_DESKTOP, &confirm_active(&[]));
    assert!(tap.is_right());
}

fn begins(io_channel: u16, pdus: &[u8]) -> bool {
    let config = TapConfig {
        io_channel,
        ..TapConfig::default()
    };
    Loss::of(&config, pdus).activation
}

#[test]
fn activations_are_found_among_other_pdus() {
    let plain = [share_data(2, 0, &[0; 8]), fast_path(&[(3, 0, 0, &[])])].concat();
    let deactivate = share_control(6, &[0; 6]);
    for pdu in [demand_active(8, 8), confirm_active(&[]), deactivate] {
        assert!(begins(1003, &[&plain[..], &pdu].concat()));
        assert!(!begins(1004, &pdu), "another channel");
    }
    assert!(!begins(1003, &plain));
    assert!(!begins(1003, &[]) && !begins(1003, &[3, 0]));
}

#[test]
fn lost_bulk_history_is_reported_until_it_is_flushed() {
    let mut tap = active(16, 16);
    let data = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let (length, flags) = sender.compress(&update).unwrap();
    let flags = u8::try_from(flags).unwrap();
    let compressed = sender.compressed_data(length).to_vec();
    let fault = |events: &[TapEvent]| {
        let fault = undecoded(events).clone();
        assert_eq!(fault.kind, UndecodedKind::Bulk);
        fault
    };
    // An impossible code in the bit stream.
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, flags, &[0xFF; 20]));
    assert_eq!(fault(&events).data, [0xFF; 20]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 0, flags & !0x80, &compressed)]));
    assert_eq!(fault(&events).data, compressed);
    // What is not compressed still decodes.
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update)),
        [rect(0, 0, 16, 16)]
    );
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, flags | 0x80, &compressed));
    assert!(
        matches!(events[..], [TapEvent::RefreshWanted { .. }, TapEvent::Damage(_)]),
        "{events:?}"
    );
}

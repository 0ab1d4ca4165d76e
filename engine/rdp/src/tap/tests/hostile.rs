//! Bytes of strangers.

use super::*;

/// Whatever comes, our own code does not panic, damage lies inside the picture and the fourth byte stays 255.
#[track_caller]
fn assert_sane(tap: &Tap, events: &[TapEvent]) {
    for event in events {
        match event {
            TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) => {
                let picture = tap.picture().unwrap();
                assert!(rect.width > 0 && rect.height > 0);
                assert!(
                    u32::from(rect.x) + u32::from(rect.width) <= u32::from(picture.width),
                    "{rect:?}"
                );
                assert!(
                    u32::from(rect.y) + u32::from(rect.height) <= u32::from(picture.height),
                    "{rect:?}"
                );
            }
            TapEvent::Undecoded(undecoded) => assert!(!undecoded.error.contains("tap panicked"), "{undecoded:?}"),
            _ => {}
        }
    }
    if let Some(picture) = tap.picture() {
        assert!(picture.rgba.chunks(4).all(|pixel| pixel[3] == 255));
    }
}

fn samples() -> Vec<(Direction, Vec<u8>)> {
    let bitmap = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[
        Bitmap::new(3, 3, 16, 16, 32, 0x401, &bitmap),
        Bitmap::new(0, 1, 4, 1, 16, 0x401, &[0x64, 0x1F, 0x00]),
        Bitmap::new(0, 1, 3, 1, 24, 0, &[9; 12]),
    ]);
    let mut surface = surface_bits(
        0,
        0,
        64,
        64,
        3,
        32,
        &remote_fx(64, 64, &[(0, 0, 30, 30)], &[(0, 0, [90, 9, 90])]),
    );
    surface.extend(surface_bits(7, 7, 2, 2, 0, 32, &[5; 16]));
    surface.extend(frame_marker(1, 2));
    let shape = pointer_shape(Some(32), 3, (0, 0), (1, 1), &[3, 2, 1, 255], &[0, 0]);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let (length, flags) = sender.compress(&update).unwrap();
    let compressed = share_data(2, u8::try_from(flags).unwrap(), sender.compressed_data(length));
    vec![
        (TO_CLIENT, share_data(2, 0, &update)),
        (TO_CLIENT, fast_path(&[(1, 0, 0, &update)])),
        (TO_CLIENT, fast_path(&[(4, 0, 0, &surface)])),
        (TO_CLIENT, fast_path(&[(0xB, 0, 0, &shape), (0xA, 0, 0, &[3, 0])])),
        (TO_CLIENT, compressed),
        (TO_CLIENT, demand_active(40, 30)),
        (TO_DESKTOP, confirm_active(&[(0x7677_2F12, 3)])),
        (TO_DESKTOP, fast_path_input(0, 2, &[0, 0x1E, 1 << 5, 0, 8, 1, 0, 1, 0])),
        (
            TO_DESKTOP,
            share_data_to_desktop(28, &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x1E, 0, 0, 0]),
        ),
    ]
}

proptest! {
    #[test]
    fn noise_does_no_harm(pdus in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut tap = active(40, 30);
        for (to_client, mut pdu) in pdus {
            let direction = if to_client { TO_CLIENT } else { TO_DESKTOP };
            // Half of the time as a fast-path PDU with sound framing, so that the noise gets further in.
            if pdu.first().is_some_and(|byte| byte & 1 == 0) {
                let length = u8::try_from(pdu.len() + 2).unwrap();
                pdu.splice(0..0, [0, length]);
            }
            let events = feed(&mut tap, direction, &pdu);
            assert_sane(&tap, &events);
        }
    }

    #[test]
    fn updates_of_noise_do_no_harm(
        code in 0u8..16,
        kind in 0u8..4,
        noise in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4], 0..200),
    ) {
        let mut tap = active(40, 30);
        let with_type = [&[kind, 0][..], &noise].concat();
        for pdu in [
            fast_path(&[(code, 0, 0, &noise)]),
            fast_path(&[(code, 0, 0, &with_type)]),
            share_data(2, 0, &with_type),
            share_data(27, 0, &with_type),
            share_data(2, 0x21, &noise),
            mcs(TO_CLIENT, 1005, &[&[9, 0, 0, 0, 3, 0, 0, 0][..], &with_type].concat()),
        ] {
            let events = feed(&mut tap, TO_CLIENT, &pdu);
            assert_sane(&tap, &events);
        }
    }

    #[test]
    fn mutated_pdus_do_no_harm(
        mutations in prop::collection::vec((0usize..9, any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..30),
    ) {
        let samples = samples();
        let mut tap = active(40, 30);
        for (sample, at, byte, how) in mutations {
            let (direction, mut pdu) = samples[sample].clone();
            let at = at.index(pdu.len());
            match how {
                0 => pdu[at] = byte,
                1 => pdu.truncate(at),
                _ => pdu[at] ^= 1 << (byte & 7),
            }
            // Sizes are bounded elsewhere; huge pictures would only make this slow.
            let events = feed(&mut tap, direction, &pdu);
            if tap.picture().is_some_and(|picture| picture.rgba.len() > 1 << 20) {
                tap = active(40, 30);
            } else {
                assert_sane(&tap, &events);
            }
        }
    }
}

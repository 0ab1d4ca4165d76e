//! Surface commands.

use super::*;

#[test]
fn remote_fx_paints_its_rectangles_only() {
    let mut tap = active(200, 150);
    // Two tiles far apart; of each a rectangle is valid.
    let message = remote_fx(
        200,
        150,
        &[(5, 6, 20, 10), (130, 70, 62, 58)],
        &[(0, 0, [200, 30, 60]), (2, 1, [10, 240, 90])],
    );
    let mut update = frame_marker(0, 7);
    update.extend(surface_bits(0, 0, 200, 150, 3, 32, &message));
    update.extend(frame_marker(1, 7));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(events, [rect(5, 6, 20, 10), rect(130, 70, 62, 58), TapEvent::FrameEnd]);
    let near = |at: [u8; 3], to: [u8; 3]| at.iter().zip(to).all(|(a, b)| a.abs_diff(b) <= 5);
    assert!(near(pixel(&tap, 5, 6), [200, 30, 60]), "{:?}", pixel(&tap, 5, 6));
    assert!(
        near(pixel(&tap, 191, 127), [10, 240, 90]),
        "{:?}",
        pixel(&tap, 191, 127)
    );
    assert_eq!(
        [pixel(&tap, 4, 6), pixel(&tap, 25, 6), pixel(&tap, 100, 70)],
        [[0; 3]; 3]
    );

    // The surface's origin moves everything; what is beyond the picture is not decoded.
    let update = surface_bits(
        100,
        100,
        64,
        64,
        3,
        32,
        &remote_fx(64, 64, &[], &[(0, 0, [9, 9, 9]), (5, 5, [1, 1, 1])]),
    );
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)])),
        [rect(100, 100, 64, 50)]
    );
    assert!(near(pixel(&tap, 163, 149), [9, 9, 9]));
}

#[test]
fn remote_fx_is_known_by_its_looks_when_the_client_announced_nothing() {
    let mut tap = active(64, 64);
    feed(&mut tap, TO_DESKTOP, &confirm_active(&[]));
    let message = remote_fx(64, 64, &[], &[(0, 0, [90, 90, 90])]);
    let update = surface_bits(0, 0, 64, 64, 3, 32, &message);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)])),
        [rect(0, 0, 64, 64)]
    );
    let update = surface_bits(0, 0, 64, 64, 3, 32, b"something else");
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(undecoded(&events).error, "codec that the client did not announce");
}

#[test]
fn surface_commands_are_split() {
    let mut tap = active(8, 8);
    // Lower row first.
    let raw = [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 10, 11, 12, 0];
    let nscodec = surface_bits(4, 4, 2, 2, 1, 32, &[1, 2, 3, 4]);
    let mut update = surface_bits(1, 1, 2, 2, 0, 32, &raw);
    update.extend(&nscodec);
    update.extend(surface_bits(7, 7, 2, 2, 0, 32, &raw));
    update.extend(frame_marker(1, 1));
    update.extend(frame_marker(1, 2));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(
        [&events[0], &events[2], &events[3]],
        [&rect(1, 1, 2, 2), &rect(7, 7, 1, 1), &TapEvent::FrameEnd]
    );
    let fault = undecoded(&events[1..2]);
    assert_eq!(
        (fault.codec_id, fault.rect),
        (
            Some(1),
            Some(Rect {
                x: 4,
                y: 4,
                width: 2,
                height: 2
            })
        )
    );
    assert_eq!(
        (fault.error.as_str(), &fault.data),
        ("no decoder for NSCodec", &nscodec)
    );
    assert_eq!(
        [pixel(&tap, 1, 1), pixel(&tap, 1, 2), pixel(&tap, 7, 7)],
        [[9, 8, 7], [3, 2, 1], [9, 8, 7]]
    );

    // A frame marker without its id, as some desktops send it; then an unknown command.
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &[4, 0, 1, 0])]));
    assert_eq!(events, [TapEvent::FrameEnd]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &[9, 0, 1, 2, 3])]));
    assert_eq!(undecoded(&events).error, "surface command 0x0009");
}

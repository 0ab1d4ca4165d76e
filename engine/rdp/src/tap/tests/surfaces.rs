//! Surface commands.

use super::*;
use crate::tap::framebuffer::Framebuffer;
use crate::tap::rfx::RemoteFx;
use crate::tap::work::Work;

/// What a tile may cost beside what its rectangles do: reading, decoding and painting all of it once.
const TILE_COST: u64 = 12 * 64 * 64;

/// Paints a message on a new picture: what it has cost, the rectangles that were told and the picture.
fn paint_remote_fx(
    (width, height): (u16, u16),
    at: (u16, u16),
    message: &[u8],
    mut work: Work,
) -> (Result<u64, String>, Vec<Rect>, Framebuffer) {
    let mut screen = Framebuffer::new(width, height).unwrap();
    let mut rects = Vec::new();
    let before = work.left();
    let result = RemoteFx::default().paint(&mut screen, at, message, (&mut work, &mut |rect| rects.push(rect)));
    (result.map(|()| before - work.left()), rects, screen)
}

fn area(rects: &[Rect]) -> u64 {
    rects
        .iter()
        .map(|rect| u64::from(rect.width) * u64::from(rect.height))
        .sum()
}

/// 2,000 tiles, each at its place of a picture of 3200x2560, or all at the first one.
fn many_tiles(spread: bool) -> Vec<(u16, u16, [u8; 3])> {
    let place = |index: u16| if spread { (index % 50, index / 50) } else { (0, 0) };
    let tiles = (0..2000).map(place);
    tiles.map(|(x, y)| (x, y, [200, 90, 20])).collect()
}

#[test]
fn equal_rectangles_do_not_multiply_what_tiles_cost() {
    let size = (3200, 2560);
    let message = remote_fx(3200, 2560, &[(0, 0, 3200, 2560); 2000], &many_tiles(true));
    let (cost, rects, _) = paint_remote_fx(size, (0, 0), &message, Work::default());
    assert!(cost.unwrap() < 2000 * TILE_COST);
    assert_eq!((rects.len(), area(&rects)), (2000, 3200 * 2560));
    // rectangles that cover only a part, and never the whole tile
    let rectangles: Vec<_> = (0..2000).map(|index| (0, 0, 3200, 1 + index % 40)).collect();
    let message = remote_fx(3200, 2560, &rectangles, &many_tiles(true));
    let (cost, rects, _) = paint_remote_fx(size, (0, 0), &message, Work::default());
    let looks = 2000 * 2000 * 8;
    assert!((looks..looks + 2000 * TILE_COST).contains(&cost.unwrap()));
    assert_eq!((rects.len(), area(&rects)), (50, 3200 * 40));
}

#[test]
fn few_bytes_do_not_paint_with_remote_fx_for_long() {
    // as many parts as a tile can have, of each of 2,000 tiles at one place
    let rectangles: Vec<_> = (0..2000)
        .map(|index| (index % 32 * 2 + index / 32 % 2, index / 32, 1, 1))
        .collect();
    let message = remote_fx(64, 64, &rectangles, &many_tiles(false));
    let mut screen = Framebuffer::new(256, 256).unwrap();
    let mut work = Work::of_update(&screen);
    let mut parts = 0_u64;
    let result = RemoteFx::default().paint(&mut screen, (0, 0), &message, (&mut work, &mut |_| parts += 1));
    assert_eq!(result.unwrap_err(), "message asks for too much");
    assert!(work.is_over());
    assert!((2000..20_000).contains(&parts), "{parts} of 4,000,000");

    // in an update all that can't be painted is evidence, and what needs no decoder goes on
    let mut tap = active(64, 64);
    feed(
        &mut tap,
        TO_DESKTOP,
        &confirm_active(&[(0x7677_2F12, 3), (0xCA8D_1BB9, 9)]),
    );
    let rectangles = [(0, 0, 1, 1); 100];
    let tiles = [(0, 0, [200, 90, 20]); 30];
    let greedy = surface_bits(0, 0, 64, 64, 3, 32, &remote_fx(64, 64, &rectangles, &tiles));
    let small = surface_bits(0, 0, 8, 8, 9, 32, &ns_codec(8, 8, 5));
    let mut update = [greedy.clone(), small.clone()].concat();
    update.extend(surface_bits(1, 1, 2, 2, 0, 32, &[9; 16]));
    update.extend(frame_marker(1, 1));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    let evidence: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TapEvent::Undecoded(undecoded) => Some((undecoded.codec_id, undecoded.error.as_str(), undecoded.length)),
            _ => None,
        })
        .collect();
    let error = "message asks for too much";
    assert_eq!(
        evidence,
        [(Some(3), error, greedy.len()), (Some(9), error, small.len())]
    );
    assert_eq!(events[events.len() - 2..], [rect(1, 1, 2, 2), TapEvent::FrameEnd]);
    assert!((1..30).contains(&events.iter().filter(|event| **event == rect(0, 0, 1, 1)).count()));
    // the next update has all of it again
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &small)]));
    assert_eq!(events, [rect(0, 0, 8, 8)]);
}

proptest! {
    #[test]
    fn rectangles_show_what_they_cover_of_the_whole(
        at in (0_u16..40, 0_u16..40),
        rectangles in prop::collection::vec((0_u16..200, 0_u16..150, 0_u16..140, 0_u16..140), 1..12),
    ) {
        let tiles: Vec<_> = (0..12).map(|index| (index % 4, index / 4, [index as u8 * 20, 250 - index as u8 * 20, 90])).collect();
        let size = (200, 150);
        let (_, _, whole) = paint_remote_fx(size, at, &remote_fx(256, 192, &[], &tiles), Work::default());
        let (cost, rects, screen) = paint_remote_fx(size, at, &remote_fx(256, 192, &rectangles, &tiles), Work::default());
        prop_assert!(cost.is_ok());
        let mut expected = Framebuffer::new(size.0, size.1).unwrap();
        for (x, y, width, height) in rectangles {
            // tiles cover 256x192 of the message
            let (right, bottom) = ((x + width).min(256), (y + height).min(192));
            let (width, height) = (usize::from(right.saturating_sub(x)), usize::from(bottom.saturating_sub(y)));
            if let Some(rect) = expected.clip(usize::from(at.0 + x), usize::from(at.1 + y), width, height) {
                expected.paint(rect, |row, out| out.copy_from_slice(whole.row(rect, row)));
            }
        }
        prop_assert!(screen.picture().rgba == expected.picture().rgba);
        // told is what was painted, and that once
        let painted = expected.picture().rgba.chunks(4).filter(|pixel| pixel[..3] != [0; 3]).count();
        prop_assert_eq!(area(&rects), painted as u64);
    }
}

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
        ("malformed NSCodec header", &nscodec)
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

/// An NSCodec picture of one grey, without a loss.
pub(super) fn ns_codec(width: u16, height: u16, grey: u8) -> Vec<u8> {
    let size = u32::from(width) * u32::from(height);
    let plane = |value: u8| {
        let run = (size - 4).to_le_bytes();
        [&[value, value, 0xFF][..], &run, &[value; 4]].concat()
    };
    let planes = [plane(grey), plane(0), plane(0)];
    let mut data: Vec<u8> = planes
        .iter()
        .flat_map(|plane| (plane.len() as u32).to_le_bytes())
        .collect();
    data.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    data.extend(planes.concat());
    data
}

#[test]
fn ns_codec_has_the_number_that_the_client_gave_it() {
    let mut tap = active(64, 64);
    feed(
        &mut tap,
        TO_DESKTOP,
        &confirm_active(&[(0xCA8D_1BB9, 9), (0x1BAF_4CE6, 1)]),
    );
    let update = surface_bits(60, 10, 16, 8, 9, 32, &ns_codec(16, 8, 77));
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)])),
        [rect(60, 10, 4, 8)]
    );
    assert_eq!(
        [pixel(&tap, 59, 10), pixel(&tap, 60, 10), pixel(&tap, 63, 17)],
        [[0; 3], [77; 3], [77; 3]]
    );
    assert_eq!(tap.decoded().ns_codec, 1);
    let update = surface_bits(0, 0, 16, 8, 1, 32, &ns_codec(16, 8, 78));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(undecoded(&events).error, "no decoder for JPEG");
    assert_eq!(pixel(&tap, 0, 0), [0; 3]);
}

#[test]
fn few_bytes_do_not_paint_with_ns_codec_for_long() {
    let mut tap = active(64, 64);
    feed(&mut tap, TO_DESKTOP, &confirm_active(&[(0xCA8D_1BB9, 9)]));
    let whole = surface_bits(0, 0, 64, 64, 9, 32, &ns_codec(64, 64, 5));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &whole.repeat(9))]));
    assert_eq!(tap.decoded().ns_codec, 8);
    assert_eq!(undecoded(&events[8..]).error, "message asks for too much");
    // the next one has all of it again, but none that is larger
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &whole)]));
    assert_eq!(events, [rect(0, 0, 64, 64)]);
    let huge = surface_bits(0, 0, 60_000, 60_000, 9, 32, &ns_codec(60_000, 60_000, 5));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &huge)]));
    assert_eq!(undecoded(&events).error, "message asks for too much");
}

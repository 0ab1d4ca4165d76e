//! Bitmap updates of all encodings.

use super::*;

#[test]
fn bitmaps_of_all_depths_on_both_paths() {
    // 3x2 pixels; rows padded to four bytes.
    let raw24 = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, // lower row
        11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 0, 0,
    ];
    let mut tap = active(10, 10);
    let update = bitmap_update(&[Bitmap::new(2, 3, 3, 2, 24, 0, &raw24)]);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update)),
        [rect(2, 3, 3, 2)]
    );
    assert_eq!(pixel(&tap, 2, 3), [13, 12, 11]);
    assert_eq!(pixel(&tap, 4, 3), [19, 18, 17]);
    assert_eq!(pixel(&tap, 2, 4), [3, 2, 1]);
    assert_eq!(pixel(&tap, 5, 3), [0; 3]);

    let raw32 = [1, 2, 3, 99, 4, 5, 6, 99];
    let raw16 = [0x00, 0xF8, 0xE0, 0x07, 0x1F, 0x00, 0, 0];
    let rle16 = [0x64, 0x1F, 0x00];
    let rle8 = [0x64, 249];
    let header = [0, 0, 2, 0, 4, 0, 4, 0, 0x64, 250, 77];
    let update = bitmap_update(&[
        Bitmap::new(0, 0, 2, 1, 32, 0, &raw32),
        Bitmap::new(0, 1, 3, 1, 16, 0, &raw16),
        Bitmap::new(0, 2, 4, 1, 16, 0x401, &rle16),
        Bitmap::new(0, 5, 4, 1, 8, 0x401, &rle8),
        Bitmap::new(0, 6, 4, 1, 8, 0x001, &header),
    ]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 0, 0, &update)]));
    assert_eq!(
        events,
        [
            rect(0, 0, 2, 1),
            rect(0, 1, 3, 1),
            rect(0, 2, 4, 1),
            rect(0, 5, 4, 1),
            rect(0, 6, 4, 1)
        ]
    );
    assert_eq!([pixel(&tap, 0, 0), pixel(&tap, 1, 0)], [[3, 2, 1], [6, 5, 4]]);
    assert_eq!(
        [pixel(&tap, 0, 1), pixel(&tap, 1, 1), pixel(&tap, 2, 1)],
        [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    );
    assert_eq!(pixel(&tap, 3, 2), [0, 0, 255]);
    assert_eq!([pixel(&tap, 3, 5), pixel(&tap, 0, 6)], [[255, 0, 0], [0, 255, 0]]);
}

#[test]
fn planar_with_bulk_history_over_both_paths() {
    let mut tap = active(64, 64);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let mut shared = 0;
    for step in 0..40u16 {
        let rgb = pattern(16, 16, u32::from(step) / 8);
        let data = planar(16, 16, &rgb);
        let (x, y) = (step % 4 * 16, step / 4 % 4 * 16);
        let update = bitmap_update(&[Bitmap::new(x, y, 16, 16, 32, 0x401, &data)]);
        let (length, flags) = sender.compress(&update).unwrap();
        let flags = u8::try_from(flags).unwrap();
        let bytes = if flags & 0x20 == 0 {
            update
        } else {
            sender.compressed_data(length).to_vec()
        };
        shared += usize::from(flags & 0x20 != 0);
        let pdu = if step % 3 == 0 {
            fast_path(&[(1, 0, flags, &bytes)])
        } else {
            share_data(2, flags, &bytes)
        };
        assert_eq!(feed(&mut tap, TO_CLIENT, &pdu), [rect(x, y, 16, 16)], "step {step}");
        for (index, color) in rgb.chunks(3).enumerate() {
            let (column, row) = (index % 16, 15 - index / 16);
            assert_eq!(
                pixel(&tap, usize::from(x) + column, usize::from(y) + row),
                *color,
                "step {step}"
            );
        }
    }
    assert!(shared > 30, "only {shared} were compressed");
}

#[test]
fn what_lies_beyond_the_picture_is_cut_off() {
    let mut tap = active(10, 10);
    let rgb = pattern(8, 8, 1);
    let data = planar(8, 8, &rgb);
    let update = bitmap_update(&[
        Bitmap::new(6, 7, 8, 8, 32, 0x401, &data),
        Bitmap::new(10, 0, 8, 8, 32, 0x401, &data),
        // Padded to eight columns, five and three of them shown.
        Bitmap {
            right: 4,
            bottom: 2,
            ..Bitmap::new(0, 0, 8, 8, 32, 0x401, &data)
        },
    ]);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update)),
        [rect(6, 7, 4, 3), rect(0, 0, 5, 3)]
    );
    // The upper left of the bitmap is its last row's beginning.
    let last_row = &rgb[7 * 8 * 3..];
    assert_eq!(pixel(&tap, 6, 7), last_row[..3]);
    assert_eq!(pixel(&tap, 9, 7), last_row[9..12]);
    assert_eq!(pixel(&tap, 4, 0), last_row[12..15]);
    assert_eq!(pixel(&tap, 5, 0), [0; 3]);
}

#[test]
fn a_broken_bitmap_does_not_take_its_neighbours_along() {
    let mut tap = active(10, 10);
    let good = planar(2, 2, &pattern(2, 2, 3));
    let bad = Bitmap::new(4, 4, 4, 4, 32, 0x401, &[0x30, 0x00]);
    let update = bitmap_update(&[
        Bitmap::new(0, 0, 2, 2, 32, 0x401, &good),
        bad.clone(),
        Bitmap::new(0, 2, 2, 2, 32, 0x401, &good),
    ]);
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update));
    assert_eq!([&events[0], &events[2]], [&rect(0, 0, 2, 2), &rect(0, 2, 2, 2)]);
    let fault = undecoded(&events[1..2]);
    assert_eq!(fault.kind, UndecodedKind::Bitmap);
    assert_eq!(
        fault.rect,
        Some(Rect {
            x: 4,
            y: 4,
            width: 4,
            height: 4
        })
    );
    assert_eq!(fault.data, bad.bytes());
    assert_eq!(pixel(&tap, 4, 4), [0; 3]);

    // Cut within the second one; a count that promises too much.
    let cut = &update[..4 + 18 + good.len() + 10];
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, cut));
    assert_eq!(events[0], rect(0, 0, 2, 2));
    assert_eq!(undecoded(&events[1..]).error, "bitmap update ends in rectangle 2 of 3");
}

#[test]
fn fragments_of_one_update() {
    let mut tap = active(20, 20);
    let data = planar(16, 16, &pattern(16, 16, 9));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let third = update.len() / 3;
    let parts = [&update[..third], &update[third..2 * third], &update[2 * third..]];
    assert_eq!(feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 2, 0, parts[0])])), []);
    // A synchronize between fragments would cut them off, so they come in a row; two share a PDU here.
    let events = feed(
        &mut tap,
        TO_CLIENT,
        &fast_path(&[(1, 3, 0, parts[1]), (1, 1, 0, parts[2])]),
    );
    assert_eq!(events, [rect(0, 0, 16, 16)]);

    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 2, 0, parts[0]), (5, 0, 0, &[])]));
    assert_eq!(undecoded(&events[..1]).data, parts[0]);
    assert_eq!(events[1], TapEvent::Pointer(PointerEvent::Hidden));
    assert!(
        undecoded(&feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 1, 0, parts[2])])))
            .error
            .contains("missing")
    );
}

#[test]
fn updates_larger_than_the_limit_are_given_up() {
    let mut tap = Tap::new(TapConfig {
        max_request_size: 1000,
        undecoded_max_bytes: 10,
        ..config()
    });
    feed(&mut tap, TO_CLIENT, &demand_active(10, 10));
    let part = [7; 600];
    assert_eq!(feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 2, 0, &part)])), []);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 3, 0, &part)]));
    assert_eq!(events.len(), 2);
    let fault = undecoded(&events[..1]);
    assert_eq!((fault.data.len(), fault.length), (10, 600));
    assert_eq!(
        undecoded(&feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 1, 0, &part)]))).length,
        600
    );
}

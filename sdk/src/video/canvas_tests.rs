#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::video::planes::Sampling;

/// Red, and the mean of green and blue of 2x2 pixels: colours that a test can count.
#[derive(Debug)]
struct Half;

impl Colors for Half {
    const SAMPLING: Sampling = Sampling::Half;
    const BLACK: [u8; 3] = [16, 128, 128];

    fn convert(&mut self, rows: &[u8], width: usize, (x, top): (usize, usize), planes: &mut Planes) {
        let [stride, half, _] = planes.strides();
        let [first, second, third] = planes.planes_mut();
        for (row, y) in rows.chunks_exact(width * 4).zip(top..) {
            for (pixel, x) in row.as_chunks::<4>().0.iter().zip(x..) {
                first[y * stride + x] = pixel[0].max(16);
                if x % 2 == 0 && y % 2 == 0 {
                    second[y / 2 * half + x / 2] = pixel[1];
                    third[y / 2 * half + x / 2] = pixel[2];
                }
            }
        }
    }
}

/// Each pixel as it is.
#[derive(Debug)]
struct Full;

impl Colors for Full {
    const SAMPLING: Sampling = Sampling::Full;
    const BLACK: [u8; 3] = [0; 3];

    fn convert(&mut self, rows: &[u8], width: usize, (x, top): (usize, usize), planes: &mut Planes) {
        let stride = planes.width();
        for (row, y) in rows.chunks_exact(width * 4).zip(top..) {
            for (pixel, x) in row.as_chunks::<4>().0.iter().zip(x..) {
                for (plane, sample) in planes.planes_mut().into_iter().zip(pixel) {
                    plane[y * stride + x] = *sample;
                }
            }
        }
    }
}

fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
    Region { x, y, width, height }
}

/// A picture in which every pixel is different.
fn picture(width: u32, height: u32, seed: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|at| {
            let mixed = (at + 1)
                .wrapping_mul(2_654_435_761)
                .wrapping_add(seed.wrapping_mul(40_503));
            [(mixed >> 8) as u8, (mixed >> 16) as u8, (mixed >> 24) as u8, 0]
        })
        .collect()
}

fn frame<'a>(width: u32, height: u32, rgba: &'a [u8], changed: &'a [Region]) -> Frame<'a> {
    Frame::new(0, width, height, width as usize * 4, rgba, changed).unwrap()
}

/// What a canvas shows that was drawn at once.
fn fresh(video: (u32, u32), frame: &Frame<'_>) -> Planes {
    let mut canvas = Canvas::new(video.0, video.1, Half);
    canvas.draw(frame);
    canvas.planes().clone()
}

#[test]
fn changed_regions_make_the_same_picture_as_all_of_it() {
    let before = picture(101, 67, 1);
    let mut after = before.clone();
    let changed = [region(3, 5, 7, 9), region(90, 60, 11, 7), region(0, 0, 1, 1)];
    for part in &changed {
        for y in part.y..part.y + part.height {
            for x in part.x..part.x + part.width {
                let at = ((y * 101 + x) * 4) as usize;
                after[at..at + 3].copy_from_slice(&[x as u8, y as u8, 200]);
            }
        }
    }
    for video in [(102, 68), (120, 90), (60, 40)] {
        let mut canvas = Canvas::new(video.0, video.1, Half);
        assert!(canvas.draw(&frame(101, 67, &before, &[])));
        assert!(canvas.draw(&frame(101, 67, &after, &changed)));
        assert_eq!(
            *canvas.planes(),
            fresh(video, &frame(101, 67, &after, &[])),
            "{video:?}"
        );
        assert!(!canvas.draw(&frame(101, 67, &after, &[])));
    }
}

#[test]
fn patches_carry_exactly_what_changed() {
    let before = picture(64, 48, 1);
    let after = picture(64, 48, 2);
    let mut canvas = Canvas::new(64, 48, Half);
    let mut copy = Planes::black::<Half>(64, 48);
    canvas.draw(&frame(64, 48, &before, &[]));
    let mut sent = 0;
    for patch in canvas.take_patches(false) {
        sent += patch.len();
        copy.paste(&patch);
    }
    assert_eq!(copy, *canvas.planes());
    assert!(sent >= 64 * 48 * 3 / 2);
    canvas.draw(&frame(64, 48, &after, &[region(11, 13, 5, 5), region(40, 0, 24, 48)]));
    let patches = canvas.take_patches(false);
    assert_eq!(patches.iter().map(Patch::len).sum::<usize>(), (6 * 6 + 24 * 48) * 3 / 2);
    patches.iter().for_each(|patch| copy.paste(patch));
    assert_eq!(copy, *canvas.planes());
    assert!(canvas.take_patches(false).is_empty());
    assert_eq!(canvas.take_patches(true).len(), 1);
}

#[test]
fn the_pointer_leaves_no_trace() {
    let under = picture(64, 48, 3);
    let shape = [10, 200, 30, 255].repeat(5 * 4);
    let pointer = |x, y| Pointer {
        x,
        y,
        hotspot_x: 1,
        hotspot_y: 1,
        width: 5,
        height: 4,
        rgba: &shape,
    };
    let bare = frame(64, 48, &under, &[]);
    let clean = fresh((64, 48), &bare);
    let mut canvas = Canvas::new(64, 48, Half);
    canvas.draw(&bare);
    for (x, y) in [(20, 20), (0, 0), (63, 47), (21, 19), (500, -500)] {
        canvas.draw(&bare.with_pointer(Some(pointer(x, y))).unwrap());
        assert!(!canvas.draw(&bare.with_pointer(Some(pointer(x, y))).unwrap()));
        let on_screen = x < 70;
        assert_eq!(*canvas.planes() != clean, on_screen, "{x},{y}");
    }
    assert_eq!(*canvas.planes(), clean);
    canvas.draw(&bare.with_pointer(Some(pointer(9, 9))).unwrap());
    let y = &canvas.planes().planes()[0];
    assert_eq!(y[9 * 64 + 9], y[10 * 64 + 10]);
    canvas.draw(&bare);
    assert_eq!(*canvas.planes(), clean);
}

#[test]
fn another_size_leaves_nothing_of_the_one_before() {
    let large = picture(64, 48, 4);
    let small = picture(30, 20, 5);
    let mut canvas = Canvas::new(64, 48, Half);
    canvas.draw(&frame(64, 48, &large, &[]));
    canvas.draw(&frame(30, 20, &small, &[]));
    assert_eq!(*canvas.planes(), fresh((64, 48), &frame(30, 20, &small, &[])));
    assert_eq!(canvas.planes().planes()[0][0], Half::BLACK[0]);
}

#[test]
fn planes_of_full_size_have_odd_sizes_too() {
    let (before, after) = (picture(33, 17, 6), picture(33, 17, 7));
    let mut canvas = Canvas::new(35, 17, Full);
    let mut copy = Planes::black::<Full>(35, 17);
    canvas.draw(&frame(33, 17, &before, &[]));
    canvas.take_patches(true).iter().for_each(|patch| copy.paste(patch));
    canvas.draw(&frame(33, 17, &after, &[region(5, 3, 7, 9)]));
    let patches = canvas.take_patches(false);
    assert_eq!(patches.iter().map(Patch::len).sum::<usize>(), 7 * 9 * 3);
    patches.iter().for_each(|patch| copy.paste(patch));
    assert_eq!(copy, *canvas.planes());
    let [red, ..] = copy.planes();
    assert_eq!(red[3 * 35 + 1 + 5], after[(3 * 33 + 5) * 4]);
    assert_eq!(red[2 * 35 + 1 + 5], before[(2 * 33 + 5) * 4]);
}

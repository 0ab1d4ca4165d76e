#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::replay::Overlay;

/// A frame as an exporter got it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    size: (u32, u32),
    rgba: Vec<u8>,
    changed: Vec<Region>,
    pointer: Option<(i32, i32)>,
}

fn picture(data: &[u8], width: u16, height: u16) -> Option<Picture<'_>> {
    Some(Picture {
        width,
        height,
        stride: usize::from(width) * 4,
        data,
    })
}

fn noise(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let mix = |at: u32| (at + seed).wrapping_mul(2_654_435_761) >> 13;
    (0..width * height * 4).map(|at| mix(at) as u8).collect()
}

fn show(stage: &mut Stage, picture: Option<Picture<'_>>, pointer: Option<Pointer<'_>>) -> Option<Got> {
    let mut got = None;
    stage
        .show(0, picture, pointer, |frame| {
            got = Some(Got {
                size: (frame.width, frame.height),
                rgba: (0..frame.height).flat_map(|y| frame.row(y).to_vec()).collect(),
                changed: frame.changed.to_vec(),
                pointer: frame.pointer.map(|pointer| (pointer.x, pointer.y)),
            });
            Ok(())
        })
        .unwrap();
    got
}

fn options(width: Option<u32>, overlay: bool) -> Options {
    Options {
        width,
        overlay: Overlay {
            keys: overlay,
            ..Overlay::default()
        },
        ..Options::default()
    }
}

#[test]
fn pictures_that_stay_as_they_are_are_handed_on() {
    let data = noise(100, 60, 1);
    let mut stage = Stage::new(&Options::default(), (100, 60), None);
    let mut place = None;
    assert!(!stage.show(0, None, None, |_| unreachable!("nothing to show")).unwrap());
    let whole_one = picture(&data, 100, 60);
    let take = |frame: &Frame<'_>| {
        place = Some(frame.rgba.as_ptr());
        Ok(())
    };
    assert!(stage.show(0, whole_one, None, take).unwrap());
    assert_eq!(place, Some(data.as_ptr()));
    assert!(stage.change(&[Rect::new(90, 50, 10, 10)], false));
    let got = show(&mut stage, picture(&data, 100, 60), None).unwrap();
    assert_eq!(
        got.changed,
        [Region {
            x: 90,
            y: 50,
            width: 10,
            height: 10
        }]
    );
    // Another size: all is new.
    let got = show(&mut stage, picture(&data, 50, 60), None).unwrap();
    assert_eq!((got.size, got.changed[0].width), ((50, 60), 50));
}

#[test]
fn parts_that_changed_make_the_same_picture_as_all_of_it() {
    for (width, overlay) in [(None, true), (Some(64), false), (Some(37), true), (Some(500), true)] {
        let (before, mut after) = (noise(101, 67, 1), noise(101, 67, 1));
        let rects = [
            Rect::new(0, 0, 1, 1),
            Rect::new(40, 13, 30, 20),
            Rect::new(100, 66, 1, 1),
        ];
        for rect in rects {
            for y in rect.y..rect.y + rect.height {
                for x in rect.x..rect.x + rect.width {
                    after[(usize::from(y) * 101 + usize::from(x)) * 4] ^= 0xff;
                }
            }
        }
        let options = options(width, overlay);
        let mut stage = Stage::new(&options, (101, 67), None);
        let first = show(&mut stage, picture(&before, 101, 67), None).unwrap();
        assert_eq!(first.size, stage.size());
        stage.change(&rects, false);
        let parts = show(&mut stage, picture(&after, 101, 67), None).unwrap();
        let mut fresh = Stage::new(&options, (101, 67), None);
        let all = show(&mut fresh, picture(&after, 101, 67), None).unwrap();
        assert!(parts.rgba == all.rgba, "{width:?} {overlay}");
        assert!(parts.rgba != first.rgba);
    }
}

#[test]
fn sizes_pointer_and_bar() {
    let data = noise(200, 100, 3);
    let mut stage = Stage::new(&options(Some(100), true), (200, 100), None);
    assert_eq!(stage.size(), (100, 74));
    let shape = [255; 4];
    let pointer = Pointer {
        x: 190,
        y: 50,
        hotspot_x: 0,
        hotspot_y: 0,
        width: 1,
        height: 1,
        rgba: &shape,
    };
    let got = show(&mut stage, picture(&data, 200, 100), Some(pointer)).unwrap();
    assert_eq!((got.size, got.pointer), ((100, 74), Some((95, 25))));
    assert_eq!(got.changed.len(), 2);
    // Only what is typed is new.
    stage.bar.as_mut().unwrap().typed("ls".into());
    let got = show(&mut stage, picture(&data, 200, 100), Some(pointer)).unwrap();
    assert_eq!(
        got.changed,
        [Region {
            x: 0,
            y: 50,
            width: 100,
            height: 24
        }]
    );
    let mut without = Stage::new(
        &Options {
            no_pointer: true,
            ..Options::default()
        },
        (200, 100),
        None,
    );
    assert!(!without.change(&[], true));
    assert_eq!(
        show(&mut without, picture(&data, 200, 100), Some(pointer))
            .unwrap()
            .pointer,
        None
    );
}

#[test]
fn a_gap_shows_the_last_picture_dark_and_leaves_no_trace() {
    let data = noise(320, 200, 5);
    let mut stage = Stage::new(&Options::default(), (320, 200), None);
    stage.mark_gap(Some(vec!["NOT RECORDED".into()]));
    let black = show(&mut stage, None, None).unwrap();
    assert_eq!(black.size, (320, 200));
    stage.mark_gap(None);
    let plain = show(&mut stage, picture(&data, 320, 200), None).unwrap();
    assert!(plain.rgba == data);
    stage.mark_gap(Some(vec!["NOT RECORDED".into()]));
    let dark = show(&mut stage, picture(&data, 320, 200), None).unwrap();
    assert_eq!(dark.rgba[0], data[0] / 3);
    assert_eq!(dark.changed[0].width, 320);
    stage.mark_gap(None);
    assert!(show(&mut stage, picture(&data, 320, 200), None).unwrap().rgba == data);
}

#[test]
fn many_regions_become_one() {
    let mut stage = Stage::new(&Options::default(), (400, 400), None);
    for at in 0..200 {
        stage.change(&[Rect::new(at, at, 2, 2)], false);
    }
    assert!(stage.changed.len() <= REGIONS_MAX + 1);
    let around = stage.changed.iter().copied().reduce(around).unwrap();
    assert_eq!(around, Rect::new(0, 0, 201, 201));
}

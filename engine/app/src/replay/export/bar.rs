//! The bar below the picture that tells who, when and what was typed, and the sign over a gap. The bar stands below so that it
//! hides nothing of the picture.

use deskreel_recording::event::SessionStart;

use super::text::{self, GLYPH_HEIGHT, GLYPH_WIDTH, Paper};
use super::{Overlay, words};
use crate::replay::clock;

const PANEL: [u8; 3] = [0x1c, 0x20, 0x24];
const INK: [u8; 3] = [0xf2, 0xf2, 0xee];
const QUIET: [u8; 3] = [0xa8, 0xb4, 0xc0];
const WARNING: [u8; 3] = [0xa4, 0x00, 0x00];

/// Narrower pictures get letters of 8x16 pixels, others of 16x32.
const LARGE_FROM: u32 = 1600;
/// Pixels, times the scale, between a row's letters and its edges.
const MARGIN: usize = 4;

fn scale(width: u32) -> usize {
    if width >= LARGE_FROM { 2 } else { 1 }
}

/// The bar and what it says now.
#[derive(Debug)]
pub(super) struct Bar {
    scale: usize,
    rows: usize,
    shows: Overlay,
    user: String,
    clock: String,
    keys: String,
    /// Whether what it says isn't drawn yet.
    pub(super) is_new: bool,
}

impl Bar {
    /// A bar for pictures of at most this width; `None` where it would say nothing.
    pub(super) fn new(shows: Overlay, width: u32, start: Option<&SessionStart>) -> Option<Self> {
        if shows == Overlay::default() {
            return None;
        }
        let scale = scale(width);
        let user = start.filter(|_| shows.user).map(words::who).unwrap_or_default();
        let both = text::width(&user, scale) + text::width(&time_text(start, 0), scale) + 6 * MARGIN * scale;
        let first = match (shows.user, shows.clock) {
            (true, true) if both > width as usize => 2,
            (false, false) => 0,
            _ => 1,
        };
        Some(Self {
            scale,
            rows: first + usize::from(shows.keys),
            shows,
            user,
            clock: String::new(),
            keys: String::new(),
            is_new: true,
        })
    }

    /// Pixels from its top to its bottom; even, as videos are.
    pub(super) fn height(&self) -> u32 {
        u32::try_from(self.rows * self.row()).unwrap_or(0)
    }

    fn row(&self) -> usize {
        (GLYPH_HEIGHT + 2 * MARGIN) * self.scale
    }

    /// Characters of a caption that fit.
    pub(super) fn characters(&self, width: u32) -> usize {
        (width as usize).saturating_sub(2 * MARGIN * self.scale) / (GLYPH_WIDTH * self.scale)
    }

    /// Sets the clock.
    pub(super) fn tick(&mut self, start: Option<&SessionStart>, session_ns: u64) {
        if self.shows.clock {
            let now = time_text(start, session_ns);
            self.is_new |= now != self.clock;
            self.clock = now;
        }
    }

    /// Sets what was typed.
    pub(super) fn typed(&mut self, caption: String) {
        self.is_new |= caption != self.keys;
        self.keys = caption;
    }

    /// Draws itself as the whole of a picture.
    pub(super) fn draw(&mut self, paper: &mut Paper<'_>) {
        self.is_new = false;
        let (margin, row) = (MARGIN * self.scale, self.row());
        paper.fill(0, 0, paper.width, paper.height, PANEL);
        let characters = self.characters(u32::try_from(paper.width).unwrap_or(u32::MAX));
        let mut y = margin;
        if self.shows.user {
            paper.write(margin, y, self.scale, &text::fit(&self.user, characters), INK);
        }
        let is_shared = self.shows.user && self.shows.clock && self.rows == 1 + usize::from(self.shows.keys);
        if self.shows.user && !is_shared {
            y += row;
        }
        if self.shows.clock {
            let clock = text::fit(&self.clock, characters);
            let x = if is_shared {
                paper.width.saturating_sub(margin + text::width(&clock, self.scale))
            } else {
                margin
            };
            paper.write(x, y, self.scale, &clock, QUIET);
            y += row;
        } else if is_shared {
            y += row;
        }
        if self.shows.keys {
            paper.write(margin, y, self.scale, &text::fit(&self.keys, characters), INK);
        }
    }
}

/// The time of the day where it is known, and the time in the session.
fn time_text(start: Option<&SessionStart>, session_ns: u64) -> String {
    let seconds = session_ns / 1_000_000_000 * 1_000_000_000;
    let session = clock(seconds);
    let session = session.split('.').next().unwrap_or_default();
    match start.and_then(|start| words::wall(start, seconds)) {
        Some(wall) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC  {session}",
            wall.year(),
            u8::from(wall.month()),
            wall.day(),
            wall.hour(),
            wall.minute(),
            wall.second()
        ),
        None => session.to_owned(),
    }
}

/// Draws a picture's gap: all of it at a third of its brightness, and a sign in the middle.
pub(super) fn draw_gap(paper: &mut Paper<'_>, lines: &[String]) {
    for pixel in paper.rgba.as_chunks_mut::<4>().0 {
        for value in pixel.iter_mut().take(3) {
            *value /= 3;
        }
    }
    let scale = scale(u32::try_from(paper.width).unwrap_or(u32::MAX));
    let (margin, row) = (3 * MARGIN * scale, (GLYPH_HEIGHT + MARGIN) * scale);
    let characters = paper.width.saturating_sub(2 * margin) / (GLYPH_WIDTH * scale);
    let lines: Vec<String> = lines.iter().map(|line| text::fit(line, characters)).collect();
    let widest = lines.iter().map(|line| text::width(line, scale)).max().unwrap_or(0);
    let (width, height) = (widest + 2 * margin, lines.len() * row + 2 * margin);
    let left = paper.width.saturating_sub(width) / 2;
    let top = paper.height.saturating_sub(height) / 2;
    paper.fill(left, top, width, height, WARNING);
    for (line, y) in lines.iter().zip((top + margin..).step_by(row)) {
        let x = left + (width - text::width(line, scale)) / 2;
        paper.write(x, y, scale, line, INK);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ALL: Overlay = Overlay {
        keys: true,
        clock: true,
        user: true,
    };

    #[test]
    fn a_narrow_picture_gets_more_rows() {
        let start = SessionStart {
            login: "administrator".into(),
            ..SessionStart::default()
        };
        assert!(Bar::new(Overlay::default(), 800, Some(&start)).is_none());
        let heights = [1920, 1024, 600, 320].map(|width| Bar::new(ALL, width, Some(&start)).unwrap().height());
        assert_eq!(heights, [96, 48, 48, 72]);
        let keys = Overlay {
            keys: true,
            ..Overlay::default()
        };
        assert_eq!(Bar::new(keys, 1024, None).unwrap().height(), 24);
    }

    #[test]
    fn what_is_said_anew_is_drawn_anew() {
        let mut bar = Bar::new(ALL, 640, None).unwrap();
        let (width, height) = (640, bar.height() as usize);
        let mut rgba = vec![0; width * height * 4];
        let mut paint = |bar: &mut Bar| {
            bar.draw(&mut Paper {
                rgba: &mut rgba,
                width,
                height,
            });
            rgba.clone()
        };
        let empty = paint(&mut bar);
        assert!(!bar.is_new);
        bar.tick(None, 61_000_000_000);
        bar.typed("ls".into());
        assert!(bar.is_new && bar.clock == "00:01:01");
        assert_ne!(paint(&mut bar), empty);
        bar.tick(None, 61_900_000_000);
        bar.typed("ls".into());
        assert!(!bar.is_new, "nothing is new within a second");
    }

    #[test]
    fn a_gap_is_dark_with_a_sign() {
        let mut rgba = vec![240; 640 * 200 * 4];
        let mut paper = Paper {
            rgba: &mut rgba,
            width: 640,
            height: 200,
        };
        draw_gap(&mut paper, &["NOT RECORDED".into(), "x".repeat(500)]);
        assert_eq!(rgba[..3], [80; 3]);
        assert_eq!(rgba[(100 * 640 + 320) * 4 + 2..][..1], [0]);
        assert!(rgba.chunks(4).any(|pixel| pixel[..3] == INK));
        let mut tiny = vec![9; 4];
        draw_gap(
            &mut Paper {
                rgba: &mut tiny,
                width: 1,
                height: 1,
            },
            &["NOT RECORDED".into()],
        );
    }
}

//! Generated desktop-like picture sequences: deterministic, no fonts, no files.

/// A picture under construction: RGBA rows without padding.
#[derive(Clone)]
pub(crate) struct Canvas {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) data: Vec<u8>,
}

/// A rectangle as x, y, width, height.
pub(crate) type Area = (u16, u16, u16, u16);

/// A small generator of numbers; the same everywhere.
#[derive(Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }
}

pub(crate) const GLYPH_WIDTH: u16 = 8;
pub(crate) const GLYPH_HEIGHT: u16 = 16;

impl Canvas {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        Self {
            width,
            height,
            data: vec![0; usize::from(width) * usize::from(height) * 4],
        }
    }

    fn at(&self, x: u16, y: u16) -> usize {
        (usize::from(y) * usize::from(self.width) + usize::from(x)) * 4
    }

    pub(crate) fn put(&mut self, x: u16, y: u16, rgb: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = self.at(x, y);
            self.data[at..at + 3].copy_from_slice(&rgb);
        }
    }

    pub(crate) fn fill(&mut self, (x, y, width, height): Area, rgb: [u8; 3]) {
        for y in y..y.saturating_add(height).min(self.height) {
            for x in x..x.saturating_add(width).min(self.width) {
                self.put(x, y, rgb);
            }
        }
    }

    /// A made-up glyph: the same shape for the same character, softened at its edges as real fonts are.
    pub(crate) fn glyph(&mut self, x: u16, y: u16, character: u32, ink: [u8; 3], paper: [u8; 3]) {
        self.fill((x, y, GLYPH_WIDTH, GLYPH_HEIGHT), paper);
        if character == 0 {
            return;
        }
        let mut numbers = Numbers(u64::from(character) * 0x9e37_79b9);
        for _ in 0..4 {
            let vertical = numbers.below(2) == 0;
            let (cx, cy) = (1 + numbers.below(4) as u16, 3 + numbers.below(8) as u16);
            let length = 2 + numbers.below(5) as u16;
            for i in 0..length {
                let (px, py) = if vertical { (cx, cy + i) } else { (cx + i, cy) };
                if px < 7 && py < 14 {
                    self.put(x + px, y + py, ink);
                    let soft = std::array::from_fn(|c| ((u16::from(ink[c]) + 2 * u16::from(paper[c])) / 3) as u8);
                    if vertical && px + 1 < 7 {
                        self.put(x + px + 1, y + py, soft);
                    }
                }
            }
        }
    }

    /// A line of words of made-up text.
    pub(crate) fn text(&mut self, area: Area, numbers: &mut Numbers, ink: [u8; 3], paper: [u8; 3]) {
        let (x, y, width, _) = area;
        let columns = width / GLYPH_WIDTH;
        let filled = columns / 4 + (numbers.below(u32::from(columns) * 3 / 4 + 1)) as u16;
        for column in 0..columns {
            let character = if column >= filled || numbers.below(6) == 0 {
                0
            } else {
                1 + numbers.below(60)
            };
            self.glyph(x + column * GLYPH_WIDTH, y, character, ink, paper);
        }
    }

    /// Moves the contents of an area up; the freed rows keep what they had.
    pub(crate) fn scroll_up(&mut self, (x, y, width, height): Area, rows: u16) {
        for row in y..y + height.saturating_sub(rows) {
            let from = self.at(x, row + rows);
            let to = self.at(x, row);
            self.data.copy_within(from..from + usize::from(width) * 4, to);
        }
    }

    /// A photograph of nothing: smooth waves with grain.
    pub(crate) fn photo(&mut self, (x, y, width, height): Area, phase: u32, grain: u32) {
        let mut numbers = Numbers(u64::from(phase) + 3);
        for row in 0..height {
            for column in 0..width {
                let wave = |scale: f32, shift: f32| {
                    let value = ((f32::from(column) + phase as f32 * 3.0) / scale + shift).sin()
                        + ((f32::from(row) - phase as f32) / (scale * 1.3) + shift * 2.0).cos();
                    (value * 55.0 + 128.0) as i32
                };
                let noise = numbers.below(grain.max(1)) as i32;
                let rgb = [wave(90.0, 0.0), wave(70.0, 1.0), wave(120.0, 2.0)].map(|v| (v + noise).clamp(0, 255) as u8);
                self.put(x + column, y + row, rgb);
            }
        }
    }
}

/// A sequence of pictures with the damage of each.
pub(crate) struct Desktop {
    pub(crate) canvas: Canvas,
    numbers: Numbers,
    script: Script,
    wallpaper: Canvas,
    step: u32,
    column: u16,
    line: u16,
    window: (u16, u16),
}

/// What happens on a generated desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Text typed character by character, with a line wrapped now and then.
    Typing,
    /// A log that scrolls by whole lines.
    Scrolling,
    /// A window dragged about over a photographic wallpaper.
    Windows,
    /// A page redrawn at once every few frames.
    Redraw,
    /// A small film in the corner of a page of text.
    Film,
}

impl Script {
    pub(crate) const ALL: [Self; 5] = [Self::Typing, Self::Scrolling, Self::Windows, Self::Redraw, Self::Film];
}

const PAPER: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [20, 20, 30];

impl Desktop {
    pub(crate) fn new(width: u16, height: u16, script: Script) -> Self {
        let mut canvas = Canvas::new(width, height);
        let mut numbers = Numbers(11);
        if script == Script::Windows {
            canvas.photo((0, 0, width, height), 1, 4);
        } else {
            canvas.fill((0, 0, width, height), [58, 64, 72]);
        }
        let wallpaper = canvas.clone();
        let page = (32, 32, width - 64, height - 64);
        if script != Script::Windows {
            Self::page(&mut canvas, page, &mut numbers);
        }
        let mut desktop = Self {
            canvas,
            numbers,
            script,
            wallpaper,
            step: 0,
            column: 0,
            line: 0,
            window: (20, 20),
        };
        if script == Script::Windows {
            desktop.draw_window();
        }
        desktop
    }

    fn page(canvas: &mut Canvas, area: Area, numbers: &mut Numbers) {
        let (x, y, width, height) = area;
        canvas.fill(area, PAPER);
        for line in 0..height / GLYPH_HEIGHT {
            canvas.text((x, y + line * GLYPH_HEIGHT, width, GLYPH_HEIGHT), numbers, INK, PAPER);
        }
    }

    fn window_size(&self) -> (u16, u16) {
        (self.canvas.width / 3, self.canvas.height / 3)
    }

    fn draw_window(&mut self) {
        let ((x, y), (width, height)) = (self.window, self.window_size());
        self.canvas.fill((x, y, width, height), [70, 100, 160]);
        let mut numbers = Numbers(5);
        Self::page(&mut self.canvas, (x + 2, y + 20, width - 4, height - 22), &mut numbers);
    }

    /// Draws the next picture and returns its damage.
    pub(crate) fn next(&mut self) -> Vec<Area> {
        self.step += 1;
        let (width, height) = (self.canvas.width, self.canvas.height);
        let page = (32, 32, width - 64, height - 64);
        match self.script {
            Script::Typing => {
                let (columns, lines) = (page.2 / GLYPH_WIDTH, page.3 / GLYPH_HEIGHT);
                let at = (32 + self.column * GLYPH_WIDTH, 32 + self.line * GLYPH_HEIGHT);
                let character = 1 + self.numbers.below(60);
                self.canvas.glyph(at.0, at.1, character, INK, PAPER);
                self.column += 1;
                if self.column >= columns {
                    (self.column, self.line) = (0, (self.line + 1) % lines);
                }
                vec![(at.0, at.1, GLYPH_WIDTH, GLYPH_HEIGHT)]
            }
            Script::Scrolling => {
                let lines = 1 + self.numbers.below(3) as u16;
                self.canvas.scroll_up(page, lines * GLYPH_HEIGHT);
                for line in 0..lines {
                    let y = page.1 + page.3 - (lines - line) * GLYPH_HEIGHT;
                    self.canvas
                        .text((page.0, y, page.2, GLYPH_HEIGHT), &mut self.numbers, INK, PAPER);
                }
                vec![page]
            }
            Script::Windows => {
                let ((x, y), (w, h)) = (self.window, self.window_size());
                for row in y..y + h {
                    let from = self.wallpaper.at(x, row);
                    let length = usize::from(w) * 4;
                    self.canvas.data[from..from + length].copy_from_slice(&self.wallpaper.data[from..from + length]);
                }
                let angle = self.step as f32 / 9.0;
                let (cx, cy) = (f32::from(width - w) / 2.0, f32::from(height - h) / 2.0);
                self.window = (
                    (cx + cx * 0.9 * angle.sin()) as u16,
                    (cy + cy * 0.8 * (angle * 1.7).cos()) as u16,
                );
                self.draw_window();
                vec![(x, y, w, h), (self.window.0, self.window.1, w, h)]
            }
            Script::Redraw => {
                if self.step.is_multiple_of(4) {
                    Self::page(&mut self.canvas, page, &mut self.numbers);
                    vec![page]
                } else {
                    let y = 32 + (self.step % 20) as u16 * GLYPH_HEIGHT;
                    let line = (page.0, y.min(height - 48), page.2, GLYPH_HEIGHT);
                    self.canvas.text(line, &mut self.numbers, INK, [230, 240, 255]);
                    vec![line]
                }
            }
            Script::Film => {
                let area = (width / 4, height / 4, width / 3, height / 3);
                self.canvas.photo(area, self.step, 12);
                vec![area]
            }
        }
    }
}

//! What the demo desktop shows: a terminal that types and scrolls, a window that moves, a clock in a task bar. All of it
//! is a function of the time and of what was typed, so that two desktops at the same moment look the same.

use font8x8::legacy::BASIC_LEGACY;

const GLYPH_WIDTH: usize = 8;
/// The 8x8 glyphs are drawn twice as high, which reads better.
const GLYPH_HEIGHT: usize = 16;
const TASK_BAR_HEIGHT: usize = 28;
const TITLE_HEIGHT: usize = 20;

const BACKGROUND: [u8; 3] = [0x20, 0x4a, 0x87];
const PANEL: [u8; 3] = [0x2e, 0x34, 0x36];
const TITLE: [u8; 3] = [0x55, 0x57, 0x53];
const INK: [u8; 3] = [0x11, 0x11, 0x11];
const PAPER: [u8; 3] = [0xfa, 0xfa, 0xf5];
const WHITE: [u8; 3] = [0xff, 0xff, 0xff];
const SCREEN: [u8; 3] = [0x10, 0x14, 0x18];
const PHOSPHOR: [u8; 3] = [0x8a, 0xe2, 0x34];

/// What the terminal types by itself, over and over.
const SCRIPT: &[&str] = &[
    "$ uptime",
    " 10:21:07 up 41 days,  2:13,  1 user,  load average: 0.07, 0.11, 0.09",
    "$ systemctl status billing",
    "  billing.service - Billing",
    "     Loaded: loaded (/lib/systemd/system/billing.service; enabled)",
    "     Active: active (running)",
    "$ tail -f /var/log/billing.log",
    "GET /invoices/1048 200 12ms",
    "GET /invoices/1049 200 9ms",
    "POST /invoices 201 31ms",
    "GET /customers?page=7 200 18ms",
    "GET /invoices/1050 404 3ms",
    "^C",
    "$ vi /etc/billing.conf",
    "timeout = 30",
    "retries = 5",
    ":wq",
    "$ systemctl restart billing",
];
/// Characters a second.
const TYPING_SPEED: u64 = 45;

/// A picture in RGBA, rows without padding.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `width * height * 4` bytes.
    pub(super) rgba: Vec<u8>,
    typed: String,
}

impl Scene {
    pub(super) fn new(width: u16, height: u16) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        Self {
            width,
            height,
            rgba: vec![0xff; width * height * 4],
            typed: String::new(),
        }
    }

    /// Takes a character that the user typed into the notes window.
    pub(super) fn type_character(&mut self, character: char) {
        match character {
            '\u{8}' => {
                self.typed.pop();
            }
            character => self.typed.push(character),
        }
        // The notes window holds this much; older text scrolls out.
        while self.typed.len() > 400 {
            self.typed.remove(0);
        }
    }

    /// Draws the desktop as it is `milliseconds` after it was started.
    pub(super) fn draw(&mut self, milliseconds: u64) {
        let (width, height) = (self.width, self.height);
        self.fill(0, 0, width, height, BACKGROUND);
        self.terminal(milliseconds);
        self.notes();
        self.moving_window(milliseconds);
        let bar = height.saturating_sub(TASK_BAR_HEIGHT);
        self.fill(0, bar, width, TASK_BAR_HEIGHT, PANEL);
        self.text(8, bar + 6, "Deskreel demo desktop", WHITE);
        let seconds = milliseconds / 1000;
        let clock = format!("{:02}:{:02}", seconds / 60, seconds % 60);
        self.text(
            width.saturating_sub(8 + clock.len() * GLYPH_WIDTH),
            bar + 6,
            &clock,
            WHITE,
        );
    }

    fn terminal(&mut self, milliseconds: u64) {
        let (x, y, width, height) = (24, 24, self.width * 6 / 10, self.height * 6 / 10);
        self.window(x, y, width, height, "terminal", SCREEN);
        let rows = height.saturating_sub(TITLE_HEIGHT + 8) / GLYPH_HEIGHT;
        let mut left = usize::try_from(milliseconds * TYPING_SPEED / 1000).unwrap_or(usize::MAX);
        let mut lines: Vec<&str> = Vec::new();
        for line in SCRIPT.iter().cycle() {
            let shown = left.min(line.len());
            lines.push(line.get(..shown).unwrap_or(line));
            if left <= line.len() {
                break;
            }
            left -= line.len();
        }
        let first = lines.len().saturating_sub(rows);
        for (row, line) in lines.iter().skip(first).enumerate() {
            self.text(x + 6, y + TITLE_HEIGHT + 4 + row * GLYPH_HEIGHT, line, PHOSPHOR);
        }
    }

    fn notes(&mut self) {
        let (width, height) = (self.width * 45 / 100, self.height / 4);
        let (x, y) = (24, self.height * 66 / 100);
        self.window(x, y, width, height, "notes (type here)", PAPER);
        let columns = (width.saturating_sub(12) / GLYPH_WIDTH).max(1);
        let rows = height.saturating_sub(TITLE_HEIGHT + 8) / GLYPH_HEIGHT;
        let mut lines: Vec<String> = vec![String::new()];
        for character in self.typed.clone().chars() {
            if character == '\n' || lines.last().is_some_and(|line| line.len() >= columns) {
                lines.push(String::new());
            }
            if let (true, Some(line)) = (character != '\n', lines.last_mut()) {
                line.push(character);
            }
        }
        let first = lines.len().saturating_sub(rows);
        for (row, line) in lines.iter().skip(first).enumerate() {
            self.text(x + 6, y + TITLE_HEIGHT + 4 + row * GLYPH_HEIGHT, line, INK);
        }
    }

    /// Slides to and fro, and shows a picture with many colours, as photos have.
    fn moving_window(&mut self, milliseconds: u64) {
        let (width, height) = (self.width / 4, self.height / 3);
        let span = (self.width.saturating_sub(width) / 2).max(1);
        let step = usize::try_from(milliseconds / 25).unwrap_or(0) * 4 % (2 * span);
        let offset = if step < span { step } else { 2 * span - step };
        let (x, y) = (self.width / 2 - self.width / 8 + offset, self.height / 3);
        self.window(x, y, width, height, "picture", PANEL);
        for row in TITLE_HEIGHT..height {
            for column in 0..width {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a colour channel is a byte, wrapping is the pattern"
                )]
                let colour = [(row * 3) as u8, (column * 2) as u8, (row ^ column) as u8];
                self.fill(x + column, y + row, 1, 1, colour);
            }
        }
    }

    fn window(&mut self, x: usize, y: usize, width: usize, height: usize, title: &str, colour: [u8; 3]) {
        self.fill(x.saturating_sub(1), y.saturating_sub(1), width + 2, height + 2, INK);
        self.fill(x, y, width, height, colour);
        self.fill(x, y, width, TITLE_HEIGHT, TITLE);
        self.text(x + 6, y + 2, title, WHITE);
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, [red, green, blue]: [u8; 3]) {
        let right = (x + width).min(self.width);
        for row in y..(y + height).min(self.height) {
            let from = (row * self.width + x.min(right)) * 4;
            let to = (row * self.width + right) * 4;
            if let Some(pixels) = self.rgba.get_mut(from..to) {
                for pixel in pixels.chunks_exact_mut(4) {
                    pixel.copy_from_slice(&[red, green, blue, 0xff]);
                }
            }
        }
    }

    fn text(&mut self, x: usize, y: usize, text: &str, colour: [u8; 3]) {
        for (index, character) in text.chars().enumerate() {
            let glyph = BASIC_LEGACY
                .get(character as usize)
                .or_else(|| BASIC_LEGACY.get(usize::from(b'?')));
            for (row, bits) in glyph.into_iter().flatten().enumerate() {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    self.fill(x + index * GLYPH_WIDTH + column, y + row * 2, 1, 2, colour);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scene;

    #[test]
    fn time_and_typing_change_the_picture() {
        let mut scene = Scene::new(640, 480);
        scene.draw(0);
        let start = scene.rgba.clone();
        scene.draw(1000);
        assert_ne!(start, scene.rgba, "a second later");
        let later = scene.rgba.clone();
        scene.type_character('x');
        scene.draw(1000);
        assert_ne!(later, scene.rgba, "after a key");
        scene.draw(0);
        scene.type_character('\u{8}');
        scene.draw(0);
        assert_eq!(start, scene.rgba, "the same moment again");
    }

    #[test]
    fn any_size_can_be_drawn() {
        for (width, height) in [(1, 1), (7, 3), (200, 200), (1921, 1079)] {
            Scene::new(width, height).draw(12_345);
        }
    }
}

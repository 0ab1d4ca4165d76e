//! Text into a picture, in a font of 8x8 dots a character; a dot is twice as high as wide, which reads better.

use font8x8::legacy::{BASIC_LEGACY, GREEK_LEGACY, LATIN_LEGACY};

/// Dots of a character, to each side.
const GLYPH: usize = 8;
/// Pixels of a character at scale 1.
pub(super) const GLYPH_WIDTH: usize = GLYPH;
/// See [`GLYPH_WIDTH`].
pub(super) const GLYPH_HEIGHT: usize = 2 * GLYPH;

/// A picture to draw into: rows of R, G, B, A without padding.
pub(super) struct Paper<'a> {
    pub(super) rgba: &'a mut [u8],
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Paper<'_> {
    /// Fills a rectangle; the part outside is left out.
    pub(super) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        let [r, g, b] = colour;
        let (from, to) = (x.min(self.width), (x + width).min(self.width));
        for row in y..(y + height).min(self.height) {
            let start = row * self.width * 4;
            if let Some(part) = self.rgba.get_mut(start + from * 4..start + to * 4) {
                for pixel in part.as_chunks_mut::<4>().0 {
                    *pixel = [r, g, b, 255];
                }
            }
        }
    }

    /// Writes a line, each dot `scale` pixels wide. What the font lacks is a `?`.
    pub(super) fn write(&mut self, x: usize, y: usize, scale: usize, text: &str, colour: [u8; 3]) {
        for (place, character) in text.chars().enumerate() {
            for (row, bits) in glyph(character).into_iter().enumerate() {
                for column in (0..GLYPH).filter(|column| bits >> column & 1 == 1) {
                    let left = x + (place * GLYPH + column) * scale;
                    self.fill(left, y + row * 2 * scale, scale, 2 * scale, colour);
                }
            }
        }
    }
}

fn glyph(character: char) -> [u8; 8] {
    let code = character as usize;
    let known = match code {
        0x20..0x7f => BASIC_LEGACY.get(code),
        0xa0..0x100 => LATIN_LEGACY.get(code - 0xa0),
        0x390..0x3ca => GREEK_LEGACY.get(code - 0x390),
        _ => None,
    };
    known
        .or_else(|| BASIC_LEGACY.get(usize::from(b'?')))
        .copied()
        .unwrap_or_default()
}

/// Pixels that a line takes.
pub(super) fn width(text: &str, scale: usize) -> usize {
    text.chars().count() * GLYPH_WIDTH * scale
}

/// A text cut to so many characters; a cut shows as two dots.
pub(super) fn fit(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters.saturating_sub(2)).collect();
    format!("{kept}..").chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_dots_and_stay_inside() {
        let mut rgba = vec![0; 20 * 16 * 4];
        let mut paper = Paper {
            rgba: &mut rgba,
            width: 20,
            height: 16,
        };
        paper.write(4, 1, 1, "lAé", [9, 8, 7]);
        paper.fill(19, 15, 50, 50, [1, 1, 1]);
        let lit = rgba.chunks(4).filter(|pixel| pixel[..3] == [9, 8, 7]).count();
        assert!((30..120).contains(&lit), "{lit}");
        assert_eq!(rgba[rgba.len() - 4..], [1, 1, 1, 255]);
        assert_eq!(glyph('\u{4e2d}'), glyph('?'));
        assert_ne!(glyph('Ω'), glyph('?'));
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(fit("desktop", 7), "desktop");
        assert_eq!(fit("desktops", 7), "deskt..");
        assert_eq!(fit("desktops", 1), ".");
        assert_eq!(width("abc", 2), 48);
    }
}

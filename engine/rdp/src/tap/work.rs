//! How much one message may ask for: a few bytes must not keep the tap busy for hours.

use super::framebuffer::Framebuffer;

/// Pixels that one message may read and paint, on surfaces and on the picture: eight times the largest picture.
const PIXELS_MAX: u64 = 512 << 20;
/// An update of surface commands may ask for so many times the picture's pixels: the dearest codec paints it eight times.
const PICTURES: u64 = 64;
/// Of pictures so large that this is beyond [`PIXELS_MAX`], so many times their pixels: once, and most of it once more.
const LARGE_PICTURES: u64 = 16;
/// Work is given for whole tiles, which reach beyond the picture.
const TILE: u64 = 64;
/// What each command, rectangle and place costs beside its pixels.
pub(super) const STEP: u64 = 64;

/// What is left for the rest of a message, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Work {
    left: u64,
    over: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            left: PIXELS_MAX,
            over: false,
        }
    }
}

impl Work {
    /// What an update of surface commands for this picture may ask for.
    pub(super) fn of_update(screen: &Framebuffer) -> Self {
        let whole = |length: u16| u64::from(length).next_multiple_of(TILE);
        let pixels = whole(screen.width()) * whole(screen.height());
        Self {
            left: (PICTURES * pixels).min(PIXELS_MAX.max(LARGE_PICTURES * pixels)),
            over: false,
        }
    }

    /// Takes so many pixels; once there are too few of them nothing more is given.
    pub(super) fn spend(&mut self, pixels: u64) -> Result<(), String> {
        match self.left.checked_sub(pixels) {
            Some(left) if !self.over => {
                self.left = left;
                Ok(())
            }
            _ => {
                self.over = true;
                Err("message asks for too much".to_owned())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_over_it_stays_over() {
        let mut work = Work::default();
        assert!(work.spend(PIXELS_MAX - 1).is_ok() && work.spend(1).is_ok() && !work.is_over());
        let mut work = Work::default();
        assert!(work.spend(PIXELS_MAX + 1).is_err() && work.is_over());
        assert!(work.spend(1).is_err(), "what came before was not painted");
    }
}

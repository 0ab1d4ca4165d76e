//! How much one message may ask for: a few bytes must not keep the tap busy for hours.

/// Pixels that one message may read and paint, on surfaces and on the picture: eight times the largest picture.
const PIXELS_MAX: u64 = 512 << 20;
/// What each command, rectangle and place costs beside its pixels.
pub(super) const STEP: u64 = 64;

/// What is left for the rest of a message, in pixels.
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

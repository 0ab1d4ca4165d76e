//! Layouts of monitors: what the client has ([MS-RDPBCGR] 2.2.1.3.6), what it asks for in mid-session ([MS-RDPEDISP] 2.2.2.2),
//! and what the desktop makes of it ([MS-RDPBCGR] 2.2.12.1, [MS-RDPEGFX] 2.2.2.14).

use super::cursor::{Cursor, WireError};

/// Name of the dynamic channel on which the client asks for another layout.
pub const DISPLAY_CHANNEL: &str = "Microsoft::Windows::RDS::DisplayControl";
/// Most monitors of a layout; Windows has 16.
pub const MONITORS_MAX: usize = 64;
/// DISPLAYCONTROL_PDU_TYPE_MONITOR_LAYOUT
const DISPLAY_LAYOUT: u32 = 2;
/// The size of a monitor in it.
const DISPLAY_MONITOR: u32 = 40;
const PRIMARY: u32 = 1;

/// One monitor of the client, in pixels; edges are inclusive, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitor {
    /// Left edge; may be negative.
    pub left: i32,
    /// Upper edge; may be negative.
    pub top: i32,
    /// Right edge, inclusive.
    pub right: i32,
    /// Lower edge, inclusive.
    pub bottom: i32,
    /// Whether it is the primary one.
    pub primary: bool,
}

/// A count and so many monitors by their edges, as client and desktop list them.
///
/// # Errors
/// [`WireError`]
pub fn list(cursor: &mut Cursor<'_>) -> Result<Vec<Monitor>, WireError> {
    let count = count(cursor)?;
    let mut monitors = Vec::new();
    for _ in 0..count {
        let (left, top) = (cursor.i32()?, cursor.i32()?);
        let (right, bottom) = (cursor.i32()?, cursor.i32()?);
        let primary = cursor.u32()? & PRIMARY != 0;
        monitors.push(Monitor {
            left,
            top,
            right,
            bottom,
            primary,
        });
    }
    Ok(monitors)
}

/// What the desktop makes of it: as [`list`], and no monitor is empty.
///
/// # Errors
/// [`WireError`]
pub fn layout(bytes: &[u8]) -> Result<Vec<Monitor>, WireError> {
    let mut cursor = Cursor::new(bytes, "monitor layout");
    let monitors = list(&mut cursor)?;
    match monitors
        .iter()
        .find(|monitor| monitor.right < monitor.left || monitor.bottom < monitor.top)
    {
        Some(monitor) => Err(cursor.invalid("edge of a monitor", monitor.right.unsigned_abs())),
        None => Ok(monitors),
    }
}

/// The layout that a message of the display channel asks for; `None` for other messages.
///
/// # Errors
/// [`WireError`], where the message is not as long as it says too: others might find a second one behind it.
pub fn wish(message: &[u8]) -> Result<Option<Vec<Monitor>>, WireError> {
    let mut cursor = Cursor::new(message, "display control message");
    let kind = cursor.u32()?;
    let length = cursor.u32()?;
    if length as usize != message.len() {
        return Err(cursor.invalid("Length", length));
    }
    if kind != DISPLAY_LAYOUT {
        return Ok(None);
    }
    match cursor.u32()? {
        DISPLAY_MONITOR => {}
        size => return Err(cursor.invalid("MonitorLayoutSize", size)),
    }
    let count = count(&mut cursor)?;
    let mut monitors = Vec::new();
    for _ in 0..count {
        let primary = cursor.u32()? & PRIMARY != 0;
        let (left, top) = (cursor.i32()?, cursor.i32()?);
        let (width, height) = (cursor.u32()?, cursor.u32()?);
        // size in millimetres, orientation, scales
        cursor.skip(20)?;
        let edge = |start: i32, length: u32| {
            let end = i64::from(start) + i64::from(length) - 1;
            i32::try_from(end).ok().filter(|_| length > 0)
        };
        let (Some(right), Some(bottom)) = (edge(left, width), edge(top, height)) else {
            return Err(cursor.invalid("size of a monitor", width));
        };
        monitors.push(Monitor {
            left,
            top,
            right,
            bottom,
            primary,
        });
    }
    match cursor.left() {
        0 => Ok(Some(monitors)),
        left => Err(cursor.invalid("number of bytes behind the last monitor", left as u64)),
    }
}

fn count(cursor: &mut Cursor<'_>) -> Result<u32, WireError> {
    match cursor.u32()? {
        count if count as usize > MONITORS_MAX => Err(cursor.invalid("monitorCount", count)),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn words(words: &[i32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn monitor(left: i32, top: i32, right: i32, bottom: i32, primary: bool) -> Monitor {
        Monitor {
            left,
            top,
            right,
            bottom,
            primary,
        }
    }

    #[test]
    fn both_ways_of_saying_a_layout_are_read() {
        let two = [monitor(0, 0, 1919, 1079, true), monitor(-1280, 56, -1, 1079, false)];
        let told = words(&[2, 0, 0, 1919, 1079, 1, -1280, 56, -1, 1079, 0]);
        assert_eq!(layout(&told).unwrap(), two);
        let mut asked = vec![2, 96, 40, 2];
        asked.extend([1, 0, 0, 1920, 1080, 0, 0, 0, 100, 100]);
        asked.extend([0, -1280, 56, 1280, 1024, 0, 0, 0, 100, 100]);
        let asked = words(&asked);
        assert_eq!(wish(&asked).unwrap().unwrap(), two);
        for cut in 0..asked.len() {
            assert!(wish(&asked[..cut]).is_err(), "{cut}");
        }
        // capabilities of the channel
        assert_eq!(wish(&words(&[5, 20, 16, 8192, 8192])).unwrap(), None);
    }

    #[test]
    fn layouts_that_cannot_be_are_refused() {
        assert!(layout(&words(&[1, 100, 0, 50, 10, 1])).is_err());
        assert!(layout(&words(&[65, 0, 0, 1, 1, 1])).is_err());
        for (left, width) in [(0, 0), (2, i32::MAX), (i32::MAX, 2)] {
            let asked = words(&[2, 56, 40, 1, 1, left, 0, width, 100, 0, 0, 0, 0, 0]);
            assert!(wish(&asked).is_err(), "{left} {width}");
        }
        assert!(wish(&words(&[2, 56, 44, 1])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for monitor in layout(&bytes).unwrap_or_default() {
                prop_assert!(monitor.left <= monitor.right && monitor.top <= monitor.bottom);
            }
            let _ = wish(&bytes);
            let length = (bytes.len() as u32 + 16).to_le_bytes();
            let asked = [&[2, 0, 0, 0][..], &length, &[40, 0, 0, 0, 3, 0, 0, 0], &bytes].concat();
            for monitor in wish(&asked).ok().flatten().unwrap_or_default() {
                prop_assert!(monitor.left <= monitor.right && monitor.top <= monitor.bottom);
            }
        }
    }
}

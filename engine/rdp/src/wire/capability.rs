//! Capability sets of Demand Active and Confirm Active ([MS-RDPBCGR] 2.2.1.13).

use std::ops::Range;

use super::cursor::{Cursor, WireError};
use super::share::{ShareControl, control};

/// Types of the sets that the gateway reads or patches.
pub mod set {
    /// General
    pub const GENERAL: u16 = 0x01;
    /// Bitmap
    pub const BITMAP: u16 = 0x02;
    /// Order
    pub const ORDER: u16 = 0x03;
    /// Brush
    pub const BRUSH: u16 = 0x0F;
    /// Glyph cache
    pub const GLYPH_CACHE: u16 = 0x10;
    /// Offscreen bitmap cache
    pub const OFFSCREEN_CACHE: u16 = 0x11;
    /// Virtual channel
    pub const VIRTUAL_CHANNEL: u16 = 0x14;
    /// DrawNineGrid cache
    pub const DRAW_NINE_GRID: u16 = 0x15;
    /// GDI+
    pub const DRAW_GDI_PLUS: u16 = 0x16;
    /// RAIL (RemoteApp)
    pub const RAIL: u16 = 0x17;
    /// Window list
    pub const WINDOW_LIST: u16 = 0x18;
    /// Desktop composition
    pub const DESKTOP_COMPOSITION: u16 = 0x19;
    /// Multifragment update
    pub const MULTIFRAGMENT: u16 = 0x1A;
    /// Surface commands
    pub const SURFACE_COMMANDS: u16 = 0x1C;
    /// Bitmap codecs
    pub const BITMAP_CODECS: u16 = 0x1D;
}

/// About 30 types exist.
const SETS_MAX: usize = 128;

/// One capability set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// A type of [`set`], or another one.
    pub kind: u16,
    /// Where the body lies in the PDU, after its 4-byte header.
    pub body: Range<usize>,
}

/// A Demand or Confirm Active, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// The share.
    pub share_id: u32,
    /// All sets, in order.
    pub sets: Vec<Set>,
}

impl Active {
    /// The bodies of all sets of `kind` (one, with honest peers).
    pub fn of_kind(&self, kind: u16) -> impl Iterator<Item = Range<usize>> {
        self.sets
            .iter()
            .filter(move |set| set.kind == kind)
            .map(|set| set.body.clone())
    }

    /// Whether two sets are of this kind. Of two, some peers go by the first and some by the last, so whoever reads such a
    /// set must not guess.
    #[must_use]
    pub fn has_two(&self, kind: u16) -> bool {
        self.of_kind(kind).nth(1).is_some()
    }
}

/// Walks a Demand or Confirm Active PDU. Sets are walked to the end of the PDU whatever the count says, because desktops
/// differ in what they go by; the count must not promise more than there is. Behind the sets of a Demand Active the session
/// id follows.
///
/// # Errors
/// [`WireError`]
pub fn active(pdu: &[u8], control: &ShareControl) -> Result<Active, WireError> {
    let confirm = control.kind == control::CONFIRM_ACTIVE;
    let what = if confirm { "Confirm Active" } else { "Demand Active" };
    let bytes = pdu.get(..control.range.end).unwrap_or(pdu);
    let mut cursor = Cursor::at(bytes, control.range.start, what);
    cursor.skip(6)?;
    let share_id = cursor.u32()?;
    if confirm {
        cursor.skip(2)?;
    }
    let source_length = usize::from(cursor.u16()?);
    let combined_length = usize::from(cursor.u16()?);
    cursor.skip(source_length)?;
    let start = cursor.position();
    if combined_length > cursor.left() {
        return Err(cursor.invalid("combined length of the sets", combined_length as u64));
    }
    let count = usize::from(cursor.u16()?);
    cursor.skip(2)?;

    let mut sets = Vec::new();
    loop {
        // A Demand Active ends with a session id; what a client reads behind the sets does no harm here.
        let done = if confirm {
            cursor.is_empty()
        } else {
            cursor.position() >= start + combined_length
        };
        if done {
            break;
        }
        let kind = cursor.u16()?;
        let length = cursor.u16()?;
        let Some(body) = usize::from(length).checked_sub(4) else {
            return Err(cursor.invalid("length of a set", length));
        };
        let start = cursor.position();
        cursor.skip(body)?;
        if sets.len() == SETS_MAX {
            return Err(cursor.invalid("number of sets", SETS_MAX as u64 + 1));
        }
        sets.push(Set {
            kind,
            body: start..start + body,
        });
    }
    if sets.len() < count {
        return Err(cursor.invalid("number of sets", count as u64));
    }
    Ok(Active { share_id, sets })
}

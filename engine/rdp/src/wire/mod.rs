//! Walkers over RDP bytes. They read views and offsets out of what a peer sent; none of them copies a PDU, keeps state
//! between calls or panics on any input.

mod cursor;
pub mod error_info;
mod frame;
pub mod x224;

pub use cursor::{Cursor, WireError};
pub use frame::{FrameError, PduKind, find_pdu};

//! Walkers over RDP bytes. They read views and offsets out of what a peer sent; none of them copies a PDU, keeps state
//! between calls (the reassembler in [`channel`] apart) or panics on any input.

pub mod capability;
pub mod channel;
pub mod client_info;
pub mod connect;
mod cursor;
pub mod dvc;
pub mod egfx;
pub mod error_info;
pub mod fast_path;
mod frame;
pub mod mcs;
pub mod monitor;
pub mod rdpdr;
pub mod redirection;
pub mod share;
pub mod touch;
pub mod x224;

pub use cursor::{Cursor, WireError};
pub(crate) use cursor::{printable, utf16_text};
pub use frame::{FrameError, PduKind, find_pdu};

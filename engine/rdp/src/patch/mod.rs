//! Patches in place, lengths kept: what the filter changes, field by field; more of it where the graphics pipeline is not to
//! be used.
//!
//! A field that a shorter, older layout doesn't have is left absent. Offsets count from a body, after its 4-byte header.

mod capability;
mod egfx;
mod gcc;

pub(crate) use capability::{confirm_active, demand_active};
pub(crate) use egfx::{Patched, client_message};
pub(crate) use gcc::{connect_initial, connect_response};

use std::ops::Range;

/// Reads the `N` bytes at `offset` of `body`, `None` if it is shorter.
pub(crate) fn field<const N: usize>(pdu: &[u8], body: &Range<usize>, offset: usize) -> Option<[u8; N]> {
    let bytes = pdu.get(body.clone())?.get(offset..)?.get(..N)?;
    bytes.try_into().ok()
}

/// Reads a little-endian u16.
pub(crate) fn field_u16(pdu: &[u8], body: &Range<usize>, offset: usize) -> Option<u16> {
    field(pdu, body, offset).map(u16::from_le_bytes)
}

/// Reads a little-endian u32.
pub(crate) fn field_u32(pdu: &[u8], body: &Range<usize>, offset: usize) -> Option<u32> {
    field(pdu, body, offset).map(u32::from_le_bytes)
}

/// Overwrites the bytes at `offset` of `body`, if the body has them all.
fn put<const N: usize>(pdu: &mut [u8], body: &Range<usize>, offset: usize, value: [u8; N]) {
    let place = pdu
        .get_mut(body.clone())
        .and_then(|body| body.get_mut(offset..))
        .and_then(|rest| rest.get_mut(..N));
    if let Some(place) = place {
        place.copy_from_slice(&value);
    }
}

/// Clears `bits` of the little-endian u16 at `offset`.
fn clear_u16(pdu: &mut [u8], body: &Range<usize>, offset: usize, bits: u16) {
    if let Some(value) = field_u16(pdu, body, offset) {
        put(pdu, body, offset, (value & !bits).to_le_bytes());
    }
}

/// Clears `bits` of the little-endian u32 at `offset`.
fn clear_u32(pdu: &mut [u8], body: &Range<usize>, offset: usize, bits: u32) {
    if let Some(value) = field_u32(pdu, body, offset) {
        put(pdu, body, offset, (value & !bits).to_le_bytes());
    }
}

/// Zeroes a field that may be cut short: all bytes of `offset..offset + length` that the body has.
fn zero(pdu: &mut [u8], body: &Range<usize>, offset: usize, length: usize) {
    if let Some(bytes) = pdu.get_mut(body.clone()) {
        bytes.iter_mut().skip(offset).take(length).for_each(|byte| *byte = 0);
    }
}

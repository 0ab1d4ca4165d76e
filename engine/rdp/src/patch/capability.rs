//! The capability sets of Demand Active and Confirm Active.

use super::{field_u16, field_u32, put, zero};
use crate::wire::capability::{Active, set};

/// Order: orderFlags.
const ORDER_FLAGS_AT: usize = 30;
/// NEGOTIATEORDERSUPPORT and ZEROBOUNDSDELTASSUPPORT: both mandatory.
const ORDER_FLAGS_KEPT: u16 = 0x0002 | 0x0008;
/// Order: orderSupport, one byte an order.
const ORDER_SUPPORT_AT: usize = 32;
const ORDER_SUPPORT_LENGTH: usize = 32;
/// Order: orderSupportExFlags.
const ORDER_SUPPORT_EX_FLAGS_AT: usize = 66;
/// Glyph cache: glyphSupportLevel.
const GLYPH_SUPPORT_LEVEL_AT: usize = 44;

/// Patches what the desktop demands: no compression on static channels.
pub(crate) fn demand_active(pdu: &mut [u8], active: &Active) {
    for body in active.of_kind(set::VIRTUAL_CHANNEL) {
        zero(pdu, &body, 0, 4);
    }
}

/// Patches what the client confirms: no drawing orders, no codecs, no surface commands, no compression on static channels,
/// no RemoteApp. Says whether the drawing orders could be turned off.
#[must_use]
pub(crate) fn confirm_active(pdu: &mut [u8], active: &Active, max_request_size: u32) -> bool {
    let mut orders_off = false;
    for set in &active.sets {
        let body = &set.body;
        match set.kind {
            set::ORDER => {
                if body.len() < ORDER_SUPPORT_AT + ORDER_SUPPORT_LENGTH {
                    return false;
                }
                let flags = field_u16(pdu, body, ORDER_FLAGS_AT).unwrap_or_default();
                put(pdu, body, ORDER_FLAGS_AT, (flags & ORDER_FLAGS_KEPT).to_le_bytes());
                zero(pdu, body, ORDER_SUPPORT_AT, ORDER_SUPPORT_LENGTH);
                zero(pdu, body, ORDER_SUPPORT_EX_FLAGS_AT, 2);
                orders_off = true;
            }
            set::GLYPH_CACHE => zero(pdu, body, GLYPH_SUPPORT_LEVEL_AT, 2),
            set::OFFSCREEN_CACHE
            | set::BRUSH
            | set::DRAW_NINE_GRID
            | set::DRAW_GDI_PLUS
            | set::VIRTUAL_CHANNEL
            | set::RAIL
            | set::WINDOW_LIST
            | set::SURFACE_COMMANDS => zero(pdu, body, 0, 4),
            set::DESKTOP_COMPOSITION => zero(pdu, body, 0, 2),
            set::BITMAP_CODECS => zero(pdu, body, 0, 1),
            set::MULTIFRAGMENT if field_u32(pdu, body, 0).is_some_and(|size| size > max_request_size) => {
                put(pdu, body, 0, max_request_size.to_le_bytes());
            }
            _ => (),
        }
    }
    orders_off
}

//! The capability sets of Demand Active and Confirm Active.

use std::ops::Range;

use crate::phase::Graphics;
use crate::wire::capability::{Active, set};

use super::{field, field_u16, field_u32, put, zero};

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

/// What the tap decodes: CODEC_GUID_REMOTEFX, CODEC_GUID_IMAGE_REMOTEFX and CODEC_GUID_NSCODEC ([MS-RDPBCGR]
/// 2.2.7.2.10.1.1).
const KNOWN_CODECS: [[u8; 16]; 3] = [
    [
        0x12, 0x2F, 0x77, 0x76, 0x72, 0xBD, 0x63, 0x44, 0xAF, 0xB3, 0xB7, 0x3C, 0x9C, 0x6F, 0x78, 0x86,
    ],
    [
        0xD4, 0xCC, 0x44, 0x27, 0x8A, 0x9D, 0x74, 0x4E, 0x80, 0x3C, 0x0E, 0xCB, 0xEE, 0xA1, 0x9C, 0x54,
    ],
    [
        0xB9, 0x1B, 0x8D, 0xCA, 0x0F, 0x00, 0x4F, 0x15, 0x58, 0x9F, 0xAE, 0x2D, 0x1A, 0x87, 0xE2, 0xD6,
    ],
];
/// A codec of nobody.
const UNKNOWN_CODEC: [u8; 16] = [0xFF; 16];

/// Patches what the desktop demands: no compression on static channels.
pub(crate) fn demand_active(pdu: &mut [u8], active: &Active) {
    for body in active.of_kind(set::VIRTUAL_CHANNEL) {
        zero(pdu, &body, 0, 4);
    }
}

/// Patches what the client confirms: no drawing orders, no compression on static channels, no RemoteApp; with
/// [`Graphics::Legacy`] no codecs and no surface commands, else no codecs but [`KNOWN_CODECS`]. Says whether the drawing orders could
/// be turned off.
#[must_use]
pub(crate) fn confirm_active(pdu: &mut [u8], active: &Active, graphics: Graphics, max_request_size: u32) -> bool {
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
            | set::WINDOW_LIST => zero(pdu, body, 0, 4),
            set::SURFACE_COMMANDS if graphics == Graphics::Legacy => zero(pdu, body, 0, 4),
            set::DESKTOP_COMPOSITION => zero(pdu, body, 0, 2),
            set::BITMAP_CODECS if graphics == Graphics::Legacy => zero(pdu, body, 0, 1),
            set::BITMAP_CODECS => only_known_codecs(pdu, body),
            set::MULTIFRAGMENT if field_u32(pdu, body, 0).is_some_and(|size| size > max_request_size) => {
                put(pdu, body, 0, max_request_size.to_le_bytes());
            }
            _ => (),
        }
    }
    orders_off
}

/// Makes codecs that the tap doesn't decode ones that nobody knows: their place and number stay.
fn only_known_codecs(pdu: &mut [u8], body: &Range<usize>) {
    let count = field::<1>(pdu, body, 0).map_or(0, |[count]| count);
    let mut at = 1;
    for _ in 0..count {
        let Some(guid) = field::<16>(pdu, body, at) else {
            break;
        };
        if !KNOWN_CODECS.contains(&guid) {
            put(pdu, body, at, UNKNOWN_CODEC);
        }
        let Some(properties) = field_u16(pdu, body, at + 17) else {
            break;
        };
        at += 19 + usize::from(properties);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CODEC_GUID_JPEG and CODEC_GUID_IGNORE.
    const JPEG: [u8; 16] = [
        0xE6, 0x4C, 0xAF, 0x1B, 0x9E, 0xC0, 0x0C, 0x4C, 0x88, 0x61, 0x11, 0x67, 0xB9, 0x1D, 0xA7, 0x01,
    ];
    const IGNORE: [u8; 16] = [
        0xA6, 0x51, 0x43, 0x9C, 0x35, 0x35, 0xAE, 0x42, 0x91, 0x0C, 0xCD, 0xFC, 0xE5, 0x76, 0x0B, 0x58,
    ];

    /// A set's body, behind three bytes of something else.
    fn set(codecs: &[([u8; 16], u8, &[u8])]) -> Vec<u8> {
        let mut pdu = vec![7, 7, 7, codecs.len() as u8];
        for (guid, id, properties) in codecs {
            pdu.extend(guid);
            pdu.push(*id);
            pdu.extend((properties.len() as u16).to_le_bytes());
            pdu.extend(*properties);
        }
        pdu
    }

    fn patched(mut pdu: Vec<u8>) -> Vec<u8> {
        let body = 3..pdu.len();
        only_known_codecs(&mut pdu, &body);
        pdu
    }

    #[test]
    fn only_known_codecs_stay() {
        let [remote_fx, image, ns_codec] = KNOWN_CODECS;
        let before = set(&[
            (ns_codec, 1, &[1, 1, 3]),
            (remote_fx, 3, &[9; 49]),
            (JPEG, 2, &[75]),
            (image, 5, &[]),
            (UNKNOWN_CODEC, 9, &[1]),
        ]);
        let after = set(&[
            (ns_codec, 1, &[1, 1, 3]),
            (remote_fx, 3, &[9; 49]),
            (UNKNOWN_CODEC, 2, &[75]),
            (image, 5, &[]),
            (UNKNOWN_CODEC, 9, &[1]),
        ]);
        assert_eq!(patched(before), after);
        assert_eq!(patched(after.clone()), after);
        assert_eq!(patched(set(&[])), set(&[]));
    }

    #[test]
    fn no_codec_that_can_be_read_stays_in_a_set_that_is_cut() {
        let whole = set(&[(IGNORE, 1, &[1, 1, 3]), (JPEG, 2, &[75])]);
        for length in 3..whole.len() {
            let after = patched(whole[..length].to_vec());
            assert_eq!(after.len(), length);
            let stays = |guid: &[u8; 16]| after.windows(16).any(|bytes| bytes == guid);
            assert!(!stays(&IGNORE) && !stays(&JPEG), "{length}");
        }
        // a count beyond the set's end
        let mut more = set(&[(JPEG, 2, &[75])]);
        more[3] = 200;
        assert!(!patched(more).windows(16).any(|bytes| bytes == JPEG));
    }
}

//! The GCC blocks of Connect Initial and Connect Response.

use super::{clear_u16, clear_u32, field_u32, put, zero};
use crate::phase::Graphics;
use crate::wire::connect::{Block, block};

/// CS_CORE serverSelectedProtocol.
const SERVER_SELECTED_PROTOCOL_AT: usize = 208;
/// CS_CORE earlyCapabilityFlags.
const EARLY_CAPABILITY_FLAGS_AT: usize = 140;
/// RNS_UD_CS_SUPPORT_DYNVC_GFX_PROTOCOL: the graphics pipeline.
const SUPPORT_DYN_VC_GFX: u16 = 0x0100;
/// CS_NET: channels begin here, 12 bytes each, options behind 8 bytes of name.
const CHANNELS_AT: usize = 4;
const CHANNEL_LENGTH: usize = 12;
const CHANNEL_OPTIONS_AT: usize = 8;
/// CHANNEL_OPTION_COMPRESS and CHANNEL_OPTION_COMPRESS_RDP.
const CHANNEL_COMPRESSION: u32 = 0x0040_0000 | 0x0080_0000;
/// SC_CORE clientRequestedProtocols.
const CLIENT_REQUESTED_PROTOCOLS_AT: usize = 4;

/// The name of a denied channel, its number in place of the dot: nobody on the desktop opens it.
const DENIED_NAME: [u8; 8] = *b"denied.\0";

/// Patches the client's blocks; `selected_protocol` is what the desktop selected on its leg, `graphics` whether the pipeline
/// may be used, `denied` tells of each static channel whether the session may not use it.
pub(crate) fn connect_initial(
    pdu: &mut [u8],
    blocks: &[Block],
    selected_protocol: u32,
    graphics: Graphics,
    denied: &[bool],
) {
    for Block { kind, body } in blocks {
        match *kind {
            block::CS_CORE => {
                put(pdu, body, SERVER_SELECTED_PROTOCOL_AT, selected_protocol.to_le_bytes());
                if graphics == Graphics::Legacy {
                    clear_u16(pdu, body, EARLY_CAPABILITY_FLAGS_AT, SUPPORT_DYN_VC_GFX);
                }
            }
            block::CS_NET => {
                let count = field_u32(pdu, body, 0).unwrap_or_default() as usize;
                let fitting = body.len().saturating_sub(CHANNELS_AT) / CHANNEL_LENGTH;
                for channel in 0..count.min(fitting) {
                    let options = CHANNELS_AT + channel * CHANNEL_LENGTH + CHANNEL_OPTIONS_AT;
                    clear_u32(pdu, body, options, CHANNEL_COMPRESSION);
                    if denied.get(channel) == Some(&true) {
                        let mut name = DENIED_NAME;
                        // at most 31 channels: a digit or a letter
                        name[6] = b"0123456789abcdefghijklmnopqrstuv"[channel % 32];
                        put(pdu, body, CHANNELS_AT + channel * CHANNEL_LENGTH, name);
                    }
                }
            }
            // no UDP side channel; the block itself stays, Windows wants it
            block::CS_MULTITRANSPORT => zero(pdu, body, 0, 4),
            _ => (),
        }
    }
}

/// Patches the desktop's blocks; `requested_protocols` is what the client requested of the gateway (mstsc compares).
pub(crate) fn connect_response(pdu: &mut [u8], blocks: &[Block], requested_protocols: u32) {
    for Block { kind, body } in blocks {
        match *kind {
            block::SC_CORE => put(
                pdu,
                body,
                CLIENT_REQUESTED_PROTOCOLS_AT,
                requested_protocols.to_le_bytes(),
            ),
            block::SC_MULTITRANSPORT => zero(pdu, body, 0, 4),
            _ => (),
        }
    }
}

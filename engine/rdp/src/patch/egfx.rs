//! What the client says in the graphics pipeline ([MS-RDPEGFX] 2.2.2 and 2.2.3).

use crate::wire::WireError;
use crate::wire::egfx::{self, Capability, command};

/// Versions that know AVC420 as their only kind of H.264, off unless asked for.
const VERSION_8: u32 = 0x0008_0004;
const VERSION_8_1: u32 = 0x0008_0105;
/// RDPGFX_CAPS_FLAG_AVC420_ENABLED of version 8.1.
const AVC420_ENABLED: u32 = 0x10;
/// Versions with H.264 in full colour, on unless a flag says no. 10.1, which has no flags, is not among them; nor is what
/// nobody knows yet.
const VERSIONS_10: [u32; 8] = [
    0x000A_0002,
    0x000A_0200,
    0x000A_0301,
    0x000A_0400,
    0x000A_0502,
    0x000A_0600,
    0x000A_0601,
    0x000A_0701,
];
/// RDPGFX_CAPS_FLAG_AVC_DISABLED.
const AVC_DISABLED: u32 = 0x20;
/// RDPGFX_CAPS_FLAG_AVC_THINCLIENT, which must not stand beside it.
const AVC_THINCLIENT: u32 = 0x40;

/// What becomes of a client's message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Patched {
    /// It passes as it is.
    Same,
    /// This passes instead; nothing of it is left if it is empty.
    Other(Vec<u8>),
    /// The client can do nothing without H.264: the session can't be recorded.
    NothingLeft,
}

/// Takes out of a client's message what the tap could not follow: codecs that it doesn't decode, versions that it doesn't
/// know, and pictures that only the client has.
///
/// # Errors
/// [`WireError`]: the message can't be walked.
pub(crate) fn client_message(message: &[u8]) -> Result<Patched, WireError> {
    let mut out = Vec::new();
    let mut changed = false;
    for item in egfx::commands(message) {
        let item = item?;
        match item.kind {
            command::CAPS_ADVERTISE => {
                let sets = egfx::capabilities(item.body)?;
                let Some(body) = advertised(&sets) else {
                    return Ok(Patched::NothingLeft);
                };
                let patched = egfx::encode(command::CAPS_ADVERTISE, &body);
                changed |= patched != item.whole;
                out.extend_from_slice(&patched);
            }
            command::CACHE_IMPORT_OFFER => changed = true,
            _ => out.extend_from_slice(item.whole),
        }
    }
    Ok(if changed { Patched::Other(out) } else { Patched::Same })
}

/// The body of a Caps Advertise without H.264.
fn advertised(sets: &[Capability<'_>]) -> Option<Vec<u8>> {
    let mut count = 0_u16;
    let mut body = vec![0, 0];
    for set in sets {
        let Some((flags, rest)) = set.body.split_first_chunk::<4>() else {
            continue;
        };
        let flags = u32::from_le_bytes(*flags);
        let flags = match set.version {
            VERSION_8 => flags,
            VERSION_8_1 => flags & !AVC420_ENABLED,
            version if VERSIONS_10.contains(&version) => flags & !AVC_THINCLIENT | AVC_DISABLED,
            _ => continue,
        };
        body.extend_from_slice(&set.version.to_le_bytes());
        body.extend_from_slice(&(set.body.len() as u32).to_le_bytes());
        body.extend_from_slice(&flags.to_le_bytes());
        body.extend_from_slice(rest);
        count += 1;
    }
    body[..2].copy_from_slice(&count.to_le_bytes());
    (count > 0).then_some(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn advertise(sets: &[(u32, &[u8])]) -> Vec<u8> {
        let mut body = u16::try_from(sets.len()).unwrap().to_le_bytes().to_vec();
        for (version, set) in sets {
            body.extend(version.to_le_bytes());
            body.extend(u32::try_from(set.len()).unwrap().to_le_bytes());
            body.extend(*set);
        }
        egfx::encode(command::CAPS_ADVERTISE, &body)
    }

    #[test]
    fn h264_is_not_offered() {
        let asked = advertise(&[
            (0x0008_0004, &[2, 0, 0, 0]),
            (0x0008_0105, &[0x12, 0, 0, 0]),
            (0x000A_0002, &[2, 0, 0, 0]),
            (0x000A_0100, &[0; 16]),
            (0x000A_0701, &[0xC2, 0, 0, 0]),
            (0x000B_0000, &[0, 0, 0, 0]),
        ]);
        let expected = advertise(&[
            (0x0008_0004, &[2, 0, 0, 0]),
            (0x0008_0105, &[2, 0, 0, 0]),
            (0x000A_0002, &[0x22, 0, 0, 0]),
            (0x000A_0701, &[0xA2, 0, 0, 0]),
        ]);
        assert_eq!(client_message(&asked), Ok(Patched::Other(expected.clone())));
        assert_eq!(client_message(&expected), Ok(Patched::Same));
        let only = advertise(&[(0x000A_0100, &[0; 16])]);
        assert_eq!(client_message(&only), Ok(Patched::NothingLeft));
        assert!((1..asked.len()).all(|length| client_message(&asked[..length]).is_err()));
    }

    #[test]
    fn what_the_client_has_kept_is_not_offered() {
        let ack = egfx::encode(command::FRAME_ACKNOWLEDGE, &[0; 12]);
        let offer = egfx::encode(command::CACHE_IMPORT_OFFER, &[1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0]);
        assert_eq!(client_message(&ack), Ok(Patched::Same));
        assert_eq!(client_message(&offer), Ok(Patched::Other(Vec::new())));
        assert_eq!(client_message(&[offer, ack.clone()].concat()), Ok(Patched::Other(ack)));
    }
}

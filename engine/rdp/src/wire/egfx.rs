//! Commands of the graphics pipeline ([MS-RDPEGFX] 2.2), walked one by one: each tells its own length, so one that nobody
//! knows is passed over alone.

use super::cursor::{Cursor, WireError};

/// Name of the dynamic channel.
pub const CHANNEL: &str = "Microsoft::Windows::RDS::Graphics";

/// Commands ([MS-RDPEGFX] 2.2.1.5).
pub mod command {
    /// Bits for a rectangle of a surface
    pub const WIRE_TO_SURFACE_1: u16 = 0x01;
    /// Bits for a surface, progressive
    pub const WIRE_TO_SURFACE_2: u16 = 0x02;
    /// Delete encoding context
    pub const DELETE_ENCODING_CONTEXT: u16 = 0x03;
    /// Solid fill
    pub const SOLID_FILL: u16 = 0x04;
    /// Copy from surface to surface
    pub const SURFACE_TO_SURFACE: u16 = 0x05;
    /// Copy into the cache
    pub const SURFACE_TO_CACHE: u16 = 0x06;
    /// Copy out of the cache
    pub const CACHE_TO_SURFACE: u16 = 0x07;
    /// Evict cache entry
    pub const EVICT_CACHE_ENTRY: u16 = 0x08;
    /// Create surface
    pub const CREATE_SURFACE: u16 = 0x09;
    /// Delete surface
    pub const DELETE_SURFACE: u16 = 0x0A;
    /// Start frame
    pub const START_FRAME: u16 = 0x0B;
    /// End frame
    pub const END_FRAME: u16 = 0x0C;
    /// Frame acknowledge, of the client
    pub const FRAME_ACKNOWLEDGE: u16 = 0x0D;
    /// Reset graphics: size of the output
    pub const RESET_GRAPHICS: u16 = 0x0E;
    /// Map surface to output
    pub const MAP_SURFACE_TO_OUTPUT: u16 = 0x0F;
    /// Offer of what the client has kept in a cache of its own
    pub const CACHE_IMPORT_OFFER: u16 = 0x10;
    /// Answer to that
    pub const CACHE_IMPORT_REPLY: u16 = 0x11;
    /// Capabilities of the client
    pub const CAPS_ADVERTISE: u16 = 0x12;
    /// The set of them that the desktop chose
    pub const CAPS_CONFIRM: u16 = 0x13;
    /// Map surface to window (`RemoteApp`)
    pub const MAP_SURFACE_TO_WINDOW: u16 = 0x15;
    /// Frame acknowledge with times, of the client
    pub const QOE_FRAME_ACKNOWLEDGE: u16 = 0x16;
    /// Map surface to output, scaled
    pub const MAP_SURFACE_TO_SCALED_OUTPUT: u16 = 0x17;
    /// Map surface to window, scaled
    pub const MAP_SURFACE_TO_SCALED_WINDOW: u16 = 0x18;
}

/// Codecs of both bits commands.
pub mod codec {
    /// Uncompressed
    pub const UNCOMPRESSED: u16 = 0x00;
    /// `RemoteFX`
    pub const REMOTE_FX: u16 = 0x03;
    /// `ClearCodec`
    pub const CLEAR: u16 = 0x08;
    /// `RemoteFX` progressive
    pub const PROGRESSIVE: u16 = 0x09;
    /// Planar
    pub const PLANAR: u16 = 0x0A;
    /// H.264
    pub const AVC420: u16 = 0x0B;
    /// Alpha channel
    pub const ALPHA: u16 = 0x0C;
    /// `RemoteFX` progressive, second version
    pub const PROGRESSIVE_V2: u16 = 0x0D;
    /// H.264 in full colour
    pub const AVC444: u16 = 0x0E;
    /// H.264 in full colour, second version
    pub const AVC444_V2: u16 = 0x0F;
}

/// cmdId, flags, pduLength.
pub const HEADER: usize = 8;

/// One command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// One of [`command`], or another number.
    pub kind: u16,
    /// All of it, header included.
    pub whole: &'a [u8],
    /// What follows the header.
    pub body: &'a [u8],
}

/// Walks a message: a row of commands. The first error ends it.
pub fn commands(message: &[u8]) -> impl Iterator<Item = Result<Command<'_>, WireError>> {
    let mut cursor = Cursor::new(message, "graphics command");
    let mut over = false;
    std::iter::from_fn(move || {
        if over || cursor.is_empty() {
            return None;
        }
        let command = next(&mut cursor, message);
        over = command.is_err();
        Some(command)
    })
}

fn next<'a>(cursor: &mut Cursor<'a>, message: &'a [u8]) -> Result<Command<'a>, WireError> {
    let start = cursor.position();
    let kind = cursor.u16()?;
    cursor.skip(2)?;
    let length = cursor.u32()?;
    let body = (length as usize)
        .checked_sub(HEADER)
        .ok_or_else(|| cursor.invalid("length", length))?;
    let body = cursor.take(body)?;
    let whole = message.get(start..cursor.position()).unwrap_or_default();
    Ok(Command { kind, whole, body })
}

/// One capability set of a [`command::CAPS_ADVERTISE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability<'a> {
    /// Version of the protocol.
    pub version: u32,
    /// Flags, as a rule.
    pub body: &'a [u8],
}

/// Reads the body of a [`command::CAPS_ADVERTISE`].
///
/// # Errors
/// [`WireError`]
pub fn capabilities(body: &[u8]) -> Result<Vec<Capability<'_>>, WireError> {
    let mut cursor = Cursor::new(body, "graphics capabilities");
    let count = cursor.u16()?;
    let mut sets = Vec::new();
    for _ in 0..count {
        let version = cursor.u32()?;
        let length = cursor.u32()? as usize;
        sets.push(Capability {
            version,
            body: cursor.take(length)?,
        });
    }
    Ok(sets)
}

/// A command of these bytes.
#[must_use]
pub fn encode(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut command = Vec::with_capacity(HEADER + body.len());
    command.extend_from_slice(&kind.to_le_bytes());
    command.extend_from_slice(&[0, 0]);
    command.extend_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
    command.extend_from_slice(body);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_commands_are_passed_over_alone() {
        let message = [
            encode(command::START_FRAME, &[1; 8]),
            encode(0x19, &[2; 5]),
            encode(command::END_FRAME, &[3; 4]),
        ]
        .concat();
        let kinds: Vec<_> = commands(&message)
            .map(|item| item.map(|item| (item.kind, item.body.len())))
            .collect();
        assert_eq!(kinds, [Ok((0x0B, 8)), Ok((0x19, 5)), Ok((0x0C, 4))]);
        for length in 0..message.len() {
            let walked: Vec<_> = commands(&message[..length]).collect();
            let whole = [0, 16, 29].contains(&length);
            assert_eq!(walked.iter().all(Result::is_ok), whole, "{length}");
        }
        let too_short = commands(&[1, 0, 0, 0, 7, 0, 0, 0]).next();
        assert!(matches!(too_short, Some(Err(WireError::Invalid { .. }))));
    }

    #[test]
    fn capabilities_have_lengths_of_their_own() {
        let mut body = vec![2, 0];
        body.extend([4, 0, 8, 0, 4, 0, 0, 0, 9, 0, 0, 0]);
        body.extend([0, 1, 10, 0, 16, 0, 0, 0]);
        body.extend([0; 16]);
        let sets = capabilities(&body).expect("two sets");
        assert_eq!((sets[0].version, sets[0].body), (0x0008_0004, &[9, 0, 0, 0][..]));
        assert_eq!((sets[1].version, sets[1].body.len()), (0x000A_0100, 16));
        assert!((0..body.len()).all(|length| capabilities(&body[..length]).is_err()));
    }
}

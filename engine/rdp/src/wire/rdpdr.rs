//! Messages of the device channel ([MS-RDPEFS] 2.2): what their heads say.

use super::cursor::{Cursor, WireError, printable, utf16_text};

/// Name of the static channel.
pub const STATIC_CHANNEL: &str = "rdpdr";
/// Component of devices.
pub const CORE: u16 = 0x4472;
/// Component of printers.
pub const PRINTING: u16 = 0x5052;
/// Component and packet id.
pub const HEADER: usize = 4;
/// A request up to its parameters.
pub const REQUEST_HEAD: usize = 24;
/// A completion up to its parameters.
pub const COMPLETION_HEAD: usize = 16;
/// Requests that a desktop may have unanswered at a time. More are no use of a drive: the session ends.
pub const PENDING_REQUESTS_MAX: usize = 2000;

/// Packet ids of [`CORE`].
pub mod packet {
    /// The desktop begins, or begins anew: nothing that was announced counts any more.
    pub const SERVER_ANNOUNCE: u16 = 0x496E;
    /// The client's devices.
    pub const DEVICE_LIST_ANNOUNCE: u16 = 0x4441;
    /// Devices that are gone.
    pub const DEVICE_LIST_REMOVE: u16 = 0x444D;
    /// Whether the desktop takes a device.
    pub const DEVICE_REPLY: u16 = 0x6472;
    /// The desktop asks a device to do something.
    pub const IO_REQUEST: u16 = 0x4952;
    /// What the device answers.
    pub const IO_COMPLETION: u16 = 0x4943;
}

/// Kinds of devices (2.2.1.3).
pub mod device {
    /// Serial port.
    pub const SERIAL: u32 = 0x01;
    /// Parallel port.
    pub const PARALLEL: u32 = 0x02;
    /// Printer.
    pub const PRINTER: u32 = 0x04;
    /// Drive.
    pub const DRIVE: u32 = 0x08;
    /// Smart card reader.
    pub const SMART_CARD: u32 = 0x20;
}

/// Major functions of requests (2.2.1.4).
pub mod major {
    /// Open or make.
    pub const CREATE: u32 = 0x00;
    /// Close.
    pub const CLOSE: u32 = 0x02;
    /// Read.
    pub const READ: u32 = 0x03;
    /// Write.
    pub const WRITE: u32 = 0x04;
    /// Ask for facts of a file.
    pub const QUERY_INFORMATION: u32 = 0x05;
    /// Rename, delete, resize.
    pub const SET_INFORMATION: u32 = 0x06;
    /// List a folder, or wait for changes in it.
    pub const DIRECTORY_CONTROL: u32 = 0x0C;
}

/// Component and packet id of a message.
#[must_use]
pub fn kind(message: &[u8]) -> Option<(u16, u16)> {
    let mut cursor = Cursor::new(message, "device message");
    Some((cursor.u16().ok()?, cursor.u16().ok()?))
}

/// The head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// The device.
    pub device: u32,
    /// The file on it.
    pub file: u32,
    /// Number that the answer repeats.
    pub completion: u32,
    /// See [`major`].
    pub major: u32,
    /// Minor function.
    pub minor: u32,
}

impl RequestHead {
    /// Reads it off the start of a message.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::at(message, HEADER, "device request");
        Ok(Self {
            device: cursor.u32()?,
            file: cursor.u32()?,
            completion: cursor.u32()?,
            major: cursor.u32()?,
            minor: cursor.u32()?,
        })
    }
}

/// The head of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletionHead {
    /// The device.
    pub device: u32,
    /// Number of the request.
    pub completion: u32,
    /// NTSTATUS.
    pub status: u32,
}

impl CompletionHead {
    /// Reads it off the start of a message.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::at(message, HEADER, "device completion");
        Ok(Self {
            device: cursor.u32()?,
            completion: cursor.u32()?,
            status: cursor.u32()?,
        })
    }
}

/// One device of an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device<'a> {
    /// The entry as it stands.
    pub bytes: &'a [u8],
    /// See [`device`].
    pub kind: u32,
    /// Its number.
    pub id: u32,
    /// The short name, or a drive's whole one where it is told. Control characters are replaced.
    pub name: String,
}

/// The devices of an announcement.
///
/// # Errors
/// [`WireError`]: the list is shorter than it says.
pub fn devices(message: &[u8]) -> Result<Vec<Device<'_>>, WireError> {
    let mut cursor = Cursor::at(message, HEADER, "device list");
    let count = cursor.u32()?;
    let mut devices = Vec::new();
    for _ in 0..count {
        let start = cursor.position();
        let (kind, id) = (cursor.u32()?, cursor.u32()?);
        let short: [u8; 8] = cursor.array()?;
        let length = cursor.u32()? as usize;
        let data = cursor.take(length)?;
        let whole = if kind == device::DRIVE {
            drive_name(data)
        } else {
            String::new()
        };
        devices.push(Device {
            bytes: message.get(start..cursor.position()).unwrap_or_default(),
            kind,
            id,
            name: printable(&if whole.is_empty() { narrow(&short) } else { whole }),
        });
    }
    Ok(devices)
}

/// The numbers in a list of removed devices.
///
/// # Errors
/// [`WireError`]: the list is shorter than it says.
pub fn removed(message: &[u8]) -> Result<Vec<u32>, WireError> {
    let mut cursor = Cursor::at(message, HEADER, "list of removed devices");
    let count = cursor.u32()?;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(cursor.u32()?);
    }
    Ok(ids)
}

/// A drive's whole name (2.2.3.1): UTF-16 as the specification says, or bytes as several clients send it.
fn drive_name(data: &[u8]) -> String {
    let wide = data.len() >= 4 && data.get(1) == Some(&0);
    if wide { utf16_text(data) } else { narrow(data) }
}

fn narrow(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_of_drives() {
        let entry = |kind: u32, short: &[u8; 8], data: &[u8]| {
            let mut entry = [&kind.to_le_bytes()[..], &7_u32.to_le_bytes(), short].concat();
            entry.extend((data.len() as u32).to_le_bytes());
            entry.extend(data);
            entry
        };
        let list = |entries: &[Vec<u8>]| {
            let mut message = vec![0x72, 0x44, 0x41, 0x44];
            message.extend((entries.len() as u32).to_le_bytes());
            message.extend(entries.concat());
            message
        };
        let wide: Vec<u8> = "my documents\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let message = list(&[
            entry(8, b"MYDOCUM\0", &wide),
            entry(8, b"HOME\0\0\0\0", b"home of alice\0"),
            entry(8, b"C:\0\0\0\0\0\0", &[]),
            entry(4, b"PRN1\0\0\0\0", b"a printer's data"),
            entry(8, b"A\x1b[2J\0\0\0", &[]),
        ]);
        let names: Vec<_> = devices(&message)
            .unwrap()
            .into_iter()
            .map(|device| device.name)
            .collect();
        assert_eq!(names, ["my documents", "home of alice", "C:", "PRN1", "A\u{FFFD}[2J"]);
        for length in 0..message.len() {
            assert!(devices(&message[..length]).is_err(), "{length}");
        }
    }
}

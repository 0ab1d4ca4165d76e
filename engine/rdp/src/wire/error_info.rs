//! Error info codes that the gateway uses ([MS-RDPBCGR] 2.2.5.1.1). A client shows each in words of its own.

/// An administrator ended the session.
pub const RPC_INITIATED_DISCONNECT: u32 = 0x1;
/// An administrator logged the user off.
pub const RPC_INITIATED_LOGOFF: u32 = 0x2;
/// The session was idle too long.
pub const IDLE_TIMEOUT: u32 = 0x3;
/// The session lasted too long.
pub const LOGON_TIMEOUT: u32 = 0x4;
/// Another connection took the session over.
pub const DISCONNECTED_BY_OTHER_CONNECTION: u32 = 0x5;
/// The machine is out of memory.
pub const OUT_OF_MEMORY: u32 = 0x6;
/// The connection was denied.
pub const DENIED: u32 = 0x7;
/// The user may not connect.
pub const INSUFFICIENT_PRIVILEGES: u32 = 0x9;

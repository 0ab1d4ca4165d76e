//! What is told of drives.

/// Something that the desktop did with a drive of the client, or the client with the drive itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveEvent {
    /// Number of the drive.
    pub drive: u32,
    /// What.
    pub action: DriveAction,
}

/// What was done. Paths begin with the drive's name and have `/` between names; a file that was opened unseen has the path
/// `NAME/?`. A `status` is an NTSTATUS, 0 for success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriveAction {
    /// The client offers the drive, and the desktop has taken or refused it.
    Shared {
        /// Its name.
        name: String,
        /// What the desktop said.
        status: u32,
    },
    /// The client took it away.
    Removed {
        /// Its name.
        name: String,
    },
    /// A file was opened to be read or written, or made; a folder was made.
    Opened {
        /// Path.
        path: String,
        /// It may be new, or is empty now.
        made: bool,
        /// A folder.
        folder: bool,
        /// Why not.
        status: u32,
    },
    /// A folder was listed.
    Listed {
        /// Its path.
        path: String,
        /// Why not.
        status: u32,
    },
    /// Bytes of a file went to the desktop.
    Read {
        /// Number of the open file.
        file: u32,
        /// Path.
        path: String,
        /// The first of them.
        offset: u64,
        /// How many.
        length: u64,
        /// Why not.
        status: u32,
    },
    /// Bytes of the desktop went into a file.
    Written {
        /// Number of the open file.
        file: u32,
        /// Path.
        path: String,
        /// The first of them.
        offset: u64,
        /// How many.
        length: u64,
        /// Why not.
        status: u32,
    },
    /// A file or folder has another name.
    Renamed {
        /// The old path.
        path: String,
        /// The new one.
        new_path: String,
        /// Why not.
        status: u32,
    },
    /// A file has another length.
    Resized {
        /// Path.
        path: String,
        /// The length.
        length: u64,
        /// Why not.
        status: u32,
    },
    /// A file or folder is gone as soon as it is closed.
    Deleted {
        /// Path.
        path: String,
        /// Why not.
        status: u32,
    },
    /// A file was closed.
    Closed {
        /// Number that the file had.
        file: u32,
        /// Path.
        path: String,
        /// Bytes read in all.
        read: u64,
        /// Bytes written in all.
        written: u64,
        /// SHA-256 of the file as it was read, if that was all of it, in order.
        read_sha256: Option<[u8; 32]>,
        /// SHA-256 of the file as it was written, if that was all of it, in order.
        written_sha256: Option<[u8; 32]>,
    },
}

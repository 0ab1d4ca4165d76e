//! The one error of the SDK: a kind that the engine acts on, and a message for people.

use std::fmt;
use std::time::Duration;

/// Result of everything that a plugin does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as the engine needs to know it.
///
/// Kinds fall into two classes: those worth retrying ([`ErrorKind::is_retryable`], numbers below 100) and final ones (100 and up).
/// An engine that is older than the plugin knows what to do with a number that it has never seen: it acts on the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum ErrorKind {
    /// The service can't be reached, or answered that it can't serve now. Retried.
    Unavailable = 1,
    /// No answer in time; the outcome is unknown. Retried.
    Timeout = 2,
    /// The service asked for fewer requests. Retried, after `retry_after` if the error has it.
    RateLimited = 3,
    /// Cut off half-way by a signal or a reset. Retried.
    Interrupted = 4,
    /// The object doesn't exist.
    NotFound = 100,
    /// An object with this key and other bytes exists.
    AlreadyExists = 101,
    /// The credentials are known but may not do this. Name the missing permission.
    PermissionDenied = 102,
    /// The credentials are missing, wrong or expired.
    Unauthenticated = 103,
    /// The operator's settings can't work. Name the key.
    InvalidSettings = 104,
    /// The request itself is wrong: a range past the end, an object over the limit, a format the exporter lacks.
    InvalidInput = 105,
    /// The plugin or the service behind it can't do this at all.
    Unsupported = 106,
    /// The disk, quota or bucket is full.
    NoSpace = 107,
    /// What is stored isn't what was written.
    Corrupt = 108,
    /// Given up because the caller asked for it.
    Cancelled = 109,
    /// A defect of the plugin, or an error that fits nowhere else.
    Internal = 110,
    /// The plugin panicked. Made by the SDK, not by authors.
    Panic = 111,
}

impl ErrorKind {
    const ALL: [Self; 16] = [
        Self::Unavailable,
        Self::Timeout,
        Self::RateLimited,
        Self::Interrupted,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::Unauthenticated,
        Self::InvalidSettings,
        Self::InvalidInput,
        Self::Unsupported,
        Self::NoSpace,
        Self::Corrupt,
        Self::Cancelled,
        Self::Internal,
        Self::Panic,
    ];

    /// The number that crosses the ABI.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The kind of a number; unknown ones become [`Unavailable`](Self::Unavailable) or [`Internal`](Self::Internal) by class.
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        let of_class = if code < 100 { Self::Unavailable } else { Self::Internal };
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .unwrap_or(of_class)
    }

    /// Whether the engine tries again.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.code() < 100
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate limited",
            Self::Interrupted => "interrupted",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::PermissionDenied => "permission denied",
            Self::Unauthenticated => "unauthenticated",
            Self::InvalidSettings => "invalid settings",
            Self::InvalidInput => "invalid input",
            Self::Unsupported => "unsupported",
            Self::NoSpace => "no space",
            Self::Corrupt => "corrupt",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal error",
            Self::Panic => "panic",
        })
    }
}

/// An error of a plugin.
///
/// Messages are lower case without a full stop and name the key, file or host to blame; the kind need not be repeated in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// [`ErrorKind::NotFound`]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::InvalidSettings`]
    pub fn invalid_settings(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidSettings, message)
    }

    /// [`ErrorKind::InvalidInput`]
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::Unsupported`]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// [`ErrorKind::Internal`]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error, not to be retried before this time has passed.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same error with `what: ` in front of its message.
    #[must_use]
    pub fn with_context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What the engine acts on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text without the kind.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The pause that the service asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return self.kind.fmt(f);
        }
        write!(f, "{} ({})", self.message, self.kind)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    /// The kind follows from the operating system's error; add the file's name with [`ErrorContext::context`].
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::Timeout,
            Io::Interrupted | Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => ErrorKind::Interrupted,
            Io::ConnectionRefused
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::NotConnected => ErrorKind::Unavailable,
            Io::UnexpectedEof | Io::InvalidData => ErrorKind::Corrupt,
            Io::InvalidInput | Io::InvalidFilename | Io::FileTooLarge => ErrorKind::InvalidInput,
            Io::Unsupported => ErrorKind::Unsupported,
            // An I/O error of the disk or file server: the next attempt may fare better, and giving up would lose data.
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(ErrorKind::Corrupt, error.to_string())
    }
}

/// Puts the thing to blame in front of an error, so that `?` reads well.
///
/// ```
/// use deskreel_sdk::prelude::*;
/// fn size(path: &Path) -> Result<u64> {
///     Ok(std::fs::metadata(path).context(path.display())?.len())
/// }
/// assert_eq!(size(Path::new("/missing")).unwrap_err().kind(), ErrorKind::NotFound);
/// ```
pub trait ErrorContext<T> {
    /// The same result; an error gets `what: ` in front.
    ///
    /// # Errors
    /// The one that was there.
    fn context(self, what: impl fmt::Display) -> Result<T>;
    /// As [`context`](Self::context), made only when needed.
    ///
    /// # Errors
    /// The one that was there.
    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> ErrorContext<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().with_context(what))
    }

    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().with_context(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_number_keeps_its_class() {
        assert!(ErrorKind::from_code(57).is_retryable());
        assert!(!ErrorKind::from_code(500).is_retryable());
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), kind);
        }
    }

    #[test]
    fn context_stands_in_front() {
        let error: Error = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
        let error = Err::<(), _>(error)
            .context("put a/b")
            .map_err(|error| (error.kind(), error.message().to_owned()));
        assert_eq!(error, Err((ErrorKind::NoSpace, "put a/b: no storage space".to_owned())));
    }
}

//! The one error type of this crate.

/// What sort of thing went wrong; callers branch on this, people read the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller gave arguments that cannot be recorded (an empty picture, a short buffer).
    InvalidInput,
    /// The bytes break the format.
    Malformed,
    /// The bytes say they need a newer reader.
    Unsupported,
    /// The bytes state or need more than a limit of the format allows.
    TooLarge,
    /// A digest, signature or chain does not match: changed after it was written, or by another hand.
    Untrusted,
    /// A library below failed (compressor, MCAP writer, JSON).
    Internal,
}

/// An error of this crate: a kind and one line of text.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn input(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, text)
    }

    pub(crate) fn malformed(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, text)
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, text)
    }

    pub(crate) fn too_large(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, text)
    }

    pub(crate) fn untrusted(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Untrusted, text)
    }

    pub(crate) fn internal(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, format!("{what}: {cause}"))
    }

    /// The sort of error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

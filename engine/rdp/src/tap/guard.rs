//! A net below decoders of other people: a panic becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `decode`; its state may be wrong after a panic, so the caller must not need it to be right.
pub(super) fn guarded<T>(what: &str, decode: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|_| format!("{what} panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_panics_into_errors() {
        assert_eq!(guarded("decoder", || 5), Ok(5));
        let empty: &[u8] = &[];
        assert_eq!(guarded("decoder", || empty[0]), Err("decoder panicked".to_owned()));
    }
}

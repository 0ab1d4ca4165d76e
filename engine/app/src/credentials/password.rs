//! What may be a password, and how one gets in.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, bail};
use ironrdp_connector::sspi::NTLM_HASH_PREFIX;
use md4::{Digest as _, Md4};
use zeroize::Zeroizing;

use super::NtHash;

/// The longest password, in UTF-16 units: what Windows takes.
const UNITS_MAX: usize = 256;

/// Why a text can't be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Nothing.
    #[error("a password can't be empty")]
    Empty,
    /// Longer than [`UNITS_MAX`].
    #[error("a password has at most {UNITS_MAX} characters")]
    TooLong,
    /// A line break, a zero or the like: no client can send it.
    #[error("a password can't hold control characters")]
    Control,
    /// NTLM code takes such a text for a hash.
    #[error("a password can't begin with {NTLM_HASH_PREFIX}")]
    Hash,
}

pub(super) fn check(password: &str) -> Result<(), PasswordError> {
    if password.is_empty() {
        Err(PasswordError::Empty)
    } else if password.encode_utf16().count() > UNITS_MAX {
        Err(PasswordError::TooLong)
    } else if password.chars().any(char::is_control) {
        Err(PasswordError::Control)
    } else if password.starts_with(NTLM_HASH_PREFIX) {
        Err(PasswordError::Hash)
    } else {
        Ok(())
    }
}

/// MD4 over UTF-16.
pub(super) fn nt_hash(password: &str) -> NtHash {
    let mut units = Zeroizing::new(Vec::with_capacity(password.len() * 2));
    units.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
    Zeroizing::new(Md4::digest(&*units).into())
}

/// A new password for `user`: asked for twice on a terminal, else the first line of standard input.
///
/// # Errors
/// [`PasswordError`], two different answers, nothing to read.
pub(crate) fn read_new_password(user: &str) -> anyhow::Result<Zeroizing<String>> {
    let password = if io::stdin().is_terminal() {
        let ask = |question: String| -> anyhow::Result<Zeroizing<String>> {
            let answer = rpassword::prompt_password(question).context("read the password")?;
            Ok(Zeroizing::new(answer))
        };
        let first = ask(format!("New password for {user}: "))?;
        if ask("The same again: ".to_owned())? != first {
            bail!("the two passwords differ");
        }
        first
    } else {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().read_line(&mut line).context("read the password")?;
        let length = line.trim_end_matches(['\r', '\n']).len();
        line.truncate(length);
        line
    };
    check(&password)?;
    Ok(password)
}

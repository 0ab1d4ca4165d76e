//! CredSSP ([MS-CSSP]): the server towards clients ([`server`]), the client towards desktops ([`client`]), and how its
//! messages are read off a stream.

pub(super) mod client;
mod ntlm;
mod seal;
pub(super) mod server;
mod spnego;

#[cfg(test)]
mod mutants;
#[cfg(test)]
mod tests;

use std::io;

use ironrdp_connector::sspi::credssp::TsRequest;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

/// The longest message we read. NTLM needs some 700 bytes, a `TSCredentials` with a long password some more.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// From this version on the public key is hashed with a nonce.
const VERSION_WITH_NONCE: u32 = 5;

/// NTSTATUS values that a refused peer is told ([MS-ERREF] 2.3).
pub(super) mod status {
    /// The name or the password is wrong; which of both is nobody's business.
    pub(in crate::gateway) const LOGON_FAILURE: u32 = 0xC000_006D;
    /// The account may not log on now.
    pub(in crate::gateway) const ACCOUNT_RESTRICTION: u32 = 0xC000_006E;
    /// The account is locked.
    pub(in crate::gateway) const ACCOUNT_LOCKED_OUT: u32 = 0xC000_0234;
}

/// The early user authorization result ([MS-CSSP] 2.2.2).
pub(super) mod early {
    /// The user may go on.
    pub(in crate::gateway) const SUCCESS: u32 = 0;
    /// The user may not.
    pub(in crate::gateway) const ACCESS_DENIED: u32 = 5;
}

/// Reads one whole TSRequest and not a byte more. Not cancel-safe.
///
/// # Errors
/// The stream's; [`io::ErrorKind::InvalidData`] for what is no TSRequest; [`io::ErrorKind::UnexpectedEof`].
pub(super) async fn read_message<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Zeroizing<Vec<u8>>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut message = Zeroizing::new(Vec::with_capacity(1024));
    let (start, length) = loop {
        message.push(stream.read_u8().await?);
        match (message.as_slice(), spnego::length(&message)) {
            ([first, ..], _) if *first != 0x30 => return Err(invalid("no TSRequest of CredSSP")),
            (_, Some(header)) => break header,
            (bytes, None) if bytes.len() >= 4 => return Err(invalid("TSRequest is too long")),
            _ => {}
        }
    };
    let whole = start + length;
    if whole > MESSAGE_BYTES_MAX || whole < message.len() {
        return Err(invalid("length of the TSRequest"));
    }
    let have = message.len();
    message.resize(whole, 0);
    stream.read_exact(message.get_mut(have..).unwrap_or_default()).await?;
    Ok(message)
}

/// The bytes of a TSRequest.
fn encode(request: &TsRequest) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    request.encode_ts_request(&mut *bytes)?;
    Ok(bytes)
}

/// What CredSSP binds to on a leg: the content of the certificate's `subjectPublicKey`.
///
/// # Errors
/// DER that is no certificate.
pub(super) fn public_key(certificate: &[u8]) -> anyhow::Result<Vec<u8>> {
    let certificate = Certificate::from_der(certificate)?;
    let info = certificate.tbs_certificate().subject_public_key_info();
    Ok(info.subject_public_key.raw_bytes().to_vec())
}

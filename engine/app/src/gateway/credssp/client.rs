//! CredSSP as a client, towards a desktop: NTLM without SPNEGO, as Windows takes it wherever Kerberos is not to be had.
//!
//! sspi is driven directly, not through ironrdp's `CredsspSequence`: that one keeps a copy of the password which nobody
//! overwrites.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ironrdp_connector::sspi::credssp::{ClientMode, ClientState, CredSspClient, CredSspMode, TsRequest};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, Username};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{VERSION_WITH_NONCE, early, encode, read_message};

/// More messages than any desktop wants.
const ROUNDS_MAX: usize = 8;
/// What NTLM puts before everything it seals. Shorter ones make sspi panic.
const SIGNATURE_BYTES: usize = 16;

/// Who logs on.
pub(in crate::gateway) struct Account<'a> {
    /// The account's name.
    pub(in crate::gateway) login: &'a str,
    /// Its domain.
    pub(in crate::gateway) domain: Option<&'a str>,
    /// Its password.
    pub(in crate::gateway) password: &'a str,
}

/// Why a desktop can't be logged on to.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum LogonError {
    /// It says so itself.
    #[error("the desktop refuses the logon (status {0:#010x})")]
    Refused(u32),
    /// The account may not log on there.
    #[error("the desktop does not authorise the account (early user authorization result {0})")]
    Unauthorised(u32),
    /// It went away; many desktops say no like that.
    #[error("the desktop broke the logon off: {0}")]
    Lost(#[from] io::Error),
    /// It does not follow the protocol, or has another TLS key than it showed.
    #[error("CredSSP with the desktop: {0}")]
    Protocol(String),
}

/// Logs on over a TLS stream whose server has `public_key`. With `wait_for_result` (`HYBRID_EX`) the desktop's early user
/// authorization result is part of it. Not cancel-safe.
///
/// # Errors
/// [`LogonError`]; never names the password.
pub(in crate::gateway) async fn log_on<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    public_key: Vec<u8>,
    host: &str,
    account: &Account<'_>,
    wait_for_result: bool,
) -> Result<(), LogonError> {
    let mut client = client(public_key, host, account)?;
    let mut request = TsRequest::default();
    for _ in 0..ROUNDS_MAX {
        let (message, last) = next(&mut client, request)?;
        stream.write_all(&message).await?;
        stream.flush().await?;
        if last {
            return if wait_for_result { result(stream).await } else { Ok(()) };
        }
        let message = read_message(stream).await?;
        request = TsRequest::from_buffer(&message)?;
        // sspi says it again
        request.auth_info = None;
        if let Some(code) = request.error_code.as_ref().filter(|code| code.0 != 0) {
            return Err(LogonError::Refused(code.0));
        }
        // its key as it is could be words of its choice, sealed for another server (CVE-2018-0886)
        if request.version < VERSION_WITH_NONCE {
            let version = request.version;
            return Err(LogonError::Protocol(format!(
                "the desktop speaks version {version}, below {VERSION_WITH_NONCE} a logon can be used elsewhere \
                 (CVE-2018-0886): update the desktop"
            )));
        }
        if request
            .pub_key_auth
            .as_ref()
            .is_some_and(|key| key.len() < SIGNATURE_BYTES)
        {
            return Err(LogonError::Protocol("pubKeyAuth is too short".to_owned()));
        }
    }
    Err(LogonError::Protocol("the desktop never comes to an end".to_owned()))
}

async fn result<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), LogonError> {
    match stream.read_u32_le().await? {
        early::SUCCESS => Ok(()),
        other => Err(LogonError::Unauthorised(other)),
    }
}

fn client(public_key: Vec<u8>, host: &str, account: &Account<'_>) -> Result<CredSspClient, LogonError> {
    let invalid = |error: &dyn std::fmt::Display| LogonError::Protocol(error.to_string());
    let username = Username::new(account.login, account.domain).map_err(|error| invalid(&error))?;
    let identity = AuthIdentity {
        username,
        password: account.password.to_owned().into(),
    };
    CredSspClient::new(
        public_key,
        identity.into(),
        CredSspMode::WithCredentials,
        ClientMode::Ntlm(NtlmConfig::default()),
        format!("TERMSRV/{host}"),
    )
    .map_err(|error| invalid(&error))
}

/// The next message, and whether it is the last one.
fn next(client: &mut CredSspClient, request: TsRequest) -> Result<(Zeroizing<Vec<u8>>, bool), LogonError> {
    // what a desktop sends must not end more than this logon
    let step = catch_unwind(AssertUnwindSafe(|| client.process(request).resolve_to_result()));
    let step = step.map_err(|_| LogonError::Protocol("the desktop's message broke its reader".to_owned()))?;
    let (request, last) = match step.map_err(|error| LogonError::Protocol(error.to_string()))? {
        ClientState::ReplyNeeded(request) => (request, false),
        ClientState::FinalMessage(request) => (request, true),
    };
    Ok((encode(&request)?, last))
}

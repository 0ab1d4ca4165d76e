//! CredSSP as a server, without I/O: bytes in, bytes out.
//!
//! NTLM's messages are read and written by sspi. What they prove, SPNEGO and the sealed part are ours: sspi wants to know all
//! users before the client has named one, and doesn't tell which of several passwords was right.
//!
//! Nothing is granted before the client's `pubKeyAuth` has come: that is the proof that it knows the password *and* talks
//! to this TLS session.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ironrdp_connector::sspi::credssp::{NStatusCode, TsRequest, read_ts_credentials};
use ironrdp_connector::sspi::{
    BufferType, DataRepresentation, Ntlm, SecurityBuffer, ServerRequestFlags, Sspi as _, SspiImpl as _, UsernameParts,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::ntlm::Messages;
use super::seal::{Seal, same};
use super::{VERSION_WITH_NONCE, encode, spnego};

/// The newest version of the protocol, which is what we say.
const VERSION: u32 = 6;
/// From this version on a server may say why it refuses.
const VERSION_WITH_ERRORS: u32 = 3;
const CLIENT_TO_SERVER: &[u8] = b"CredSSP Client-To-Server Binding Hash\0";
const SERVER_TO_CLIENT: &[u8] = b"CredSSP Server-To-Client Binding Hash\0";
const NTLM_SIGNATURE: &[u8] = b"NTLMSSP\0";
const SPNEGO_INIT: u8 = 0x60;

/// A secret that a password is checked against: MD4 of the password, as good as the password itself.
pub(in crate::gateway) type NtHash = Zeroizing<[u8; 16]>;

/// Why a logon by CredSSP comes to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum CredsspError {
    /// The client does not follow the protocol.
    #[error("client's CredSSP message can't be used: {0}")]
    Protocol(String),
    /// The client sees another TLS key than ours, or the password is wrong: which can't be told from here.
    #[error("wrong password, or somebody stands between client and gateway")]
    Denied,
}

/// What comes next.
#[derive(Debug)]
pub(in crate::gateway) enum Step {
    /// Send this and read on.
    Reply(Zeroizing<Vec<u8>>),
    /// The client has named a user: call [`Server::verify`] with what that user may know.
    Named(ClientName),
    /// The client knows the secret of this index: [`Server::confirm`] or [`Server::refuse`] it.
    Proven(usize),
    /// The credentials that the client delegates; the exchange is over.
    Finished(Delegated),
}

/// A user as the client spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct ClientName {
    /// The name, with a selector if there is one.
    pub(in crate::gateway) user: String,
    /// The domain, if any.
    pub(in crate::gateway) domain: Option<String>,
}

/// What the client lets us log on with.
pub(in crate::gateway) struct Delegated {
    /// The password in clear text; may be empty.
    pub(in crate::gateway) password: Zeroizing<String>,
}

impl std::fmt::Debug for Delegated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Delegated")
    }
}

/// One client's logon.
pub(in crate::gateway) struct Server {
    /// Content of the `subjectPublicKey` of our certificate.
    public_key: Vec<u8>,
    ntlm: Ntlm,
    /// What NTLM has said so far.
    messages: Messages,
    /// DER of the list of mechanisms, if the client speaks SPNEGO.
    mechanisms: Option<Vec<u8>>,
    /// The client's version.
    version: Option<u32>,
    state: State,
}

enum State {
    /// The first message is next.
    Init,
    /// NTLM is agreed on; its NEGOTIATE is next.
    Negotiate,
    /// Its AUTHENTICATE is next.
    Authenticate,
    /// The client is named; what came with that.
    Named {
        mic: Option<Vec<u8>>,
        pub_key_auth: Option<Vec<u8>>,
        nonce: Option<[u8; 32]>,
    },
    /// `pubKeyAuth` is next. The sessions of all secrets that may be right.
    PubKey(Vec<(usize, Seal)>),
    /// The gateway decides.
    Proven(Seal, Vec<u8>),
    /// The credentials are next.
    AuthInfo(Seal),
    /// Over.
    Done,
}

impl Server {
    pub(in crate::gateway) fn new(public_key: Vec<u8>) -> Self {
        Self {
            public_key,
            ntlm: Ntlm::new(),
            messages: Messages::default(),
            mechanisms: None,
            version: None,
            state: State::Init,
        }
    }

    /// Takes one whole message of the client.
    ///
    /// # Errors
    /// The logon has failed; say so with [`Server::refuse`].
    pub(in crate::gateway) fn process(&mut self, message: &[u8]) -> Result<Step, CredsspError> {
        // whatever goes wrong from here on ends the logon
        let state = std::mem::replace(&mut self.state, State::Done);
        let request = guarded(|| TsRequest::from_buffer(message).map_err(|error| error.to_string()))?;
        match self.version {
            None => self.version = Some(request.version),
            Some(version) if version != request.version => return Err(protocol("the version changes")),
            Some(_) => {}
        }
        match state {
            State::Init => self.init(&request.nego_tokens.unwrap_or_default()),
            State::Negotiate => {
                let token = request.nego_tokens.unwrap_or_default();
                let response = spnego::response(&token).map_err(|error| protocol(&error.to_string()))?;
                let challenge = self.challenge(response.token.unwrap_or_default())?;
                self.reply(spnego::incomplete(&challenge))
            }
            State::Authenticate => self.authenticate(request),
            State::PubKey(sessions) => {
                let sealed = request.pub_key_auth.unwrap_or_default();
                self.prove(sessions, &sealed, request.client_nonce)
            }
            State::AuthInfo(mut seal) => {
                let sealed = request.auth_info.unwrap_or_default();
                let plain = seal.open(&sealed).ok_or(CredsspError::Denied)?;
                delegated(&plain).map(Step::Finished)
            }
            State::Named { .. } | State::Proven(..) | State::Done => Err(protocol("a message out of turn")),
        }
    }

    fn init(&mut self, token: &[u8]) -> Result<Step, CredsspError> {
        if token.starts_with(NTLM_SIGNATURE) {
            let challenge = self.challenge(token)?;
            return self.reply(challenge);
        }
        if token.first() != Some(&SPNEGO_INIT) {
            return Err(protocol("neither NTLM nor SPNEGO"));
        }
        let init = spnego::init(token).map_err(|error| protocol(&error.to_string()))?;
        self.mechanisms = Some(init.mechanisms.to_vec());
        let Some(first) = init.ntlm else {
            self.state = State::Negotiate;
            return self.reply(spnego::selected(None));
        };
        let challenge = self.challenge(first)?;
        self.reply(spnego::selected(Some(&challenge)))
    }

    /// NTLM's answer to its NEGOTIATE.
    fn challenge(&mut self, negotiate: &[u8]) -> Result<Vec<u8>, CredsspError> {
        let challenge = accept(&mut self.ntlm, negotiate)?;
        self.messages.negotiate = negotiate.to_vec();
        self.messages.challenge.clone_from(&challenge);
        self.state = State::Authenticate;
        Ok(challenge)
    }

    fn authenticate(&mut self, request: TsRequest) -> Result<Step, CredsspError> {
        let token = request.nego_tokens.unwrap_or_default();
        let mut mic = None;
        if self.mechanisms.is_some() {
            let response = spnego::response(&token).map_err(|error| protocol(&error.to_string()))?;
            mic = response.mic.map(<[u8]>::to_vec);
            self.messages.authenticate = response.token.unwrap_or_default().to_vec();
        } else {
            self.messages.authenticate = token;
        }
        accept(&mut self.ntlm, &self.messages.authenticate)?;
        let names = guarded(|| self.ntlm.query_context_names().map_err(|error| error.to_string()))?;
        let name = match names.username.parts() {
            // what has an @ is one name for us: users may be called like their mail addresses
            UsernameParts::UserPrincipalName(parts) => ClientName {
                user: parts.upn().to_owned(),
                domain: None,
            },
            UsernameParts::DownLevelLogonName(parts) => ClientName {
                user: parts.account_name().to_owned(),
                domain: parts.netbios_domain().map(str::to_owned),
            },
        };
        self.state = State::Named {
            mic,
            pub_key_auth: request.pub_key_auth,
            nonce: request.client_nonce,
        };
        Ok(Step::Named(name))
    }

    /// Checks the client's answer against `secrets`, all of them in the same time. Empty = nobody.
    ///
    /// # Errors
    /// As [`Server::process`].
    pub(in crate::gateway) fn verify(&mut self, secrets: &[NtHash]) -> Result<Step, CredsspError> {
        let State::Named {
            mic,
            pub_key_auth,
            nonce,
        } = std::mem::replace(&mut self.state, State::Done)
        else {
            return Err(protocol("nobody is named"));
        };
        let mut sessions: Vec<(usize, Seal)> = secrets
            .iter()
            .enumerate()
            .filter_map(|(index, secret)| {
                let key = self.messages.session_key(secret)?;
                Some((index, Seal::server(key.as_ref())))
            })
            .collect();
        if let (Some(mechanisms), Some(mic)) = (&self.mechanisms, &mic) {
            sessions.retain_mut(|(_, seal)| seal.check_mic(mechanisms, mic));
        }
        if sessions.is_empty() {
            return Err(CredsspError::Denied);
        }
        match (&self.mechanisms, pub_key_auth) {
            (_, Some(sealed)) => self.prove(sessions, &sealed, nonce),
            (None, None) => Err(protocol("pubKeyAuth is missing")),
            (Some(mechanisms), None) => {
                let answer = match (mic, sessions.first_mut()) {
                    (Some(_), Some((_, seal))) => Some(seal.mic(mechanisms)),
                    _ => None,
                };
                // with a signature of the list it is clear who it is
                if answer.is_some() {
                    sessions.truncate(1);
                }
                self.state = State::PubKey(sessions);
                self.reply(spnego::completed(answer.as_ref().map(<[u8; 16]>::as_slice)))
            }
        }
    }

    /// Looks for the session in which the client has sealed our public key.
    fn prove(
        &mut self,
        sessions: Vec<(usize, Seal)>,
        sealed: &[u8],
        nonce: Option<[u8; 32]>,
    ) -> Result<Step, CredsspError> {
        let (expected, answer) = if self.version.unwrap_or_default() < VERSION_WITH_NONCE {
            // the answer is the key plus one, as a little-endian number
            let mut answer = self.public_key.clone();
            for byte in &mut answer {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
            (self.public_key.clone(), answer)
        } else {
            let nonce = nonce.ok_or_else(|| protocol("clientNonce is missing"))?;
            let bind = |magic: &[u8]| {
                Sha256::new_with_prefix(magic)
                    .chain_update(nonce)
                    .chain_update(&self.public_key)
            };
            let (expected, answer) = (bind(CLIENT_TO_SERVER), bind(SERVER_TO_CLIENT));
            (expected.finalize().to_vec(), answer.finalize().to_vec())
        };
        let mut proven = None;
        for (index, mut seal) in sessions {
            let opens = seal.open(sealed).is_some_and(|plain| same(&plain, &expected));
            if opens && proven.is_none() {
                proven = Some((index, seal));
            }
        }
        let (index, seal) = proven.ok_or(CredsspError::Denied)?;
        self.state = State::Proven(seal, answer);
        Ok(Step::Proven(index))
    }

    /// Lets the proven client go on: what to send.
    ///
    /// # Errors
    /// Nothing is proven.
    pub(in crate::gateway) fn confirm(&mut self) -> Result<Zeroizing<Vec<u8>>, CredsspError> {
        let State::Proven(mut seal, answer) = std::mem::replace(&mut self.state, State::Done) else {
            return Err(protocol("nothing is proven"));
        };
        let request = TsRequest {
            version: self.common_version(),
            pub_key_auth: Some(seal.seal(&answer)),
            ..TsRequest::default()
        };
        self.state = State::AuthInfo(seal);
        encode(&request).map_err(|error| protocol(&error.to_string()))
    }

    /// What a refused client is told; `None` = it is too old to understand.
    pub(in crate::gateway) fn refuse(&self, status: u32) -> Option<Zeroizing<Vec<u8>>> {
        if self.version? < VERSION_WITH_ERRORS {
            return None;
        }
        let request = TsRequest {
            version: self.common_version(),
            error_code: Some(NStatusCode(status)),
            ..TsRequest::default()
        };
        encode(&request).ok()
    }

    /// The older one of ours and the client's.
    fn common_version(&self) -> u32 {
        self.version.unwrap_or(VERSION).min(VERSION)
    }

    fn reply(&self, token: Vec<u8>) -> Result<Step, CredsspError> {
        let request = TsRequest {
            version: self.common_version(),
            nego_tokens: Some(token),
            ..TsRequest::default()
        };
        encode(&request)
            .map(Step::Reply)
            .map_err(|error| protocol(&error.to_string()))
    }
}

fn protocol(what: &str) -> CredsspError {
    CredsspError::Protocol(what.to_owned())
}

/// Bytes of strangers go into a library here: a fault of it must not end more than this logon.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, CredsspError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(CredsspError::Protocol),
        Err(_) => Err(protocol("the message broke its reader")),
    }
}

/// One step of NTLM.
fn accept(ntlm: &mut Ntlm, token: &[u8]) -> Result<Vec<u8>, CredsspError> {
    guarded(|| {
        let mut input = [SecurityBuffer::new(token.to_vec(), BufferType::Token)];
        let mut output = [SecurityBuffer::new(Vec::with_capacity(512), BufferType::Token)];
        let mut nobody = None;
        let builder = ntlm
            .accept_security_context()
            .with_credentials_handle(&mut nobody)
            .with_context_requirements(ServerRequestFlags::empty())
            .with_target_data_representation(DataRepresentation::Native)
            .with_input(&mut input)
            .with_output(&mut output);
        let step = ntlm.accept_security_context_impl(builder);
        let step = step.and_then(|mut generator| generator.resolve_to_result());
        step.map_err(|error| error.to_string())?;
        let [answer] = output;
        Ok(answer.buffer)
    })
}

/// Reads a TSCredentials with a TSPasswordCreds in it.
fn delegated(plain: &[u8]) -> Result<Delegated, CredsspError> {
    guarded(|| {
        let credentials = read_ts_credentials(plain).map_err(|error| error.to_string())?;
        let identity = credentials
            .into_auth_identity()
            .ok_or("no password in the credentials")?;
        Ok(Delegated {
            password: Zeroizing::new(identity.password.as_ref().as_ref().to_string()),
        })
    })
}

//! Why a session ended: one distinct, stable code for each class of ending.

use std::fmt;

use deskreel_policy::{Decision, Reason};

/// Why a session ended. The codes are stable: they stand in log lines, in the catalog and in manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EndReason {
    /// The client closed its side after the session had started.
    ClientClosed,
    /// The client's connection broke after the session had started.
    ClientLost,
    /// The desktop closed its side.
    DesktopClosed,
    /// The desktop's connection broke.
    DesktopLost,
    /// The gateway is shutting down.
    GatewayShutdown,

    /// The peer closed without sending a byte.
    PortScan,
    /// The peer spoke HTTP.
    Http,
    /// The peer began with TLS instead of an X.224 request.
    TlsBeforeX224,
    /// The peer spoke SSH.
    Ssh,
    /// The peer's first byte belongs to no RDP client.
    NotRdp,
    /// The peer's first PDU is no connection request.
    X224NotARequest,
    /// The peer closed in the middle of its X.224 request.
    X224Truncated,
    /// The X.224 request announces more bytes than any client needs.
    X224Oversized,
    /// The X.224 request can't be read.
    X224Malformed,
    /// The client did not finish its handshake within `gateway.handshake_timeout`, or its NLA logon within
    /// `gateway.activation_timeout`.
    HandshakeTimeout,
    /// `gateway.sessions_max` is reached.
    TooManySessions,
    /// `gateway.connections_pending_max` is reached.
    TooManyPending,
    /// `gateway.connections_per_address_max` is reached.
    TooManyFromAddress,
    /// The client insists on network level authentication.
    ClientRequiresNla,
    /// The client offers no network level authentication, which is asked for.
    ClientWithoutNla,
    /// The client offers neither TLS nor NLA.
    ClientWithoutTls,
    /// The client asks for Restricted Admin or Remote Credential Guard.
    ClientRestrictedAdmin,
    /// The client broke the TLS handshake off.
    ClientTlsAborted,
    /// The TLS handshake with the client failed.
    ClientTlsFailed,
    /// The client went away in the middle of its CredSSP logon, as it does when it doesn't trust our certificate.
    ClientLogonAborted,
    /// The client's CredSSP messages can't be used.
    ClientLogonInvalid,

    /// The password is wrong, or somebody stands between client and gateway.
    WrongPassword,
    /// The user has no password and no ticket here, or isn't known at all.
    UnknownUser,
    /// Logons of the user from this address have failed, and the next one came too soon.
    UserWaits,
    /// Too many logons of the user have failed, from wherever.
    UserBlocked,
    /// Too many logons from the address have failed.
    AddressBlocked,
    /// The ticket leads to another desktop or login.
    TicketElsewhere,
    /// The ticket was used or expired while it was shown.
    TicketGone,
    /// Roles, locks or limits refuse.
    Denied(Reason),
    /// Several logins are possible and none was named.
    LoginNotNamed,
    /// The login is allowed, but there is no password for it.
    LoginWithoutCredentials,
    /// The password of a desktop's login can't be read.
    SecretUnavailable,

    /// The client named no desktop and there is no default one.
    DesktopNotNamed,
    /// The client named a desktop that isn't configured.
    DesktopUnknown,
    /// The desktop's name can't be resolved, or its port refuses connections.
    DesktopUnreachable,
    /// The desktop did not answer within `gateway.connect_timeout`.
    DesktopConnectTimeout,
    /// The desktop's X.224 answer is no X.224 answer.
    DesktopNotRdp,
    /// The desktop refused the negotiation for another reason than NLA or TLS.
    DesktopNegotiation,
    /// The desktop insists on network level authentication.
    DesktopRequiresNla,
    /// The desktop offers no TLS.
    DesktopWithoutTls,
    /// The TLS handshake with the desktop failed.
    DesktopTlsFailed,
    /// No configured authority signed the desktop's certificate.
    DesktopUntrusted,
    /// The desktop's certificate isn't the pinned one.
    DesktopPinMismatch,
    /// The desktop refuses the account.
    DesktopLogonRefused,
    /// The logon to the desktop failed for another reason.
    DesktopLogonFailed,

    /// The desktop's picture did not start within `gateway.activation_timeout`.
    ActivationTimeout,
    /// Somebody between gateway and desktop has changed the security negotiation.
    DesktopDowngrade,
    /// The desktop refused the client at the MCS level.
    DesktopRefusedMcs,
    /// The desktop's resource was changed between connecting to it and logging on.
    DesktopChanged,
    /// The user name asks for another desktop than the one that the session is bound to.
    OtherDesktop,
    /// `access.claimed_identity` doesn't let unproved names in.
    IdentityDenied,
    /// The client sent bytes that are no RDP PDU.
    ClientPduInvalid,
    /// The desktop sent bytes that are no RDP PDU.
    DesktopPduInvalid,
    /// A PDU could not be inspected or patched.
    FilterError,
    /// The desktop sent the client elsewhere, and the gateway sent it back for that desktop.
    Redirected,
    /// The desktop sent the client where the gateway can't or may not let it.
    RedirectRefused,
    /// The user has as many sessions as `max_connections` of its roles allows.
    TooManyOfUser,
    /// `gateway.sessions_per_desktop_max` is reached.
    TooManyOnDesktop,
    /// No key, mouse or touch for as long as `client_idle_timeout` of the roles allows.
    IdleTimeout,
    /// The session lasted as long as `max_session_ttl` of the roles allows.
    SessionExpired,
    /// A lock is in force on user, role, desktop or login.
    Locked,
    /// The view of the locks is outdated, and strict.
    LockViewStale,
    /// An operator ended the session.
    Terminated,
    /// No recording could be opened.
    RecordingRefused,
    /// The recorder failed or stalled.
    RecorderFailed,
    /// A defect of the gateway.
    Internal,
}

/// Codes of the Set Error Info PDU ([MS-RDPBCGR] 2.2.5.1.1).
mod error_info {
    /// Ended by an administrator.
    pub(super) const RPC_INITIATED_DISCONNECT: u32 = 0x1;
    /// The server denied the connection.
    pub(super) const SERVER_DENIED_CONNECTION: u32 = 0x7;
    /// Idle too long.
    pub(super) const IDLE_TIMEOUT: u32 = 0x3;
    /// Lasted too long.
    pub(super) const LOGON_TIMEOUT: u32 = 0x4;
    /// The user's privileges don't suffice.
    pub(super) const SERVER_INSUFFICIENT_PRIVILEGES: u32 = 0x9;
}

impl EndReason {
    /// The stable code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ClientLost => "client_lost",
            Self::DesktopClosed => "desktop_closed",
            Self::DesktopLost => "desktop_lost",
            Self::GatewayShutdown => "gateway_shutdown",
            Self::PortScan => "port_scan",
            Self::Http => "http",
            Self::TlsBeforeX224 => "tls_before_x224",
            Self::Ssh => "ssh",
            Self::NotRdp => "not_rdp",
            Self::X224NotARequest => "x224_not_a_request",
            Self::X224Truncated => "x224_truncated",
            Self::X224Oversized => "x224_oversized",
            Self::X224Malformed => "x224_malformed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TooManySessions => "too_many_sessions",
            Self::TooManyPending => "too_many_pending",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::ClientRequiresNla => "client_requires_nla",
            Self::ClientWithoutNla => "client_without_nla",
            Self::ClientWithoutTls => "client_without_tls",
            Self::ClientRestrictedAdmin => "client_restricted_admin",
            Self::ClientTlsAborted => "client_tls_aborted",
            Self::ClientTlsFailed => "client_tls_failed",
            Self::ClientLogonAborted => "client_logon_aborted",
            Self::ClientLogonInvalid => "client_logon_invalid",
            Self::WrongPassword => "wrong_password",
            Self::UnknownUser => "unknown_user",
            Self::UserWaits => "user_waits",
            Self::UserBlocked => "user_blocked",
            Self::AddressBlocked => "address_blocked",
            Self::TicketElsewhere => "ticket_elsewhere",
            Self::TicketGone => "ticket_gone",
            Self::Denied(reason) => denied(reason),
            Self::LoginNotNamed => "login_not_named",
            Self::LoginWithoutCredentials => "login_without_credentials",
            Self::SecretUnavailable => "secret_unavailable",
            Self::DesktopNotNamed => "desktop_not_named",
            Self::DesktopUnknown => "desktop_unknown",
            Self::DesktopUnreachable => "desktop_unreachable",
            Self::DesktopConnectTimeout => "desktop_connect_timeout",
            Self::DesktopNotRdp => "desktop_not_rdp",
            Self::DesktopNegotiation => "desktop_negotiation",
            Self::DesktopRequiresNla => "desktop_requires_nla",
            Self::DesktopWithoutTls => "desktop_without_tls",
            Self::DesktopTlsFailed => "desktop_tls_failed",
            Self::DesktopUntrusted => "desktop_untrusted",
            Self::DesktopPinMismatch => "desktop_pin_mismatch",
            Self::DesktopLogonRefused => "desktop_logon_refused",
            Self::DesktopLogonFailed => "desktop_logon_failed",
            Self::ActivationTimeout => "activation_timeout",
            Self::DesktopDowngrade => "desktop_downgrade",
            Self::DesktopRefusedMcs => "desktop_refused_mcs",
            Self::DesktopChanged => "desktop_changed",
            Self::OtherDesktop => "other_desktop",
            Self::IdentityDenied => "identity_denied",
            Self::ClientPduInvalid => "client_pdu_invalid",
            Self::DesktopPduInvalid => "desktop_pdu_invalid",
            Self::FilterError => "filter_error",
            Self::Redirected => "redirected",
            Self::RedirectRefused => "redirect_refused",
            Self::TooManyOfUser => "too_many_of_user",
            Self::TooManyOnDesktop => "too_many_on_desktop",
            Self::IdleTimeout => "idle_timeout",
            Self::SessionExpired => "session_expired",
            Self::Locked => "locked",
            Self::LockViewStale => "lock_view_stale",
            Self::Terminated => "terminated",
            Self::RecordingRefused => "recording_refused",
            Self::RecorderFailed => "recorder_failed",
            Self::Internal => "internal",
        }
    }

    /// The code that tells the client why, for endings that the gateway decides once MCS is up.
    ///
    /// Endings that client or desktop chose have none: the client then sees what it would see without the gateway.
    pub(crate) fn error_info(self) -> Option<u32> {
        match self {
            Self::GatewayShutdown | Self::Terminated => Some(error_info::RPC_INITIATED_DISCONNECT),
            Self::IdleTimeout => Some(error_info::IDLE_TIMEOUT),
            Self::SessionExpired => Some(error_info::LOGON_TIMEOUT),
            Self::IdentityDenied
            | Self::Locked
            | Self::WrongPassword
            | Self::UnknownUser
            | Self::UserWaits
            | Self::UserBlocked
            | Self::AddressBlocked
            | Self::TicketElsewhere
            | Self::TicketGone
            | Self::Denied(_)
            | Self::LoginNotNamed
            | Self::LoginWithoutCredentials => Some(error_info::SERVER_INSUFFICIENT_PRIVILEGES),
            Self::ClientPduInvalid
            | Self::DesktopPduInvalid
            | Self::FilterError
            | Self::RedirectRefused
            | Self::RecordingRefused
            | Self::RecorderFailed
            | Self::ActivationTimeout
            | Self::SecretUnavailable
            | Self::DesktopChanged
            | Self::OtherDesktop
            | Self::TooManySessions
            | Self::TooManyOfUser
            | Self::TooManyOnDesktop
            | Self::LockViewStale
            | Self::Internal => Some(error_info::SERVER_DENIED_CONNECTION),
            _ => None,
        }
    }

    /// Whether this is how sessions are supposed to end.
    pub(crate) fn is_ordinary(self) -> bool {
        matches!(
            self,
            Self::ClientClosed
                | Self::DesktopClosed
                | Self::GatewayShutdown
                | Self::IdleTimeout
                | Self::SessionExpired
                | Self::Terminated
                | Self::Redirected
        )
    }
}

/// The code of a denial: `denied_` and policy's own word.
fn denied(reason: Reason) -> &'static str {
    match reason {
        Reason::ConfigUnavailable => "denied_config_unavailable",
        Reason::Locked => "denied_locked",
        Reason::LockViewStale => "denied_lock_view_stale",
        Reason::UserUnknown => "denied_user_unknown",
        Reason::UserExpired => "denied_user_expired",
        Reason::UserLocked => "denied_user_locked",
        Reason::RoleUnknown => "denied_role_unknown",
        Reason::TooManyRoles => "denied_too_many_roles",
        Reason::IdentityNotProven => "denied_identity_not_proven",
        Reason::DesktopUnknown => "denied_desktop_unknown",
        Reason::DenyLabels => "denied_deny_labels",
        Reason::DenyLogin => "denied_deny_login",
        Reason::NoDesktop => "denied_no_desktop",
        Reason::NoLogin => "denied_no_login",
        Reason::MfaUnavailable => "denied_mfa_unavailable",
        Reason::DeviceTrustUnavailable => "denied_device_trust_unavailable",
        Reason::TooManySessions => "denied_too_many_sessions",
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The end of a session: the class and what was special about this one. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub(crate) struct Ended {
    /// The class.
    pub(crate) reason: EndReason,
    /// A sentence for the log: names the peer, key or file to blame.
    pub(crate) detail: String,
    /// The Decision that refused it, if one did.
    pub(crate) decision: Option<Box<Decision>>,
}

impl Ended {
    /// An end of class `reason`.
    pub(crate) fn new(reason: EndReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            decision: None,
        }
    }

    /// The same, with the Decision that refused it.
    pub(crate) fn by(mut self, decision: &Decision) -> Self {
        self.decision = Some(Box::new(decision.clone()));
        self
    }
}

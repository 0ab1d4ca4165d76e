//! Own fields of events about logons, and about the use of recordings and running sessions.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// By which way somebody logs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoginVia {
    /// At the gateway, with an RDP client.
    Rdp,
    /// At the pages.
    Web,
}

/// Own fields of `user.login`; `user` is who logs on, or says to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Login {
    /// Whether the name was proved.
    pub(crate) success: bool,
    /// Teleport's word for passwords and tickets that are kept here: always `local`.
    pub(crate) method: Local,
    /// By which way.
    pub(crate) via: LoginVia,
    /// What proved it: `password` or `ticket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<&'static str>,
    /// Why not, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// The session that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    /// Where the request came from.
    #[serde(rename = "addr.remote", skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// The browser, as it describes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<String>,
}

/// The only way of logging on that there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Local {
    /// By what is kept here.
    #[default]
    Local,
}

impl Login {
    /// Somebody has proved a name, by `proof`.
    pub(crate) fn proved(via: LoginVia, proof: &'static str) -> Self {
        Self {
            success: true,
            method: Local::Local,
            via,
            proof: Some(proof),
            error: None,
            message: None,
            sid: None,
            address: None,
            user_agent: None,
        }
    }

    /// Somebody has not: `error` is one word, `message` for people.
    pub(crate) fn failed(via: LoginVia, error: &str, message: &str) -> Self {
        Self {
            success: false,
            proof: None,
            error: Some(error.to_owned()),
            message: Some(message.to_owned()),
            ..Self::proved(via, "")
        }
    }
}

/// What somebody does with a recording or a running session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordingAction {
    /// Look at it: frames, events.
    Access,
    /// Make a video or pictures of it.
    Export,
    /// Copy segments and manifest.
    Download,
    /// Delete it.
    Delete,
    /// Keep it from being deleted.
    Hold,
    /// Lift such a hold.
    Release,
    /// Check it.
    Verify,
    /// Watch a running session.
    Watch,
    /// End a running session.
    Terminate,
}

/// Own fields of `session.recording.*`, `session.watch` and `session.terminate`; `user` is who asks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecordingAccess {
    /// Which event it is.
    #[serde(skip)]
    pub(crate) what: RecordingAction,
    /// The session.
    pub(crate) sid: Uuid,
    /// What exactly: `play`, `frame`, `events`, `export` ...
    pub(crate) action: String,
    /// `begun` is written before the first byte is handed out, `done` when the outcome is known.
    pub(crate) phase: Phase,
    /// False: refused, or failed after it had begun.
    pub(crate) success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The rule that decided: role and number of its rule, or why there is none.
    pub(crate) rule: String,
    /// Whose session it was.
    pub(crate) session_user: String,
    /// On which desktop.
    pub(crate) desktop_name: String,
    /// Where the request came from, if not from this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Format and range, bytes and SHA-256 of what was handed out, storages, result: what the action has of these.
    #[serde(flatten)]
    pub(crate) details: serde_json::Map<String, Value>,
}

/// Where an access stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Nothing was handed out yet.
    Begun,
    /// It is over.
    Done,
}

impl RecordingAccess {
    /// It is about `count` sessions whose ids begin with `prefix`, and about none of them in particular.
    pub(crate) fn of_several(&mut self, prefix: &str, count: usize) {
        self.sid = Uuid::nil();
        self.session_user.clear();
        self.desktop_name.clear();
        self.details.insert("prefix".to_owned(), prefix.into());
        self.details.insert("sessions".to_owned(), count.into());
    }

    pub(super) fn kind(&self) -> (&'static str, &'static str) {
        match (self.what, self.success) {
            (RecordingAction::Access, true) => ("session.recording.access", "T2012I"),
            (RecordingAction::Access, false) => ("session.recording.access", "DRA00W"),
            (RecordingAction::Export, true) => ("session.recording.export", "DRA01I"),
            (RecordingAction::Export, false) => ("session.recording.export", "DRA01W"),
            (RecordingAction::Download, true) => ("session.recording.download", "DRA02I"),
            (RecordingAction::Download, false) => ("session.recording.download", "DRA02W"),
            (RecordingAction::Delete, true) => ("session.recording.delete", "DRA03I"),
            (RecordingAction::Delete, false) => ("session.recording.delete", "DRA03W"),
            (RecordingAction::Hold, true) => ("session.recording.hold", "DRA07I"),
            (RecordingAction::Hold, false) => ("session.recording.hold", "DRA07W"),
            (RecordingAction::Release, true) => ("session.recording.release", "DRA08I"),
            (RecordingAction::Release, false) => ("session.recording.release", "DRA08W"),
            (RecordingAction::Verify, true) => ("session.recording.verify", "DRA04I"),
            (RecordingAction::Verify, false) => ("session.recording.verify", "DRA04W"),
            (RecordingAction::Watch, true) => ("session.watch", "DRA05I"),
            (RecordingAction::Watch, false) => ("session.watch", "DRA05W"),
            (RecordingAction::Terminate, true) => ("session.terminate", "DRA06I"),
            (RecordingAction::Terminate, false) => ("session.terminate", "DRA06W"),
        }
    }
}

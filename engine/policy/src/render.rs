//! Decisions in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use deskreel_config::{ClipboardRight, LockingMode, format_duration};

use crate::recording::{clipboard_word, input_word};
use crate::{Decision, Identity, Level, Limits, Match, NotRecorded, ProvenBy, Rights, SideMatch, StorageMode, Verdict};

/// The Decision as `deskreel explain` prints it: lines of text, with every vote and reason. Texts that come from
/// requests are printed without control characters.
#[must_use]
pub fn render(decision: &Decision) -> String {
    let mut out = Page(String::new());
    out.verdict(decision);
    out.recording(decision);
    if decision.verdict == Verdict::Allow {
        out.rights(&decision.rights);
    }
    out.limits(&decision.limits);
    out.matched(decision);
    if !decision.warnings.is_empty() {
        out.heading("warnings");
        for warning in &decision.warnings {
            out.line(&format!("  {warning}"));
        }
    }
    out.line(&format!("inputs     {}", decision.inputs_digest));
    out.0
}

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0
            .extend(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.line(text);
    }

    fn verdict(&mut self, decision: &Decision) {
        let verdict = match decision.verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::NeedLogin => "need_login",
        };
        let reason = decision
            .reason
            .map(|reason| format!(" {}", reason.name()))
            .unwrap_or_default();
        self.line(&format!("{verdict}{reason}: {}", decision.why));
        if !decision.message.is_empty() && decision.message != decision.why {
            self.line(&format!("message    {}", decision.message));
        }
        let identity = match decision.identity {
            Identity::Claimed => "claimed",
            Identity::Proven { by: ProvenBy::Password } => "proven by password",
            Identity::Proven { by: ProvenBy::Ticket } => "proven by ticket",
            Identity::Proven {
                by: ProvenBy::LocalAccount,
            } => "proven by a local account",
        };
        self.line(&format!("user       {} ({identity})", decision.user));
        self.line(&format!("roles      {}", or_none(&decision.roles.join(", "))));
        self.line(&format!(
            "desktop    {}",
            or_none(decision.desktop.as_deref().unwrap_or_default())
        ));
        self.line(&format!(
            "login      {}",
            or_none(decision.login.as_deref().unwrap_or_default())
        ));
        if !decision.logins.is_empty() {
            self.line(&format!("logins     {}", decision.logins.join(", ")));
        }
    }

    fn recording(&mut self, decision: &Decision) {
        let recording = &decision.recording;
        let says = match (decision.verdict, recording.not_recorded) {
            (Verdict::Allow, None) => {
                let storages = match recording.storage_mode {
                    StorageMode::None => "no storage",
                    StorageMode::AsConfigured => "storages as configured",
                    StorageMode::Sync => "storages sync",
                };
                let (input, clipboard) = (input_word(recording.input), clipboard_word(recording.clipboard));
                let level = level_word(recording.level);
                format!("{level}, {storages}, input {input}, clipboard {clipboard}")
            }
            (Verdict::Allow, Some(NotRecorded::ClusterOff)) => "off: session_recording.mode is off".to_owned(),
            (Verdict::Allow, Some(NotRecorded::RolesOff)) => "off: every role says false".to_owned(),
            (Verdict::Deny, _) => return,
            (Verdict::NeedLogin, _) => "the votes so far".to_owned(),
        };
        self.line(&format!("recording  {says}"));
        for vote in &recording.because {
            self.line(&format!(
                "  {}: {} -> {}",
                vote.source,
                vote.says,
                level_word(vote.level)
            ));
        }
    }

    fn rights(&mut self, rights: &Rights) {
        self.heading("rights");
        let clipboard = match rights.clipboard {
            ClipboardRight::Both => "both",
            ClipboardRight::ToDesktop => "to_desktop",
            ClipboardRight::FromDesktop => "from_desktop",
            ClipboardRight::Off => "off",
        };
        self.because("clipboard", clipboard, &rights.because);
        for (name, open) in [
            ("drives", rights.drives),
            ("printer", rights.printer),
            ("smart_card", rights.smart_card),
            ("serial_port", rights.serial_port),
            ("usb", rights.usb),
            ("audio_output", rights.audio_output),
            ("audio_input", rights.audio_input),
            ("camera", rights.camera),
            ("other_channels", rights.other_channels),
        ] {
            self.because(name, if open { "yes" } else { "no" }, &rights.because);
        }
    }

    fn limits(&mut self, limits: &Limits) {
        self.heading("limits");
        let never = || "never".to_owned();
        let lock_mode = match limits.lock_mode {
            LockingMode::Strict => "strict",
            LockingMode::BestEffort => "best_effort",
        };
        self.because("ends_after", &format_duration(limits.ends_after), &limits.because);
        self.because(
            "idle_timeout",
            &limits.idle_timeout.map_or_else(never, format_duration),
            &limits.because,
        );
        let sessions = limits
            .sessions_max
            .map_or_else(|| "any number".to_owned(), |most| most.to_string());
        self.because("sessions_max", &sessions, &limits.because);
        self.because("lock_mode", lock_mode, &limits.because);
    }

    fn because(&mut self, name: &str, value: &str, because: &BTreeMap<String, String>) {
        let why = because.get(name).map(|why| format!(" ({why})")).unwrap_or_default();
        self.line(&format!("  {name:<15}{value}{why}"));
    }

    fn matched(&mut self, decision: &Decision) {
        if !decision.matched.is_empty() {
            self.heading("matched");
        }
        for role in &decision.matched {
            self.line(&format!("  role {}", role.role));
            for (name, side) in [("allow", &role.allow), ("deny", &role.deny)] {
                let parts = side_parts(side);
                if !parts.is_empty() {
                    self.line(&format!("    {name:<6}{parts}"));
                }
            }
        }
    }
}

fn side_parts(side: &SideMatch) -> String {
    let mut text = String::new();
    let parts = [
        ("labels", &side.labels),
        ("expression", &side.expression),
        ("login", &side.login),
    ];
    for (name, found) in parts {
        let (word, why) = match found {
            Some(Match::Matched(why)) => ("match", why),
            Some(Match::Not(why)) => ("no", why),
            Some(Match::Failed(why)) => ("failed", why),
            None => continue,
        };
        let separator = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{separator}{name}: {word} ({why})");
    }
    text
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::BestEffort => "best_effort",
        Level::Strict => "strict",
    }
}

//! What the filter says of channels, devices and the clipboard, into recording and log.

use deskreel_rdp::Direction;
use deskreel_rdp::phase::{ChannelOutcome, ClipboardFormat, Network, Right};
use deskreel_rdp::tap::ClipboardLevel;
use deskreel_rdp::wire::rdpdr::{self, device};
use deskreel_recording::event::{
    self, ChannelFacts, Clipboard, ClipboardKind, Drive, DriveOperation, NetworkFacts, SessionEvent, Transfer,
};
use tracing::{debug, info};

use super::state::Relay;

/// A kind of redirected device in words ([MS-RDPEFS] 2.2.1.3).
fn device_kind(kind: u32) -> &'static str {
    match kind {
        device::SERIAL => "serial port",
        device::PARALLEL => "parallel port",
        device::PRINTER => "printer",
        device::DRIVE => "drive",
        device::SMART_CARD => "smart card reader",
        _ => "device",
    }
}

impl Relay {
    pub(super) fn note_dynamic_channel(&self, name: &str, outcome: ChannelOutcome) {
        match outcome {
            ChannelOutcome::Open | ChannelOutcome::RefusedByClient(_) => {
                debug!(channel = name, ?outcome, "dynamic channel");
            }
            _ => info!(channel = name, ?outcome, "dynamic channel refused"),
        }
        self.note_channel(name, true, self.why_refused(outcome));
    }

    fn why_refused(&self, outcome: ChannelOutcome) -> Option<String> {
        match outcome {
            ChannelOutcome::Open => None,
            ChannelOutcome::RefusedByClient(_) => Some("refused by the client".to_owned()),
            ChannelOutcome::Forbidden => Some("it would carry screen or input past the recording".to_owned()),
            ChannelOutcome::Unknown => Some("not on the list of known channels".to_owned()),
            ChannelOutcome::Denied(right) => Some(self.why_not(right)),
        }
    }

    /// A channel over UDP, which the desktop has asked for though the gateway said that there is none.
    pub(super) fn note_side_channel(&self) {
        info!("multitransport over UDP refused");
        let denied = "it would carry screen or input past the recording".to_owned();
        self.note_channel("multitransport over UDP", true, Some(denied));
    }

    pub(super) fn note_static_channel(&self, name: &str, denied: Option<ChannelOutcome>) {
        if let Some(outcome) = denied {
            info!(channel = name, ?outcome, "static channel refused");
        }
        self.note_channel(name, false, denied.and_then(|outcome| self.why_refused(outcome)));
    }

    pub(super) fn note_device(&self, name: String, kind: u32, id: u32, right: Right) {
        let words = device_kind(kind);
        info!(kind = words, name, option = ?right, "device refused");
        if kind == device::DRIVE {
            self.note(event::Event::Drive(Drive {
                drive: Some(id),
                detail: Some(self.why_not(right)),
                ..Drive::new(DriveOperation::Denied, name)
            }));
        } else {
            let why = format!("{words} {name}: {}", self.why_not(right));
            self.note_channel(rdpdr::STATIC_CHANNEL, false, Some(why));
        }
    }

    pub(super) fn note_network(&self, network: Network) {
        self.note(event::Event::Session(SessionEvent::Network(NetworkFacts {
            round_trip_ms: network.round_trip_ms,
            round_trip_min_ms: network.round_trip_min_ms,
            bandwidth_kbit: network.bandwidth_kbit,
        })));
    }

    pub(super) fn note_blocked(&self, direction: Direction, formats: Vec<ClipboardFormat>) {
        debug!(?direction, formats = formats.len(), "clipboard blocked");
        let direction = match direction {
            Direction::ToDesktop => Transfer::ToDesktop,
            Direction::ToClient => Transfer::ToClient,
        };
        let formats = formats.into_iter().map(|format| event::ClipboardFormat {
            id: format.id,
            name: format.name,
        });
        let told = Clipboard {
            kind: ClipboardKind::Denied,
            direction,
            formats: formats.collect(),
            length: None,
            sha256: None,
            text: None,
        };
        let kept = match self.clipboard_level() {
            ClipboardLevel::None => Clipboard {
                formats: Vec::new(),
                ..told.clone()
            },
            _ => told.clone(),
        };
        if let Some(recorder) = self.recorder.get() {
            recorder.note_as(&event::Event::Clipboard(told), event::Event::Clipboard(kept));
        }
    }

    fn note_channel(&self, name: &str, dynamic: bool, denied: Option<String>) {
        let facts = |reason| ChannelFacts {
            name: name.to_owned(),
            dynamic,
            reason,
        };
        let event = match denied {
            None => SessionEvent::ChannelOpened(facts(None)),
            reason => SessionEvent::ChannelDenied(facts(reason)),
        };
        self.note(event::Event::Session(event));
    }

    /// Something that an auditor should look at.
    pub(super) fn alert(&self, name: &str, detail: String) {
        self.note(event::Event::Session(SessionEvent::Alert {
            name: name.to_owned(),
            detail,
        }));
    }

    fn note(&self, event: event::Event) {
        if let Some(recorder) = self.recorder.get() {
            recorder.note(event);
        }
    }
}

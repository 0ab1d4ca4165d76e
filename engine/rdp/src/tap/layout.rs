//! The monitors of the session: told where they become others.

use super::event::{TapEvent, UndecodedKind};
use super::sink::Sink;
use crate::wire::WireError;
use crate::wire::monitor::{self, Monitor};

/// What was told of the monitors.
#[derive(Default)]
pub(super) struct Layout {
    /// As the desktop has them; empty for one.
    shown: Vec<Monitor>,
    /// As the client asked for them last.
    asked: Option<Vec<Monitor>>,
    /// They became others during a gap.
    untold: bool,
}

impl Layout {
    /// Of a client that listed these when it connected.
    pub(super) fn new(monitors: &[Monitor]) -> Self {
        Self {
            shown: several(monitors.to_vec()),
            ..Self::default()
        }
    }

    /// The desktop says which they are now. One alone is the whole picture, whose size is told elsewhere.
    pub(super) fn set(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), WireError> {
        let monitors = several(monitor::layout(bytes)?);
        if monitors == self.shown {
            return Ok(());
        }
        self.shown = monitors;
        self.untold |= sink.is_silent();
        self.tell(sink);
        Ok(())
    }

    fn tell(&self, sink: &mut Sink<'_>) {
        sink.push(TapEvent::Monitors {
            asked: false,
            monitors: self.shown.clone(),
        });
    }

    /// A gap ends.
    pub(super) fn restart(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.untold) {
            self.tell(sink);
        }
    }

    /// A message of the client on the display channel.
    pub(super) fn message(&mut self, message: &[u8], sink: &mut Sink<'_>) {
        match monitor::wish(message) {
            Ok(Some(monitors)) if self.asked.as_ref() != Some(&monitors) => {
                // during a gap nobody hears of it: the next of its kind is news
                self.asked = Some(monitors.clone()).filter(|_| !sink.is_silent());
                sink.push(TapEvent::Monitors { asked: true, monitors });
            }
            Ok(_) => {}
            Err(error) => sink.undecoded(UndecodedKind::Input, error.to_string(), message),
        }
    }
}

/// One alone is as good as none.
fn several(monitors: Vec<Monitor>) -> Vec<Monitor> {
    if monitors.len() > 1 { monitors } else { Vec::new() }
}

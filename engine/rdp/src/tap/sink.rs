//! Where events go while a PDU is taken apart.

use super::event::{Rect, TapEvent, Undecoded, UndecodedKind};

/// Collects the events of one PDU.
pub(super) struct Sink<'a> {
    out: &'a mut Vec<TapEvent>,
    undecoded_max_bytes: usize,
    /// During a gap nothing is reported.
    silent: bool,
    /// What could not be decoded may hold keys or clipboard text that nobody allowed to record: keep no bytes of it.
    redact: bool,
    /// Nothing is told of what could not be decoded.
    untold: bool,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut Vec<TapEvent>, undecoded_max_bytes: usize, silent: bool) -> Self {
        Self {
            out,
            undecoded_max_bytes,
            silent,
            redact: false,
            untold: false,
        }
    }

    pub(super) fn set_redact(&mut self, redact: bool) {
        self.redact = redact;
    }

    pub(super) fn set_untold(&mut self, untold: bool) {
        self.untold = untold;
    }

    pub(super) fn push(&mut self, event: TapEvent) {
        if !self.silent {
            self.out.push(event);
        }
    }

    /// Adds damage; what continues the last rectangle to the right makes it wider.
    pub(super) fn damage(&mut self, rect: Rect) {
        if !self.silent
            && let Some(TapEvent::Damage(last)) = self.out.last_mut()
            && (last.y, last.height) == (rect.y, rect.height)
            && last.x.checked_add(last.width) == Some(rect.x)
        {
            last.width += rect.width;
        } else {
            self.push(TapEvent::Damage(rect));
        }
    }

    /// Ends a frame; a second end in a row says nothing new.
    pub(super) fn frame_end(&mut self) {
        if self.out.last() != Some(&TapEvent::FrameEnd) {
            self.push(TapEvent::FrameEnd);
        }
    }

    pub(super) fn undecoded(&mut self, kind: UndecodedKind, error: impl Into<String>, data: &[u8]) {
        self.undecoded_at(kind, None, None, error, data);
    }

    pub(super) fn undecoded_at(
        &mut self,
        kind: UndecodedKind,
        codec_id: Option<u8>,
        rect: Option<Rect>,
        error: impl Into<String>,
        data: &[u8],
    ) {
        if self.silent || self.untold {
            return;
        }
        let kept = if self.redact {
            0
        } else {
            data.len().min(self.undecoded_max_bytes)
        };
        self.push(TapEvent::Undecoded(Undecoded {
            kind,
            codec_id,
            rect,
            error: error.into(),
            data: data[..kept].to_vec(),
            length: data.len(),
        }));
    }
}

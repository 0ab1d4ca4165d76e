//! Where events go while a PDU is taken apart.

use super::event::{Rect, TapEvent, Undecoded, UndecodedKind};

/// Rectangles and ends of frames of one PDU that are told one by one; for what is painted beyond them there is one around it.
const PAINTED_MAX: usize = 4096;

/// What is kept of a gap until its end.
const UNHEARD_MAX: usize = 8;

/// Collects the events of one PDU.
pub(super) struct Sink<'a> {
    out: &'a mut Vec<TapEvent>,
    undecoded_max_bytes: usize,
    /// During a gap nothing is reported at once: kept is that the graphics pipeline can't be followed, once.
    silent: bool,
    /// What could not be decoded may hold keys or clipboard text that nobody allowed to record: keep no bytes of it.
    redact: bool,
    /// Nothing is told of what could not be decoded.
    untold: bool,
    /// Rectangles and ends of frames so far.
    painted: usize,
    /// Place in `out` of the rectangle around those beyond them, if it lies on the picture that is there now.
    around: Option<usize>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut Vec<TapEvent>, undecoded_max_bytes: usize, silent: bool) -> Self {
        Self {
            out,
            undecoded_max_bytes,
            silent,
            redact: false,
            untold: false,
            painted: 0,
            around: None,
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(super) fn set_redact(&mut self, redact: bool) {
        self.redact = redact;
    }

    pub(super) fn set_untold(&mut self, untold: bool) {
        self.untold = untold;
    }

    pub(super) fn push(&mut self, event: TapEvent) {
        if matches!(event, TapEvent::Resized { .. }) {
            self.around = None;
        }
        let kept = matches!(event, TapEvent::ScreenTooLarge { .. }) && self.out.len() < UNHEARD_MAX;
        if !self.silent || kept {
            self.out.push(event);
        }
    }

    /// Adds damage; what continues the last rectangle to the right makes it wider.
    pub(super) fn damage(&mut self, rect: Rect) {
        if self.silent {
            return;
        }
        if let Some(TapEvent::Damage(last)) = self.out.last_mut()
            && (last.y, last.height) == (rect.y, rect.height)
            && last.x.checked_add(last.width) == Some(rect.x)
        {
            last.width += rect.width;
            return;
        }
        if self.painted < PAINTED_MAX {
            self.painted += 1;
            self.out.push(TapEvent::Damage(rect));
            return;
        }
        match self.around.and_then(|at| self.out.get_mut(at)) {
            Some(TapEvent::DamageWithin(around)) => *around = union(*around, rect),
            _ => {
                self.around = Some(self.out.len());
                self.out.push(TapEvent::DamageWithin(rect));
            }
        }
    }

    /// Ends a frame; a second end in a row says nothing new.
    pub(super) fn frame_end(&mut self) {
        if self.painted < PAINTED_MAX && self.out.last() != Some(&TapEvent::FrameEnd) {
            self.painted += 1;
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
        if self.silent && kind == UndecodedKind::GraphicsCommand && self.out.is_empty() {
            // surfaces outlive a gap, and so does what is missing of them
            self.out.push(TapEvent::Undecoded(Undecoded {
                kind,
                codec_id,
                rect,
                error: format!("{}, or more, during a gap", error.into()),
                data: Vec::new(),
                length: data.len(),
            }));
            return;
        }
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

/// The smallest rectangle around both.
fn union(one: Rect, other: Rect) -> Rect {
    let (x, y) = (one.x.min(other.x), one.y.min(other.y));
    let end = |start: u16, length: u16| start.saturating_add(length);
    let right = end(one.x, one.width).max(end(other.x, other.width));
    let bottom = end(one.y, one.height).max(end(other.y, other.height));
    Rect {
        x,
        y,
        width: right - x,
        height: bottom - y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: u16, y: u16) -> Rect {
        Rect {
            x,
            y,
            width: 1,
            height: 1,
        }
    }

    #[test]
    fn what_is_painted_is_told_in_a_bounded_number_of_events() {
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out, 0, false);
        for index in 0..20_000_u16 {
            sink.damage(rect(2 * (index % 50), index / 50));
            sink.frame_end();
        }
        sink.push(TapEvent::Resized { width: 9, height: 9 });
        sink.damage(rect(8, 8));
        sink.damage(rect(6, 5));
        let [.., TapEvent::Resized { .. }, TapEvent::DamageWithin(last)] = &out[..] else {
            panic!("{:?}", out.last());
        };
        // on the new picture there was none to widen
        assert_eq!((last.x, last.y, last.width, last.height), (6, 5, 3, 4));
        assert_eq!(out.len(), PAINTED_MAX + 3);
        let exact = out.iter().filter(|event| matches!(event, TapEvent::Damage(_)));
        assert_eq!(exact.count(), PAINTED_MAX / 2);
        let all = out.iter().filter_map(|event| match event {
            TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) => Some(*rect),
            _ => None,
        });
        let all = all.take(PAINTED_MAX / 2 + 1).reduce(union);
        assert_eq!(
            all.map(|rect| (rect.x, rect.y, rect.width, rect.height)),
            Some((0, 0, 99, 400))
        );
    }
}

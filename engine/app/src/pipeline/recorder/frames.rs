//! Pictures: damage gathers, the tap decodes, a frame is recorded.

use anyhow::Context as _;
use deskreel_recording::{Picture, Rect};

use super::Work;
use crate::pipeline::live::Look;

/// Rectangles that gather before they are merged into one.
const DAMAGE_MAX: usize = 256;

impl Work {
    pub(super) fn damaged(&mut self, at: u64, rect: Rect) {
        if self.damage.len() >= DAMAGE_MAX {
            let all = self.damage.drain(..).reduce(|all, rect| all.union(&rect));
            self.damage.extend(all);
        }
        self.damage.push(rect);
        self.first_damage_ns.get_or_insert(at);
        self.last_damage_ns = at;
    }

    /// Records the picture if something was painted. Not in a gap: parts of it are not known yet.
    pub(super) fn flush_frame(&mut self) -> anyhow::Result<()> {
        if self.gap.is_some() || self.first_damage_ns.is_none() {
            return Ok(());
        }
        #[cfg(test)]
        assert!(!std::mem::take(&mut self.defect_in_frame), "a defect");
        self.shared.queue.tell_room();
        self.flush_move()?;
        let at = self.last_damage_ns;
        self.settle(at)?;
        self.last_frame_ns = at;
        self.rested = false;
        if let (Some(picture), Some(recorder)) = (self.tap.picture(), self.recorder.as_mut()) {
            let picture = Picture {
                width: picture.width,
                height: picture.height,
                stride: picture.stride,
                data: picture.rgba,
            };
            if recorder.frame(at, picture, &self.damage).context("record a frame")? {
                self.recorded(at);
            }
        }
        self.damage.clear();
        self.first_damage_ns = None;
        Ok(())
    }

    /// The picture as it is now.
    pub(super) fn look(&mut self, time_ns: u64) -> anyhow::Result<Option<Look>> {
        self.settle(time_ns)?;
        let Some(picture) = self.tap.picture() else {
            return Ok(None);
        };
        let row = usize::from(picture.width) * 4;
        let rows = picture.rgba.chunks(picture.stride).take(usize::from(picture.height));
        Ok(Some(Look {
            time_ns,
            width: picture.width,
            height: picture.height,
            rgba: rows.flat_map(|bytes| bytes.iter().take(row)).copied().collect(),
        }))
    }

    /// Has the tap decode what it has kept: [`Tap::picture`](deskreel_rdp::tap::Tap::picture) is right until the next PDU.
    fn settle(&mut self, at: u64) -> anyhow::Result<()> {
        let mut out = Vec::new();
        self.tap.settle(&mut out);
        out.into_iter().try_for_each(|event| self.event(at, event))
    }
}

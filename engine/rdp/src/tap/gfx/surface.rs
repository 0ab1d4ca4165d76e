//! Surfaces, the cache of bitmaps, and how both reach the picture.

use std::collections::BTreeMap;

use crate::tap::event::Rect;
use crate::tap::framebuffer::Framebuffer;
use crate::tap::mask::Mask;
use crate::tap::work::{STEP, Work};

/// Most surfaces at a time; a Windows desktop has one a monitor.
const SURFACES_MAX: usize = 1024;
/// Most bytes of all surfaces together: as much as the largest picture, or as so many of those that the session may have.
const SURFACES_MAX_BYTES: usize = 256 << 20;
const SURFACES_MAX_SCREENS: u64 = 4;
/// Most bytes in the cache ([MS-RDPEGFX] 3.3.1.4: 100 MB), and some more for whoever counts otherwise.
const CACHE_MAX_BYTES: usize = 128 << 20;
/// Most pixels that one command may paint: what a few bytes can ask for is bounded.
const COMMAND_PIXELS_MAX: u64 = 256 << 20;
/// Sides of surfaces are multiples of this in clients.
const ALIGNED: usize = 16;
/// How much dearer a pixel is that is scaled.
const SCALED: u64 = 4;

/// How much cheaper a pixel is of which only matters whether it was painted.
const WIPED: u64 = 16;

/// Where a surface is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
    /// Size on the output; that of the surface, unless it is scaled.
    pub(super) width: u32,
    pub(super) height: u32,
}

/// One surface.
pub(super) struct Surface {
    pub(super) pixels: Framebuffer,
    place: Option<Place>,
    /// Something was painted; until then nobody knows what it shows.
    painted: bool,
    /// What was painted since the output was reset, unless that is all: some clients wipe all surfaces then.
    since: Option<Mask>,
    /// It is from before the last reset of the output: the desktop may have forgotten it.
    old: bool,
}

/// A rectangle on the wire, edges exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edges {
    pub(super) left: u16,
    pub(super) top: u16,
    pub(super) right: u16,
    pub(super) bottom: u16,
}

impl Edges {
    pub(super) fn width(self) -> usize {
        usize::from(self.right.saturating_sub(self.left))
    }

    pub(super) fn height(self) -> usize {
        usize::from(self.bottom.saturating_sub(self.top))
    }

    fn pixels(self) -> u64 {
        self.width() as u64 * self.height() as u64
    }

    /// The rectangle, if it isn't empty and lies inside `surface`.
    pub(super) fn inside(self, surface: &Framebuffer) -> Result<Rect, String> {
        let rect = surface.clip(self.left.into(), self.top.into(), self.width(), self.height());
        let whole = |rect: &Rect| (usize::from(rect.width), usize::from(rect.height)) == (self.width(), self.height());
        rect.filter(whole).ok_or_else(|| {
            let (width, height) = (surface.width(), surface.height());
            format!("{self:?} is empty or not inside of {width}x{height}")
        })
    }
}

impl Edges {
    /// Whether it reaches beyond `surface`, but no further than clients do whose surfaces have a multiple of 16 pixels a side.
    pub(super) fn overhang(self, surface: &Framebuffer) -> bool {
        let fits = |end: u16, length: u16| usize::from(end) <= usize::from(length).next_multiple_of(ALIGNED);
        let inside = surface.clip(self.left.into(), self.top.into(), self.width(), self.height());
        let beyond = self.right > surface.width() || self.bottom > surface.height();
        beyond && inside.is_some() && fits(self.right, surface.width()) && fits(self.bottom, surface.height())
    }
}

/// Pixels out of a surface.
struct Cached {
    width: usize,
    height: usize,
    rgba: Vec<u8>,
}

/// All surfaces of a channel.
#[derive(Default)]
pub(super) struct Surfaces {
    all: BTreeMap<u16, Surface>,
    bytes: usize,
    bytes_max: usize,
    cache: BTreeMap<u16, Cached>,
    cache_bytes: usize,
}

/// What paints while the picture may not be there.
pub(super) struct Output<'a> {
    pub(super) picture: Option<&'a mut Framebuffer>,
    pub(super) damage: &'a mut dyn FnMut(Rect),
    /// What painting takes from.
    pub(super) work: &'a mut Work,
}

impl Surfaces {
    /// None yet, for a screen of so many pixels.
    pub(super) fn new(screen_max_pixels: u64) -> Self {
        let bytes = screen_max_pixels.saturating_mul(4 * SURFACES_MAX_SCREENS);
        Self {
            bytes_max: usize::try_from(bytes).map_or(SURFACES_MAX_BYTES, |bytes| bytes.min(SURFACES_MAX_BYTES)),
            ..Self::default()
        }
    }

    pub(super) fn create(&mut self, id: u16, width: u16, height: u16) -> Result<(), String> {
        self.delete(id);
        let bytes = usize::from(width) * usize::from(height) * 4;
        if !self.has_room(bytes) {
            return Err(format!("surface of {width}x{height} beside {} others", self.all.len()));
        }
        let pixels = Framebuffer::new(width, height).ok_or_else(|| format!("surface of {width}x{height}"))?;
        let surface = Surface {
            pixels,
            place: None,
            painted: false,
            since: None,
            old: false,
        };
        self.bytes += bytes;
        self.all.insert(id, surface);
        Ok(())
    }

    pub(super) fn delete(&mut self, id: u16) {
        if let Some(surface) = self.all.remove(&id) {
            self.bytes -= surface.pixels.picture().rgba.len();
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.all.len() < SURFACES_MAX && self.bytes + bytes <= self.bytes_max
    }

    /// The output was reset.
    pub(super) fn age(&mut self, work: &mut Work) -> Result<(), String> {
        for surface in self.all.values_mut() {
            work.spend(STEP)?;
            surface.old = true;
            if std::mem::take(&mut surface.painted) {
                let (width, height) = (surface.pixels.width(), surface.pixels.height());
                work.spend(u64::from(width) * u64::from(height) / WIPED)?;
                surface.since = Some(Mask::new(width, height));
            }
        }
        Ok(())
    }

    /// Deletes old surfaces while there is no room for another one; tells which.
    pub(super) fn make_room(&mut self, width: u16, height: u16) -> Vec<u16> {
        let bytes = usize::from(width) * usize::from(height) * 4;
        let mut gone = Vec::new();
        while !self.has_room(bytes)
            && let Some((&id, _)) = self.all.iter().find(|(_, surface)| surface.old)
        {
            self.delete(id);
            gone.push(id);
        }
        gone
    }

    pub(super) fn find(&mut self, id: u16) -> Result<&mut Surface, String> {
        self.all.get_mut(&id).ok_or_else(|| format!("unknown surface {id}"))
    }

    /// Shows a surface here from now on; `None` = nowhere.
    pub(super) fn map(&mut self, id: u16, place: Option<Place>, output: &mut Output<'_>) -> Result<(), String> {
        let surface = self.find(id)?;
        surface.place = place;
        if surface.painted {
            surface.show_all(output);
        }
        Ok(())
    }

    /// Shows all surfaces anew.
    pub(super) fn show(&self, output: &mut Output<'_>) {
        for surface in self.all.values().filter(|surface| surface.painted) {
            surface.show_all(output);
        }
    }

    pub(super) fn fill(
        &mut self,
        id: u16,
        color: [u8; 4],
        rects: &[Edges],
        output: &mut Output<'_>,
    ) -> Result<(), String> {
        bounded(rects.iter().map(|rect| rect.pixels()).sum())?;
        let surface = self.find(id)?;
        let mut result = Ok(());
        for edges in rects {
            output.work.spend(STEP)?;
            let (left, top) = (edges.left.into(), edges.top.into());
            let Some(rect) = surface.pixels.clip(left, top, edges.width(), edges.height()) else {
                result = Err(format!("{edges:?} is empty or beside the surface"));
                continue;
            };
            output.work.spend(pixels_of(rect))?;
            surface.pixels.paint(rect, |_, out| out.as_chunks_mut().0.fill(color));
            surface.show_part(rect, output);
        }
        result
    }

    /// Copies from surface to surface, which may be the same one.
    pub(super) fn copy(
        &mut self,
        (from, source): (u16, Edges),
        to: u16,
        points: &[(u16, u16)],
        output: &mut Output<'_>,
    ) -> Result<(), String> {
        bounded(source.pixels() * (1 + points.len() as u64))?;
        let cached = self.cut(from, source, output.work)?;
        self.paste(&cached, to, points, output)
    }

    pub(super) fn keep(&mut self, slot: u16, (from, source): (u16, Edges), work: &mut Work) -> Result<(), String> {
        self.evict(slot);
        let cached = self.cut(from, source, work)?;
        if self.cache_bytes + cached.rgba.len() > CACHE_MAX_BYTES {
            return Err(format!("cache of more than {CACHE_MAX_BYTES} bytes"));
        }
        self.cache_bytes += cached.rgba.len();
        self.cache.insert(slot, cached);
        Ok(())
    }

    pub(super) fn evict(&mut self, slot: u16) {
        if let Some(cached) = self.cache.remove(&slot) {
            self.cache_bytes -= cached.rgba.len();
        }
    }

    pub(super) fn evict_all(&mut self) {
        self.cache.clear();
        self.cache_bytes = 0;
    }

    pub(super) fn recall(
        &mut self,
        slot: u16,
        to: u16,
        points: &[(u16, u16)],
        output: &mut Output<'_>,
    ) -> Result<(), String> {
        let cached = self
            .cache
            .remove(&slot)
            .ok_or_else(|| format!("nothing in slot {slot}"))?;
        let pixels = cached.width as u64 * cached.height as u64 * points.len() as u64;
        let result = bounded(pixels).and_then(|()| self.paste(&cached, to, points, output));
        self.cache.insert(slot, cached);
        result
    }

    fn cut(&mut self, from: u16, source: Edges, work: &mut Work) -> Result<Cached, String> {
        let surface = self.find(from)?;
        let rect = source.inside(&surface.pixels)?;
        work.spend(pixels_of(rect))?;
        if surface.since.as_ref().is_some_and(|since| !since.covers(rect)) {
            return Err(format!(
                "surface {from} was not painted there since the output was reset"
            ));
        }
        let mut rgba = Vec::with_capacity(source.width() * source.height() * 4);
        for row in 0..source.height() {
            rgba.extend_from_slice(surface.pixels.row(rect, row));
        }
        Ok(Cached {
            width: source.width(),
            height: source.height(),
            rgba,
        })
    }

    fn paste(
        &mut self,
        cached: &Cached,
        to: u16,
        points: &[(u16, u16)],
        output: &mut Output<'_>,
    ) -> Result<(), String> {
        let surface = self.find(to)?;
        let mut result = Ok(());
        for &(x, y) in points {
            output.work.spend(STEP)?;
            let Some(rect) = surface.pixels.clip(x.into(), y.into(), cached.width, cached.height) else {
                result = Err(format!("{x}, {y} is outside of the surface"));
                continue;
            };
            output.work.spend(pixels_of(rect))?;
            surface.pixels.paint(rect, |row, out| {
                let start = row * cached.width * 4;
                out.copy_from_slice(&cached.rgba[start..start + out.len()]);
            });
            surface.show_part(rect, output);
        }
        result
    }
}

impl Surface {
    /// Shows a rectangle that was painted.
    pub(super) fn show_part(&mut self, rect: Rect, output: &mut Output<'_>) {
        self.painted = true;
        if self.since.as_mut().is_some_and(|since| since.paint(rect)) {
            self.since = None;
        }
        self.show_rect(rect, output);
    }

    fn show_all(&self, output: &mut Output<'_>) {
        if let Some(since) = &self.since {
            let pixels = u64::from(self.pixels.width()) * u64::from(self.pixels.height());
            if output.work.spend(pixels / WIPED).is_err() {
                return;
            }
            for row in since.rows() {
                if output.work.spend(STEP).is_err() {
                    return;
                }
                self.show_rect(row, output);
            }
            return;
        }
        let (width, height) = (self.pixels.width(), self.pixels.height());
        self.show_rect(
            Rect {
                x: 0,
                y: 0,
                width,
                height,
            },
            output,
        );
    }

    fn show_rect(&self, rect: Rect, output: &mut Output<'_>) {
        let (Some(place), Some(picture)) = (self.place, output.picture.as_deref_mut()) else {
            return;
        };
        let size = (u32::from(self.pixels.width()), u32::from(self.pixels.height()));
        let shown = if (place.width, place.height) == size {
            self.show_plain(rect, place, picture, output.work)
        } else {
            self.show_scaled(rect, place, picture, output.work)
        };
        if let Some(shown) = shown {
            (output.damage)(shown);
        }
    }

    fn show_plain(&self, rect: Rect, place: Place, picture: &mut Framebuffer, work: &mut Work) -> Option<Rect> {
        let x = (place.x as usize).saturating_add(rect.x.into());
        let y = (place.y as usize).saturating_add(rect.y.into());
        let shown = picture.clip(x, y, rect.width.into(), rect.height.into())?;
        // a message that is over ends after this command, and says so
        work.spend(pixels_of(shown)).ok()?;
        picture.paint(shown, |row, out| {
            let line = self.pixels.row(rect, row);
            out.copy_from_slice(&line[..out.len()]);
        });
        Some(shown)
    }

    /// Each pixel of the output is the one of the surface that its centre falls on. Clients smooth what they scale, each in
    /// its own way: the recording shows what the desktop has sent.
    fn show_scaled(&self, rect: Rect, place: Place, picture: &mut Framebuffer, work: &mut Work) -> Option<Rect> {
        let span = |start: u16, length: u16, size: u16, target: u32| {
            let (size, target) = (u64::from(size), u64::from(target));
            let from = u64::from(start) * target / size;
            let to = ((u64::from(start) + u64::from(length)) * target).div_ceil(size);
            (from, to.saturating_sub(from))
        };
        let (width, height) = (self.pixels.width(), self.pixels.height());
        let (dx, columns) = span(rect.x, rect.width, width, place.width);
        let (dy, rows) = span(rect.y, rect.height, height, place.height);
        let at = |origin: u32, offset: u64| usize::try_from(u64::from(origin) + offset).ok();
        let (x, y) = (at(place.x, dx)?, at(place.y, dy)?);
        let shown = picture.clip(x, y, usize::try_from(columns).ok()?, usize::try_from(rows).ok()?)?;
        work.spend(SCALED * pixels_of(shown)).ok()?;
        let source = |offset: u64, size: u16, target: u32| {
            let position = (2 * offset + 1) * u64::from(size) / (2 * u64::from(target.max(1)));
            position.min(u64::from(size) - 1) as usize
        };
        let whole = Rect {
            x: 0,
            y: 0,
            width,
            height,
        };
        picture.paint(shown, |row, out| {
            let line = self.pixels.row(whole, source(dy + row as u64, height, place.height));
            let line = line.as_chunks::<4>().0;
            for (column, pixel) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *pixel = line[source(dx + column as u64, width, place.width)];
            }
        });
        Some(shown)
    }
}

pub(super) fn pixels_of(rect: Rect) -> u64 {
    u64::from(rect.width) * u64::from(rect.height)
}

fn bounded(pixels: u64) -> Result<(), String> {
    if pixels > COMMAND_PIXELS_MAX {
        return Err(format!("command of {pixels} pixels"));
    }
    Ok(())
}

//! Takes PDUs apart: TPKT, MCS, share control, share data and fast-path, down to updates and events.

use super::TapConfig;
use super::bulk::{Bulk, Plain};
use super::clipboard::Clipboard;
use super::event::{Picture, TapEvent, UndecodedKind};
use super::fragments::{Fragments, Step};
use super::input::Input;
use super::reader::Reader;
use super::screen::Screen;
use super::session;
use super::sink::Sink;
use super::surface::Codecs;
use crate::Direction;

const TPKT_VERSION: u8 = 3;
const X224_DATA: u8 = 0xF0;
/// Send Data Request and Indication, with their length bits.
const SEND_DATA: [u8; 2] = [0x64, 0x68];

const DEMAND_ACTIVE: u16 = 1;
const CONFIRM_ACTIVE: u16 = 3;
const DEACTIVATE_ALL: u16 = 6;
const DATA: u16 = 7;
/// Share control headers of this length marker belong to flow control, which nobody uses.
const FLOW_MARKER: usize = 0x8000;

const DATA_UPDATE: u8 = 2;
const DATA_POINTER: u8 = 27;
const DATA_INPUT: u8 = 28;
const DATA_SAVE_SESSION_INFO: u8 = 38;
const DATA_SET_ERROR_INFO: u8 = 47;

const SET_BITMAP: u16 = 0x02;
const SET_BITMAP_CODECS: u16 = 0x1D;

/// State of one session, both directions.
pub(super) struct Session {
    config: TapConfig,
    input: Input,
    clipboard_channel: Option<u16>,
    /// From the client, from the desktop.
    bulk: [Bulk; 2],
    fragments: Fragments,
    screen: Screen,
    clipboard: Clipboard,
}

impl Session {
    pub(super) fn new(config: TapConfig) -> Self {
        let clipboard = config
            .channels
            .iter()
            .find(|channel| channel.name.eq_ignore_ascii_case("cliprdr"));
        Self {
            input: Input {
                key_codes: config.key_codes,
            },
            clipboard_channel: clipboard.map(|channel| channel.id),
            bulk: Default::default(),
            fragments: Fragments::default(),
            screen: Screen::default(),
            clipboard: Clipboard::default(),
            config,
        }
    }

    pub(super) fn config(&self) -> &TapConfig {
        &self.config
    }

    pub(super) fn set_painting(&mut self, painting: bool) {
        self.screen.painting = painting;
    }

    pub(super) fn picture(&self) -> Option<Picture<'_>> {
        self.screen
            .picture
            .as_ref()
            .map(super::framebuffer::Framebuffer::picture)
    }

    pub(super) fn restart(&mut self, sink: &mut Sink<'_>) {
        let Some(picture) = self.picture() else { return };
        let (width, height) = (picture.width, picture.height);
        // The size was fine before, so it is now.
        let _ = self.screen.resize(width, height, sink);
        if let Some(pointer) = self.screen.pointers.current() {
            sink.push(TapEvent::Pointer(pointer));
        }
        sink.push(TapEvent::RefreshWanted { reason: "a gap ended" });
    }

    /// Takes one whole PDU.
    pub(super) fn pdu(&mut self, direction: Direction, pdu: &[u8], sink: &mut Sink<'_>) {
        sink.set_redact(direction == Direction::ToDesktop && !self.config.key_codes);
        let whole = match pdu.first() {
            Some(&TPKT_VERSION) => self.slow_path(direction, pdu, sink),
            Some(header) if header & 0x03 == 0 => self.fast_path(direction, pdu, sink),
            _ => None,
        };
        if whole.is_none() {
            sink.undecoded(UndecodedKind::Pdu, "malformed PDU", pdu);
        }
    }

    fn fast_path(&mut self, direction: Direction, pdu: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(pdu);
        let header = reader.u8()?;
        // One byte, or two with the high bit set; covers the whole PDU.
        if reader.u8()? & 0x80 != 0 {
            reader.skip(1)?;
        }
        match direction {
            // Bits 6 and 7 would mean encryption, which TLS forbids; some clients set them all the same.
            Direction::ToDesktop => self.input.fast_path(header >> 2 & 0x0F, reader.rest(), sink),
            Direction::ToClient if header & 0xC0 != 0 => return None,
            Direction::ToClient => {
                while !reader.is_empty() {
                    self.fast_path_update(&mut reader, sink)?;
                }
            }
        }
        Some(())
    }

    fn fast_path_update(&mut self, reader: &mut Reader<'_>, sink: &mut Sink<'_>) -> Option<()> {
        let header = reader.u8()?;
        let (code, fragment) = (header & 0x0F, header >> 4 & 0x03);
        let flags = if header >> 6 & 0x02 != 0 { reader.u8()? } else { 0 };
        let length = reader.len16()?;
        let compressed = reader.take(length)?;
        let [_, bulk] = &mut self.bulk;
        let Some(data) = decompress(bulk, flags, compressed, sink) else {
            return Some(());
        };
        let fragments = &mut self.fragments;
        if fragments.is_cut_off_by(fragment) {
            sink.undecoded(
                UndecodedKind::FastPathUpdate,
                "update without its last fragment",
                fragments.data(),
            );
            fragments.clear();
        }
        match fragments.push(fragment, code, data, self.config.max_request_size) {
            Step::Single => self.screen.fast_path_update(code, data, sink),
            Step::Partial => {}
            Step::Whole => {
                self.screen.fast_path_update(code, fragments.data(), sink);
                fragments.clear();
            }
            Step::Orphan(error) => sink.undecoded(UndecodedKind::FastPathUpdate, error, data),
            Step::TooLarge => {
                let error = format!("update is larger than {} bytes", self.config.max_request_size);
                sink.undecoded(UndecodedKind::FastPathUpdate, error, fragments.data());
                sink.undecoded(UndecodedKind::FastPathUpdate, "the next fragment of it", data);
                fragments.clear();
            }
        }
        Some(())
    }

    fn slow_path(&mut self, direction: Direction, pdu: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let mut reader = Reader::new(pdu);
        // TPKT header and X.224 length.
        reader.skip(4 + 1)?;
        if reader.u8()? != X224_DATA {
            // A disconnect of the transport.
            return Some(());
        }
        reader.skip(1)?;
        if !SEND_DATA.contains(&(reader.u8()? & 0xFC)) {
            // Other domain PDUs: a disconnect, late channel joins.
            return Some(());
        }
        // Initiator.
        reader.skip(2)?;
        let channel = reader.u16()?.swap_bytes();
        // Priority and segmentation, then the length in one byte or two.
        reader.skip(1)?;
        if reader.u8()? & 0x80 != 0 {
            reader.skip(1)?;
        }
        let data = reader.rest();
        if channel == self.config.io_channel {
            self.share_controls(direction, data, sink);
        } else if self.config.channels.iter().any(|known| known.id == channel) {
            self.channel_chunk(direction, channel, data, sink);
        }
        Some(())
    }

    /// Looks into a chunk of a static channel: the clipboard's content, and compression, which shares the history.
    fn channel_chunk(&mut self, direction: Direction, channel: u16, data: &[u8], sink: &mut Sink<'_>) {
        let mut reader = Reader::new(data);
        let (Some(_), Some(flags)) = (reader.u32(), reader.u32()) else {
            return;
        };
        let is_clipboard = self.clipboard_channel == Some(channel);
        if is_clipboard {
            sink.set_redact(self.config.clipboard_text_max_bytes == 0);
        }
        let [_, _, bulk_flags, _] = flags.to_le_bytes();
        let bulk = &mut self.bulk[side(direction)];
        let Some(data) = decompress(bulk, bulk_flags, reader.rest(), sink) else {
            return;
        };
        if is_clipboard {
            let text_max_bytes = self.config.clipboard_text_max_bytes;
            self.clipboard.chunk(direction, flags, data, text_max_bytes, sink);
        }
    }

    /// Walks the share control PDUs of one MCS PDU.
    fn share_controls(&mut self, direction: Direction, mut data: &[u8], sink: &mut Sink<'_>) {
        while !data.is_empty() {
            let mut reader = Reader::new(data);
            let (Some(total), Some(kind)) = (reader.len16(), reader.u16()) else {
                sink.undecoded(UndecodedKind::Pdu, "malformed share control header", data);
                return;
            };
            let length = if total == FLOW_MARKER { 8 } else { total };
            let Some((pdu, rest)) = data.split_at_checked(length).filter(|_| length >= 4) else {
                sink.undecoded(UndecodedKind::Pdu, format!("share control PDU of {total} bytes"), data);
                return;
            };
            data = rest;
            if total != FLOW_MARKER && self.share_control(direction, kind & 0x0F, pdu, sink).is_none() {
                sink.undecoded(
                    UndecodedKind::Pdu,
                    format!("malformed share control PDU {kind:#06x}"),
                    pdu,
                );
            }
        }
    }

    fn share_control(&mut self, direction: Direction, kind: u16, pdu: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        match (kind, direction) {
            (DEMAND_ACTIVE, Direction::ToClient) => self.demand_active(pdu, sink),
            (CONFIRM_ACTIVE, Direction::ToDesktop) => self.confirm_active(pdu),
            (DEACTIVATE_ALL, Direction::ToClient) => {
                self.fragments.clear();
                sink.push(TapEvent::Deactivated);
                Some(())
            }
            (DATA, _) => self.share_data(direction, pdu, sink),
            // Redirections end the session elsewhere; the rest says nothing about the screen.
            _ => Some(()),
        }
    }

    fn demand_active(&mut self, pdu: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let body = capability_sets(pdu, 10)?.find(|(kind, _)| *kind == SET_BITMAP)?.1;
        let mut reader = Reader::new(body);
        // Preferred depth and three flags.
        reader.skip(8)?;
        let (width, height) = (reader.u16()?, reader.u16()?);
        self.fragments.clear();
        if let Err(error) = self.screen.resize(width, height, sink) {
            sink.undecoded(UndecodedKind::Pdu, error, pdu);
        }
        Some(())
    }

    fn confirm_active(&mut self, pdu: &[u8]) -> Option<()> {
        let set = capability_sets(pdu, 12)?.find(|(kind, _)| *kind == SET_BITMAP_CODECS);
        self.screen.surfaces.codecs = set.map(|(_, body)| Codecs::read(body)).unwrap_or_default();
        Some(())
    }

    fn share_data(&mut self, direction: Direction, pdu: &[u8], sink: &mut Sink<'_>) -> Option<()> {
        let kind = *pdu.get(14)?;
        let flags = *pdu.get(15)?;
        let bulk = &mut self.bulk[side(direction)];
        let Some(body) = decompress(bulk, flags, pdu.get(18..)?, sink) else {
            return Some(());
        };
        match (kind, direction) {
            (DATA_UPDATE, Direction::ToClient) => self.screen.update(body, sink),
            (DATA_POINTER, Direction::ToClient) => self.screen.pointer(body, sink),
            (DATA_SAVE_SESSION_INFO, Direction::ToClient) => session::save_session_info(body, sink),
            (DATA_SET_ERROR_INFO, Direction::ToClient) => session::set_error_info(body, sink),
            (DATA_INPUT, Direction::ToDesktop) => self.input.slow_path(body, sink),
            // Synchronisation, control, fonts, keyboard lights, frame acknowledgements and their like.
            _ => {}
        }
        Some(())
    }
}

fn side(direction: Direction) -> usize {
    match direction {
        Direction::ToDesktop => 0,
        Direction::ToClient => 1,
    }
}

/// Decompresses, or reports why not.
fn decompress<'a>(bulk: &'a mut Bulk, flags: u8, data: &'a [u8], sink: &mut Sink<'_>) -> Option<&'a [u8]> {
    match bulk.decompress(flags, data) {
        Ok(Plain { data, restored }) => {
            if restored {
                let reason = "bulk compression was lost and works again";
                sink.push(TapEvent::RefreshWanted { reason });
            }
            Some(data)
        }
        Err(error) => {
            sink.undecoded(UndecodedKind::Bulk, error, data);
            None
        }
    }
}

/// The capability sets (type, body) of a Demand or Confirm Active whose source descriptor's length stands at `offset`.
fn capability_sets(pdu: &[u8], offset: usize) -> Option<impl Iterator<Item = (u16, &[u8])>> {
    let mut reader = Reader::new(pdu.get(offset..)?);
    let source = reader.len16()?;
    // Length of the sets, then the source; then count and padding.
    reader.skip(2 + source)?;
    let count = reader.len16()?;
    reader.skip(2)?;
    Some((0..count).map_while(move |_| {
        let kind = reader.u16()?;
        let length = reader.len16()?.checked_sub(4)?;
        Some((kind, reader.take(length)?))
    }))
}

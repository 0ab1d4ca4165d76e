//! Takes PDUs apart: TPKT, MCS, share control, share data and fast-path, down to updates and events.

use super::bulk::{Bulk, Plain};
use super::clipboard::Clipboard;
use super::drive::Drives;
use super::dynamic::Dynamic;
use super::event::{Decoded, Picture, TapEvent, UndecodedKind};
use super::fragments::{Fragments, Step};
use super::framebuffer::Framebuffer;
use super::input::Input;
use super::layout::Layout;
use super::screen::Screen;
use super::session;
use super::sink::Sink;
use super::surface::Codecs;
use super::{CLIPBOARD_CHANNEL, ClipboardLevel, InputLevel, TapConfig};
use crate::Direction;
use crate::wire::capability::{self, set};
use crate::wire::channel::Chunk;
use crate::wire::dvc;
use crate::wire::fast_path::{self, Update};
use crate::wire::mcs::{self, DomainPdu};
use crate::wire::rdpdr;
use crate::wire::share::{self, ShareControl, control, data};
use crate::wire::{WireError, find_pdu};

const TPKT_VERSION: u8 = 3;

/// State of one session, both directions.
pub(super) struct Session {
    config: TapConfig,
    input: Input,
    clipboard_channel: Option<u16>,
    device_channel: Option<u16>,
    dynamic_channel: Option<u16>,
    /// From the client, from the desktop.
    bulk: [Bulk; 2],
    fragments: Fragments,
    screen: Screen,
    clipboard: Clipboard,
    drives: Drives,
    dynamic: Dynamic,
    activation: Activation,
}

/// What is known of the activation: desktop size and codec ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activation {
    /// All that the peers have said.
    #[default]
    Known,
    /// A Demand Active may have been lost; the next one is waited for.
    DemandMissing,
    /// The Confirm Active may have been lost, or is still to come.
    ConfirmMissing,
}

impl Session {
    pub(super) fn new(config: TapConfig) -> Self {
        let channel = |name| config.channel(name);
        Self {
            input: Input { level: config.input },
            clipboard_channel: channel(CLIPBOARD_CHANNEL),
            device_channel: channel(rdpdr::STATIC_CHANNEL),
            dynamic_channel: config.dynamic_channel(),
            bulk: Default::default(),
            fragments: Fragments::default(),
            screen: Screen::new(Layout::new(&config.monitors)),
            clipboard: Clipboard::new(config.clipboard != ClipboardLevel::None),
            drives: Drives::new(true),
            dynamic: Dynamic::new(&config),
            activation: Activation::default(),
            config,
        }
    }

    pub(super) fn config(&self) -> &TapConfig {
        &self.config
    }

    /// What becomes of paint: during a gap it is not looked at, and else decoded at once or kept for [`Session::settle`].
    pub(super) fn set_painting(&mut self, painting: bool, deferring: bool) {
        self.screen.painting = painting;
        self.screen.deferring = deferring;
    }

    /// Decodes what is pending.
    pub(super) fn settle(&mut self, sink: &mut Sink<'_>) {
        self.screen.settle(sink);
    }

    pub(super) fn release_memory(&mut self) {
        self.screen.release_memory();
    }

    pub(super) fn picture(&self) -> Option<Picture<'_>> {
        self.screen.picture.as_ref().map(Framebuffer::picture)
    }

    pub(super) fn decoded(&self) -> Decoded {
        self.screen.decoded().and(self.dynamic.decoded())
    }

    pub(super) fn lost(&mut self, loss: Loss) {
        self.bulk.iter_mut().for_each(Bulk::lose);
        self.fragments.clear();
        self.clipboard.lose();
        self.drives.lose();
        self.screen.lose();
        self.dynamic.lose(loss);
        if loss.activation {
            self.activation = Activation::DemandMissing;
        }
    }

    pub(super) fn is_right(&self) -> bool {
        self.bulk[side(Direction::ToClient)].is_right()
            && self.activation == Activation::Known
            && self.dynamic.is_right()
    }

    pub(super) fn restart(&mut self, sink: &mut Sink<'_>) {
        let Some(picture) = self.picture() else { return };
        let (width, height) = (picture.width, picture.height);
        // The size was fine before, so it is now.
        let _ = self.screen.resize(width, height, sink);
        self.screen.layout.restart(sink);
        self.dynamic.restart(sink);
        self.dynamic.show(&mut self.screen, sink);
        if let Some(pointer) = self.screen.pointers.current() {
            sink.push(TapEvent::Pointer(pointer));
        }
        sink.push(TapEvent::RefreshWanted { reason: "a gap ended" });
    }

    /// Takes one whole PDU.
    pub(super) fn pdu(&mut self, direction: Direction, pdu: &[u8], sink: &mut Sink<'_>) {
        sink.set_redact(direction == Direction::ToDesktop && self.config.input != InputLevel::All);
        let result = match (pdu.first(), direction) {
            (Some(&TPKT_VERSION), _) => self.slow_path(direction, pdu, sink),
            (Some(header), Direction::ToDesktop) => self.fast_path_input(*header, pdu, sink),
            (_, Direction::ToDesktop) => Ok(()),
            (_, Direction::ToClient) => self.fast_path(pdu, sink),
        };
        if let Err(error) = result {
            sink.undecoded(UndecodedKind::Pdu, error.to_string(), pdu);
        }
    }

    fn fast_path_input(&self, header: u8, pdu: &[u8], sink: &mut Sink<'_>) -> Result<(), WireError> {
        // Bits 6 and 7 would mean encryption, which TLS forbids; some clients set them all the same.
        let count = header >> 2 & 0x0F;
        self.input.fast_path(count, fast_path::payload(pdu)?.rest(), sink);
        Ok(())
    }

    fn fast_path(&mut self, pdu: &[u8], sink: &mut Sink<'_>) -> Result<(), WireError> {
        if pdu.first().is_some_and(|header| fast_path::is_encrypted(*header)) {
            sink.undecoded(UndecodedKind::Pdu, "encrypted fast-path PDU", pdu);
            return Ok(());
        }
        for update in fast_path::updates(pdu)? {
            self.fast_path_update(update?, sink);
        }
        Ok(())
    }

    fn fast_path_update(&mut self, update: Update<'_>, sink: &mut Sink<'_>) {
        let Update {
            code, fragmentation, ..
        } = update;
        let bulk = &mut self.bulk[side(Direction::ToClient)];
        let Some(data) = decompress(bulk, update.compression.unwrap_or(0), update.data, sink) else {
            return;
        };
        let fragments = &mut self.fragments;
        if fragments.is_cut_off_by(fragmentation) {
            sink.undecoded(
                UndecodedKind::FastPathUpdate,
                "update without its last fragment",
                fragments.data(),
            );
            fragments.clear();
        }
        match fragments.push(fragmentation, code, data, self.config.max_request_size) {
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
    }

    fn slow_path(&mut self, direction: Direction, pdu: &[u8], sink: &mut Sink<'_>) -> Result<(), WireError> {
        // Other domain PDUs say nothing about the screen: disconnects, late channel joins.
        let DomainPdu::Data(data) = mcs::domain_pdu(pdu)? else {
            return Ok(());
        };
        if data.channel == self.config.io_channel {
            for control in share::share_controls(pdu, data.payload) {
                let control = control?;
                if let Err(error) = self.share_control(direction, pdu, &control, sink) {
                    sink.undecoded(UndecodedKind::Pdu, error.to_string(), &pdu[control.range]);
                }
            }
        } else if self.config.channels.iter().any(|known| known.id == data.channel) {
            let chunk = Chunk::parse(&pdu[data.payload])?;
            self.channel_chunk(direction, data.channel, &chunk, sink);
        }
        Ok(())
    }

    /// Looks into a chunk of a static channel: the clipboard's content, drives, and compression, which shares the history.
    fn channel_chunk(&mut self, direction: Direction, channel: u16, chunk: &Chunk<'_>, sink: &mut Sink<'_>) {
        let is_clipboard = self.clipboard_channel == Some(channel);
        if is_clipboard {
            sink.set_redact(self.config.clipboard != ClipboardLevel::Text);
        }
        let is_device = self.device_channel == Some(channel);
        if is_device {
            sink.set_redact(true);
        }
        let [_, _, bulk_flags, _] = chunk.flags.to_le_bytes();
        let bulk = &mut self.bulk[side(direction)];
        let Some(data) = decompress(bulk, bulk_flags, chunk.data, sink) else {
            return;
        };
        if is_clipboard {
            let text_max_bytes = match self.config.clipboard {
                ClipboardLevel::Text => self.config.clipboard_text_max_bytes,
                _ => 0,
            };
            // what can't be read of a clipboard that is not to be recorded is not told either
            sink.set_untold(self.config.clipboard == ClipboardLevel::None);
            self.clipboard.chunk(direction, chunk.flags, data, text_max_bytes, sink);
        }
        if is_device {
            self.drives.chunk(direction, chunk.flags, data, sink);
        }
        if self.dynamic_channel == Some(channel) {
            let chunk = Chunk { data, ..*chunk };
            self.dynamic.chunk(direction, &chunk, &mut self.screen, sink);
        }
    }

    fn share_control(
        &mut self,
        direction: Direction,
        pdu: &[u8],
        control: &ShareControl,
        sink: &mut Sink<'_>,
    ) -> Result<(), WireError> {
        match (control.kind, direction) {
            (control::DEMAND_ACTIVE, Direction::ToClient) => self.demand_active(pdu, control, sink),
            (control::CONFIRM_ACTIVE, Direction::ToDesktop) => self.confirm_active(pdu, control),
            (control::DEACTIVATE_ALL, Direction::ToClient) => {
                self.fragments.clear();
                sink.push(TapEvent::Deactivated);
                Ok(())
            }
            (control::DATA, _) => self.share_data(direction, pdu, control, sink),
            // Redirections end the session elsewhere; the rest says nothing about the screen.
            _ => Ok(()),
        }
    }

    fn demand_active(&mut self, pdu: &[u8], control: &ShareControl, sink: &mut Sink<'_>) -> Result<(), WireError> {
        self.fragments.clear();
        let active = capability::active(pdu, control)?;
        // Preferred depth and three flags, then the size.
        let size = active.of_kind(set::BITMAP).next().and_then(|body| pdu[body].get(8..12));
        let result = match size {
            Some(&[a, b, c, d]) => {
                let (width, height) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                let resized = self.screen.resize(width, height, sink);
                if resized.is_ok() {
                    // surfaces and their places outlive an activation
                    self.dynamic.show(&mut self.screen, sink);
                }
                resized
            }
            _ => Err("Demand Active without a desktop size".to_owned()),
        };
        if let Err(error) = result {
            sink.undecoded(UndecodedKind::Pdu, error, pdu);
        }
        if self.activation == Activation::DemandMissing {
            self.activation = Activation::ConfirmMissing;
        }
        Ok(())
    }

    fn confirm_active(&mut self, pdu: &[u8], control: &ShareControl) -> Result<(), WireError> {
        let active = capability::active(pdu, control)?;
        let codecs = active.of_kind(set::BITMAP_CODECS).next();
        self.screen.surfaces.codecs = codecs.map(|body| Codecs::read(&pdu[body])).unwrap_or_default();
        if self.activation == Activation::ConfirmMissing {
            self.activation = Activation::Known;
        }
        Ok(())
    }

    fn share_data(
        &mut self,
        direction: Direction,
        pdu: &[u8],
        control: &ShareControl,
        sink: &mut Sink<'_>,
    ) -> Result<(), WireError> {
        let header = share::share_data(pdu, control)?;
        let bulk = &mut self.bulk[side(direction)];
        let Some(body) = decompress(bulk, header.compression, &pdu[header.body], sink) else {
            return Ok(());
        };
        match (header.kind, direction) {
            (data::UPDATE, Direction::ToClient) => self.screen.update(body, sink),
            (data::POINTER, Direction::ToClient) => self.screen.pointer(body, sink),
            (data::SAVE_SESSION_INFO, Direction::ToClient) => session::save_session_info(body, sink),
            (data::SET_ERROR_INFO, Direction::ToClient) => session::set_error_info(body, sink),
            (data::MONITOR_LAYOUT, Direction::ToClient) => {
                if let Err(error) = self.screen.layout.set(body, sink) {
                    sink.undecoded(UndecodedKind::ShareData, error.to_string(), body);
                }
            }
            (data::INPUT, Direction::ToDesktop) => self.input.slow_path(body, sink),
            // Synchronisation, control, fonts, keyboard lights, frame acknowledgements and their like.
            _ => {}
        }
        Ok(())
    }
}

/// What is missing when PDUs were dropped that [`super::Tap`] never saw, beside the compression's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// One that begins, confirms or ends an activation.
    pub activation: bool,
    /// Data of dynamic channels from the desktop, where the graphics pipeline may be used.
    pub messages: bool,
    /// One that opens or closes a dynamic channel, or may be one.
    pub channels: bool,
}

impl Loss {
    /// Of several whole PDUs in a session with this configuration.
    #[must_use]
    pub fn of(config: &TapConfig, pdus: &[u8]) -> Self {
        let dynamic_channel = config.dynamic_channel();
        let mut loss = Self::default();
        let mut rest = pdus;
        while let Ok(Some(length)) = find_pdu(rest)
            && let Some((pdu, following)) = rest.split_at_checked(length)
            && !pdu.is_empty()
        {
            if pdu.first() == Some(&TPKT_VERSION)
                && let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(pdu)
            {
                if data.channel == config.io_channel {
                    let mut controls = share::share_controls(pdu, data.payload).flatten();
                    loss.activation |= controls.any(|item| is_activation(item.kind));
                } else if dynamic_channel == Some(data.channel) {
                    let chunk = pdu.get(data.payload).map(Chunk::parse);
                    let first = chunk.and_then(Result::ok).filter(Chunk::is_first);
                    let command = first.and_then(|chunk| chunk.data.first().copied()).map(dvc::command_of);
                    // what the client says paints nothing
                    loss.messages |= config.graphics && data.direction == Direction::ToClient;
                    // what doesn't begin a PDU goes on with one that the tap has
                    loss.channels |= command
                        .is_some_and(|command| !matches!(command, dvc::command::DATA | dvc::command::DATA_FIRST));
                }
            }
            rest = following;
        }
        loss
    }

    /// Whether there may be no other one like it for hours.
    #[must_use]
    pub fn is_vital(self) -> bool {
        self.activation || self.channels
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            activation: self.activation || other.activation,
            messages: self.messages || other.messages,
            channels: self.channels || other.channels,
        }
    }
}

fn is_activation(kind: u8) -> bool {
    matches!(
        kind,
        control::DEMAND_ACTIVE | control::CONFIRM_ACTIVE | control::DEACTIVATE_ALL
    )
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

//! Static channels, and the dynamic ones inside drdynvc: who may pass.

use std::collections::BTreeMap;

use super::gate::{Gate, Judgement};
use super::{
    ChannelOutcome, ChannelRights, Direction, FilterError, Pass, Phase, PhaseEvent, Phases, Right, Verdict, activity,
    clipboard, devices, graphics, malformed, pending::Pending,
};
use crate::tap::StaticChannel;
use crate::wire::channel::{Chunk, single_chunk};
use crate::wire::dvc::{self, DvcPdu, command};
use crate::wire::mcs;
use crate::wire::monitor;
use crate::wire::rdpdr::{self, PENDING_REQUESTS_MAX};
use crate::wire::touch;

/// Dynamic channels open at a time. A Windows desktop opens about 20.
const DYNAMIC_CHANNELS_MAX: usize = 1024;
/// Refused create requests in one session.
const REFUSALS_MAX: usize = 4096;
/// Static channels that hold nothing for the tap.
const UNTAPPED: [&str; 1] = ["rdpsnd"];
/// A chunk's header in an MCS payload.
const CHUNK_HEADER: usize = 8;

/// Dynamic channels that may pass, and the right that each needs: none of them can hold the desktop's picture, the pointer
/// or keyboard and mouse. The graphics pipeline is judged apart.
const ALLOWED: [(&str, Option<Right>); 13] = [
    ("ECHO", None),
    (monitor::DISPLAY_CHANNEL, None),
    (touch::CHANNEL, None),
    ("Microsoft::Windows::RDS::Location", Some(Right::Other)),
    ("Microsoft::Windows::RDS::Telemetry", Some(Right::Other)),
    ("URBDRC", Some(Right::Usb)),
    ("WebAuthN_Channel", Some(Right::Other)),
    ("AUDIO_INPUT", Some(Right::AudioInput)),
    ("AUDIO_PLAYBACK_DVC", Some(Right::AudioOutput)),
    ("AUDIO_PLAYBACK_LOSSY_DVC", Some(Right::AudioOutput)),
    ("RDCamera_Device_Enumerator", Some(Right::Cameras)),
    // the driver and the tickets of a printer that was announced as a device ([MS-RDPEXPS] 2.1)
    ("XPSRD", Some(Right::Printers)),
    ("TSVCTKT", Some(Right::Printers)),
];
/// One channel a camera: this and a number. A looser pattern would let programs on the desktop open channels of their own.
const CAMERA_PREFIX: &str = "RDCamera_Device_";
/// Beginnings of names that would carry screen, pointer, input or credentials past the tap.
const FORBIDDEN_PREFIXES: [&str; 8] = [
    "Microsoft::Windows::RDS::AuthRedirection",
    "Microsoft::Windows::RDS::CoreInput",
    "Microsoft::Windows::RDS::Geometry",
    "Microsoft::Windows::RDS::Graphics",
    "Microsoft::Windows::RDS::MouseCursor",
    "Microsoft::Windows::RDS::RemoteAppGraphicsRedirection",
    "Microsoft::Windows::RDS::Video",
    "TSMF",
];

/// Whether a dynamic channel may be opened; else why not.
fn policy(name: &str, rights: &ChannelRights) -> Result<(), ChannelOutcome> {
    let is_camera = |name: &str| {
        let number = name.strip_prefix(CAMERA_PREFIX).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let known = ALLOWED.iter().find(|(allowed, _)| *allowed == name);
    let right = match known {
        Some((_, right)) => *right,
        None if is_camera(name) => Some(Right::Cameras),
        None if FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => {
            return Err(ChannelOutcome::Forbidden);
        }
        None => return Err(ChannelOutcome::Unknown),
    };
    match right.filter(|right| !rights.has(*right)) {
        Some(right) => Err(ChannelOutcome::Denied(right)),
        None => Ok(()),
    }
}

/// The state of all static channels, by their MCS ids.
#[derive(Debug, Default)]
pub(super) struct Channels {
    rights: ChannelRights,
    fixed: Vec<Fixed>,
    dynamic: BTreeMap<u32, Dynamic>,
    /// How many requests to open a channel the client has not answered yet, by number.
    awaited: BTreeMap<u32, u32>,
    pub(super) graphics: graphics::Filter,
    refusals: usize,
}

/// A dynamic channel that the desktop asked for and we let pass.
#[derive(Debug)]
struct Dynamic {
    name: String,
    /// Answers to come before its own: the number belonged to others, which the desktop has closed before they were answered.
    earlier: u32,
    /// The client has opened it.
    open: bool,
}

#[derive(Debug)]
struct Fixed {
    id: u16,
    name: String,
    treatment: Treatment,
    /// Inside a message of several chunks, towards the desktop and towards the client.
    inside: [bool; 2],
    /// The message towards the client that is not over yet does not pass.
    swallowing: bool,
    /// Requests to the client's devices, of the channel that has them.
    pending: Option<Pending>,
}

/// What is done with a static channel's messages.
#[derive(Debug)]
enum Treatment {
    /// They pass.
    Plain,
    /// They hold dynamic channels.
    Dynamic,
    /// They end here.
    Denied,
    /// Some pass: gates towards the desktop and towards the client, and who judges.
    Filtered([Gate; 2], Filter),
}

/// Who judges the messages of a channel that is used in part.
#[derive(Debug)]
enum Filter {
    Clipboard(clipboard::Filter),
    Devices(devices::Filter),
}

impl Filter {
    fn judge(&mut self, direction: Direction, message: &[u8], whole: bool, events: &mut Vec<PhaseEvent>) -> Judgement {
        match self {
            Self::Clipboard(filter) => filter.judge(direction, message, whole, events),
            Self::Devices(filter) => filter.judge(direction, message, whole, events),
        }
    }
}

impl Treatment {
    fn of(name: &str, rights: &ChannelRights) -> Self {
        let filtered = |filter| Self::Filtered(<[Gate; 2]>::default(), filter);
        if name.eq_ignore_ascii_case(dvc::STATIC_CHANNEL) {
            Self::Dynamic
        } else if name.eq_ignore_ascii_case("cliprdr") && !clipboard::Filter::is_needless(rights) {
            // a denied one too: the desktop may have opened it before the decision, and counts on answers
            filtered(Filter::Clipboard(clipboard::Filter::new(*rights)))
        } else if rights.denies_static(name).is_some() {
            Self::Denied
        } else if name.eq_ignore_ascii_case(rdpdr::STATIC_CHANNEL) && !rights.all_devices() {
            filtered(Filter::Devices(devices::Filter::new(*rights)))
        } else {
            Self::Plain
        }
    }
}

/// Lets a chunk end here.
fn swallow(verdict: &mut Verdict) {
    verdict.forward = false;
    verdict.tap = false;
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::ToDesktop => 0,
        Direction::ToClient => 1,
    }
}

impl Channels {
    pub(super) fn new(graphics: super::Graphics) -> Self {
        Self {
            graphics: graphics::Filter::new(graphics),
            ..Self::default()
        }
    }

    pub(super) fn number(&mut self, channels: &[StaticChannel]) {
        let fixed = |channel: &StaticChannel| Fixed {
            id: channel.id,
            name: channel.name.clone(),
            treatment: Treatment::of(&channel.name, &self.rights),
            inside: [false; 2],
            swallowing: false,
            pending: channel
                .name
                .eq_ignore_ascii_case(rdpdr::STATIC_CHANNEL)
                .then(Pending::default),
        };
        self.fixed = channels.iter().filter(|channel| channel.id != 0).map(fixed).collect();
    }

    /// Takes the rights of the session; no channel holds data yet.
    pub(super) fn decide(&mut self, rights: ChannelRights) {
        self.rights = rights;
        for channel in &mut self.fixed {
            channel.treatment = Treatment::of(&channel.name, &rights);
        }
    }

    /// What the rights make of the static channels, in the client's order.
    pub(super) fn report(&self) -> impl Iterator<Item = PhaseEvent> {
        self.fixed.iter().map(|channel| PhaseEvent::StaticChannel {
            name: channel.name.clone(),
            denied: self.rights.denies_static(&channel.name),
        })
    }

    fn find(&mut self, id: u16) -> Option<&mut Fixed> {
        self.fixed.iter_mut().find(|channel| channel.id == id)
    }

    pub(super) fn is_inside_message(&self, direction: Direction, id: u16) -> bool {
        self.fixed.iter().any(|channel| {
            channel.id == id
                && match &channel.treatment {
                    Treatment::Filtered([to_desktop, _], _) if direction == Direction::ToDesktop => {
                        to_desktop.is_inside()
                    }
                    Treatment::Filtered([_, to_client], _) => to_client.is_inside(),
                    Treatment::Denied => false,
                    Treatment::Plain | Treatment::Dynamic => channel.inside[index(direction)],
                }
        })
    }

    /// Whether a desktop's data PDU belongs to a channel that may be open. Where the graphics pipeline may be used a client could
    /// know a channel that the tap doesn't, did not all data of unknown ones end here.
    fn is_known(&self, pdu: &[u8]) -> bool {
        let (DvcPdu::Data { id, .. } | DvcPdu::DataFirst { id, .. }) =
            DvcPdu::parse(pdu, true).unwrap_or(DvcPdu::Other { command: 0 })
        else {
            return false;
        };
        self.dynamic.contains_key(&id)
    }

    /// Takes note of an answer to a request.
    fn answered(&mut self, id: u32) {
        if let Some(count) = self.awaited.get_mut(&id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.awaited.remove(&id);
            }
        }
    }

    /// Whether a client's data PDU comes of a finger or a pen.
    fn is_touch(&self, pdu: &DvcPdu<'_>) -> bool {
        let (DvcPdu::Data { id, data } | DvcPdu::DataFirst { id, data, .. }) = pdu else {
            return false;
        };
        activity::in_touch(data) && self.name(*id) == Some(touch::CHANNEL)
    }

    fn name(&self, id: u32) -> Option<&str> {
        self.dynamic.get(&id).map(|channel| channel.name.as_str())
    }

    /// Why the tap would not see all of a client's data PDU of fingers, pens or monitors.
    fn past_the_tap(&self, pdu: &DvcPdu<'_>, is_whole: bool) -> Option<&'static str> {
        let (id, length) = match pdu {
            DvcPdu::Data { id, .. } => (*id, 0),
            DvcPdu::DataFirst { id, length, .. } => (*id, *length as usize),
            _ => return None,
        };
        let is_followed = matches!(self.name(id), Some(touch::CHANNEL | monitor::DISPLAY_CHANNEL));
        match is_followed {
            true if !is_whole => Some("of input is split into chunks"),
            true if length > touch::MESSAGE_MAX_BYTES => Some("begins more input than any client has"),
            _ => None,
        }
    }

    /// The quick way: takes note of a plain chunk, or says that it has to be looked at.
    pub(super) fn plain(&mut self, data: &mcs::Data, pdu: &[u8]) -> Option<Pass> {
        let chunk = Chunk::parse(pdu.get(data.payload.clone())?).ok()?;
        let channel = self
            .find(data.channel)
            .filter(|channel| matches!(channel.treatment, Treatment::Plain))?;
        (!chunk.is_compressed() && channel.note_pending(data.direction, &chunk))
            .then(|| channel.pass(data.direction, &chunk))
    }
}

impl Fixed {
    fn pass(&mut self, direction: Direction, chunk: &Chunk<'_>) -> Pass {
        self.inside[index(direction)] = !chunk.is_last();
        Pass { tap: self.is_tapped() }
    }

    /// False: the chunk begins a request too many.
    fn note_pending(&mut self, direction: Direction, chunk: &Chunk<'_>) -> bool {
        match (&mut self.pending, &self.treatment) {
            (None, _) | (_, Treatment::Denied) => true,
            (Some(pending), _) => pending.note(direction, chunk),
        }
    }

    fn is_tapped(&self) -> bool {
        !UNTAPPED.contains(&self.name.as_str())
    }
}

impl Phases {
    pub(super) fn static_channel(
        &mut self,
        data: &mcs::Data,
        pdu: &mut Vec<u8>,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let direction = data.direction;
        let unknown = FilterError::UnknownChannel {
            direction,
            channel: data.channel,
        };
        let channel = self.channels.find(data.channel).ok_or(unknown)?;
        // What the tap would not see yet: peers begin when the client has confirmed an activation.
        let is_early = self.phase != Phase::Active
            && channel.is_tapped()
            && matches!(channel.treatment, Treatment::Plain | Treatment::Filtered(..));
        if is_early {
            return Err(self.unexpected(direction, "channel data"));
        }
        let payload = pdu.get(data.payload.clone()).unwrap_or_default();
        let chunk = Chunk::parse(payload).map_err(malformed(direction))?;
        if chunk.is_compressed() {
            return Err(FilterError::CompressedChannel {
                direction,
                channel: channel.name.clone(),
            });
        }
        if !channel.note_pending(direction, &chunk) {
            return Err(FilterError::TooMany {
                direction,
                what: "requests to the client's devices without an answer",
                limit: PENDING_REQUESTS_MAX,
            });
        }
        let active = self.phase == Phase::Active;
        match &channel.treatment {
            Treatment::Plain => verdict.tap = channel.pass(direction, &chunk).tap && active,
            Treatment::Dynamic => {
                let inside = channel.inside[index(direction)];
                verdict.tap = channel.pass(direction, &chunk).tap && active;
                self.dynamic_chunk(data, pdu, inside, verdict)?;
            }
            Treatment::Denied => verdict.forward = false,
            Treatment::Filtered(..) => self.filtered_chunk(data, pdu, verdict)?,
        }
        Ok(())
    }

    /// A chunk of a channel that the session may use in part.
    fn filtered_chunk(
        &mut self,
        data: &mcs::Data,
        pdu: &mut Vec<u8>,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let direction = data.direction;
        let back = direction.opposite();
        let sender = self.sender(back).initiator;
        let active = self.phase == Phase::Active;
        let Some(channel) = self.channels.find(data.channel) else {
            return Ok(());
        };
        let tapped = channel.is_tapped();
        let Treatment::Filtered(gates, filter) = &mut channel.treatment else {
            return Ok(());
        };
        let gate = &mut gates[index(direction)];
        let passage = gate
            .chunk(data, pdu, |message, whole| {
                filter.judge(direction, message, whole, &mut verdict.events)
            })
            .map_err(|error| FilterError::TooMany {
                direction,
                what: "bytes of a channel message that has to be judged whole",
                limit: error.limit,
            })?;
        if let (Some(pending), Some(answer)) = (&mut channel.pending, &passage.answer) {
            pending.answered(answer);
        }
        verdict.forward = passage.forward;
        verdict.tap = passage.forward && tapped && active;
        verdict.reply = passage
            .answer
            .map(|answer| mcs::send_data(back, sender, data.channel, &single_chunk(&answer)));
        Ok(())
    }

    /// Data may come in several chunks; what opens, closes or negotiates must stand in one, so that it can be judged.
    fn dynamic_chunk(
        &mut self,
        data: &mcs::Data,
        pdu: &mut Vec<u8>,
        inside: bool,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let direction = data.direction;
        let refuse = |command, problem| {
            Err(FilterError::DynamicChannel {
                direction,
                command,
                problem,
            })
        };
        let payload = pdu.get(data.payload.clone()).unwrap_or_default();
        let chunk = Chunk::parse(payload).map_err(malformed(direction))?;
        if !chunk.is_first() {
            if !inside {
                return refuse(0, "lacks its first chunk");
            }
            if direction == Direction::ToClient
                && self.channels.find(data.channel).is_some_and(|fixed| fixed.swallowing)
            {
                swallow(verdict);
            }
            return Ok(());
        }
        if let Some(fixed) = self
            .channels
            .find(data.channel)
            .filter(|_| direction == Direction::ToClient)
        {
            fixed.swallowing = false;
        }
        let Some(&first) = chunk.data.first() else {
            return refuse(0, "is empty");
        };
        let command = dvc::command_of(first);
        if matches!(command, command::DATA_FIRST | command::DATA) {
            if direction == Direction::ToDesktop {
                // what some desktops make more of than the tap does would be input past it
                let told = DvcPdu::parse(chunk.data, false).map_err(malformed(direction))?;
                let is_whole = chunk.is_last() && chunk.message_length as usize == chunk.data.len();
                if let Some(problem) = self.channels.past_the_tap(&told, is_whole) {
                    return refuse(command, problem);
                }
                self.inputs += u64::from(self.channels.is_touch(&told));
            }
            let channels = &mut self.channels;
            if direction == Direction::ToClient && channels.graphics.is_on() && !channels.is_known(chunk.data) {
                if let Some(fixed) = channels.find(data.channel) {
                    fixed.swallowing = true;
                }
                swallow(verdict);
                return Ok(());
            }
            return self.graphics_data(data, pdu, verdict);
        }
        if !chunk.is_last() || chunk.message_length as usize != chunk.data.len() {
            return refuse(command, "is split into chunks");
        }
        let from_desktop = direction == Direction::ToClient;
        match DvcPdu::parse(chunk.data, from_desktop).map_err(malformed(direction))? {
            DvcPdu::Capabilities { version } => {
                if version > 2 {
                    // Version 3 adds compression and Soft-Sync; version 2 has the same layout.
                    let at = data.payload.start + CHUNK_HEADER + dvc::VERSION_AT;
                    if let Some(place) = pdu.get_mut(at..at + 2) {
                        place.copy_from_slice(&2_u16.to_le_bytes());
                    }
                }
                if !from_desktop {
                    self.facts.dynamic_channel_version = Some(version.min(2));
                }
            }
            DvcPdu::CreateRequest { id, name } => return self.create(data, id, name, verdict),
            DvcPdu::CreateResponse { id, status } => self.created(id, status, verdict),
            // What a client closes before it has answered is an earlier channel of that number, which the desktop has closed
            // ([MS-RDPEDYC] 3.3.5.2).
            DvcPdu::Close { id }
                if !from_desktop && self.channels.dynamic.get(&id).is_some_and(|channel| !channel.open) => {}
            DvcPdu::Close { id } => {
                self.channels.graphics.closed(id);
                if let Some(Dynamic { name, .. }) = self.channels.dynamic.remove(&id) {
                    verdict.events.push(PhaseEvent::DynamicChannelClosed { name, id });
                }
            }
            DvcPdu::DataFirst { .. } | DvcPdu::Data { .. } => (),
            DvcPdu::Other {
                command: command @ (command::DATA_FIRST_COMPRESSED | command::DATA_COMPRESSED),
            } => {
                return refuse(command, "is compressed, which was not negotiated");
            }
            DvcPdu::Other {
                command: command @ (command::SOFT_SYNC_REQUEST | command::SOFT_SYNC_RESPONSE),
            } => {
                return refuse(command, "moves channels to UDP, which was not negotiated");
            }
            DvcPdu::Other { command } => return refuse(command, "is unknown"),
        }
        Ok(())
    }

    fn create(&mut self, data: &mcs::Data, id: u32, name: String, verdict: &mut Verdict) -> Result<(), FilterError> {
        let too_many = |what, limit| FilterError::TooMany {
            direction: data.direction,
            what,
            limit,
        };
        let channels = &mut self.channels;
        // Before the first activation the tap sees nothing: it would take answers to these for those to later ones, and miss
        // the pictures or the touches of a channel that the client knows.
        let unseen = self.phase != Phase::Active;
        let judged = if unseen || channels.graphics.is_on() && channels.dynamic.contains_key(&id) {
            Err(ChannelOutcome::Forbidden)
        } else {
            let judged = channels.graphics.judge(id, &name);
            judged.unwrap_or_else(|| policy(&name, &channels.rights))
        };
        match judged {
            Ok(()) => {
                let earlier = channels.awaited.get(&id).copied().unwrap_or(0);
                let (open, awaited) = (channels.dynamic.len(), channels.awaited.len());
                if open >= DYNAMIC_CHANNELS_MAX || earlier == 0 && awaited >= DYNAMIC_CHANNELS_MAX {
                    return Err(too_many("open dynamic channels", DYNAMIC_CHANNELS_MAX));
                }
                channels.awaited.insert(id, earlier.saturating_add(1));
                let channel = Dynamic {
                    name,
                    earlier,
                    open: false,
                };
                channels.dynamic.insert(id, channel);
            }
            Err(outcome) => {
                // the client doesn't hear of it: a channel of that number stays what it is
                channels.refusals += 1;
                if channels.refusals > REFUSALS_MAX {
                    return Err(too_many("requests for refused dynamic channels", REFUSALS_MAX));
                }
                let response = single_chunk(&dvc::create_response(id, dvc::STATUS_UNSUCCESSFUL));
                let user = self.facts.user_channel;
                verdict.forward = false;
                verdict.tap = false;
                verdict.reply = Some(mcs::send_data(Direction::ToDesktop, user, data.channel, &response));
                verdict.events.push(PhaseEvent::DynamicChannel { name, id, outcome });
            }
        }
        Ok(())
    }

    fn created(&mut self, id: u32, status: u32, verdict: &mut Verdict) {
        self.channels.answered(id);
        let Some(channel) = self.channels.dynamic.get_mut(&id).filter(|channel| !channel.open) else {
            return;
        };
        if let Some(earlier) = channel.earlier.checked_sub(1) {
            channel.earlier = earlier;
            return;
        }
        channel.open = true;
        let name = channel.name.clone();
        // an HRESULT: negative is failure
        let outcome = if status & 0x8000_0000 == 0 {
            ChannelOutcome::Open
        } else {
            self.channels.dynamic.remove(&id);
            self.channels.graphics.closed(id);
            ChannelOutcome::RefusedByClient(status)
        };
        verdict.events.push(PhaseEvent::DynamicChannel { name, id, outcome });
    }
}

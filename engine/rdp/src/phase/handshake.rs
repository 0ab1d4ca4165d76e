//! From Connect Initial to licensing.

use std::collections::BTreeSet;

use zeroize::{Zeroize as _, Zeroizing};

use super::{BulkCompression, BulkType, ClientLogon, Direction, FilterError, LogonAs, Phase, PhaseEvent, Phases};
use super::{Selector, Verdict, malformed, network, share};
use crate::patch::{self, field, field_u16, field_u32};
use crate::tap::StaticChannel;
use crate::wire::client_info::{self, ClientInfo, Replacement, flags};
use crate::wire::connect::{self, Block, block};
use crate::wire::mcs::DomainPdu;
use crate::wire::monitor::{self, Monitor};
use crate::wire::x224::protocol;
use crate::wire::{Cursor, WireError, mcs, printable, utf16_text};

/// Security header flags ([MS-RDPBCGR] 2.2.8.1.1.2.1).
mod security {
    pub(super) const EXCHANGE: u16 = 0x0001;
    pub(super) const TRANSPORT_REQUEST: u16 = 0x0002;
    pub(super) const TRANSPORT_RESPONSE: u16 = 0x0004;
    pub(super) const ENCRYPT: u16 = 0x0008;
    pub(super) const INFO: u16 = 0x0040;
    pub(super) const LICENSE: u16 = 0x0080;
    pub(super) const REDIRECTION: u16 = 0x0400;
    pub(super) const AUTODETECT_REQUEST: u16 = 0x1000;
    pub(super) const AUTODETECT_RESPONSE: u16 = 0x2000;
    pub(super) const HEARTBEAT: u16 = 0x4000;
}

/// [MS-RDPBCGR] allows 31.
const STATIC_CHANNELS_MAX: usize = 31;
/// SC_CORE clientRequestedProtocols.
const REQUESTED_PROTOCOLS_AT: usize = 4;
/// CS_CORE earlyCapabilityFlags: the client wants 32 bits a pixel.
const WANT_32_BPP: u16 = 0x0002;

impl Phases {
    pub(super) fn connect_initial(&mut self, pdu: &mut [u8], verdict: &mut Verdict) -> Result<(), FilterError> {
        let blocks = connect::connect_initial(pdu).map_err(malformed(Direction::ToDesktop))?;
        self.read_client_blocks(pdu, &blocks)
            .map_err(malformed(Direction::ToDesktop))?;
        self.check_screen(
            Direction::ToDesktop,
            self.facts.requested_width.into(),
            self.facts.requested_height.into(),
        )?;
        let (width, height) = extent(&self.facts.monitors);
        self.check_screen(Direction::ToDesktop, width, height)?;
        let rights = self.options.rights.unwrap_or_default();
        let channels = self.facts.static_channels.iter();
        let denied: Vec<bool> = channels
            .map(|channel| rights.denies_static(&channel.name).is_some())
            .collect();
        patch::connect_initial(
            pdu,
            &blocks,
            self.options.selected_protocol,
            self.options.graphics,
            &denied,
        );
        self.phase = Phase::ConnectResponse;
        verdict.events.push(PhaseEvent::ClientDescribed);
        Ok(())
    }

    /// The X.224 negotiation is clear text: what the desktop has read of it comes back behind TLS. A desktop that says nothing
    /// of it has to have taken the best that it was offered.
    fn check_negotiation(&self, read: Option<u32>) -> Result<(), FilterError> {
        let Some(offered) = self.options.offered_protocols else {
            return Ok(());
        };
        let read = match (read, self.options.selected_protocol) {
            (Some(read), _) => read,
            (None, protocol::SSL) => protocol::SSL,
            (None, _) => offered,
        };
        if offered == read {
            Ok(())
        } else {
            Err(FilterError::Downgrade { offered, read })
        }
    }

    fn read_client_blocks(&mut self, pdu: &[u8], blocks: &[Block]) -> Result<(), WireError> {
        const WHAT: &str = "Connect Initial";
        let invalid = |field, value: usize| WireError::Invalid {
            what: WHAT,
            field,
            value: value as u64,
            offset: 0,
        };
        let count = |kind| blocks.iter().filter(|block| block.kind == kind).count();
        // A desktop that goes by the last of two blocks would see another session than we do.
        match (count(block::CS_CORE), count(block::CS_NET)) {
            (1, 0 | 1) => (),
            (1, nets) => return Err(invalid("number of CS_NET blocks", nets)),
            (cores, _) => return Err(invalid("number of CS_CORE blocks", cores)),
        }
        for Block { kind, body } in blocks {
            match *kind {
                block::CS_CORE => self.read_core(pdu, body)?,
                block::CS_NET => {
                    let mut cursor = Cursor::new(pdu.get(body.clone()).unwrap_or_default(), "CS_NET");
                    let count = cursor.u32()?;
                    if count as usize > STATIC_CHANNELS_MAX {
                        return Err(cursor.invalid("channelCount", count));
                    }
                    for _ in 0..count {
                        let name: [u8; 8] = cursor.array()?;
                        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                        cursor.skip(4)?;
                        let name = printable(&String::from_utf8_lossy(name));
                        // each would have a filter of its own, and see only its share
                        let twice = |other: &StaticChannel| other.name.eq_ignore_ascii_case(&name);
                        if !name.is_empty() && self.facts.static_channels.iter().any(twice) {
                            return Err(cursor.invalid("channelName", u32::from(name.as_bytes()[0])));
                        }
                        self.facts.static_channels.push(StaticChannel { id: 0, name });
                    }
                }
                block::CS_MONITOR => {
                    let mut cursor = Cursor::new(pdu.get(body.clone()).unwrap_or_default(), "CS_MONITOR");
                    cursor.skip(4)?;
                    self.facts.monitors.extend(monitor::list(&mut cursor)?);
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn read_core(&mut self, pdu: &[u8], body: &std::ops::Range<usize>) -> Result<(), WireError> {
        let facts = &mut self.facts;
        let mut cursor = Cursor::new(pdu.get(body.clone()).unwrap_or_default(), "CS_CORE");
        facts.client_version = cursor.u32()?;
        facts.requested_width = cursor.u16()?;
        facts.requested_height = cursor.u16()?;
        let old_depth = cursor.u16()?;
        cursor.skip(2)?;
        facts.keyboard_layout = cursor.u32()?;
        facts.client_build = cursor.u32()?;
        facts.client_name = printable(&utf16_text(cursor.take(32)?));
        facts.early_capability_flags = field_u16(pdu, body, 140).unwrap_or_default();
        let post_beta2_depth = field_u16(pdu, body, 128).unwrap_or(old_depth);
        facts.color_depth = match field_u16(pdu, body, 136) {
            _ if facts.early_capability_flags & WANT_32_BPP != 0 => 32,
            Some(depth @ 1..=32) => depth,
            _ => match post_beta2_depth {
                0xCA00 => 4,
                0xCA02 => 15,
                0xCA03 => 16,
                0xCA04 => 24,
                _ => 8,
            },
        };
        Ok(())
    }

    pub(super) fn connect_response(&mut self, pdu: &mut [u8], verdict: &mut Verdict) -> Result<(), FilterError> {
        let response = connect::connect_response(pdu).map_err(malformed(Direction::ToClient))?;
        if response.result != 0 {
            return Err(FilterError::ConnectRefused(response.result));
        }
        for kind in [
            block::SC_CORE,
            block::SC_SECURITY,
            block::SC_NET,
            block::SC_MCS_MSGCHANNEL,
        ] {
            // A client that goes by the first of two would number its channels otherwise than we do.
            if response.blocks.iter().filter(|block| block.kind == kind).count() > 1 {
                return Err(invalid_response("second block of type", kind.into()));
            }
        }
        let mut read = None;
        for Block { kind, body } in &response.blocks {
            match *kind {
                block::SC_SECURITY => match field_u32(pdu, body, 0) {
                    None | Some(0) => (),
                    Some(method) => return Err(FilterError::StandardSecurity(method)),
                },
                block::SC_CORE => read = field_u32(pdu, body, REQUESTED_PROTOCOLS_AT),
                block::SC_NET => self
                    .read_channel_ids(pdu, body)
                    .map_err(malformed(Direction::ToClient))?,
                block::SC_MCS_MSGCHANNEL => {
                    self.facts.message_channel = field_u16(pdu, body, 0).filter(|&channel| channel != 0);
                }
                _ => (),
            }
        }
        self.check_negotiation(read)?;
        if self.facts.io_channel == 0 {
            return Err(invalid_response("IO channel", 0));
        }
        // 0 = the desktop does not open this channel
        let ids = self.facts.static_channels.iter().map(|channel| channel.id);
        let ids = ids.filter(|&id| id != 0).chain(self.facts.message_channel);
        let mut seen = BTreeSet::from([self.facts.io_channel]);
        for id in ids {
            if !seen.insert(id) {
                return Err(invalid_response("channel id given twice", id.into()));
            }
        }
        self.channels.number(&self.facts.static_channels);
        patch::connect_response(pdu, &response.blocks, self.options.requested_protocols);
        self.phase = Phase::Attach;
        verdict.events.push(PhaseEvent::ChannelsNumbered);
        Ok(())
    }

    fn read_channel_ids(&mut self, pdu: &[u8], body: &std::ops::Range<usize>) -> Result<(), WireError> {
        let mut cursor = Cursor::new(pdu.get(body.clone()).unwrap_or_default(), "SC_NET");
        self.facts.io_channel = cursor.u16()?;
        let count = usize::from(cursor.u16()?);
        if count > self.facts.static_channels.len() {
            return Err(cursor.invalid("channelCount", count as u64));
        }
        for channel in self.facts.static_channels.iter_mut().take(count) {
            channel.id = cursor.u16()?;
        }
        Ok(())
    }

    pub(super) fn client_info(
        &mut self,
        data: &mcs::Data,
        pdu: &mut [u8],
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let direction = Direction::ToDesktop;
        let header = field_u16(pdu, &data.payload, 0).unwrap_or_default();
        if header & (security::EXCHANGE | security::ENCRYPT) != 0 {
            return Err(FilterError::Encrypted(direction));
        }
        if header & security::INFO == 0 {
            return Err(self.unexpected(direction, "PDU instead of Client Info"));
        }
        let payload = pdu.get_mut(data.payload.clone()).unwrap_or_default();
        let mut info = ClientInfo::parse(payload).map_err(malformed(direction))?;
        if self.options.bulk_compression == BulkCompression::Clear {
            info.flags &= !(flags::COMPRESSION | flags::COMPRESSION_TYPE_MASK);
            if let Some(place) = payload.get_mut(client_info::FLAGS_AT..client_info::FLAGS_AT + 4) {
                place.copy_from_slice(&info.flags.to_le_bytes());
            }
        }
        self.read_client_info(&info, payload)?;
        let text = |range: &std::ops::Range<usize>| client_text(&info, payload, range);
        verdict.logon = Some(ClientLogon {
            user_name: match &self.facts.selector {
                Some(selector) => selector.user.clone(),
                None => self.facts.user_name.clone(),
            },
            domain: self.facts.domain.clone(),
            password: Zeroizing::new(text(&info.password)),
        });
        // What comes next is the desktop's answer to it; a refusal may already be told by Set Error Info.
        self.phase = Phase::Licensing;
        verdict.forward = false;
        verdict.sensitive = true;
        verdict.events.push(PhaseEvent::ClientInfo);
        Ok(())
    }

    /// Makes the Client Info that goes to the desktop of the one that was held back ([`Verdict::logon`]): with the
    /// credentials of `account`, or with the client's own, in either case without the selector and without a cookie that
    /// would log on as somebody else. All other bytes stay.
    ///
    /// # Errors
    /// [`FilterError`]: a PDU that was not held back, or credentials that can't be written in the client's encoding. The
    /// session has to end.
    pub fn log_on(&mut self, pdu: &mut Vec<u8>, account: Option<&LogonAs<'_>>) -> Result<(), FilterError> {
        let direction = Direction::ToDesktop;
        let DomainPdu::Data(data) = mcs::domain_pdu(pdu).map_err(malformed(direction))? else {
            return Err(self.unexpected(direction, "PDU instead of Client Info"));
        };
        let payload = pdu.get_mut(data.payload.clone()).unwrap_or_default();
        let info = ClientInfo::parse(payload).map_err(malformed(direction))?;
        let mut spliced = match account {
            Some(account) => {
                // as a PIN, the password would be shown to a card that the client may have made up
                let mut flags = info.flags & !(flags::AUTOLOGON | flags::PASSWORD_IS_SC_PIN);
                if account.password.is_some() {
                    flags |= flags::AUTOLOGON;
                }
                if let Some(place) = payload.get_mut(client_info::FLAGS_AT..client_info::FLAGS_AT + 4) {
                    place.copy_from_slice(&flags.to_le_bytes());
                }
                let encode = |text| client_bytes(&info, text).map_err(malformed(direction));
                let (login, domain) = (encode(account.login)?, encode(account.domain)?);
                let password = encode(account.password.unwrap_or_default())?;
                account.login.clone_into(&mut self.facts.user_name);
                account.domain.clone_into(&mut self.facts.domain);
                let replacement = Replacement {
                    domain: Some(&domain),
                    user_name: Some(&login),
                    password: Some(&password),
                };
                info.splice(payload, &replacement)
            }
            // nothing to take out
            None if self.facts.selector.is_none() && info.reconnect_cookie.is_none() => return Ok(()),
            None if self.facts.selector.is_none() => info.splice(payload, &Replacement::default()),
            None => {
                let name = payload.get(info.user_name.clone()).unwrap_or_default();
                let replacement = Replacement {
                    user_name: Some(name_without_selector(name, info.is_unicode())),
                    ..Replacement::default()
                };
                info.splice(payload, &replacement)
            }
        }
        .map_err(malformed(direction))?;
        let mut other = mcs::send_data(direction, data.initiator, data.channel, &spliced);
        std::mem::swap(pdu, &mut other);
        // both hold passwords
        other.zeroize();
        spliced.zeroize();
        Ok(())
    }

    /// Takes the facts.
    fn read_client_info(&mut self, info: &ClientInfo, payload: &[u8]) -> Result<(), FilterError> {
        let text = |range: &std::ops::Range<usize>| printable(&client_text(info, payload, range));
        let facts = &mut self.facts;
        facts.user_name = text(&info.user_name);
        facts.domain = text(&info.domain);
        facts.has_password = !info.password.is_empty();
        facts.remote_app = info.flags & flags::RAIL != 0;
        facts.performance_flags = info.performance_flags;
        if let Some(address) = &info.address {
            // always UTF-16, whatever the flags say
            let address = payload.get(address.clone()).unwrap_or_default();
            facts.client_address = printable(&utf16_text(address));
        }
        let kind = (info.flags & flags::COMPRESSION_TYPE_MASK) >> flags::COMPRESSION_TYPE_SHIFT;
        facts.bulk_compression = (info.flags & flags::COMPRESSION != 0).then(|| BulkType::from(kind as u8));

        let Some((user, rest)) = facts.user_name.split_once(':') else {
            return Ok(());
        };
        let (desktop, login) = match rest.split_once(':') {
            Some((desktop, login)) => (desktop, Some(login.to_owned()).filter(|login| !login.is_empty())),
            None => (rest, None),
        };
        let selector = Selector {
            user: user.to_owned(),
            desktop: desktop.to_owned(),
            login,
        };
        if selector.desktop != self.options.desktop {
            return Err(FilterError::OtherDesktop {
                wanted: selector.desktop,
                bound: self.options.desktop.clone(),
            });
        }
        // as the desktop gets it
        facts.user_name = selector.login.clone().unwrap_or_else(|| selector.user.clone());
        facts.selector = Some(selector);
        Ok(())
    }

    pub(super) fn licensing(
        &mut self,
        data: &mcs::Data,
        pdu: &mut [u8],
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let direction = data.direction;
        let header = field_u16(pdu, &data.payload, 0).unwrap_or_default();
        match direction {
            // Licensing has a security header whose second half may hold anything (xrdp: a length), activation has a share
            // control header. From the desktop, the length tells them apart.
            Direction::ToClient if share::is_share(pdu, &data.payload) => return self.share(data, pdu, verdict),
            // A client must not start before it was asked: whatever a desktop might take for a share control header is none.
            Direction::ToDesktop => {
                let kind = field::<1>(pdu, &data.payload, 2).unwrap_or_default()[0] & 0xF;
                if share::is_control_kind(kind) {
                    return Err(self.unexpected(direction, "share control PDU"));
                }
            }
            Direction::ToClient => (),
        }
        if header & security::REDIRECTION != 0 {
            return self.redirection(data, pdu, data.payload.clone(), verdict);
        }
        if header & security::ENCRYPT != 0 {
            return Err(FilterError::Encrypted(direction));
        }
        if header & security::LICENSE == 0 {
            return Err(self.unexpected(direction, "PDU instead of licensing"));
        }
        verdict.sensitive = true;
        Ok(())
    }

    /// The message channel: auto-detect and heartbeats pass, UDP side channels don't.
    pub(super) fn message(&mut self, data: &mcs::Data, pdu: &[u8], verdict: &mut Verdict) -> Result<(), FilterError> {
        let direction = data.direction;
        let header = field_u16(pdu, &data.payload, 0).unwrap_or_default();
        if header & security::REDIRECTION != 0 {
            return self.redirection(data, pdu, data.payload.clone(), verdict);
        }
        if header & security::ENCRYPT != 0 {
            return Err(FilterError::Encrypted(direction));
        }
        match direction {
            Direction::ToClient if header & security::TRANSPORT_REQUEST != 0 => {
                verdict.forward = false;
                verdict.events.push(PhaseEvent::MultitransportDropped);
            }
            Direction::ToDesktop if header & security::TRANSPORT_RESPONSE != 0 => verdict.forward = false,
            Direction::ToClient if header & security::AUTODETECT_REQUEST != 0 => {
                if let Some(network) = network::characteristics(pdu, &data.payload) {
                    self.network(network, verdict);
                }
            }
            Direction::ToClient if header & security::HEARTBEAT != 0 => (),
            Direction::ToDesktop if header & security::AUTODETECT_RESPONSE != 0 => (),
            _ => return Err(self.unexpected(direction, "message channel PDU")),
        }
        Ok(())
    }
}

/// Width and height of all monitors together.
fn extent(monitors: &[Monitor]) -> (u64, u64) {
    let span = |low: fn(&Monitor) -> i32, high: fn(&Monitor) -> i32| {
        let low = monitors.iter().map(|monitor| i64::from(low(monitor))).min();
        let high = monitors.iter().map(|monitor| i64::from(high(monitor))).max();
        // edges are inclusive
        let length = high.zip(low).map_or(0, |(high, low)| high - low + 1);
        u64::try_from(length).unwrap_or(0)
    };
    (
        span(|monitor| monitor.left, |monitor| monitor.right),
        span(|monitor| monitor.top, |monitor| monitor.bottom),
    )
}

fn invalid_response(field: &'static str, value: u64) -> FilterError {
    malformed(Direction::ToClient)(WireError::Invalid {
        what: "Connect Response",
        field,
        value,
        offset: 0,
    })
}

/// A string of Client Info.
fn client_text(info: &ClientInfo, payload: &[u8], range: &std::ops::Range<usize>) -> String {
    let bytes = payload.get(range.clone()).unwrap_or_default();
    if info.is_unicode() {
        utf16_text(bytes)
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// The other way round. A client without Unicode has a code page that we don't know: ASCII is the same in all of them.
fn client_bytes(info: &ClientInfo, text: &str) -> Result<Zeroizing<Vec<u8>>, WireError> {
    if info.is_unicode() {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 2));
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        return Ok(bytes);
    }
    if text.is_ascii() {
        return Ok(Zeroizing::new(text.as_bytes().to_vec()));
    }
    Err(WireError::Invalid {
        what: "Client Info",
        field: "code page for credentials that are not ASCII",
        value: 0,
        offset: 4,
    })
}

/// What the desktop gets to see of a user name `user:desktop[:login]`, as on the wire: the login, or else the user.
fn name_without_selector(name: &[u8], unicode: bool) -> &[u8] {
    let unit = if unicode { 2 } else { 1 };
    let colon = |unit: &[u8]| unit.first() == Some(&b':') && unit.get(1).is_none_or(|&high| high == 0);
    let mut parts = [&name[..0], &name[..0], &name[..0]];
    let mut rest = name;
    for (index, part) in parts.iter_mut().enumerate() {
        let end = if index < 2 {
            rest.chunks_exact(unit).position(colon).map(|at| at * unit)
        } else {
            None
        };
        let (head, tail) = rest.split_at(end.unwrap_or(rest.len()));
        *part = head;
        rest = tail.get(unit..).unwrap_or_default();
    }
    let [user, _, login] = parts;
    if login.is_empty() { user } else { login }
}

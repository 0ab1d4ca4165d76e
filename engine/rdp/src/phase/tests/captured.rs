//! Real sessions: facts, what changes and what does not.

use ironrdp_core::decode;
use ironrdp_pdu::rdp::capability_sets::{CapabilitySet, Order, OrderFlags, OrderSupportExFlags};
use ironrdp_pdu::rdp::headers::{ShareControlHeader, ShareControlPdu};
use ironrdp_pdu::x224::X224;
use ironrdp_pdu::{gcc, mcs as typed};

use super::*;
use crate::wire::share::control;

fn events(steps: &[Step]) -> Vec<PhaseEvent> {
    steps.iter().flat_map(|step| step.verdict.events.clone()).collect()
}

#[test]
fn facts_of_xrdp() {
    let phases = played("xrdp_resize");
    let facts = phases.facts();
    assert_eq!(
        (facts.client_name.as_str(), facts.client_build, facts.color_depth),
        ("vm", 18363, 32)
    );
    assert_eq!((facts.requested_width, facts.requested_height), (1024, 768));
    let channels: Vec<_> = facts
        .static_channels
        .iter()
        .map(|channel| (channel.name.as_str(), channel.id))
        .collect();
    assert_eq!(
        channels,
        [("rdpdr", 1004), ("rdpsnd", 1005), ("cliprdr", 1006), ("drdynvc", 1007)]
    );
    assert_eq!(
        (facts.io_channel, facts.message_channel, facts.user_channel),
        (1003, None, 1008)
    );
    assert_eq!(
        (facts.user_name.as_str(), facts.domain.as_str(), facts.has_password),
        ("wirecap", "", true)
    );
    assert_eq!(facts.client_address, "127.0.0.1");
    assert_eq!(facts.bulk_compression, Some(BulkType::Rdp61));
    assert_eq!(
        (facts.activations, facts.share_id, facts.originator),
        (2, 0x0001_03EA, 1008)
    );
    assert_eq!((facts.desktop_width, facts.desktop_height), (900, 700));
    assert!(facts.refresh_rect_support && facts.suppress_output_support && facts.supports_error_info());
    assert_eq!(facts.dynamic_channel_version, Some(2));
    let ids: Vec<_> = facts
        .bitmap_codecs
        .iter()
        .map(|codec| (codec.id, codec.guid[..4].to_vec()))
        .collect();
    assert_eq!(
        ids,
        [(3, vec![0x12, 0x2F, 0x77, 0x76])],
        "RemoteFX, as sent before patching"
    );
    assert_eq!(facts.max_request_size, Some(3_162_112));
}

#[test]
fn facts_of_shadow() {
    let phases = played("shadow_default");
    let facts = phases.facts();
    assert_eq!(
        (facts.io_channel, facts.message_channel, facts.user_channel),
        (1003, Some(1008), 1009)
    );
    assert_eq!((facts.user_name.as_str(), facts.originator), ("ann", 1009));
    assert_eq!(
        (facts.desktop_width, facts.desktop_height, facts.activations),
        (1024, 768, 1)
    );
}

#[test]
fn events_come_in_order() {
    use PhaseEvent::*;
    let mut phases = Phases::new(options());
    let static_channel = |name: &str| StaticChannel {
        name: name.to_owned(),
        denied: None,
    };
    let display = || "Microsoft::Windows::RDS::DisplayControl".to_owned();
    let wanted = [
        ClientDescribed,
        ChannelsNumbered,
        ClientInfo,
        Activating { activation: 1 },
        Confirmed { activation: 1 },
        static_channel("rdpdr"),
        static_channel("rdpsnd"),
        static_channel("cliprdr"),
        static_channel("drdynvc"),
        Active,
        DynamicChannel {
            name: display(),
            id: 1,
            outcome: ChannelOutcome::Open,
        },
        Deactivated,
        Activating { activation: 2 },
        Confirmed { activation: 2 },
        Active,
    ];
    assert_eq!(events(&play(&mut phases, &records("xrdp_resize"))), wanted);

    let mut phases = Phases::new(options());
    let steps = play(&mut phases, &records("xrdp_default"));
    let refused = DynamicChannel {
        name: display(),
        id: 1,
        outcome: ChannelOutcome::RefusedByClient(0xC000_0001),
    };
    assert!(events(&steps).contains(&refused));
}

/// Only four kinds of PDU change, and none of them changes its length.
#[test]
fn nothing_else_changes() {
    for (name, _) in CAPTURES {
        let mut phases = Phases::new(options());
        for (index, step) in play(&mut phases, &records(name)).iter().enumerate() {
            assert_eq!(step.before.len(), step.after.len(), "{name} {index}");
            let patched = index < 2
                || is_control(&step.before, control::DEMAND_ACTIVE)
                || is_control(&step.before, control::CONFIRM_ACTIVE);
            // the Demand Active of neither desktop has a VirtualChannel set with flags
            let changes = patched && !is_control(&step.before, control::DEMAND_ACTIVE);
            assert_eq!(step.before != step.after, changes, "{name} {index}");
        }
    }
}

/// A stream that is patched already passes as it is.
#[test]
fn patching_twice_is_patching_once() {
    for (name, _) in CAPTURES {
        let mut phases = Phases::new(options());
        let steps = play(&mut phases, &records(name));
        let once: Vec<Record> = steps.into_iter().map(|step| (step.direction, step.after)).collect();
        for step in play(&mut Phases::new(options()), &once) {
            assert_eq!(step.before, step.after);
        }
    }
}

/// The quick way says the same as the long one, for every PDU of every capture, and is taken for most of them.
#[test]
fn the_quick_way_agrees() {
    for (name, _) in CAPTURES {
        let (mut slow, mut quick) = (Phases::new(options()), Phases::new(options()));
        let mut quickly = 0;
        for (direction, before) in records(name) {
            let (mut one, mut two) = (before.clone(), before.clone());
            let verdict = through(&mut slow, direction, &mut one).unwrap();
            match quick.passes(direction, &before).unwrap() {
                Some(Pass { tap }) => {
                    assert_eq!(
                        verdict,
                        Verdict {
                            forward: true,
                            tap,
                            ..Verdict::default()
                        }
                    );
                    quickly += 1;
                }
                None => assert_eq!(through(&mut quick, direction, &mut two).unwrap(), verdict),
            }
            assert_eq!(one, two);
        }
        assert_eq!(format!("{slow:?}"), format!("{quick:?}"));
        assert!(quickly > 8, "{name}: {quickly}");
    }
}

#[test]
fn the_tap_gets_the_session_but_no_secrets() {
    for (name, _) in CAPTURES {
        let mut phases = Phases::new(options());
        let steps = play(&mut phases, &records(name));
        let start = steps
            .iter()
            .position(|step| is_control(&step.before, control::DEMAND_ACTIVE))
            .unwrap();
        for (index, step) in steps.iter().enumerate() {
            let sound = payload(&step.before).is_some_and(|(channel, _)| {
                phases
                    .facts()
                    .static_channel(channel)
                    .is_some_and(|name| name == "rdpsnd")
            });
            let refused = !step.verdict.forward;
            assert_eq!(step.verdict.tap, index >= start && !sound && !refused, "{name} {index}");
            let secret = step.verdict.sensitive;
            assert!(!(secret && step.verdict.tap));
            let client_info = payload(&step.before).is_some_and(|(_, payload)| payload.starts_with(&[0x40, 0, 0, 0]));
            assert!(secret || !client_info, "{name} {index}: Client Info is sensitive");
        }
    }
}

/// shadow opens the graphics pipeline although the client's flag was cleared: we refuse in the client's name, with the very
/// bytes that xfreerdp uses itself to refuse a channel.
#[test]
fn the_graphics_pipeline_is_refused() {
    let records = records("shadow_default");
    let mut phases = Phases::new(options());
    let steps = play(&mut phases, &records);
    let refusals: Vec<_> = steps.iter().filter(|step| step.verdict.reply.is_some()).collect();
    assert_eq!(refusals.len(), 1);
    let verdict = &refusals[0].verdict;
    assert!(!verdict.forward && !verdict.tap);
    let name = "Microsoft::Windows::RDS::Graphics".to_owned();
    assert_eq!(
        verdict.events,
        [PhaseEvent::DynamicChannel {
            name,
            id: 2,
            outcome: ChannelOutcome::Forbidden
        }]
    );
    // xfreerdp refuses AUDIO_INPUT, channel 1
    let by_client = records
        .iter()
        .find(|(_, pdu)| pdu.ends_with(&[0x10, 1, 1, 0, 0, 0xC0]))
        .unwrap();
    let mut wanted = by_client.1.clone();
    let at = wanted.len() - 5;
    wanted[at] = 2;
    assert_eq!(verdict.reply.as_ref(), Some(&wanted));
}

#[test]
fn connect_initial_as_ironrdp_reads_it() {
    let mut phases = Phases::new(FilterOptions {
        selected_protocol: 1,
        ..options()
    });
    let steps = play(&mut phases, &records("xrdp_default")[..2]);
    let read = |pdu: &[u8]| {
        let data = decode::<X224<ironrdp_pdu::x224::X224Data<'_>>>(pdu).unwrap();
        decode::<typed::ConnectInitial>(&data.0.data).unwrap()
    };
    let (before, after) = (read(&steps[0].before), read(&steps[0].after));
    let blocks = |initial: &typed::ConnectInitial| initial.conference_create_request.gcc_blocks().clone();
    let (before, after) = (blocks(&before), blocks(&after));
    let selected = |blocks: &gcc::ClientGccBlocks| blocks.core.optional_data.server_selected_protocol;
    assert_eq!(selected(&after).map(|protocol| protocol.bits()), Some(1));
    let mut wanted = before;
    let flags = &mut wanted.core.optional_data;
    flags.server_selected_protocol = selected(&after);
    let early = flags.early_capability_flags.as_mut().unwrap();
    assert!(early.contains(gcc::ClientEarlyCapabilityFlags::SUPPORT_DYN_VC_GFX_PROTOCOL));
    early.remove(gcc::ClientEarlyCapabilityFlags::SUPPORT_DYN_VC_GFX_PROTOCOL);
    let mut cleared = 0;
    for channel in &mut wanted.network.as_mut().unwrap().channels {
        let compression = gcc::ChannelOptions::COMPRESS | gcc::ChannelOptions::COMPRESS_RDP;
        cleared += usize::from(channel.options.intersects(compression));
        channel.options.remove(compression);
    }
    assert!(cleared > 0, "the capture has something to clear");
    assert_eq!(after, wanted);
}

#[test]
fn connect_response_tells_the_clients_own_request() {
    let mut phases = Phases::new(FilterOptions {
        requested_protocols: 0xB,
        ..options()
    });
    let steps = play(&mut phases, &records("shadow_default")[..2]);
    let data = decode::<X224<ironrdp_pdu::x224::X224Data<'_>>>(&steps[1].after).unwrap();
    let response = decode::<typed::ConnectResponse>(&data.0.data).unwrap();
    let core = &response.conference_create_response.gcc_blocks().core;
    assert_eq!(
        core.optional_data
            .client_requested_protocols
            .map(|protocols| protocols.bits()),
        Some(0xB)
    );
}

/// The capture's desktop has read that TLS is wanted: had it been asked for more, somebody would have stripped it.
#[test]
fn a_changed_negotiation_shows_in_the_connect_response() {
    for (offered, ends) in [(1, false), (3, true), (0xB, true)] {
        let mut phases = Phases::new(FilterOptions {
            offered_protocols: Some(offered),
            ..options()
        });
        let records = records("shadow_default");
        phases.pdu(Direction::ToDesktop, &mut records[0].1.clone()).unwrap();
        let response = phases.pdu(Direction::ToClient, &mut records[1].1.clone());
        match response {
            Err(error) => assert!(ends && error.reason() == "downgrade", "{error}"),
            Ok(_) => assert!(!ends, "{offered}"),
        }
    }
}

/// Nor can the answer be left out: then the desktop has to have taken more than TLS, if it was offered more.
#[test]
fn a_negotiation_that_nothing_is_said_of() {
    use crate::wire::x224::protocol::{HYBRID, SSL};
    for (offered, selected, ends) in [
        (SSL, SSL, false),
        (SSL | HYBRID, SSL, true),
        (SSL | HYBRID, HYBRID, false),
    ] {
        let mut phases = Phases::new(FilterOptions {
            offered_protocols: Some(offered),
            selected_protocol: selected,
            ..options()
        });
        let records = records("shadow_default");
        phases.pdu(Direction::ToDesktop, &mut records[0].1.clone()).unwrap();
        let mut response = records[1].1.clone();
        let at = response.windows(2).position(|pair| pair == [0x01, 0x0C]).unwrap();
        response[at] = 0xFE;
        match phases.pdu(Direction::ToClient, &mut response) {
            Err(error) => assert!(ends && error.reason() == "downgrade", "{error}"),
            Ok(_) => assert!(!ends, "{offered} {selected}"),
        }
    }
}

/// Every Confirm Active, the one of the reactivation too.
#[test]
fn confirm_active_as_ironrdp_reads_it() {
    let mut phases = Phases::new(options());
    let steps = play(&mut phases, &records("xrdp_resize"));
    let confirms: Vec<_> = steps
        .iter()
        .filter(|step| is_control(&step.before, control::CONFIRM_ACTIVE))
        .collect();
    assert_eq!(confirms.len(), 2);
    for step in confirms {
        let sets = |pdu: &[u8]| {
            let header: ShareControlHeader = decode(payload(pdu).unwrap().1).unwrap();
            let ShareControlPdu::ClientConfirmActive(confirm) = header.share_control_pdu else {
                panic!("no confirm")
            };
            confirm.pdu.capability_sets
        };
        let (before, after) = (sets(&step.before), sets(&step.after));
        assert_eq!(before.len(), after.len());
        let mut touched = Vec::new();
        for (before, after) in before.iter().zip(&after) {
            if before != after {
                touched.push(format!("{after:?}").split(['(', ' ', '{']).next().unwrap().to_owned());
            }
            match after {
                CapabilitySet::Order(order) => {
                    let kept = OrderFlags::NEGOTIATE_ORDER_SUPPORT | OrderFlags::ZERO_BOUNDS_DELTAS_SUPPORT;
                    assert_eq!(order, &Order::new(kept, OrderSupportExFlags::empty(), 480 * 480, 65001));
                }
                CapabilitySet::SurfaceCommands(surface) => assert!(surface.flags.is_empty()),
                CapabilitySet::BitmapCodecs(codecs) => assert!(codecs.0.is_empty()),
                CapabilitySet::VirtualChannel(channel) => assert!(channel.flags.is_empty()),
                CapabilitySet::MultiFragmentUpdate(update) => assert_eq!(update.max_request_size, 3_162_112),
                _ => (),
            }
        }
        assert_eq!(touched, ["Order", "Brush", "SurfaceCommands", "BitmapCodecs"]);
    }
}

/// Refresh and end are PDUs that IronRDP reads as what they are meant to be.
#[test]
fn injected_pdus() {
    let phases = played("shadow_default");
    let refresh = phases.refresh(1024, 768);
    assert_eq!(refresh.len(), 2);
    let xfreerdp_style = [
        "0300 0025 02f0 80 64 0008 03eb 70 8016 1600 1700 f103 f103 0100 00 01 0800 23 00 0000 00000000",
        "0300 002d 02f0 80 64 0008 03eb 70 801e 1e00 1700 f103 f103 0100 00 01 1000 23 00 0000 01000000 0000 0000 ff03 ff02",
    ];
    for (pdu, wanted) in refresh.iter().zip(xfreerdp_style) {
        let hex: String = pdu.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, wanted.replace(' ', ""));
    }

    let end = phases.error_info(crate::wire::error_info::DENIED);
    assert_eq!(end[1], [3, 0, 0, 9, 2, 0xF0, 0x80, 0x21, 0x80]);
    let header: ShareControlHeader = decode(payload(&end[0]).unwrap().1).unwrap();
    assert_eq!((header.share_id, header.pdu_source), (phases.facts().share_id, 1009));
    let ShareControlPdu::Data(data) = header.share_control_pdu else {
        panic!("no data")
    };
    assert!(
        format!("{:?}", data.share_data_pdu).contains("ServerDeniedConnection"),
        "{:?}",
        data.share_data_pdu
    );
}

#[test]
fn ends_before_the_session_is_up() {
    let mut phases = Phases::new(options());
    assert!(phases.error_info(1).is_empty());
    assert!(phases.refresh(8, 8).is_empty());
    let records = records("xrdp_default");
    play(&mut phases, &records[..2]);
    assert_eq!(phases.error_info(1).len(), 1, "attached nowhere: only the ultimatum");
    let (phases, _) = played_until("xrdp_default", options(), |(_, pdu)| {
        is_control(pdu, control::DEMAND_ACTIVE)
    });
    assert_eq!(phases.error_info(1).len(), 2, "licensing is a time to be told");
    assert!(phases.refresh(8, 8).is_empty());
}

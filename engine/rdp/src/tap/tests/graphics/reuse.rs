//! Numbers of channels that are used once more, and activations.

use super::*;

fn asked(name: &str) -> Vec<u8> {
    let pdu = [&[0x12][..], &ID.to_le_bytes(), name.as_bytes(), &[0]].concat();
    mcs(TO_CLIENT, DRDYNVC, &single_chunk(&pdu))
}

fn answered(status: u32) -> Vec<u8> {
    mcs(TO_DESKTOP, DRDYNVC, &single_chunk(&dvc::create_response(ID, status)))
}

fn closed(direction: Direction) -> Vec<u8> {
    let pdu = [&[0x42][..], &ID.to_le_bytes()].concat();
    mcs(direction, DRDYNVC, &single_chunk(&pdu))
}

/// Whether the channel is followed: a surface is painted.
#[track_caller]
fn is_followed(tap: &mut Tap) -> bool {
    let commands = [
        create_surface(1, 8, 8),
        map(1, 0, 0),
        fill(1, [1, 1, 1], &[[0, 0, 8, 8]]),
    ];
    match &send(tap, &commands)[..] {
        [] => false,
        events => {
            assert_eq!(events, [rect(0, 0, 8, 8)]);
            true
        }
    }
}

/// [MS-RDPEDYC] 3.3.5.2: a client answers a close with one of its own, and may do so after the next request.
#[test]
fn late_answers_and_closes_are_of_the_channel_before() {
    let refused = dvc::STATUS_UNSUCCESSFUL;
    for name in ["ECHO", egfx::CHANNEL] {
        for (before, after) in [
            (vec![answered(0)], vec![closed(TO_DESKTOP)]),
            (vec![], vec![answered(0), closed(TO_DESKTOP)]),
            (vec![], vec![answered(refused)]),
        ] {
            let mut tap = Tap::new(graphics_config());
            feed(&mut tap, TO_CLIENT, &demand_active(16, 16));
            feed(&mut tap, TO_CLIENT, &asked(name));
            for pdu in &before {
                feed(&mut tap, TO_DESKTOP, pdu);
            }
            feed(&mut tap, TO_CLIENT, &closed(TO_CLIENT));
            assert!(!is_followed(&mut tap), "the desktop has closed it");
            feed(&mut tap, TO_CLIENT, &asked(egfx::CHANNEL));
            for pdu in &after {
                feed(&mut tap, TO_DESKTOP, pdu);
            }
            assert!(is_followed(&mut tap), "the one before was closed");
            feed(&mut tap, TO_DESKTOP, &answered(0));
            assert!(is_followed(&mut tap));
            feed(&mut tap, TO_DESKTOP, &closed(TO_DESKTOP));
            assert!(!is_followed(&mut tap), "the client has closed it");
        }
    }
    // refused at once
    let mut tap = Tap::new(graphics_config());
    feed(&mut tap, TO_CLIENT, &demand_active(16, 16));
    feed(&mut tap, TO_CLIENT, &asked(egfx::CHANNEL));
    feed(&mut tap, TO_DESKTOP, &answered(refused));
    assert!(!is_followed(&mut tap));
}

#[test]
fn what_the_client_says_may_be_lost() {
    let mut tap = opened(16, 16);
    let config = graphics_config();
    let said = dvc::data(ID, &encode(command::FRAME_ACKNOWLEDGE, &[0; 12]));
    let loss = Loss::of(&config, &mcs(TO_DESKTOP, DRDYNVC, &single_chunk(&said[0])));
    assert_eq!(loss, Loss::default());
    // an answer may be the one to a request that counts, but paints nothing
    let loss = Loss::of(&config, &answered(0));
    assert!(loss.channels && !loss.messages && loss.is_vital());
    tap.lost(loss);
    assert!(is_followed(&mut tap));
}

/// Whose answer it is that comes, nobody knows: one channel can't be ended by the word about another.
#[test]
fn ends_are_doubtful_after_answers_were_dropped() {
    let loss = Loss::of(&graphics_config(), &answered(0));
    // what the client says of the number's earlier uses is lost, or comes after the loss
    for lost_first in [true, false] {
        let mut tap = Tap::new(graphics_config());
        feed(&mut tap, TO_CLIENT, &demand_active(16, 16));
        feed(&mut tap, TO_CLIENT, &asked("ECHO"));
        feed(&mut tap, TO_CLIENT, &closed(TO_CLIENT));
        if lost_first {
            tap.lost(loss);
        }
        feed(&mut tap, TO_CLIENT, &asked(egfx::CHANNEL));
        if !lost_first {
            tap.lost(loss);
        }
        assert!(tap.is_right());
        feed(&mut tap, TO_DESKTOP, &answered(0));
        assert!(tap.is_right());
        let events = feed(&mut tap, TO_DESKTOP, &closed(TO_DESKTOP));
        assert!(undecoded(&events).error.starts_with("the client closes"), "{events:?}");
        assert!(!tap.is_right() && is_followed(&mut tap));
        // the desktop's word counts
        feed(&mut tap, TO_CLIENT, &closed(TO_CLIENT));
        assert!(!is_followed(&mut tap));
        feed(&mut tap, TO_CLIENT, &asked(egfx::CHANNEL));
        assert!(tap.is_right() && is_followed(&mut tap));
        // a number that is another's by now was free
        feed(&mut tap, TO_CLIENT, &asked("ECHO"));
        assert!(!is_followed(&mut tap));
    }
    // one that was open before has no earlier one
    let mut tap = opened(16, 16);
    tap.lost(loss);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &closed(TO_DESKTOP)), []);
    assert!(tap.is_right() && !is_followed(&mut tap));
}

#[test]
fn surfaces_are_shown_after_a_reactivation() {
    let mut tap = opened(32, 32);
    let rgb = picture(32, 32, 2);
    let commands = [
        create_surface(1, 32, 32),
        map(1, 0, 0),
        bits(1, codec::UNCOMPRESSED, [0, 0, 32, 32], &bgrx(&rgb)),
    ];
    send(&mut tap, &commands);
    let events = feed(&mut tap, TO_CLIENT, &demand_active(32, 32));
    let resized = TapEvent::Resized { width: 32, height: 32 };
    assert_eq!(events, [resized, rect(0, 0, 32, 32)]);
    assert_shows(&tap, (0, 0), (32, 32), &rgb);
    // a smaller output shows a part
    let events = feed(&mut tap, TO_CLIENT, &demand_active(20, 10));
    assert_eq!(damage(&events), [(0, 0, 20, 10)]);
}

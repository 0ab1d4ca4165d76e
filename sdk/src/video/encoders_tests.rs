#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::video::canvas::Canvas;
use crate::video::planes::{Colors, Sampling};

const SIDE: u32 = 64;

struct Gray;

impl Colors for Gray {
    const SAMPLING: Sampling = Sampling::Full;
    const BLACK: [u8; 3] = [0; 3];

    fn convert(&mut self, _: &[u8], _: usize, _: (usize, usize), _: &mut Planes) {}
}

/// What becomes of the `n`th picture that its encoder sees.
#[derive(Clone, Copy)]
enum Fate {
    Fails(u64),
    Panics(u64),
    Fine,
}

struct Codec {
    fate: Fate,
    seen: u64,
}

impl Encode for Codec {
    fn encode(&mut self, planes: &Planes, key: bool) -> Result<(Vec<u8>, bool)> {
        self.seen += 1;
        match self.fate {
            Fate::Fails(n) if n == self.seen => Err(Error::internal("the codec gives up")),
            Fate::Panics(n) if n == self.seen => panic!("the codec is broken"),
            _ => Ok((planes.planes()[0][..4].to_vec(), key)),
        }
    }
}

fn encoders(fate: Fate, threads: usize) -> Encoders<Codec> {
    let black = Planes::black::<Gray>(SIDE, SIDE);
    Encoders::new(black, threads, move || Ok(Codec { fate, seen: 0 }))
}

/// Submits pictures in groups of five, all of each anew.
fn submit(encoders: &mut Encoders<Codec>, pictures: u64) -> Result<()> {
    for n in 0..pictures {
        let patches = Canvas::new(SIDE, SIDE, Gray).take_patches(true);
        let due = Due {
            time_ns: n,
            key: n % 5 == 0,
        };
        encoders.submit(due, patches)?;
    }
    Ok(())
}

#[test]
fn packets_come_in_order_whatever_the_number_of_threads() {
    for threads in [0, 1, 3, 16] {
        let mut encoders = encoders(Fate::Fine, threads);
        submit(&mut encoders, 43).unwrap();
        let early = encoders.ready().unwrap();
        let packets: Vec<Packet> = early.into_iter().chain(encoders.finish().unwrap()).collect();
        let times: Vec<u64> = packets.iter().map(|packet| packet.time_ns).collect();
        assert_eq!(times, (0..43).collect::<Vec<u64>>(), "{threads} threads");
        assert!(packets.iter().all(|packet| packet.key == (packet.time_ns % 5 == 0)));
    }
}

#[test]
fn a_codec_that_fails_or_panics_ends_the_export_and_no_thread_stays() {
    for threads in [1, 3] {
        for (fate, kind) in [
            (Fate::Fails(4), ErrorKind::Internal),
            (Fate::Panics(4), ErrorKind::Panic),
        ] {
            let mut encoders = encoders(fate, threads);
            let shared = Arc::clone(&encoders.shared);
            // More than may wait: whoever waits for room is told, too.
            let pictures = 2 * (WAITING_MAX as u64) / u64::from(SIDE * SIDE * 3);
            let submitted = submit(&mut encoders, pictures);
            let ended = submitted.and_then(|()| encoders.finish().map(drop));
            let error = ended.unwrap_err();
            assert!(
                error.kind() == kind || error.to_string().contains("an encoder thread ended"),
                "{error}"
            );
            assert_eq!(Arc::strong_count(&shared), 1, "a thread is left");
        }
    }
}

#[test]
fn an_export_that_is_given_up_leaves_no_thread() {
    let mut encoders = encoders(Fate::Fine, 3);
    let shared = Arc::clone(&encoders.shared);
    submit(&mut encoders, 100).unwrap();
    drop(encoders);
    assert_eq!(Arc::strong_count(&shared), 1, "a thread is left");
}

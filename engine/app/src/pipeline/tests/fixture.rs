//! Sessions of real desktops, to be recorded.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::{StaticChannel, TapConfig};
use uuid::Uuid;

use crate::catalog::IdentityKind;
use crate::pipeline::{SessionFacts, SessionRecorder};

/// What a real desktop and a real client said to each other, and what the client showed at the end.
pub(super) struct Fixture {
    tap: TapConfig,
    pdus: Vec<(Direction, Bytes)>,
    screenshot: (usize, Vec<u8>),
}

impl Fixture {
    pub(super) fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rdp/fixtures");
        let bytes = zstd::decode_all(fs::File::open(folder.join(format!("{name}.pdus.zst"))).unwrap()).unwrap();
        let mut tap = TapConfig::default();
        let mut pdus = Vec::new();
        let mut rest = &bytes[..];
        while let [direction, a, b, c, d, tail @ ..] = rest {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let (pdu, after) = tail.split_at(length);
            rest = after;
            match direction {
                0 => pdus.push((Direction::ToDesktop, Bytes::copy_from_slice(pdu))),
                1 => pdus.push((Direction::ToClient, Bytes::copy_from_slice(pdu))),
                _ => {
                    let text = std::str::from_utf8(pdu).unwrap();
                    for (name, id) in text.split(',').map(|entry| entry.split_once('=').unwrap()) {
                        let id = id.parse().unwrap();
                        if name == "io" {
                            tap.io_channel = id;
                        } else {
                            tap.channels.push(StaticChannel {
                                id,
                                name: name.to_owned(),
                            });
                        }
                    }
                }
            }
        }
        let png = fs::File::open(folder.join(format!("{name}.png"))).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(png)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        Self {
            tap,
            pdus,
            screenshot: (info.width as usize, rgb),
        }
    }

    /// Width and height of the screen.
    pub(super) fn size(&self) -> (u16, u16) {
        let (width, rgb) = &self.screenshot;
        let fit = |value: usize| u16::try_from(value).unwrap();
        (fit(*width), fit(rgb.len() / 3 / width))
    }

    pub(super) fn facts(&self) -> SessionFacts {
        SessionFacts {
            id: Uuid::now_v7(),
            started: SystemTime::now(),
            started_at: Instant::now(),
            user: "alice".to_owned(),
            identity: IdentityKind::Claimed,
            login: "alice".to_owned(),
            domain: Some("LAB".to_owned()),
            desktop: "lab".to_owned(),
            desktop_addr: "127.0.0.1:3389".to_owned(),
            client_addr: "127.0.0.1:50000".parse().unwrap(),
            client_name: "LAPTOP".to_owned(),
            client_build: None,
            monitors: Vec::new(),
            redirected_from: None,
            desktop_labels: [("env".to_owned(), "lab".to_owned())].into(),
            decision: None,
            audit: crate::audit::Audit::nowhere().session(crate::audit::SessionScope::default()),
            tap: self.tap.clone(),
        }
    }

    /// The PDUs as the relay reads them: several of one direction at once.
    pub(super) fn batches(&self) -> Vec<(Direction, Bytes)> {
        let mut batches: Vec<(Direction, Vec<u8>)> = Vec::new();
        for (direction, pdu) in &self.pdus {
            match batches.last_mut() {
                Some((last, bytes)) if last == direction && bytes.len() < 8192 => bytes.extend_from_slice(pdu),
                _ => batches.push((*direction, pdu.to_vec())),
            }
        }
        batches
            .into_iter()
            .map(|(direction, bytes)| (direction, bytes.into()))
            .collect()
    }

    pub(super) async fn feed(&self, recorder: &SessionRecorder) {
        for (direction, bytes) in self.batches() {
            recorder.enqueue(direction, bytes).await.unwrap();
            // Real PDUs don't arrive all in one moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[track_caller]
    pub(super) fn compare(&self, picture: &(usize, Vec<u8>), tolerance: u8) {
        assert_eq!(
            (picture.0, picture.1.len()),
            (self.screenshot.0, self.screenshot.1.len())
        );
        let worst = picture
            .1
            .iter()
            .zip(&self.screenshot.1)
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap();
        assert!(worst <= tolerance, "off by {worst}");
    }
}

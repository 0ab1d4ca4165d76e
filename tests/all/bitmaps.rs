//! What no desktop here sends: old colour depths, palettes, every bulk compression; and drawing orders from a desktop that does
//! not listen to what was negotiated.

use std::time::Duration;

use deskreel_rdp::wire::fast_path::update;
use ironrdp_bulk::{BulkCompressor, CompressionType};
use peers::Peers;
use peers::client::Client;
use peers::gateway::{Gateway, Settings};
use peers::graphics::{GraphicsDesktop, USER};
use peers::process::wait_for;

use crate::sessions::Moment;

/// Size of the pictures.
const WIDTH: u16 = 64;
const HEIGHT: u16 = 40;
/// Flags of a bitmap: compressed, without a header.
const RLE: u16 = 0x0401;
/// A bulk compressor that begins anew.
const FLUSHED: u8 = 0x80;

fn le(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A fast-path PDU of one update, with the byte of its compression.
fn pdu(code: u8, compression: Option<u8>, data: &[u8]) -> Vec<u8> {
    let mut body = match compression {
        None => vec![code],
        Some(flags) => vec![code | 0x80, flags],
    };
    body.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
    body.extend(data);
    let length = u16::try_from(body.len() + 3).unwrap() | 0x8000;
    [&[0][..], &length.to_be_bytes(), &body].concat()
}

/// An update of one bitmap at a place.
fn bitmap((left, top): (u16, u16), bits: u16, flags: u16, data: &[u8]) -> Vec<u8> {
    let mut update = le(&[
        1,
        1,
        left,
        top,
        left + WIDTH - 1,
        top + HEIGHT - 1,
        WIDTH,
        HEIGHT,
        bits,
        flags,
    ]);
    update.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
    update.extend(data);
    update
}

/// All colours of a depth, in stripes.
fn stripes(bytes: usize, seed: usize) -> Vec<u8> {
    let pixels = usize::from(WIDTH) * usize::from(HEIGHT);
    let pixel = |index: usize| {
        let value = (index / 3 * 0x01_03_0B + index / 64 * 0x11_27 + seed * 0x3B_05).to_le_bytes();
        value[..bytes].to_vec()
    };
    (0..pixels).flat_map(pixel).collect()
}

/// Runs of one colour each, to the picture's end.
fn runs(bytes: usize) -> Vec<u8> {
    let mut left = usize::from(WIDTH) * usize::from(HEIGHT);
    let mut out = Vec::new();
    for step in 0.. {
        let run = left.min(31 - step % 20);
        if run == 0 {
            break;
        }
        // a regular colour run
        out.push(0x60 | run as u8);
        out.extend(&(step * 0x05_1D_37 + 0x77_A5_19).to_le_bytes()[..bytes]);
        left -= run;
    }
    out
}

/// A palette, and bitmaps of all depths, plain above and in runs below.
fn depths() -> Vec<Vec<u8>> {
    let colours = (0..=255_u8).flat_map(|index| [index.wrapping_mul(3), 255 - index, index.wrapping_mul(7)]);
    let mut palette = le(&[2, 0]);
    palette.extend(256_u32.to_le_bytes());
    palette.extend(colours);
    let mut scene = vec![pdu(update::PALETTE, None, &palette)];
    for (left, bits, bytes) in [(20, 8, 1), (120, 15, 2), (220, 16, 2), (320, 24, 3), (420, 32, 4)] {
        let plain = bitmap((left, 20), bits, 0, &stripes(bytes, 1));
        scene.push(pdu(update::BITMAP, None, &plain));
        if bits < 32 {
            let data = bitmap((left, 120), bits, RLE, &runs(bytes));
            scene.push(pdu(update::BITMAP, None, &data));
        }
    }
    scene
}

/// The same kind of picture by every compression, with a history that goes on.
fn compressed() -> Vec<Vec<u8>> {
    let kinds = [
        CompressionType::Rdp4,
        CompressionType::Rdp5,
        CompressionType::Rdp6,
        CompressionType::Rdp61,
    ];
    let mut scene = Vec::new();
    for (row, kind) in (0_u16..).zip(kinds) {
        let mut sender = BulkCompressor::new(kind);
        for column in 0..8 {
            let place = (20 + column * 100, 220 + row * 60);
            let plain = bitmap(place, 16, 0, &stripes(2, usize::from(column % 3) + 5));
            let (length, flags) = sender.compress(&plain).unwrap();
            let flags = u8::try_from(flags).unwrap();
            assert_ne!(flags & 0x20, 0, "{kind:?} did not compress");
            let begins = if column == 0 { FLUSHED } else { 0 };
            let data = sender.compressed_data(length);
            scene.push(pdu(update::BITMAP, Some(flags | begins), data));
        }
    }
    scene
}

/// One order that paints a red rectangle: opaque rectangle, all its fields. A bitmap follows.
fn orders() -> Vec<Vec<u8>> {
    let mut data = le(&[1]);
    // control flags, the order's type, which fields follow
    data.extend([0x09, 0x0A, 0x7F]);
    data.extend(le(&[600, 300, 100, 80]));
    data.extend([255, 0, 0]);
    let plain = bitmap((620, 20), 32, 0, &stripes(4, 9));
    vec![pdu(update::ORDERS, None, &data), pdu(update::BITMAP, None, &plain)]
}

#[test]
fn old_depths_and_every_compression_are_recorded() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("old_depths_and_every_compression_are_recorded") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let desktop = GraphicsDesktop::start_fast_path(vec![depths(), compressed(), orders()])?;
    let gateway = Gateway::start(&dir.path().join("gateway"), &Settings::of(desktop.port, "sync"))?;
    let mut client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    let mut moments = vec![Moment::now(&client, "all depths")?];
    client.click(900, 730)?;
    moments.push(Moment::after(&client, &moments[0].screen, "every compression")?);
    let changed = moments[1].screen.differing(&moments[0].screen, 0);
    // four rows of eight pictures
    assert!(changed > 32 * 64 * 40 * 9 / 10, "{changed} pixels changed");
    client.click(902, 732)?;
    wait_for(
        Duration::from_secs(60),
        "what follows the orders, or the client's end at them",
        || {
            let running = client.process.is_running();
            Ok(!running || client.display.screenshot()?.differing(&moments[1].screen, 0) > 0)
        },
    )?;
    client.process.end();
    let recording = gateway.wait_recording(0, &["complete"])?;
    let id = recording["id"].as_str().unwrap_or_default();
    for moment in &moments {
        let frame = gateway.frame(id, moment.offset(&recording)?)?;
        let differing: Vec<_> = [0, 1, 4, 8].map(|level| moment.screen.differing(&frame, level)).into();
        if differing[0] > 0 {
            moment
                .screen
                .write_png(&std::env::temp_dir().join("deskreel-client.png"))?;
            frame.write_png(&std::env::temp_dir().join("deskreel-recording.png"))?;
        }
        assert_eq!(
            differing[0], 0,
            "{}: by more than 0, 1, 4, 8: {differing:?}",
            moment.what
        );
    }
    assert_eq!(recording["undecoded"], 1, "the orders alone");
    let report = gateway.run(&["recordings", "verify", id])?;
    assert_eq!(
        report.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&report.stdout)
    );
    Ok(())
}

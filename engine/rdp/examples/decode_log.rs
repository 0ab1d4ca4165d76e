//! Decodes a log of PDUs as `fixtures/README.md` describes it, and prints what was in it and what it cost.
//!
//! ```sh
//! cargo run --release -p deskreel-rdp --example decode_log -- LOG.pdus.zst [LAST.png]
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use deskreel_rdp::Direction;
use deskreel_rdp::tap::{Picture, StaticChannel, Tap, TapConfig, TapEvent};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let log = args.next().ok_or("usage: decode_log LOG.pdus.zst [LAST.png]")?;
    let bytes = zstd::decode_all(File::open(log)?)?;
    let mut rest = bytes.as_slice();
    let mut tap = None;
    let mut counts = BTreeMap::new();
    let (mut spent, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let (mut pdus, mut length_to_client, mut pixels) = (0u64, 0usize, 0u64);
    let mut events = Vec::new();
    while let [direction, a, b, c, d, tail @ ..] = rest {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d]))?;
        let (pdu, after) = tail.split_at_checked(length).ok_or("log is cut off")?;
        rest = after;
        let direction = match direction {
            0 => Direction::ToDesktop,
            1 => Direction::ToClient,
            _ => {
                tap = Some(Tap::new(config(std::str::from_utf8(pdu)?)?));
                continue;
            }
        };
        let tap = tap.as_mut().ok_or("log does not begin with its channels")?;
        let start = Instant::now();
        tap.pdu(direction, pdu, &mut events);
        let took = start.elapsed();
        spent += took;
        slowest = slowest.max(took);
        pdus += 1;
        if direction == Direction::ToClient {
            length_to_client += length;
        }
        for event in events.drain(..) {
            if let TapEvent::Damage(rect) | TapEvent::DamageWithin(rect) = &event {
                pixels += u64::from(rect.width) * u64::from(rect.height);
            }
            *counts.entry(name(&event)).or_insert(0u64) += 1;
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{pdus} PDUs, {length_to_client} bytes to the client, {pixels} pixels painted"
    )?;
    writeln!(out, "{spent:.1?} of decoding, slowest PDU {slowest:.1?}")?;
    for (name, count) in counts {
        writeln!(out, "{count:8} {name}")?;
    }
    if let (Some(file), Some(picture)) = (args.next(), tap.as_ref().and_then(Tap::picture)) {
        write_png(&file, picture)?;
    }
    Ok(())
}

fn config(channels: &str) -> Result<TapConfig, Box<dyn Error>> {
    let mut config = TapConfig::default();
    for entry in channels.split(',') {
        let (name, id) = entry.split_once('=').ok_or("channels are not name=id")?;
        match name {
            "io" => config.io_channel = id.parse()?,
            name => config.channels.push(StaticChannel {
                id: id.parse()?,
                name: name.to_owned(),
            }),
        }
    }
    Ok(config)
}

fn name(event: &TapEvent) -> String {
    match event {
        TapEvent::Undecoded(undecoded) => format!("Undecoded {}: {}", undecoded.kind.as_str(), undecoded.error),
        TapEvent::Damage(_) | TapEvent::DamageWithin(_) => "Damage".to_owned(),
        TapEvent::Pointer(_) => "Pointer".to_owned(),
        TapEvent::Input(_) => "Input".to_owned(),
        other => format!("{other:?}"),
    }
}

fn write_png(file: &str, picture: Picture<'_>) -> Result<(), Box<dyn Error>> {
    let mut encoder = png::Encoder::new(
        BufWriter::new(File::create(file)?),
        picture.width.into(),
        picture.height.into(),
    );
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(picture.rgba)?;
    Ok(())
}

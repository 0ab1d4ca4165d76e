//! Speed and size of the picture codec, beside PNG of the same damage.
//!
//! `cargo bench -p deskreel-recording` runs the generated desktops at 1920x1080. Arguments are files of recorded
//! pictures (`FBC1`: u16 width, u16 height, then one zstd stream of records: u32 ms, u16 n, n x u16 tile, the tiles' RGB).

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark: it may stop at once")]

use std::{io::Read as _, time::Duration};

use deskreel_recording::{Picture, Rect, ScreenDecoder, ScreenEncoder};

#[path = "../tests/all/desktop.rs"]
mod desktop;

use desktop::{Canvas, Desktop, Script};

/// CPU time of this thread: other work on the machine does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[derive(Default)]
struct Totals {
    frames: usize,
    keys: usize,
    key_bytes: usize,
    bytes: usize,
    png_bytes: usize,
    encode: Vec<Duration>,
    decode: Duration,
    largest: usize,
}

struct Sequence {
    encoder: ScreenEncoder,
    decoder: ScreenDecoder,
    totals: Totals,
    last_key_ms: u32,
    png: bool,
}

impl Sequence {
    fn new(png: bool) -> Self {
        Self {
            encoder: ScreenEncoder::new(64 << 20),
            decoder: ScreenDecoder::new(),
            totals: Totals::default(),
            last_key_ms: 0,
            png,
        }
    }

    fn frame(&mut self, ms: u32, canvas: &Canvas, damage: &[Rect]) {
        let picture = Picture {
            width: canvas.width,
            height: canvas.height,
            stride: usize::from(canvas.width) * 4,
            data: &canvas.data,
        };
        let key = ms - self.last_key_ms >= 30_000;
        let start = cpu_time();
        let Some(message) = self.encoder.encode(picture, damage, key).unwrap() else {
            return;
        };
        self.totals.encode.push(cpu_time() - start);
        self.totals.frames += 1;
        self.totals.bytes += message.bytes.len();
        if message.key {
            self.last_key_ms = ms;
            self.totals.keys += 1;
            self.totals.key_bytes += message.bytes.len();
        } else {
            self.totals.largest = self.totals.largest.max(message.bytes.len());
        }
        let start = cpu_time();
        self.decoder.apply(&message).unwrap();
        self.totals.decode += cpu_time() - start;
        let decoded = self.decoder.picture().unwrap();
        let same = decoded
            .data
            .chunks_exact(4)
            .zip(canvas.data.chunks_exact(4))
            .all(|(a, b)| a[..3] == b[..3]);
        assert!(same, "decoded picture differs at {ms} ms");
        if self.png {
            self.totals.png_bytes += damage.iter().map(|rect| png_bytes(canvas, rect)).sum::<usize>();
        }
    }

    fn print(mut self, name: &str, ms: u32) {
        self.totals.encode.sort_unstable();
        let totals = &self.totals;
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let mean = millis(totals.encode.iter().sum()) / totals.frames.max(1) as f64;
        let p99 = totals
            .encode
            .get(totals.encode.len() * 99 / 100)
            .copied()
            .unwrap_or_default();
        let ratio = if totals.png_bytes > 0 {
            format!("{:6.1}x PNG", totals.png_bytes as f64 / totals.bytes as f64)
        } else {
            String::new()
        };
        println!(
            "{name:10} {:5} frames {:3} keys {:7.0} kB a key {:9.0} kB {:7.0} kB/min largest delta {:6.0} kB  encode {mean:6.3} ms p99 {:6.2} ms  decode {:6.3} ms {ratio}",
            totals.frames,
            totals.keys,
            totals.key_bytes as f64 / 1e3 / totals.keys.max(1) as f64,
            totals.bytes as f64 / 1e3,
            totals.bytes as f64 / 1e3 * 60_000.0 / f64::from(ms.max(1)),
            totals.largest as f64 / 1e3,
            millis(p99),
            millis(totals.decode) / totals.frames.max(1) as f64,
        );
    }
}

fn png_bytes(canvas: &Canvas, rect: &Rect) -> usize {
    let mut rgb = Vec::with_capacity(rect.area() * 3);
    for y in usize::from(rect.y)..rect.bottom() as usize {
        let start = (y * usize::from(canvas.width) + usize::from(rect.x)) * 4;
        for pixel in canvas.data[start..start + usize::from(rect.width) * 4].chunks_exact(4) {
            rgb.extend_from_slice(&pixel[..3]);
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, rect.width.into(), rect.height.into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Balanced);
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
    out.len()
}

fn generated(script: Script, png: bool) {
    let mut desktop = Desktop::new(1920, 1080, script);
    let mut sequence = Sequence::new(png);
    let frames = if script == Script::Typing { 1500 } else { 300 };
    sequence.frame(0, &desktop.canvas, &[Rect::new(0, 0, 1920, 1080)]);
    for i in 1..=frames {
        let damage: Vec<Rect> = desktop
            .next()
            .into_iter()
            .map(|(x, y, w, h)| Rect::new(x, y, w, h))
            .collect();
        sequence.frame(i * 40, &desktop.canvas, &damage);
    }
    sequence.print(&format!("{script:?}"), frames * 40);
}

fn recorded(path: &str, png: bool) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..4], b"FBC1", "{path} is not a file of pictures");
    let size = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let mut canvas = Canvas::new(size(4), size(6));
    let mut records = Vec::new();
    zstd::stream::read::Decoder::new(&bytes[8..])
        .unwrap()
        .read_to_end(&mut records)
        .unwrap();
    let mut sequence = Sequence::new(png);
    let mut at = 0;
    let mut ms = 0;
    let columns = canvas.width.div_ceil(64);
    let mut first = None;
    while at + 6 <= records.len() {
        ms = u32::from_le_bytes(records[at..at + 4].try_into().unwrap());
        let start = *first.get_or_insert(ms);
        ms -= start;
        let count = usize::from(u16::from_le_bytes([records[at + 4], records[at + 5]]));
        at += 6;
        let tiles: Vec<u16> = records[at..at + count * 2]
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect();
        at += count * 2;
        let mut damage = Vec::new();
        for tile in tiles {
            let (x, y) = (tile % columns * 64, tile / columns * 64);
            let rect = Rect::new(x, y, 64, 64).clipped(canvas.width, canvas.height);
            for row in rect.y..rect.y + rect.height {
                for column in rect.x..rect.x + rect.width {
                    canvas.put(column, row, records[at..at + 3].try_into().unwrap());
                    at += 3;
                }
            }
            damage.push(rect);
        }
        sequence.frame(ms, &canvas, &damage);
    }
    let name = std::path::Path::new(path)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    sequence.print(&name, ms);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let png = !arguments.iter().any(|argument| argument == "--no-png");
    let files: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if files.is_empty() {
        let only = arguments.iter().find_map(|argument| argument.strip_prefix("--only="));
        for script in Script::ALL
            .into_iter()
            .filter(|script| only.is_none_or(|only| format!("{script:?}") == only))
        {
            generated(script, png);
        }
    }
    for file in files {
        recorded(file, png);
    }
}

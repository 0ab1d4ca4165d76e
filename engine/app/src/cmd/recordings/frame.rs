//! `recordings frame`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use deskreel_policy::Verb;
use deskreel_recording::Picture;
use deskreel_sdk::Pointer;

use super::moment;
use super::output_file::OutputFile;
use super::target::{Target, details, runtime};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::cmd::{Global, Outcome};
use crate::replay::{Index, Player, clock, nanoseconds};

/// Arguments of `recordings frame`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel recordings frame 01902b6e --at 1m30s -o screen.png")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The moment: 12.5s, 1m30s, 00:01:30
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    at: Duration,
    /// The PNG file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Leave the pointer out
    #[arg(long)]
    no_pointer: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let output = OutputFile::new(&args.output, false, args.force)?;
    let runtime = runtime()?;
    let purpose = Purpose {
        verb: Verb::Read,
        what: RecordingAction::Access,
        action: "frame",
    };
    let found = args.target.find(global, &runtime, purpose)?;
    let at = clock(nanoseconds(args.at));
    let opened = found.source(&runtime, details([("from", at.clone().into()), ("to", at.into())]))?;
    let source = &opened.source;
    let index = Index::read(source)?;
    let mut at_ns = nanoseconds(args.at);
    match index.first_key() {
        Some(first) if first <= at_ns => {}
        Some(first) => bail!("no picture yet at {}: the first is at {}", clock(at_ns), clock(first)),
        None => bail!("recording {} has no picture", source.recording()),
    }
    // A length in milliseconds is rounded up.
    if at_ns >= index.duration_ns.saturating_add(1_000_000) {
        eprintln!(
            "deskreel: the recording ends at {}: this is its last picture",
            clock(index.duration_ns)
        );
    }
    at_ns = at_ns.min(index.duration_ns);
    if let Some(gap) = index.gaps.iter().find(|gap| (gap.from_ns..gap.to_ns).contains(&at_ns)) {
        eprintln!(
            "deskreel: nothing was recorded from {} to {}: this is the picture before",
            clock(gap.from_ns),
            clock(gap.to_ns)
        );
    }
    let mut player = Player::before(source, &index, at_ns);
    player.play_to(at_ns)?;
    let picture = player.picture().context("decode the picture")?;
    let pointer = player.pointer().filter(|_| !args.no_pointer);
    write(&output, picture, pointer).with_context(|| format!("write {}", args.output.display()))?;
    output.finish()?;
    opened.shown();
    Ok(Outcome::Fine)
}

fn write(output: &OutputFile, picture: Picture<'_>, pointer: Option<Pointer<'_>>) -> anyhow::Result<()> {
    let (width, height) = (u32::from(picture.width), u32::from(picture.height));
    let row_bytes = usize::from(picture.width) * 4;
    let rows = picture
        .data
        .chunks(picture.stride.max(1))
        .take(usize::from(picture.height));
    let mut rgba: Vec<u8> = rows
        .flat_map(|row| row.get(..row_bytes).unwrap_or(&[]).iter().copied())
        .collect();
    if let Some(pointer) = pointer {
        pointer.draw(&mut rgba, width, height, row_bytes);
    }
    let rgb: Vec<u8> = rgba
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&[r, g, b, _]| [r, g, b])
        .collect();
    let mut file = BufWriter::new(File::create_new(output.temporary())?);
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    file.flush()?;
    Ok(())
}

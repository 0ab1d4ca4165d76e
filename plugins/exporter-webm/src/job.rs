//! One export.

use deskreel_sdk::video::{Canvas, Pace, VideoJob, threads};
use deskreel_sdk::{Error, Output, Result, VideoParams};

use crate::color::Gbr;
use crate::matroska::Muxer;
use crate::vp9::{Options, Vp9};

/// A keyframe at least this often, so that players seek well.
const KEY_INTERVAL_NS: u64 = 10_000_000_000;
/// Longest side that libvpx is asked to encode.
const SIDE_MAX: u32 = 8192;
/// Threads when the settings leave it open; more hardly help, as each must have groups of pictures waiting.
const THREADS_AUTO_MAX: usize = 4;

/// One export under way.
pub type WebmJob = VideoJob<Gbr, Vp9, Muxer>;

pub(crate) fn start(settings: &crate::Settings, video: &VideoParams, output: &Output) -> Result<WebmJob> {
    let (width, height) = (video.width.max(1), video.height.max(1));
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(Error::invalid_input(format!(
            "{width}x{height} is more than a WebM takes, {SIDE_MAX} a side: export with --width"
        )));
    }
    let lossless = video.lossless || settings.quantizer == 0;
    let options = Options {
        width,
        height,
        quantizer: (!lossless).then_some(settings.quantizer),
    };
    Ok(VideoJob::new(
        Canvas::new(width, height, Gbr),
        Pace::new(video, settings.fps_max, KEY_INTERVAL_NS),
        threads(video, settings.threads, THREADS_AUTO_MAX),
        move || Vp9::new(options),
        Muxer::new(output, video, (width, height))?,
    ))
}

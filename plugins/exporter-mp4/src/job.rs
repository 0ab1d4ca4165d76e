//! One export.

use deskreel_sdk::video::{Canvas, Pace, VideoJob, threads};
use deskreel_sdk::{Output, Result, VideoParams};

use crate::color::Yuv420;
use crate::describe::Facts;
use crate::h264::H264;
use crate::mux::Muxer;
use crate::size::video_size;

/// A keyframe at least this often, so that players seek well.
const KEY_INTERVAL_NS: u64 = 10_000_000_000;
/// A picture that stays is shown again this often: how long one may be shown is 32 bits of ticks in the file, 13 hours, and
/// players seek to pictures.
const STILL_MAX_NS: u64 = 3_600_000_000_000;
/// Threads when the settings leave it open; more hardly help, as each must have groups of pictures waiting.
const THREADS_AUTO_MAX: usize = 4;

/// One export under way.
pub type Mp4Job = VideoJob<Yuv420, H264, Muxer>;

pub(crate) fn start(settings: &crate::Settings, video: &VideoParams, output: Output) -> Result<Mp4Job> {
    let (width, height, scaled) = video_size(video.width, video.height);
    let muxer = Muxer::new(output, Facts::new(video, (width, height)))?;
    let (quantizer, fps_max) = (settings.quantizer, settings.fps_max);
    let job = VideoJob::new(
        Canvas::new(width, height, Yuv420::new()),
        Pace::new(video, fps_max, KEY_INTERVAL_NS).repeating(STILL_MAX_NS),
        threads(video, settings.threads, THREADS_AUTO_MAX),
        move || H264::new(quantizer, fps_max),
        muxer,
    );
    if !scaled {
        return Ok(job);
    }
    Ok(job.with_note(format!(
        "scaled from {}x{} to {width}x{height}: H.264 encoders take no more",
        video.width, video.height
    )))
}

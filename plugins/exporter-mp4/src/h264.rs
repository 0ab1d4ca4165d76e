//! H.264 encoding, by OpenH264.

use deskreel_sdk::video::{Encode, Planes};
use deskreel_sdk::{Error, Result};
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, Profile, QpRange, RateControlMode, UsageType,
    VuiConfig,
};
use openh264::formats::YUVSource;
use openh264::{OpenH264API, Timestamp};

/// The encoder. Two keyframes that follow each other must differ in their idr_pic_id (H.264 section 7.4.3), which only one encoder
/// sees to: a group of one picture keeps its successor on its encoder.
pub struct H264 {
    encoder: Encoder,
    pictures: u64,
}

impl H264 {
    pub(crate) fn new(quantizer: u8, frame_rate_max: u32) -> Result<Self> {
        let config = EncoderConfig::new()
            .usage_type(UsageType::ScreenContentRealTime)
            .complexity(Complexity::Low)
            .profile(Profile::Main)
            // Constant quantizer: this mode keeps to the range, skips nothing and warns of nothing on stderr.
            .rate_control_mode(RateControlMode::Bufferbased)
            .qp(QpRange::new(quantizer, quantizer))
            .bitrate(BitRate::from_bps(50_000_000))
            .skip_frames(false)
            .max_frame_rate(FrameRate::from_hz(frame_rate_max as f32))
            .adaptive_quantization(false)
            .background_detection(false)
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| failed(&error))?;
        Ok(Self { encoder, pictures: 0 })
    }
}

impl Encode for H264 {
    fn encode(&mut self, planes: &Planes, key: bool) -> Result<(Vec<u8>, bool)> {
        if key {
            self.encoder.force_intra_frame();
        }
        // The rate control that looks at the time is off; it must only grow.
        let time = Timestamp::from_millis(self.pictures * 33);
        self.pictures += 1;
        let stream = self
            .encoder
            .encode_at(&Yuv(planes), time)
            .map_err(|error| failed(&error))?;
        Ok((stream.to_vec(), stream.frame_type() == FrameType::IDR))
    }
}

fn failed(error: &openh264::Error) -> Error {
    Error::internal(format!("H.264 encoder: {error}"))
}

/// Planes as OpenH264 takes them.
struct Yuv<'a>(&'a Planes);

impl YUVSource for Yuv<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.0.width(), self.0.height())
    }
    fn strides(&self) -> (usize, usize, usize) {
        self.0.strides().into()
    }
    fn y(&self) -> &[u8] {
        &self.0.planes()[0]
    }
    fn u(&self) -> &[u8] {
        &self.0.planes()[1]
    }
    fn v(&self) -> &[u8] {
        &self.0.planes()[2]
    }
}

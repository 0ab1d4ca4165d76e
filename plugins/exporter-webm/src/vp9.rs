//! VP9 encoding of RGB pictures, by libvpx.
//!
//! Profile 1 keeps a sample of each colour for each pixel, so coloured text stays sharp, and takes red, green and blue as they are
//! (colour space 7 of the VP9 bitstream specification, section 7.2.2), so that a lossless video is the recording's picture bit by bit.
//!
//! The only unsafe code of this plugin: calls of the C library, each with pointers that live longer than the call.

#![expect(unsafe_code, reason = "libvpx is a C library")]

use std::ffi::{CStr, c_int, c_ulong};
use std::mem::MaybeUninit;

use deskreel_sdk::video::{Encode, Planes};
use deskreel_sdk::{Error, Result};
use vpx_sys::{
    AQ_MODE, vp8e_enc_control_id as control, vp9e_tune_content, vpx_codec_ctx_t, vpx_codec_cx_pkt_kind,
    vpx_codec_enc_cfg_t, vpx_codec_err_t, vpx_color_range, vpx_color_space, vpx_image_t, vpx_img_fmt, vpx_kf_mode,
    vpx_rc_mode,
};

/// How much libvpx hurries, 0 to 9: what recordings of screens gain below that is little.
const HURRY: c_int = 8;

/// How to encode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// `None` is lossless.
    pub(crate) quantizer: Option<u8>,
}

/// The encoder. One picture goes in, its bytes come out.
pub struct Vp9 {
    /// Boxed: libvpx gets its address at each call.
    context: Box<vpx_codec_ctx_t>,
    width: u32,
    height: u32,
    pictures: i64,
}

impl Vp9 {
    pub(crate) fn new(options: Options) -> Result<Self> {
        // SAFETY: no arguments.
        let interface = unsafe { vpx_sys::vpx_codec_vp9_cx() };
        let mut config = MaybeUninit::<vpx_codec_enc_cfg_t>::zeroed();
        // SAFETY: the configuration is writable and as large as this version of libvpx says; it fills all of it.
        let found = unsafe { vpx_sys::vpx_codec_enc_config_default(interface, config.as_mut_ptr(), 0) };
        check(found)?;
        // SAFETY: filled by the call above, which succeeded.
        let mut config = unsafe { config.assume_init() };
        config.g_profile = 1;
        config.g_w = options.width;
        config.g_h = options.height;
        // Only the order of pictures counts: the quantizer is constant.
        config.g_timebase.num = 1;
        config.g_timebase.den = 30;
        // Groups of pictures are encoded side by side instead.
        config.g_threads = 1;
        config.g_lag_in_frames = 0;
        config.rc_end_usage = vpx_rc_mode::VPX_Q;
        config.kf_mode = vpx_kf_mode::VPX_KF_DISABLED;
        let mut context = Box::new(MaybeUninit::<vpx_codec_ctx_t>::zeroed());
        let version = vpx_sys::VPX_ENCODER_ABI_VERSION as c_int;
        // SAFETY: all pointers are valid during the call; the version says how the structures lie.
        let made =
            unsafe { vpx_sys::vpx_codec_enc_init_ver(context.as_mut_ptr(), interface, &raw const config, 0, version) };
        check(made)?;
        // SAFETY: filled by the call above, which succeeded.
        let context = unsafe { context.assume_init() };
        let mut encoder = Self {
            context,
            width: options.width,
            height: options.height,
            pictures: 0,
        };
        encoder.set(control::VP8E_SET_CPUUSED, HURRY)?;
        encoder.set(control::VP8E_SET_ENABLEAUTOALTREF, 0)?;
        encoder.set(
            control::VP9E_SET_TUNE_CONTENT,
            vp9e_tune_content::VP9E_CONTENT_SCREEN as c_int,
        )?;
        encoder.set(control::VP9E_SET_COLOR_SPACE, vpx_color_space::VPX_CS_SRGB as c_int)?;
        encoder.set(
            control::VP9E_SET_COLOR_RANGE,
            vpx_color_range::VPX_CR_FULL_RANGE as c_int,
        )?;
        encoder.set(control::VP9E_SET_AQ_MODE, AQ_MODE::NO_AQ as c_int)?;
        match options.quantizer {
            Some(level) => encoder.set(control::VP8E_SET_CQ_LEVEL, level.into())?,
            None => encoder.set(control::VP9E_SET_LOSSLESS, 1)?,
        }
        Ok(encoder)
    }

    /// Sets one of the switches that take a number.
    fn set(&mut self, switch: control, value: c_int) -> Result<()> {
        // SAFETY: the context is initialized; each switch above takes one number of the size of an int (vpx/vp8cx.h).
        let set = unsafe { vpx_sys::vpx_codec_control_(&raw mut *self.context, switch as c_int, value) };
        check(set)
    }

    /// The one frame that a picture becomes.
    fn take(&mut self, key: bool) -> Result<(Vec<u8>, bool)> {
        let mut next = std::ptr::null();
        let mut frame = None;
        loop {
            // SAFETY: the context is initialized, the iterator is null at first and then what libvpx made of it.
            let packet = unsafe { vpx_sys::vpx_codec_get_cx_data(&raw mut *self.context, &raw mut next) };
            // SAFETY: null or valid until the next call for this context.
            let Some(packet) = (unsafe { packet.as_ref() }) else {
                break;
            };
            if packet.kind != vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: the kind says which member is there.
            let data = unsafe { &packet.data.frame };
            if data.buf.is_null() || frame.is_some() {
                return Err(Error::internal("VP9 encoder: not one frame for a picture"));
            }
            // SAFETY: libvpx says where its bytes are and how many; they are valid until the next call.
            let bytes =
                unsafe { std::slice::from_raw_parts(data.buf.cast::<u8>(), usize::try_from(data.sz).unwrap_or(0)) };
            frame = Some((bytes.to_vec(), data.flags & vpx_sys::VPX_FRAME_IS_KEY != 0));
        }
        match frame {
            Some((_, false)) if key => Err(Error::internal("VP9 encoder: no keyframe where one was wanted")),
            Some(frame) => Ok(frame),
            None => Err(Error::internal("VP9 encoder: no frame came out")),
        }
    }
}

impl Encode for Vp9 {
    fn encode(&mut self, planes: &Planes, key: bool) -> Result<(Vec<u8>, bool)> {
        let [green, blue, red] = planes.planes();
        let (width, height) = (self.width as usize, self.height as usize);
        let full = |plane: &Vec<u8>| plane.len() == width * height;
        if (planes.width(), planes.height()) != (width, height) || ![green, blue, red].into_iter().all(full) {
            return Err(Error::internal("VP9 encoder: a picture of another size"));
        }
        let mut image = MaybeUninit::<vpx_image_t>::zeroed();
        // SAFETY: the picture is described in place. It refers to the first plane, whose size was checked above (rows are not
        // padded with an alignment of 1), and to what would lie behind it, which is replaced below before anything reads it.
        // libvpx only reads planes, however the pointers are typed.
        let wrapped = unsafe {
            let format = vpx_img_fmt::VPX_IMG_FMT_I444;
            let data = green.as_ptr().cast_mut();
            vpx_sys::vpx_img_wrap(image.as_mut_ptr(), format, self.width, self.height, 1, data)
        };
        // SAFETY: null, or the description above, which lives until the end of this function.
        let Some(picture) = (unsafe { wrapped.as_mut() }) else {
            return Err(Error::internal("VP9 encoder: the picture's size is no size"));
        };
        picture.planes[1] = blue.as_ptr().cast_mut();
        picture.planes[2] = red.as_ptr().cast_mut();
        let flags = if key { vpx_sys::VPX_EFLAG_FORCE_KF } else { 0 };
        let (hurry, shown) = (c_ulong::from(vpx_sys::VPX_DL_REALTIME), 1);
        // SAFETY: the context is initialized, the picture and its planes live during the call, which copies what it keeps.
        let encoded = unsafe {
            vpx_sys::vpx_codec_encode(
                &raw mut *self.context,
                &raw const *picture,
                self.pictures,
                shown,
                flags.into(),
                hurry,
            )
        };
        check(encoded)?;
        self.pictures += 1;
        self.take(key)
    }
}

impl Drop for Vp9 {
    fn drop(&mut self) {
        // SAFETY: initialized, and destroyed only here. It fails for contexts that are not initialized alone.
        let _ = unsafe { vpx_sys::vpx_codec_destroy(&raw mut *self.context) };
    }
}

fn check(code: vpx_codec_err_t) -> Result<()> {
    if code == vpx_codec_err_t::VPX_CODEC_OK {
        return Ok(());
    }
    // SAFETY: libvpx has a constant text, ending in 0, for each code.
    let text = unsafe { CStr::from_ptr(vpx_sys::vpx_codec_err_to_string(code)) };
    Err(Error::internal(format!("VP9 encoder: {}", text.to_string_lossy())))
}

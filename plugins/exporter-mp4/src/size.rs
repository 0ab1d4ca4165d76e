//! The size of a video.

/// Longest and shortest side that the encoder takes.
const SIDES_MAX: (u32, u32) = (3840, 2160);
/// Shortest side that the encoder takes.
const SIDE_MIN: u32 = 16;

/// Size of the video for pictures of at most this size: even, and inside what the encoder takes. The flag tells whether it had to be
/// scaled down for that.
pub(crate) fn video_size(width: u32, height: u32) -> (u32, u32, bool) {
    let (width, height) = (width.max(1), height.max(1));
    let (long, short) = (width.max(height), width.min(height));
    let even = |side: u32| side.max(SIDE_MIN).next_multiple_of(2);
    if long <= SIDES_MAX.0 && short <= SIDES_MAX.1 {
        return (even(width), even(height), false);
    }
    // The factor is the smaller of the two quotients; as fractions, to stay in whole numbers.
    let (numerator, denominator) =
        if u64::from(SIDES_MAX.0) * u64::from(short) <= u64::from(SIDES_MAX.1) * u64::from(long) {
            (SIDES_MAX.0, long)
        } else {
            (SIDES_MAX.1, short)
        };
    let scaled = |side: u32| {
        let scaled = u64::from(side) * u64::from(numerator) / u64::from(denominator);
        (u32::try_from(scaled).unwrap_or(SIDES_MAX.0) & !1).max(SIDE_MIN)
    };
    (scaled(width), scaled(height), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_are_even_and_no_larger_than_the_encoder_takes() {
        assert_eq!(video_size(1024, 768), (1024, 768, false));
        assert_eq!(video_size(1023, 767), (1024, 768, false));
        assert_eq!(video_size(3840, 2160), (3840, 2160, false));
        assert_eq!(video_size(2160, 3840), (2160, 3840, false));
        assert_eq!(video_size(5120, 2880), (3840, 2160, true));
        assert_eq!(video_size(3840, 2400), (3456, 2160, true));
        assert_eq!(video_size(7680, 1080), (3840, 540, true));
        assert_eq!(video_size(1, 0), (16, 16, false));
        for (width, height) in [(8192, 8192), (2161, 2161), (16384, 3), (3841, 2159)] {
            let (w, h, scaled) = video_size(width, height);
            assert!(scaled && w % 2 == 0 && h % 2 == 0, "{width}x{height}: {w}x{h}");
            assert!(w.max(h) <= 3840 && w.min(h) <= 2160, "{width}x{height}: {w}x{h}");
        }
    }
}

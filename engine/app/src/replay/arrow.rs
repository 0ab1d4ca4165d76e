//! The arrow that stands for "the viewer's own pointer".

/// `#` black, `o` white, else nothing.
const ARROW: [&str; 19] = [
    "#           ",
    "##          ",
    "#o#         ",
    "#oo#        ",
    "#ooo#       ",
    "#oooo#      ",
    "#ooooo#     ",
    "#oooooo#    ",
    "#ooooooo#   ",
    "#oooooooo#  ",
    "#ooooooooo# ",
    "#oooooo#####",
    "#ooo#oo#    ",
    "#oo# #oo#   ",
    "#o#  #oo#   ",
    "##    #oo#  ",
    "#     #oo#  ",
    "       #o#  ",
    "        #   ",
];

/// Width, height and pixels (R, G, B, straight alpha).
pub(super) fn pixels() -> (u16, u16, Vec<u8>) {
    let rgba = ARROW.iter().flat_map(|row| row.bytes()).flat_map(|dot| match dot {
        b'#' => [0, 0, 0, 255],
        b'o' => [255, 255, 255, 255],
        _ => [0; 4],
    });
    (12, 19, rgba.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_equally_long() {
        assert!(ARROW.iter().all(|row| row.len() == 12));
        let (width, height, rgba) = pixels();
        assert_eq!(rgba.len(), usize::from(width) * usize::from(height) * 4);
    }
}

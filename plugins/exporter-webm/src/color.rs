//! Planes of green, blue and red: VP9's order of an RGB picture.

use deskreel_sdk::video::{Colors, Planes, Sampling};

/// The colours of the video: those of the recording.
#[derive(Debug)]
pub struct Gbr;

impl Colors for Gbr {
    const SAMPLING: Sampling = Sampling::Full;
    const BLACK: [u8; 3] = [0; 3];

    fn convert(&mut self, rows: &[u8], width: usize, (x, top): (usize, usize), planes: &mut Planes) {
        let stride = planes.width();
        let [green, blue, red] = planes.planes_mut();
        for (row, y) in rows.chunks_exact(width * 4).zip(top..) {
            let at = y * stride + x..y * stride + x + width;
            let samples = green[at.clone()]
                .iter_mut()
                .zip(&mut blue[at.clone()])
                .zip(&mut red[at]);
            for (((g, b), r), pixel) in samples.zip(row.as_chunks::<4>().0) {
                [*r, *g, *b, _] = *pixel;
            }
        }
    }
}

//! What exporters of videos have in common: [`Pace`] chooses the pictures, [`Canvas`] draws them in the codec's [`Colors`],
//! [`Encoders`] encodes them on several threads, and [`VideoJob`] puts it all together for a [`Container`].

mod canvas;
mod encoders;
mod job;
mod pace;
mod place;
mod planes;

pub use canvas::Canvas;
pub use encoders::{Encode, Encoders, Packet};
pub use job::{Container, VideoJob, threads};
pub use pace::{Due, Pace};
pub use planes::{Colors, Patch, Planes, Sampling};

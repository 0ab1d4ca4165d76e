//! RDP without sockets: wire walkers and patches, the phases of a session, and the screen tap.

mod direction;

pub mod tap;

pub use direction::Direction;

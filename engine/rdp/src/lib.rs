//! RDP without sockets: wire walkers and patches, the phases of a session, and the screen tap.
//!
//! - [`wire`] finds PDUs and walks their bytes: pure functions, bounds-checked, never panicking.
//! - [`phase`] follows one session through its phases, patches what the gateway must change and gathers facts.
//! - [`tap`] decodes a copy of what passes.

mod direction;
mod patch;

pub mod phase;
pub mod tap;
pub mod wire;

pub use direction::Direction;

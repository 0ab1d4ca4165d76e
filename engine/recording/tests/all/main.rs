//! Tests of the recording format through its public API.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod attacks;
mod codec;
mod crash;
mod desktop;
mod foreign_bytes;
mod recording;
mod segments;
mod vectors;

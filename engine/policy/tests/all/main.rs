//! Tests of policy through its public API.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod conformance;
mod junk;
mod locks;
mod properties;
mod resources;
mod truth_table;
mod verdicts;
mod world;

//! The integration tests, one binary. What needs real peers says so with [`peers::Peers::take`].
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access;
mod audit;
mod bad_input;
mod bad_peers;
mod clipboard;
mod crash;
mod docs;
mod doctor;
mod drives;
mod export;
mod export_formats;
mod export_options;
mod exports;
mod graphics;
mod harness;
mod keep;
mod keep_s3;
mod limits;
mod nla;
mod other_servers;
mod picture;
mod plugin_authors;
mod redirection;
mod rights;
mod secrets;
mod sessions;
mod storage_gcs;
mod storage_s3;
mod tidy;
mod watching;
mod web;

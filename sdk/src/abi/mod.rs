//! The binary interface between the engine and its plugins. The only module with unsafe code.
//!
//! Nothing in here is for authors: they write a trait and call a macro. The engine uses [`host`].
//!
//! Rules of growth within one major: methods are appended after `last_prefix_field`, structures that cross as JSON gain fields
//! with defaults, error numbers stay in their class. Anything else is a new major, hence new symbols.
//!
//! Ownership: whoever receives a [`types::Handle`], [`types::Completion`], [`types::Running`] or [`types::AbiBytes`] owns it and
//! drops it; each carries the function that frees it in the library that made it. No panic crosses in either direction.

#![expect(
    unsafe_code,
    reason = "raw pointers and function tables are what crosses a library boundary"
)]

#[doc(hidden)]
pub mod exporter;
pub mod host;
mod log;
mod macros;
pub mod meta;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod storage;
#[doc(hidden)]
pub mod types;

/// The ABI's major version: the number in the symbols' names and the major version of this crate.
pub const ABI_MAJOR: u32 = 1;

/// What the loader looks for in a storage plugin.
pub const STORAGE_SYMBOL: &str = "deskreel_storage_v1";
/// What the loader looks for in an exporter plugin.
pub const EXPORTER_SYMBOL: &str = "deskreel_exporter_v1";

/// Version of this crate.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The compiler that built this crate, and so the plugin that it is part of.
pub const RUSTC_VERSION: &str = env!("DESKREEL_RUSTC_VERSION");

#[doc(hidden)]
pub use abi_stable::library::{LibHeader, RootModuleResult};

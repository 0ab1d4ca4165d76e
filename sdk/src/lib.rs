//! All that a Deskreel plugin needs: one trait ([`Storage`] or [`Exporter`]), one macro (`export_storage!` or
//! `export_exporter!`), one test kit (`testkit`).
//!
//! A plugin is a `cdylib` crate that depends on this crate. docs/plugin-authors.md in the repository walks through one.

#[doc(hidden)]
pub mod abi;
pub mod bucket;
mod context;
mod error;
mod exporter;
mod object;
mod scale;
mod settings;
mod storage;
pub mod testkit;
mod typing;
mod url;
pub mod video;

pub use bytes;
pub use schemars;
pub use serde;
pub use serde_json;
pub use tracing;

pub use context::Context;
pub use error::{Error, ErrorContext, ErrorKind, Result};
pub use exporter::{
    ExportJob, Exporter, Format, Frame, Marker, MarkerKind, Output, Pointer, Region, Summary, VideoParams,
};
pub use object::{KEY_MAX_BYTES, KEY_PART_MAX_BYTES, Key, Mode, ObjectInfo, Page, Prefix, Profile, PutOptions};
pub use scale::Scaler;
pub use settings::{Secret, SettingDuration, SettingPath, SettingSize};
pub use storage::{Blocking, BlockingStorage, Storage};
pub use typing::{Typed, Typing};
pub use url::StorageUrl;

/// Everything that a plugin's code mentions.
pub mod prelude {
    pub use crate::{
        Blocking, BlockingStorage, Context, Error, ErrorContext, ErrorKind, ExportJob, Exporter, Format, Frame, Key,
        Marker, MarkerKind, Mode, ObjectInfo, Output, Page, Pointer, Prefix, Profile, PutOptions, Region, Result,
        Secret, SettingDuration, SettingPath, SettingSize, Storage, StorageUrl, Summary, VideoParams,
    };
    pub use bytes::Bytes;
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use std::ops::Range;
    pub use std::path::{Path, PathBuf};
}

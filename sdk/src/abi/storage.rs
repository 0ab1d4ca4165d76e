//! From the storage trait to the function table.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::prefix_type::{PrefixRefTrait as _, PrefixTypeTrait as _};
use abi_stable::std_types::{RResult, RSlice, RStr, RString};
use bytes::Bytes;
use serde_json::Value;

use crate::abi::meta::{Info, Kind, Package};
use crate::abi::runtime::{call, init, quietly_in_runtime, spawn};
use crate::abi::types::{
    AbiBytes, AbiError, Completion, Handle, LogTarget, Running, StorageModule, StorageModuleRef, path_in,
};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object::{Key, Prefix, PutOptions};
use crate::storage::Storage;

/// What the macro makes.
pub trait Exported: 'static {
    /// The author's type.
    type Plugin: Storage;
    /// The author's package.
    const PACKAGE: Package;
}

/// The header behind the symbol.
#[must_use]
pub const fn header<E: Exported>() -> LibHeader {
    extern "C" fn module<E: Exported>() -> RootModuleResult {
        let module = StorageModule {
            init: init_plugin::<E>,
            info: info::<E>,
            profile: profile::<E>,
            open: open::<E>,
            put: put::<E>,
            get: get::<E>,
            stat: stat::<E>,
            list: list::<E>,
            delete: delete::<E>,
            put_file: put_file::<E>,
            check: check::<E>,
        };
        // SAFETY: the header is read as the root module of the same type.
        RResult::ROk(unsafe { module.leak_into_prefix().to_prefix_ref().cast() })
    }
    // SAFETY: `module` returns a `StorageModuleRef`.
    unsafe { LibHeader::from_constructor::<StorageModuleRef>(module::<E>, CheckTypeLayout::Yes) }
}

struct Instance<S> {
    name: String,
    storage: S,
}

fn into_handle<S: Storage>(instance: Instance<S>) -> Handle {
    extern "C" fn release<S: Storage>(object: *mut ()) {
        // SAFETY: `object` came from `Arc::into_raw` below, and the handle's drop runs once.
        quietly_in_runtime("drop", || drop(unsafe { Arc::from_raw(object.cast::<Instance<S>>()) }));
    }
    Handle::new(Arc::into_raw(Arc::new(instance)).cast_mut().cast(), release::<S>)
}

/// Another owner of the instance: an operation may outlive the handle.
fn shared<S: Storage>(this: &Handle) -> Arc<Instance<S>> {
    // SAFETY: the engine passes only handles that `open` of this same plugin made. The handle keeps its own count.
    let instance = ManuallyDrop::new(unsafe { Arc::from_raw(this.object().cast::<Instance<S>>()) });
    Arc::clone(&instance)
}

fn run<E: Exported, T, F>(
    this: &Handle,
    done: Completion<T>,
    work: impl FnOnce(Arc<Instance<E::Plugin>>) -> Result<F>,
) -> Running
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let instance = shared::<E::Plugin>(this);
    let name = instance.name.clone();
    spawn(&name, done, move || work(instance))
}

fn json(value: &impl serde::Serialize) -> Result<RString> {
    serde_json::to_string(value)
        .map(RString::from)
        .map_err(|error| Error::internal(error.to_string()))
}

pub(crate) fn settings<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::invalid_settings(error.to_string()))
}

extern "C" fn init_plugin<E: Exported>(log: LogTarget) {
    init(const { E::PACKAGE.plugin(Kind::Storage) }, log);
}

extern "C" fn info<E: Exported>() -> RResult<RString, AbiError> {
    call(|| {
        json(&Info {
            name: E::PACKAGE.plugin(Kind::Storage).to_owned(),
            version: E::PACKAGE.version.to_owned(),
            settings_schema: Value::from(schemars::schema_for!(<E::Plugin as Storage>::Settings)),
            formats: Vec::new(),
            wants_frames: false,
            wants_events: false,
        })
    })
}

extern "C" fn profile<E: Exported>(text: RStr<'_>) -> RResult<RString, AbiError> {
    call(|| json(&E::Plugin::profile(&settings(text.as_str())?)))
}

extern "C" fn open<E: Exported>(text: RStr<'_>, context: RStr<'_>, done: Completion<Handle>) -> Running {
    let context = serde_json::from_str::<Context>(context.as_str());
    let name = context.as_ref().map(|context| context.name.clone()).unwrap_or_default();
    spawn(&name, done, || {
        let (settings, context) = (settings(text.as_str())?, context?);
        Ok(async move {
            let name = context.name.clone();
            let storage = E::Plugin::open(settings, context).await?;
            Ok(into_handle(Instance { name, storage }))
        })
    })
}

extern "C" fn put<E: Exported>(
    this: &Handle,
    key: RStr<'_>,
    bytes: AbiBytes,
    options: RStr<'_>,
    done: Completion<()>,
) -> Running {
    run::<E, _, _>(this, done, |this| {
        let (key, options) = (Key::new(key.as_str())?, put_options(options)?);
        Ok(async move { this.storage.put(&key, Bytes::from(bytes), &options).await })
    })
}

fn put_options(options: RStr<'_>) -> Result<PutOptions> {
    match options.as_str() {
        "" => Ok(PutOptions::default()),
        text => Ok(serde_json::from_str(text)?),
    }
}

extern "C" fn get<E: Exported>(
    this: &Handle,
    key: RStr<'_>,
    start: u64,
    end: u64,
    done: Completion<AbiBytes>,
) -> Running {
    run::<E, _, _>(this, done, |this| {
        let key = Key::new(key.as_str())?;
        Ok(async move { Ok(AbiBytes::new(this.storage.get(&key, start..end).await?)) })
    })
}

extern "C" fn stat<E: Exported>(this: &Handle, key: RStr<'_>, done: Completion<RString>) -> Running {
    run::<E, _, _>(this, done, |this| {
        let key = Key::new(key.as_str())?;
        Ok(async move { json(&this.storage.stat(&key).await?) })
    })
}

extern "C" fn list<E: Exported>(
    this: &Handle,
    prefix: RStr<'_>,
    after: RStr<'_>,
    done: Completion<RString>,
) -> Running {
    run::<E, _, _>(this, done, |this| {
        let prefix = Prefix::new(prefix.as_str())?;
        let after = if after.is_empty() {
            None
        } else {
            Some(Key::new(after.as_str())?)
        };
        Ok(async move { json(&this.storage.list(&prefix, after.as_ref()).await?) })
    })
}

extern "C" fn delete<E: Exported>(this: &Handle, key: RStr<'_>, done: Completion<()>) -> Running {
    run::<E, _, _>(this, done, |this| {
        let key = Key::new(key.as_str())?;
        Ok(async move { this.storage.delete(&key).await })
    })
}

extern "C" fn put_file<E: Exported>(
    this: &Handle,
    key: RStr<'_>,
    path: RSlice<'_, u8>,
    options: RStr<'_>,
    done: Completion<()>,
) -> Running {
    run::<E, _, _>(this, done, |this| {
        let (key, path, options) = (Key::new(key.as_str())?, path_in(path).to_owned(), put_options(options)?);
        Ok(async move { this.storage.put_file(&key, &path, &options).await })
    })
}

extern "C" fn check<E: Exported>(this: &Handle, done: Completion<()>) -> Running {
    run::<E, _, _>(this, done, |this| Ok(async move { this.storage.check().await }))
}

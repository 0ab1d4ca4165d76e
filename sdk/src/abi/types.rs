//! What crosses the boundary, byte for byte. A change here is a change of the ABI: see the module above.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RResult, RSlice, RStr, RString};
use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::exporter::Region;

/// What a call that waits returns.
pub type Answer<T> = RResult<T, AbiError>;

/// An [`Error`] on its way.
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct AbiError {
    code: u16,
    message: RString,
    /// Milliseconds; 0 means none.
    retry_after_ms: u64,
}

impl From<Error> for AbiError {
    fn from(error: Error) -> Self {
        let retry_after_ms = error
            .retry_after()
            .map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1));
        Self {
            code: error.kind().code(),
            message: error.message().into(),
            retry_after_ms,
        }
    }
}

impl From<AbiError> for Error {
    fn from(error: AbiError) -> Self {
        let this = Self::new(ErrorKind::from_code(error.code), error.message.into_string());
        match error.retry_after_ms {
            0 => this,
            after => this.with_retry_after(Duration::from_millis(after)),
        }
    }
}

/// Owned bytes: a pointer, a length, and who frees them how. Made from and into [`Bytes`] without a copy.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiBytes {
    data: *const u8,
    length: usize,
    owner: *mut (),
    release: extern "C" fn(owner: *mut ()),
}

// SAFETY: the bytes are never written and the owner behind them is a `Bytes`, which is `Send` and `Sync`.
unsafe impl Send for AbiBytes {}
// SAFETY: as above.
unsafe impl Sync for AbiBytes {}

impl AbiBytes {
    /// Takes bytes along without a copy.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        extern "C" fn release(owner: *mut ()) {
            // SAFETY: `owner` came from `Box::into_raw` below, and `drop` runs once.
            crate::abi::runtime::quietly("bytes", || drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) }));
        }
        let (data, length) = (bytes.as_ptr(), bytes.len());
        Self {
            data,
            length,
            owner: Box::into_raw(Box::new(bytes)).cast(),
            release,
        }
    }
}

impl AsRef<[u8]> for AbiBytes {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 || self.data.is_null() {
            return &[];
        }
        // SAFETY: `data` and `length` describe the `Bytes` behind `owner`, which lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }
}

impl Drop for AbiBytes {
    fn drop(&mut self) {
        (self.release)(self.owner);
    }
}

impl From<AbiBytes> for Bytes {
    fn from(bytes: AbiBytes) -> Self {
        Self::from_owner(bytes)
    }
}

/// An object of the plugin (an instance, a job), and how it is dropped.
#[repr(C)]
#[derive(StableAbi)]
pub struct Handle {
    object: *mut (),
    release: extern "C" fn(object: *mut ()),
}

// SAFETY: glue makes handles of `Send + Sync` storages and exporters, and of `Send` jobs whose methods take `&mut Handle`.
unsafe impl Send for Handle {}
// SAFETY: as above; nothing can be done to a job with a shared handle.
unsafe impl Sync for Handle {}

impl Handle {
    /// A handle that owns `object` until `release`.
    pub(crate) fn new(object: *mut (), release: extern "C" fn(object: *mut ())) -> Self {
        Self { object, release }
    }

    /// What the plugin made it of.
    pub(crate) fn object(&self) -> *mut () {
        self.object
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        (self.release)(self.object);
    }
}

/// An operation under way in the plugin. Dropping it gives the operation up if it isn't done.
#[repr(C)]
#[derive(StableAbi)]
pub struct Running {
    task: *mut (),
    cancel: extern "C" fn(task: *mut ()),
}

// SAFETY: the task behind it is a tokio `AbortHandle`, which is `Send` and `Sync`.
unsafe impl Send for Running {}
// SAFETY: as above.
unsafe impl Sync for Running {}

impl Running {
    /// A running task, or nothing when `task` is `None`.
    pub(crate) fn new(task: Option<tokio::task::AbortHandle>) -> Self {
        extern "C" fn cancel(task: *mut ()) {
            if !task.is_null() {
                crate::abi::runtime::quietly("cancel", || {
                    // SAFETY: `task` came from `Box::into_raw` below, and `drop` runs once.
                    let task = unsafe { Box::from_raw(task.cast::<tokio::task::AbortHandle>()) };
                    task.abort();
                });
            }
        }
        Self {
            task: task.map_or(ptr::null_mut(), |task| Box::into_raw(Box::new(task)).cast()),
            cancel,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        (self.cancel)(self.task);
    }
}

/// Where the outcome of an operation goes. Fires once; dropped unfired, it fires an error.
#[repr(C)]
#[derive(StableAbi)]
pub struct Completion<T> {
    target: *mut (),
    fire: extern "C" fn(target: *mut (), outcome: RResult<T, AbiError>),
}

// SAFETY: the target is a one-shot sender of a `Send` value.
unsafe impl<T: Send> Send for Completion<T> {}

impl<T> Completion<T> {
    pub(crate) fn new(target: *mut (), fire: extern "C" fn(target: *mut (), outcome: Answer<T>)) -> Self {
        Self { target, fire }
    }

    /// Hands the outcome over.
    pub(crate) fn fire(mut self, outcome: Answer<T>) {
        let target = std::mem::replace(&mut self.target, ptr::null_mut());
        (self.fire)(target, outcome);
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if !self.target.is_null() {
            let unfired = Error::internal("the plugin dropped the operation without an answer");
            (self.fire)(self.target, RResult::RErr(unfired.into()));
        }
    }
}

/// The engine's log, as a plugin reaches it.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct LogTarget {
    /// 1 error to 5 trace; what lies above isn't wanted.
    pub max_level: u8,
    /// Takes level, plugin, instance (or nothing), target, message and further fields as a JSON object.
    pub write: extern "C" fn(
        level: u8,
        plugin: RStr<'_>,
        instance: RStr<'_>,
        target: RStr<'_>,
        message: RStr<'_>,
        fields: RStr<'_>,
    ),
}

/// The function table of a storage plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = StorageModuleRef)))]
#[sabi(missing_field(panic))]
pub struct StorageModule {
    /// Called once after loading.
    pub init: extern "C" fn(log: LogTarget),
    /// [`crate::abi::meta::Info`] as JSON.
    pub info: extern "C" fn() -> RResult<RString, AbiError>,
    /// Settings to profile, both JSON.
    pub profile: extern "C" fn(settings: RStr<'_>) -> RResult<RString, AbiError>,
    /// Settings and context as JSON.
    pub open: extern "C" fn(settings: RStr<'_>, context: RStr<'_>, done: Completion<Handle>) -> Running,
    /// Key, bytes, options as JSON.
    pub put: extern "C" fn(
        this: &Handle,
        key: RStr<'_>,
        bytes: AbiBytes,
        options: RStr<'_>,
        done: Completion<()>,
    ) -> Running,
    /// Key, from, to.
    pub get: extern "C" fn(this: &Handle, key: RStr<'_>, start: u64, end: u64, done: Completion<AbiBytes>) -> Running,
    /// Key to object info as JSON.
    pub stat: extern "C" fn(this: &Handle, key: RStr<'_>, done: Completion<RString>) -> Running,
    /// Prefix and key (or nothing) to page as JSON.
    pub list: extern "C" fn(this: &Handle, prefix: RStr<'_>, after: RStr<'_>, done: Completion<RString>) -> Running,
    /// Key.
    pub delete: extern "C" fn(this: &Handle, key: RStr<'_>, done: Completion<()>) -> Running,
    /// Key, path in the system's bytes, options as JSON.
    pub put_file: extern "C" fn(
        this: &Handle,
        key: RStr<'_>,
        path: RSlice<'_, u8>,
        options: RStr<'_>,
        done: Completion<()>,
    ) -> Running,
    /// The last method of version 1.0; later ones follow it.
    #[sabi(last_prefix_field)]
    pub check: extern "C" fn(this: &Handle, done: Completion<()>) -> Running,
}

/// The function table of an exporter plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ExporterModuleRef)))]
#[sabi(missing_field(panic))]
pub struct ExporterModule {
    /// Called once after loading.
    pub init: extern "C" fn(log: LogTarget),
    /// [`crate::abi::meta::Info`] as JSON.
    pub info: extern "C" fn() -> RResult<RString, AbiError>,
    /// Settings and context as JSON.
    pub open: extern "C" fn(settings: RStr<'_>, context: RStr<'_>) -> RResult<Handle, AbiError>,
    /// Format, parameters as JSON, output path in the system's bytes.
    pub start: extern "C" fn(
        this: &Handle,
        format: RStr<'_>,
        video: RStr<'_>,
        output: RSlice<'_, u8>,
    ) -> RResult<Handle, AbiError>,
    /// One frame.
    pub frame: extern "C" fn(job: &mut Handle, frame: &AbiFrame<'_>) -> RResult<(), AbiError>,
    /// A marker as JSON.
    pub marker: extern "C" fn(job: &mut Handle, marker: RStr<'_>) -> RResult<(), AbiError>,
    /// To summary as JSON. The handle is empty afterwards and only to be dropped. The last method of version 1.0.
    #[sabi(last_prefix_field)]
    pub finish: extern "C" fn(job: &mut Handle) -> RResult<RString, AbiError>,
}

macro_rules! root_module {
    ($module:ident, $name:literal) => {
        impl RootModule for $module {
            abi_stable::declare_root_module_statics! {$module}
            const BASE_NAME: &'static str = $name;
            const NAME: &'static str = $name;
            const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
        }
    };
}
root_module!(StorageModuleRef, "deskreel_storage");
root_module!(ExporterModuleRef, "deskreel_exporter");

/// [`Region`], byte for byte.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct AbiRegion {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

const _: () = {
    assert!(size_of::<AbiRegion>() == size_of::<Region>() && align_of::<AbiRegion>() == align_of::<Region>());
    assert!(std::mem::offset_of!(AbiRegion, x) == std::mem::offset_of!(Region, x));
    assert!(std::mem::offset_of!(AbiRegion, y) == std::mem::offset_of!(Region, y));
    assert!(std::mem::offset_of!(AbiRegion, width) == std::mem::offset_of!(Region, width));
    assert!(std::mem::offset_of!(AbiRegion, height) == std::mem::offset_of!(Region, height));
};

pub(crate) fn regions_out(regions: &[Region]) -> RSlice<'_, AbiRegion> {
    // SAFETY: both are `repr(C)` with the same fields at the same places, asserted above.
    unsafe { RSlice::from_raw_parts(regions.as_ptr().cast(), regions.len()) }
}

pub(crate) fn regions_in<'a>(regions: RSlice<'a, AbiRegion>) -> &'a [Region] {
    let regions: &'a [AbiRegion] = regions.as_slice();
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(regions.as_ptr().cast(), regions.len()) }
}

/// [`crate::Frame`] on its way, borrowed for the call.
#[repr(C)]
#[derive(StableAbi)]
#[expect(missing_docs, reason = "as in Frame")]
pub struct AbiFrame<'a> {
    pub time_ns: u64,
    pub width: u32,
    pub height: u32,
    pub stride: usize,
    pub rgba: RSlice<'a, u8>,
    pub changed: RSlice<'a, AbiRegion>,
    /// Whether what follows means anything.
    pub pointer_shown: bool,
    pub pointer: AbiPointer<'a>,
    /// For what later versions add: a JSON object, or nothing.
    pub more: RStr<'a>,
}

/// [`crate::Pointer`] on its way.
#[repr(C)]
#[derive(StableAbi)]
#[expect(missing_docs, reason = "as in Pointer")]
pub struct AbiPointer<'a> {
    pub x: i32,
    pub y: i32,
    pub hotspot_x: u16,
    pub hotspot_y: u16,
    pub width: u16,
    pub height: u16,
    pub rgba: RSlice<'a, u8>,
}

pub(crate) fn path_out(path: &Path) -> RSlice<'_, u8> {
    RSlice::from_slice(path.as_os_str().as_bytes())
}

pub(crate) fn path_in<'a>(path: RSlice<'a, u8>) -> &'a Path {
    Path::new(OsStr::from_bytes(path.as_slice()))
}

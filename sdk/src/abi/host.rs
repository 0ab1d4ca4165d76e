//! The engine's side: from a symbol to a checked library with safe methods.

use std::ffi::c_void;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{self, Poll, ready};

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{AbiHeaderRef, LibHeader, RootModule};
use abi_stable::std_types::{RResult, RSlice, RStr, RString};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::abi::ABI_MAJOR;
use crate::abi::meta::Info;
use crate::abi::types::{
    AbiBytes, AbiFrame, AbiPointer, Answer, Completion, ExporterModuleRef, Handle, LogTarget, Running,
    StorageModuleRef, path_out, regions_out,
};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::exporter::{Frame, Marker, Summary, VideoParams};
use crate::object::{Key, ObjectInfo, Page, Prefix, Profile, PutOptions};

/// Lines of a layout error that are worth showing; the whole has hundreds.
const LAYOUT_ERROR_LINES: usize = 12;

/// Why a library that has the symbol still isn't usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// What stands behind the symbol isn't what the SDK's macro makes.
    #[error("what its symbol names was not made by the Deskreel SDK: {0}")]
    NotOurs(String),
    /// Another major.
    #[error("it was built with version {0} of the SDK, this engine speaks {ABI_MAJOR}.x")]
    OtherMajor(String),
    /// A type or method changed within the major.
    #[error("its binary interface differs from this engine's although both say {ABI_MAJOR}.x: {0}")]
    Layout(String),
    /// It couldn't say what it is.
    #[error("it fails to describe itself: {0}")]
    Info(Error),
}

/// One line of a plugin's log.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    /// How important it is.
    pub level: tracing::Level,
    /// The plugin's name.
    pub plugin: &'a str,
    /// The instance's name in the configuration; empty outside of its operations.
    pub instance: &'a str,
    /// The module that logs.
    pub target: &'a str,
    /// The text.
    pub message: &'a str,
    /// Further fields as a JSON object, or nothing.
    pub fields: &'a str,
}

static LOG: OnceLock<fn(LogLine<'_>)> = OnceLock::new();

/// Where plugins' log lines go. Only the first call counts.
pub fn set_log(write: fn(LogLine<'_>)) {
    let _ = LOG.set(write);
}

extern "C" fn write_log(
    level: u8,
    plugin: RStr<'_>,
    instance: RStr<'_>,
    target: RStr<'_>,
    message: RStr<'_>,
    fields: RStr<'_>,
) {
    let level = match level {
        0 | 1 => tracing::Level::ERROR,
        2 => tracing::Level::WARN,
        3 => tracing::Level::INFO,
        4 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    if let Some(write) = LOG.get() {
        let line = LogLine {
            level,
            plugin: plugin.as_str(),
            instance: instance.as_str(),
            target: target.as_str(),
            message: message.as_str(),
            fields: fields.as_str(),
        };
        // A panic of the log must not unwind into the plugin, nor end the process.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write(line)));
    }
}

fn log_target() -> LogTarget {
    use tracing::metadata::LevelFilter;
    let max_level = match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    };
    LogTarget {
        max_level,
        write: write_log,
    }
}

/// Checks what stands behind a symbol and returns the module.
///
/// # Safety
/// `header` must be the address of a symbol of that name in a library that is never unloaded.
unsafe fn module<M: RootModule>(header: *const c_void) -> Result<M, LoadError> {
    if header.is_null() || !header.cast::<usize>().is_aligned() {
        return Err(LoadError::NotOurs("the symbol has no usable address".to_owned()));
    }
    // SAFETY: `AbiHeaderRef` is a transparent reference to the header that starts with a magic text; `upgrade` compares that
    // before it believes the rest.
    let header = unsafe { std::mem::transmute::<*const c_void, AbiHeaderRef>(header) };
    let header: &'static LibHeader = header
        .upgrade()
        .map_err(|error| LoadError::NotOurs(tail(&error.to_string())))?;
    let version = header.version_strings().version.as_str().to_owned();
    if version.split('.').next() != Some(ABI_MAJOR.to_string().as_str()) {
        return Err(LoadError::OtherMajor(version));
    }
    let Some(theirs) = header.layout() else {
        return Err(LoadError::NotOurs("it carries no description of its types".to_owned()));
    };
    // An older plugin lacks methods that were appended since, a newer one has more: whichever side is the newer one must be
    // able to stand in for the older.
    if let Err(error) = check_layout_compatibility(M::LAYOUT, theirs)
        && check_layout_compatibility(theirs, M::LAYOUT).is_err()
    {
        return Err(LoadError::Layout(tail(&error.to_string())));
    }
    // SAFETY: the layout was just checked.
    unsafe { header.unchecked_layout::<M>() }.map_err(|error| LoadError::NotOurs(tail(&error.to_string())))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAYOUT_ERROR_LINES)..].join("\n")
}

fn info(answer: Answer<RString>) -> Result<Info, LoadError> {
    parse(answer).map_err(LoadError::Info)
}

fn parse<T: serde::de::DeserializeOwned>(answer: Answer<RString>) -> Result<T> {
    let text = answer.into_result().map_err(Error::from)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::internal(format!("the plugin's answer is not understood: {error}")))
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(error.to_string()))
}

/// An operation that a plugin works on. Dropped early, it is given up.
struct Operation<T> {
    answer: oneshot::Receiver<Answer<T>>,
    _running: Running,
}

impl<T: Send + 'static> Operation<T> {
    fn start(call: impl FnOnce(Completion<T>) -> Running) -> Self {
        extern "C" fn fire<T>(target: *mut (), outcome: Answer<T>) {
            // SAFETY: `target` came from `Box::into_raw` below; a completion fires once.
            let sender = unsafe { Box::from_raw(target.cast::<oneshot::Sender<Answer<T>>>()) };
            // Nobody listens any more when the operation was given up.
            let _ = sender.send(outcome);
        }
        let (sender, answer) = oneshot::channel();
        let done = Completion::new(Box::into_raw(Box::new(sender)).cast(), fire::<T>);
        Self {
            answer,
            _running: call(done),
        }
    }
}

impl<T> Future for Operation<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Result<T>> {
        Poll::Ready(match ready!(Pin::new(&mut self.answer).poll(context)) {
            Ok(answer) => answer.into_result().map_err(Error::from),
            Err(_) => Err(Error::internal("the plugin lost the operation")),
        })
    }
}

/// A loaded storage plugin.
#[derive(Clone)]
pub struct StorageLibrary {
    module: StorageModuleRef,
    info: Info,
}

impl StorageLibrary {
    /// Checks the library behind its symbol [`STORAGE_SYMBOL`](crate::abi::STORAGE_SYMBOL) and readies it.
    ///
    /// # Safety
    /// `symbol` must be that symbol's address in a library that is never unloaded.
    ///
    /// # Errors
    /// Anything that makes it unusable.
    pub unsafe fn new(symbol: *const c_void) -> Result<Self, LoadError> {
        // SAFETY: passed on to the caller.
        let module = unsafe { module::<StorageModuleRef>(symbol) }?;
        (module.init())(log_target());
        Ok(Self {
            info: info((module.info())())?,
            module,
        })
    }

    /// What it says about itself.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What a storage with these settings is like.
    ///
    /// # Errors
    /// Settings that the plugin can't read.
    pub fn profile(&self, settings: &Value) -> Result<Profile> {
        parse((self.module.profile())(RStr::from_str(&settings.to_string())))
    }

    /// Opens an instance.
    ///
    /// # Errors
    /// What the plugin says.
    pub async fn open(&self, settings: &Value, context: &Context) -> Result<StorageInstance> {
        let (settings, context) = (settings.to_string(), text(context)?);
        let opening =
            Operation::start(|done| (self.module.open())(RStr::from_str(&settings), RStr::from_str(&context), done));
        Ok(StorageInstance {
            handle: opening.await?,
            module: self.module,
        })
    }
}

/// An open storage. Every future here gives the operation up when it is dropped; errors are those of
/// [`Storage`](crate::Storage).
pub struct StorageInstance {
    handle: Handle,
    module: StorageModuleRef,
}

impl StorageInstance {
    /// Stores an object.
    pub async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        let options = options_text(options)?;
        Operation::start(|done| {
            (self.module.put())(
                &self.handle,
                RStr::from_str(key.as_str()),
                AbiBytes::new(bytes),
                RStr::from_str(&options),
                done,
            )
        })
        .await
    }

    /// Reads a range of an object.
    pub async fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        let answer = Operation::start(|done| {
            (self.module.get())(&self.handle, RStr::from_str(key.as_str()), range.start, range.end, done)
        });
        let bytes = Bytes::from(answer.await?);
        if bytes.len() as u64 > wanted {
            return Err(Error::internal(format!(
                "the plugin returned {} bytes of `{key}` for {wanted}",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// Facts of one object.
    pub async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        let answer =
            Operation::start(|done| (self.module.stat())(&self.handle, RStr::from_str(key.as_str()), done)).await?;
        parse(RResult::ROk(answer))
    }

    /// One page of a listing.
    pub async fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        let after_text = after.map_or("", Key::as_str);
        let answer = Operation::start(|done| {
            (self.module.list())(
                &self.handle,
                RStr::from_str(prefix.as_str()),
                RStr::from_str(after_text),
                done,
            )
        });
        let page: Page = parse(RResult::ROk(answer.await?))?;
        let mut last = after;
        for object in &page.objects {
            if !prefix.matches(&object.key) || last.is_some_and(|last| object.key <= *last) {
                return Err(Error::internal(format!(
                    "the plugin listed `{}` where it doesn't belong",
                    object.key
                )));
            }
            last = Some(&object.key);
        }
        if page.more && page.objects.is_empty() {
            return Err(Error::internal(
                "the plugin returned an empty page and says there is more",
            ));
        }
        Ok(page)
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        Operation::start(|done| (self.module.delete())(&self.handle, RStr::from_str(key.as_str()), done)).await
    }

    /// Stores a file.
    pub async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        let options = options_text(options)?;
        Operation::start(|done| {
            (self.module.put_file())(
                &self.handle,
                RStr::from_str(key.as_str()),
                path_out(file),
                RStr::from_str(&options),
                done,
            )
        })
        .await
    }

    /// Whether it could be written now.
    pub async fn check(&self) -> Result<()> {
        Operation::start(|done| (self.module.check())(&self.handle, done)).await
    }
}

fn options_text(options: &PutOptions) -> Result<String> {
    if *options == PutOptions::default() {
        Ok(String::new())
    } else {
        text(options)
    }
}

/// A loaded exporter plugin.
#[derive(Clone)]
pub struct ExporterLibrary {
    module: ExporterModuleRef,
    info: Info,
}

impl ExporterLibrary {
    /// Checks the library behind its symbol [`EXPORTER_SYMBOL`](crate::abi::EXPORTER_SYMBOL) and readies it.
    ///
    /// # Safety
    /// `symbol` must be that symbol's address in a library that is never unloaded.
    ///
    /// # Errors
    /// Anything that makes it unusable.
    pub unsafe fn new(symbol: *const c_void) -> Result<Self, LoadError> {
        // SAFETY: passed on to the caller.
        let module = unsafe { module::<ExporterModuleRef>(symbol) }?;
        (module.init())(log_target());
        Ok(Self {
            info: info((module.info())())?,
            module,
        })
    }

    /// What it says about itself.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Opens an instance.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn open(&self, settings: &Value, context: &Context) -> Result<ExporterInstance> {
        let (settings, context) = (settings.to_string(), text(context)?);
        let handle = (self.module.open())(RStr::from_str(&settings), RStr::from_str(&context));
        Ok(ExporterInstance {
            handle: handle.into_result().map_err(Error::from)?,
            module: self.module,
        })
    }
}

/// An open exporter.
pub struct ExporterInstance {
    handle: Handle,
    module: ExporterModuleRef,
}

impl ExporterInstance {
    /// Starts an export.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn start(&self, format: &str, video: &VideoParams, output: &Path) -> Result<JobInstance> {
        let video = text(video)?;
        let job = (self.module.start())(
            &self.handle,
            RStr::from_str(format),
            RStr::from_str(&video),
            path_out(output),
        );
        Ok(JobInstance {
            handle: job.into_result().map_err(Error::from)?,
            module: self.module,
        })
    }
}

/// An export under way. Dropped unfinished, it is cancelled. Errors are those of [`ExportJob`](crate::ExportJob).
pub struct JobInstance {
    handle: Handle,
    module: ExporterModuleRef,
}

impl JobInstance {
    /// The next frame. Its pixels aren't copied on the way.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let pointer = frame.pointer.as_ref();
        let frame = AbiFrame {
            time_ns: frame.time_ns,
            width: frame.width,
            height: frame.height,
            stride: frame.stride,
            rgba: RSlice::from_slice(frame.rgba),
            changed: regions_out(frame.changed),
            pointer_shown: pointer.is_some(),
            pointer: AbiPointer {
                x: pointer.map_or(0, |pointer| pointer.x),
                y: pointer.map_or(0, |pointer| pointer.y),
                hotspot_x: pointer.map_or(0, |pointer| pointer.hotspot_x),
                hotspot_y: pointer.map_or(0, |pointer| pointer.hotspot_y),
                width: pointer.map_or(0, |pointer| pointer.width),
                height: pointer.map_or(0, |pointer| pointer.height),
                rgba: RSlice::from_slice(pointer.map_or(&[], |pointer| pointer.rgba)),
            },
            more: RStr::empty(),
        };
        (self.module.frame())(&mut self.handle, &frame)
            .into_result()
            .map_err(Error::from)
    }

    /// Something beside the picture.
    pub fn marker(&mut self, marker: &Marker) -> Result<()> {
        let marker = text(marker)?;
        (self.module.marker())(&mut self.handle, RStr::from_str(&marker))
            .into_result()
            .map_err(Error::from)
    }

    /// Closes the output.
    pub fn finish(mut self) -> Result<Summary> {
        parse((self.module.finish())(&mut self.handle))
    }
}

/// The error of an operation that took longer than it may.
#[must_use]
pub fn timed_out(what: &str, after: std::time::Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("{what} took longer than {after:?}"))
}

//! From the exporter traits to the function table.

use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::prefix_type::{PrefixRefTrait as _, PrefixTypeTrait as _};
use abi_stable::std_types::{RResult, RSlice, RStr, RString};
use serde_json::Value;

use crate::abi::log::within_blocking;
use crate::abi::meta::{FormatInfo, Info, Kind, Package};
use crate::abi::runtime::{call, guarded, init, quietly};
use crate::abi::storage::settings;
use crate::abi::types::{
    AbiError, AbiFrame, ExporterModule, ExporterModuleRef, Handle, LogTarget, path_in, regions_in,
};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exporter::{ExportJob, Exporter, Frame, Marker, MarkerKind, Output, Pointer, VideoParams};

/// What the macro makes.
pub trait Exported: 'static {
    /// The author's type.
    type Plugin: Exporter;
    /// The author's package.
    const PACKAGE: Package;
}

type JobOf<E> = <<E as Exported>::Plugin as Exporter>::Job;

/// The header behind the symbol.
#[must_use]
pub const fn header<E: Exported>() -> LibHeader {
    extern "C" fn module<E: Exported>() -> RootModuleResult {
        let module = ExporterModule {
            init: init_plugin::<E>,
            info: info::<E>,
            open: open::<E>,
            start: start::<E>,
            frame: frame::<E>,
            marker: marker::<E>,
            finish: finish::<E>,
        };
        // SAFETY: the header is read as the root module of the same type.
        RResult::ROk(unsafe { module.leak_into_prefix().to_prefix_ref().cast() })
    }
    // SAFETY: `module` returns an `ExporterModuleRef`.
    unsafe { LibHeader::from_constructor::<ExporterModuleRef>(module::<E>, CheckTypeLayout::Yes) }
}

struct Instance<X> {
    name: String,
    exporter: X,
}

/// A job; gone once it has finished or panicked.
struct Slot<J> {
    name: String,
    job: Option<J>,
}

fn boxed<T>(value: T) -> Handle {
    extern "C" fn release<T>(object: *mut ()) {
        // SAFETY: `object` came from `Box::into_raw` below, and the handle's drop runs once.
        quietly("drop", || drop(unsafe { Box::from_raw(object.cast::<T>()) }));
    }
    Handle::new(Box::into_raw(Box::new(value)).cast(), release::<T>)
}

extern "C" fn init_plugin<E: Exported>(log: LogTarget) {
    init(const { E::PACKAGE.plugin(Kind::Exporter) }, log);
}

extern "C" fn info<E: Exported>() -> RResult<RString, AbiError> {
    call(|| {
        let info = Info {
            name: E::PACKAGE.plugin(Kind::Exporter).to_owned(),
            version: E::PACKAGE.version.to_owned(),
            settings_schema: Value::from(schemars::schema_for!(<E::Plugin as Exporter>::Settings)),
            formats: E::Plugin::FORMATS
                .iter()
                .map(|format| FormatInfo::new(format, E::Plugin::LOSSLESS, E::Plugin::STILL))
                .collect(),
            wants_frames: E::Plugin::WANTS_FRAMES,
            wants_events: E::Plugin::WANTS_EVENTS,
        };
        serde_json::to_string(&info)
            .map(RString::from)
            .map_err(|error| Error::internal(error.to_string()))
    })
}

extern "C" fn open<E: Exported>(text: RStr<'_>, context: RStr<'_>) -> RResult<Handle, AbiError> {
    call(|| {
        let context: Context = serde_json::from_str(context.as_str())?;
        let name = context.name.clone();
        let settings = settings(text.as_str())?;
        let exporter = within_blocking(&name, || E::Plugin::open(settings, context))?;
        Ok(boxed(Instance { name, exporter }))
    })
}

extern "C" fn start<E: Exported>(
    this: &Handle,
    format: RStr<'_>,
    video: RStr<'_>,
    output: RSlice<'_, u8>,
) -> RResult<Handle, AbiError> {
    call(|| {
        // SAFETY: the engine passes only handles that `open` of this same plugin made.
        let this = unsafe { &*this.object().cast::<Instance<E::Plugin>>() };
        let video: VideoParams = serde_json::from_str(video.as_str())?;
        if !E::Plugin::FORMATS.iter().any(|known| known.id == format.as_str()) {
            return Err(Error::invalid_input(format!("the exporter has no format `{format}`")));
        }
        let output = Output::new(path_in(output));
        let job = within_blocking(&this.name, || this.exporter.start(format.as_str(), &video, output))?;
        Ok(boxed(Slot {
            name: this.name.clone(),
            job: Some(job),
        }))
    })
}

/// Calls the job. One that panicked is not called again: half a step lies in its state.
fn with_job<E: Exported, R>(
    handle: &mut Handle,
    work: impl FnOnce(&mut Option<JobOf<E>>) -> Option<Result<R>>,
) -> RResult<R, AbiError> {
    // SAFETY: the engine passes only handles that `start` of this same plugin made, and lends them exclusively.
    let slot = unsafe { &mut *handle.object().cast::<Slot<JobOf<E>>>() };
    let Slot { name, job } = slot;
    let outcome = guarded(|| {
        within_blocking(name, || work(job)).unwrap_or_else(|| Err(Error::internal("the export has ended already")))
    });
    if outcome
        .as_ref()
        .is_err_and(|error| error.kind() == crate::ErrorKind::Panic)
    {
        let poisoned = slot.job.take();
        quietly("drop", || drop(poisoned));
    }
    call(|| outcome)
}

extern "C" fn frame<E: Exported>(job: &mut Handle, frame: &AbiFrame<'_>) -> RResult<(), AbiError> {
    with_job::<E, ()>(job, |job| {
        let pointer = frame.pointer_shown.then(|| Pointer {
            x: frame.pointer.x,
            y: frame.pointer.y,
            hotspot_x: frame.pointer.hotspot_x,
            hotspot_y: frame.pointer.hotspot_y,
            width: frame.pointer.width,
            height: frame.pointer.height,
            rgba: frame.pointer.rgba.as_slice(),
        });
        let frame = Frame::new(
            frame.time_ns,
            frame.width,
            frame.height,
            frame.stride,
            frame.rgba.as_slice(),
            regions_in(frame.changed),
        )
        .and_then(|frame| frame.with_pointer(pointer));
        job.as_mut().map(|job| job.frame(&frame?))
    })
}

extern "C" fn marker<E: Exported>(job: &mut Handle, text: RStr<'_>) -> RResult<(), AbiError> {
    with_job::<E, ()>(job, |job| {
        let marker = serde_json::from_str::<Marker>(text.as_str());
        job.as_mut().map(|job| match marker? {
            Marker {
                kind: MarkerKind::Unknown,
                ..
            } => Ok(()),
            marker => job.marker(&marker),
        })
    })
}

extern "C" fn finish<E: Exported>(job: &mut Handle) -> RResult<RString, AbiError> {
    with_job::<E, RString>(job, |job| {
        job.take().map(|job| {
            let summary = job.finish()?;
            serde_json::to_string(&summary)
                .map(RString::from)
                .map_err(|error| Error::internal(error.to_string()))
        })
    })
}

//! Opening a shared library and finding the plugin in it. Libraries are never unloaded: their threads and destructors may run
//! for as long as the process does.

#![expect(unsafe_code, reason = "opening a library runs its code")]

use std::error::Error as _;
use std::ffi::c_void;
use std::path::Path;

use deskreel_sdk::abi::host::{ExporterLibrary, LoadError, StorageLibrary};
use deskreel_sdk::abi::{EXPORTER_SYMBOL, STORAGE_SYMBOL};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Loads a storage plugin.
pub(crate) fn load_storage(path: &Path) -> Result<StorageLibrary, String> {
    let symbol = symbol(path, STORAGE_SYMBOL)?;
    // SAFETY: the symbol's address in a library that `symbol` leaked.
    unsafe { StorageLibrary::new(symbol) }.map_err(explain)
}

/// Loads an exporter plugin.
pub(crate) fn load_exporter(path: &Path) -> Result<ExporterLibrary, String> {
    let symbol = symbol(path, EXPORTER_SYMBOL)?;
    // SAFETY: the symbol's address in a library that `symbol` leaked.
    unsafe { ExporterLibrary::new(symbol) }.map_err(explain)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn explain(error: LoadError) -> String {
    format!("the plugin can't be used: {error}")
}

fn symbol(path: &Path, name: &str) -> Result<*const c_void, String> {
    // SAFETY: the file's initialisers run now. The operator chose it, and `file::check` and `meta::read` have passed it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| format!("can't be loaded: {}", deepest(&error)))?;
    let library = Box::leak(Box::new(library));
    // SAFETY: the address alone is taken; what stands there is checked before it is believed.
    let symbol = unsafe { library.get::<*const c_void>(name.as_bytes()) };
    match symbol {
        Ok(symbol) => Ok(*symbol),
        Err(error) => Err(format!("the plugin lacks the symbol {name}: {}", deepest(&error))),
    }
}

/// libloading says only that it failed; the dynamic linker's text is the source.
fn deepest(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

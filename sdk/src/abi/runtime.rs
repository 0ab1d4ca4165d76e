//! Glue that every plugin carries: no panic leaves it, and its operations run on a tokio runtime of its own.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{self, Poll};

use abi_stable::std_types::RResult;
use tokio::runtime::{Builder, Runtime};

use crate::abi::log;
use crate::abi::types::{Answer, Completion, LogTarget, Running};
use crate::error::{Error, ErrorKind, Result};

/// Threads that run a plugin's async code. Blocking code has a pool beside them.
const WORKERS: usize = 2;

/// First call after loading: the log, and a panic hook that writes to it.
pub(crate) fn init(plugin: &'static str, target: LogTarget) {
    quietly("init", || log::install(plugin, target));
}

/// The runtime of this library, started by the first operation.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("deskreel-plugin")
                .enable_all()
                .build()
                .map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|error| Error::internal(format!("start the plugin's runtime: {error}")))
}

/// Runs an operation on the plugin's runtime; its outcome, or its panic as an error, goes to `done`.
pub(crate) fn spawn<T, F>(instance: &str, done: Completion<T>, work: impl FnOnce() -> Result<F>) -> Running
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let started = guarded(|| Ok((runtime()?, work()?)));
    match started {
        Ok((runtime, work)) => {
            let mut work = CatchUnwind(Box::pin(work));
            let task = runtime.spawn(log::within(instance.to_owned(), async move {
                let outcome = (&mut work).await;
                // The answer first: what the operation holds may panic when it goes.
                done.fire(answer(outcome));
            }));
            Running::new(Some(task.abort_handle()))
        }
        Err(error) => {
            done.fire(RResult::RErr(error.into()));
            Running::new(None)
        }
    }
}

/// Runs something at once, in the runtime's context where there is one (what is dropped may need it).
pub(crate) fn quietly(what: &str, work: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if let Err(panic) = outcome {
        let message = panic_message(panic);
        let _ = catch_unwind(AssertUnwindSafe(|| tracing::error!(what, "plugin panicked: {message}")));
    }
}

/// As [`quietly`], in the runtime's context: what a storage drops may spawn or close connections.
pub(crate) fn quietly_in_runtime(what: &str, work: impl FnOnce()) {
    quietly(what, || {
        let _context = runtime().ok().map(Runtime::enter);
        work();
    });
}

/// Runs something; a panic becomes an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_error(panic)))
}

/// As [`guarded`], for the way out.
pub(crate) fn call<T>(work: impl FnOnce() -> Result<T>) -> Answer<T> {
    answer(guarded(work))
}

fn answer<T>(outcome: Result<T>) -> Answer<T> {
    match outcome {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(error.into()),
    }
}

fn panic_error(panic: Box<dyn Any + Send>) -> Error {
    Error::new(ErrorKind::Panic, format!("plugin panicked: {}", panic_message(panic)))
}

fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned());
    // A payload whose drop panics again would end the process. One leaked payload is the lesser evil.
    std::mem::forget(panic);
    message
}

struct CatchUnwind<F>(Pin<Box<F>>);

impl<T, F: Future<Output = Result<T>>> Future for CatchUnwind<F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panic_error(panic))))
    }
}

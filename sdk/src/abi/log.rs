//! `tracing` inside a plugin, on its way to the engine's log.

use std::fmt;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use abi_stable::std_types::RStr;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::abi::types::LogTarget;

tokio::task_local! {
    /// The configured name of the instance whose operation runs.
    static INSTANCE: String;
}

/// Marks everything that the future logs as said by this instance.
pub(crate) fn within<F: Future>(instance: String, work: F) -> impl Future<Output = F::Output> {
    INSTANCE.scope(instance, work)
}

/// As [`within`], for code that blocks.
pub(crate) fn within_blocking<R>(instance: &str, work: impl FnOnce() -> R) -> R {
    INSTANCE.sync_scope(instance.to_owned(), work)
}

/// Sends this library's events and panics to the engine. Only the first call counts.
pub(crate) fn install(plugin: &'static str, target: LogTarget) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // Refused where the author's code has installed a subscriber of its own: then that one rules.
        let _ = tracing::subscriber::set_global_default(ToEngine {
            plugin,
            target,
            next_span: AtomicU64::new(1),
        });
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("(no message)");
            tracing::error!(place, "plugin panicked: {message}");
        }));
    });
}

struct ToEngine {
    plugin: &'static str,
    target: LogTarget,
    next_span: AtomicU64,
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for ToEngine {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && number(*metadata.level()) <= self.target.max_level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.target.max_level {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans stay in the plugin; ids only have to differ and not be 0.
        Id::from_u64(self.next_span.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let rest = if fields.rest.is_empty() {
            String::new()
        } else {
            Value::Object(fields.rest).to_string()
        };
        let instance = INSTANCE.try_with(Clone::clone).unwrap_or_default();
        (self.target.write)(
            number(*event.metadata().level()),
            RStr::from_str(self.plugin),
            RStr::from_str(&instance),
            RStr::from_str(event.metadata().target()),
            RStr::from_str(&fields.message),
            RStr::from_str(&rest),
        );
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        self.rest.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String fails only where the value's own Debug does.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.keep(field, Value::String(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.keep(field, value.into());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }
}

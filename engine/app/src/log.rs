//! The engine's own log: lines on stderr.

use std::io::IsTerminal as _;

use deskreel_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Crates that write whole protocol messages at lower levels, credentials included: never below a warning.
const DISCREET: [&str; 3] = ["ironrdp", "sspi", "picky"];
/// Crates that warn about what every client does: rustls of the address that RDP clients send as a host name.
const NOISY: [&str; 1] = ["rustls"];

/// Starts the log. Call it once a process; a second call changes nothing.
pub(crate) fn init(config: Log) {
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let discreet = level.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(level)
        .with_targets(DISCREET.map(|target| (target, discreet)))
        .with_targets(NOISY.map(|target| (target, LevelFilter::ERROR)));
    let lines = match config.format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    // Err = already started (by a test in the same process)
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}

//! Real peers for the integration tests and benchmarks: X displays, xrdp, freerdp-shadow, Weston, xfreerdp and the gateway,
//! each a child process that ends with its handle. Everything listens on loopback, on ports that the kernel picks.

pub mod channels;
pub mod client;
pub mod connection;
pub mod desktop;
pub mod disk;
pub mod display;
pub mod faults;
pub mod gateway;
pub mod gcs;
pub mod graphics;
pub mod http;
mod installed;
pub mod node;
pub mod pages;
pub mod picture;
pub mod process;
pub mod python;
pub mod seaweed;
mod serving;
pub mod spy;
pub mod weston;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the peers need: (program, Debian package).
const PROGRAMS: &[(&str, &str)] = &[
    ("Xvfb", "xvfb"),
    ("xrdp", "xrdp"),
    ("xrdp-sesman", "xrdp"),
    ("Xvnc", "tigervnc-standalone-server"),
    ("weston", "weston"),
    ("freerdp-shadow-cli", "freerdp2-shadow-x11"),
    ("winpr-hash", "winpr-utils"),
    ("xfreerdp", "freerdp2-x11"),
    ("rdesktop", "rdesktop"),
    ("fusermount", "fuse"),
    ("openbox", "openbox"),
    ("xterm", "xterm"),
    ("xdotool", "xdotool"),
    ("xclip", "xclip"),
    ("xwd", "x11-apps"),
    ("xrandr", "x11-xserver-utils"),
    ("ffprobe", "ffmpeg"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
];

static SESSION_MANAGER: Mutex<()> = Mutex::new(());

/// The peers of this machine: [`Peers::take`] for tests with an xrdp, [`Peers::without_xrdp`] for those without.
#[derive(Debug)]
pub struct Peers {
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Peers {
    /// Waits for its turn, since there is one xrdp session manager a machine; `None`, and a line that says why, where the
    /// machine lacks what the peers need.
    ///
    /// # Panics
    /// If something is missing and `TESTS_REQUIRE_PEERS` is set and not empty, as `.ci/test` does: there a skip is a
    /// failure.
    #[must_use]
    pub fn take(test: &str) -> Option<Self> {
        let turn = SESSION_MANAGER.lock().unwrap_or_else(PoisonError::into_inner);
        are_there(test).then_some(Self { _turn: Some(turn) })
    }

    /// Like [`Peers::take`] for a test that starts no xrdp, and therefore waits for no other.
    ///
    /// # Panics
    /// As [`Peers::take`].
    #[must_use]
    pub fn without_xrdp(test: &str) -> Option<Self> {
        are_there(test).then_some(Self { _turn: None })
    }
}

/// Whether the machine has what the peers need.
fn are_there(test: &str) -> bool {
    let mut missing: Vec<String> = PROGRAMS
        .iter()
        .filter(|(program, _)| process::which(program).is_none())
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    if !rustix::process::geteuid().is_root() {
        missing.push("root, to add the desktop's user".to_owned());
    }
    if !missing.is_empty() {
        skip(&format!("SKIPPED {test}: this machine lacks {}", missing.join(", ")));
    }
    missing.is_empty()
}

/// Says why a test is left out.
///
/// # Panics
/// If `TESTS_REQUIRE_PEERS` is set and not empty: there a skip is a failure.
pub fn skip(why: &str) {
    let required = std::env::var_os("TESTS_REQUIRE_PEERS").is_some_and(|value| !value.is_empty());
    assert!(!required, "{why}");
    eprintln!("{why}");
}

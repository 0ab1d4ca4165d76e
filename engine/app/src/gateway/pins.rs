//! Certificates that desktops showed on first use, kept in `data_dir/pins.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::end::{EndReason, Ended};
use super::tls::write_atomically;

const FILE: &str = "pins.json";

/// One desktop's remembered certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    /// `host:port` that showed it. Another configured address is another machine, seen for the first time.
    addr: String,
    /// SHA-256 of the certificate's DER, lower-case hex.
    sha256: String,
}

/// The store of trust on first use. One gateway owns a `data_dir`, so a lock inside the process suffices.
#[derive(Debug)]
pub(super) struct Pins {
    path: PathBuf,
    pins: Mutex<BTreeMap<String, Pin>>,
}

/// What the store knew about a certificate that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Never seen before.
    FirstUse,
    /// The same as before.
    Known,
}

impl Pins {
    /// Reads the store of `data_dir`; an absent file is an empty store.
    ///
    /// # Errors
    /// An unreadable or damaged file: forgetting pins silently would trust an impostor.
    pub(super) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let pins = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        Ok(Self {
            path,
            pins: Mutex::new(pins),
        })
    }

    /// Compares what `desktop` at `addr` shows with what it showed first. Remembers nothing.
    ///
    /// # Errors
    /// [`EndReason::DesktopPinMismatch`]
    pub(super) fn check(&self, desktop: &str, addr: &str, sha256: &str) -> Result<Trust, Ended> {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        self.compare(&pins, desktop, addr, sha256)
    }

    fn compare(&self, pins: &BTreeMap<String, Pin>, desktop: &str, addr: &str, sha256: &str) -> Result<Trust, Ended> {
        let Some(pin) = pins.get(desktop).filter(|pin| pin.addr == addr) else {
            return Ok(Trust::FirstUse);
        };
        if pin.sha256 == sha256 {
            return Ok(Trust::Known);
        }
        Err(Ended::new(
            EndReason::DesktopPinMismatch,
            format!(
                "desktop {desktop} at {addr} showed certificate {sha256}, but {} was trusted on first use; if the \
                 desktop's certificate was renewed, remove {desktop} from {} while the gateway is stopped",
                pin.sha256,
                self.path.display()
            ),
        ))
    }

    /// Remembers what `desktop` at `addr` shows, unless it is known. Blocks on a file write.
    ///
    /// # Errors
    /// [`EndReason::DesktopPinMismatch`]: it has shown another one meanwhile; [`EndReason::Internal`]: the store can't be written.
    pub(super) fn remember(&self, desktop: &str, addr: &str, sha256: &str) -> Result<Trust, Ended> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if self.compare(&pins, desktop, addr, sha256)? == Trust::Known {
            return Ok(Trust::Known);
        }
        let mut changed = pins.clone();
        changed.insert(
            desktop.to_owned(),
            Pin {
                addr: addr.to_owned(),
                sha256: sha256.to_owned(),
            },
        );
        let stored = serde_json::to_vec_pretty(&changed)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| write_atomically(&self.path, &bytes, 0o600));
        if let Err(error) = stored {
            return Err(Ended::new(
                EndReason::Internal,
                format!("remember the desktop's certificate: {error:#}"),
            ));
        }
        *pins = changed;
        Ok(Trust::FirstUse)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn first_use_is_remembered_and_another_certificate_refused() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        assert_eq!(pins.check("lab", "10.0.0.5:3389", "bb").unwrap(), Trust::FirstUse);
        // to look is not to trust
        assert_eq!(pins.remember("lab", "10.0.0.5:3389", "aa").unwrap(), Trust::FirstUse);
        assert_eq!(pins.remember("lab", "10.0.0.5:3389", "aa").unwrap(), Trust::Known);
        assert_eq!(pins.check("lab", "10.0.0.5:3389", "aa").unwrap(), Trust::Known);
        let refused = pins.remember("lab", "10.0.0.5:3389", "bb").unwrap_err();
        assert_eq!(refused.reason, EndReason::DesktopPinMismatch);
        drop(pins);
        let pins = Pins::open(dir.path()).unwrap();
        assert_eq!(pins.check("lab", "10.0.0.5:3389", "aa").unwrap(), Trust::Known);
        let refused = pins.check("lab", "10.0.0.5:3389", "bb").unwrap_err();
        assert_eq!(refused.reason, EndReason::DesktopPinMismatch);
        assert!(refused.detail.contains("pins.json"), "{refused}");
        // the refusal changed nothing
        assert_eq!(pins.check("lab", "10.0.0.5:3389", "aa").unwrap(), Trust::Known);
        assert_eq!(pins.check("lab", "10.0.0.6:3389", "bb").unwrap(), Trust::FirstUse);
    }

    #[test]
    fn a_damaged_store_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(Pins::open(dir.path()).unwrap_err().to_string().contains("pins.json"));
    }
}

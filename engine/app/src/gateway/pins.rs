//! Certificates that desktops showed on first use, kept in `data_dir/pins.json`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::end::{EndReason, Ended};
use super::tls::write_atomically;
use crate::private;

const FILE: &str = "pins.json";
/// Held by whoever changes the file.
const LOCK: &str = "pins.lock";

/// One desktop's remembered certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    /// `host:port` that showed it. Another configured address is another machine, seen for the first time.
    pub(crate) addr: String,
    /// SHA-256 of the certificate's DER, lower-case hex.
    pub(crate) sha256: String,
}

/// The store of trust on first use. The file alone counts, so that a command can have a running gateway forget a pin.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    path: PathBuf,
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
    /// The store of `data_dir`; an absent file is an empty store.
    ///
    /// # Errors
    /// As [`Pins::all`].
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let pins = Self {
            path: data_dir.join(FILE),
        };
        pins.all()?;
        Ok(pins)
    }

    /// All of them, by desktop. Blocks on a file.
    ///
    /// # Errors
    /// An unreadable or damaged file: forgetting pins silently would trust an impostor.
    pub(crate) fn all(&self) -> anyhow::Result<BTreeMap<String, Pin>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", self.path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error).with_context(|| format!("read {}", self.path.display())),
        }
    }

    /// Compares what `desktop` at `addr` shows with what it showed first. Remembers nothing. Blocks on a file.
    ///
    /// # Errors
    /// [`EndReason::DesktopPinMismatch`]; [`EndReason::Internal`]: the store can't be read.
    pub(super) fn check(&self, desktop: &str, addr: &str, sha256: &str) -> Result<Trust, Ended> {
        compare(&self.all().map_err(|error| broken(&error))?, desktop, addr, sha256)
    }

    /// Remembers what `desktop` at `addr` shows, unless it is known. Blocks on files.
    ///
    /// # Errors
    /// [`EndReason::DesktopPinMismatch`]: it has shown another one meanwhile; [`EndReason::Internal`]: the store can't be
    /// read or written.
    pub(super) fn remember(&self, desktop: &str, addr: &str, sha256: &str) -> Result<Trust, Ended> {
        let _lock = self.lock().map_err(|error| broken(&error))?;
        let mut pins = self.all().map_err(|error| broken(&error))?;
        if compare(&pins, desktop, addr, sha256)? == Trust::Known {
            return Ok(Trust::Known);
        }
        let pin = Pin {
            addr: addr.to_owned(),
            sha256: sha256.to_owned(),
        };
        pins.insert(desktop.to_owned(), pin);
        self.write(&pins).map_err(|error| broken(&error))?;
        Ok(Trust::FirstUse)
    }

    /// Forgets what `desktop` showed: what it shows next is trusted. False: it is not `pin` that is remembered.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub(crate) fn forget(&self, desktop: &str, pin: &Pin) -> anyhow::Result<bool> {
        let _lock = self.lock()?;
        let mut pins = self.all()?;
        if pins.get(desktop) != Some(pin) {
            return Ok(false);
        }
        pins.remove(desktop);
        self.write(&pins)?;
        Ok(true)
    }

    fn write(&self, pins: &BTreeMap<String, Pin>) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec_pretty(pins).context("write the pins as JSON")?;
        write_atomically(&self.path, &bytes, 0o600)
    }

    /// Lets nobody else change the store until it is dropped.
    fn lock(&self) -> anyhow::Result<File> {
        let path = self.path.with_file_name(LOCK);
        let lock = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            if let Some(folder) = path.parent() {
                private::give_to_owner_of(folder, &path)?;
            }
            flock(&file, FlockOperation::LockExclusive)?;
            Ok::<_, std::io::Error>(file)
        };
        lock().with_context(|| format!("lock {}", path.display()))
    }
}

fn compare(pins: &BTreeMap<String, Pin>, desktop: &str, addr: &str, sha256: &str) -> Result<Trust, Ended> {
    let Some(pin) = pins.get(desktop).filter(|pin| pin.addr == addr) else {
        return Ok(Trust::FirstUse);
    };
    if pin.sha256 == sha256 {
        return Ok(Trust::Known);
    }
    Err(Ended::new(
        EndReason::DesktopPinMismatch,
        format!(
            "desktop {desktop} at {addr} showed certificate {sha256}, but {} was trusted on first use; if the desktop's \
             certificate was renewed, forget the old one: deskreel pins rm {desktop}",
            pin.sha256
        ),
    ))
}

fn broken(error: &anyhow::Error) -> Ended {
    Ended::new(
        EndReason::Internal,
        format!("remembered certificates of desktops: {error:#}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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
        assert!(refused.detail.contains("deskreel pins rm lab"), "{refused}");
        // the refusal changed nothing
        assert_eq!(pins.check("lab", "10.0.0.5:3389", "aa").unwrap(), Trust::Known);
        assert_eq!(pins.check("lab", "10.0.0.6:3389", "bb").unwrap(), Trust::FirstUse);
    }

    #[test]
    fn what_is_forgotten_is_forgotten_by_a_running_gateway() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Pins::open(dir.path()).unwrap();
        let command = Pins::open(dir.path()).unwrap();
        gateway.remember("lab", "a:1", "aa").unwrap();
        gateway.remember("office", "b:1", "bb").unwrap();
        let all = command.all().unwrap();
        assert!(!command.forget("lap", &all["lab"]).unwrap());
        // nobody has looked at that one
        assert!(!command.forget("lab", &all["office"]).unwrap());
        assert!(command.forget("lab", &all["lab"]).unwrap());
        assert!(!command.forget("lab", &all["lab"]).unwrap());
        assert_eq!(gateway.remember("lab", "a:1", "cc").unwrap(), Trust::FirstUse);
        assert_eq!(command.check("lab", "a:1", "cc").unwrap(), Trust::Known);
        let all = command.all().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["lab", "office"]);
    }

    /// Many desktops are met for the first time at once, and a command takes some away meanwhile.
    #[test]
    fn changes_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        pins.remember("old", "a:1", "aa").unwrap();
        let old = pins.all().unwrap().remove("old").unwrap();
        std::thread::scope(|scope| {
            for index in 0..8 {
                let pins = &pins;
                scope.spawn(move || pins.remember(&format!("desktop-{index}"), "a:1", "aa").unwrap());
            }
            scope.spawn(|| assert!(pins.forget("old", &old).unwrap()));
        });
        assert_eq!(pins.all().unwrap().len(), 8);
        assert!(!pins.all().unwrap().contains_key("old"));
    }

    /// What root forgets, a gateway of another account goes on with.
    #[test]
    fn the_files_belong_to_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root makes files for others");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534)).unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        pins.remember("lab", "a:1", "aa").unwrap();
        let pin = pins.all().unwrap().remove("lab").unwrap();
        pins.forget("lab", &pin).unwrap();
        for file in [FILE, LOCK] {
            let metadata = std::fs::metadata(dir.path().join(file)).unwrap();
            let (owner, mode) = (metadata.uid(), metadata.permissions().mode() & 0o777);
            assert_eq!((owner, mode), (65_534, 0o600), "{file}");
        }
    }

    #[test]
    fn a_damaged_store_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(Pins::open(dir.path()).unwrap_err().to_string().contains("pins.json"));
        let pins = Pins {
            path: dir.path().join(FILE),
        };
        for refused in [pins.check("lab", "a:1", "aa"), pins.remember("lab", "a:1", "aa")] {
            assert_eq!(refused.unwrap_err().reason, EndReason::Internal);
        }
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"{");
    }
}

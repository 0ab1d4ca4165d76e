//! The key that NT hashes are sealed with. An NT hash is as good as the password towards NTLM, so it never lies in the
//! database as it is; the key lies beside it, in a file that only its owner reads, so that a copy of the database alone
//! opens nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand::Rng as _;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::private;

const FILE: &str = "credentials.key";
const KEY_BYTES: usize = 32;

/// MD4 of a password in UTF-16: what NTLM checks.
pub(crate) type NtHash = Zeroizing<[u8; 16]>;

/// Seals and opens NT hashes.
pub(super) struct Sealer {
    key: LessSafeKey,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// Reads the key of this `data_dir`; makes one if there is none.
    ///
    /// # Errors
    /// A key file that others may read, that has another length, or that can't be read or written.
    pub(super) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let bytes = match read(&path)? {
            Some(bytes) => bytes,
            None => create(data_dir, &path)?,
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref())
            .map_err(|_| anyhow::anyhow!("{} holds no key", path.display()))?;
        Ok(Self {
            key: LessSafeKey::new(key),
        })
    }

    /// Seals `hash` for `place`: moved to another place, it does not open.
    ///
    /// # Errors
    /// Never, as long as the cipher works.
    pub(super) fn seal(&self, place: &str, hash: &NtHash) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = hash.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| anyhow::anyhow!("seal a secret"))?;
        let mut out = nonce.to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what was sealed for `place`; `None` = with another key, for another place, or altered.
    pub(super) fn open_sealed(&self, place: &str, sealed: &[u8]) -> Option<NtHash> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest)
            .ok()?;
        Some(Zeroizing::new((&*plain).try_into().ok()?))
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    let metadata = file.metadata().with_context(|| format!("look at {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{} has mode {mode:o}: others may read it; make it 600", path.display());
    }
    if metadata.len() != KEY_BYTES as u64 {
        bail!("{} holds no key of {KEY_BYTES} bytes", path.display());
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact(key.as_mut())
        .with_context(|| format!("read {}", path.display()))?;
    Ok(Some(key))
}

/// Makes the key. Of two processes that do so at once, one wins and both use its key.
fn create(data_dir: &Path, path: &Path) -> anyhow::Result<Zeroizing<[u8; KEY_BYTES]>> {
    private::create_dir_all(data_dir).with_context(|| format!("create {}", data_dir.display()))?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::rng().fill_bytes(key.as_mut());
    let temporary: PathBuf = data_dir.join(format!(".{FILE}.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = private::open_options().write(true).create_new(true).open(&temporary)?;
        file.write_all(key.as_ref())?;
        file.sync_all()?;
        private::give_to_owner_of(data_dir, &temporary)?;
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(data_dir)?.sync_all()
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written.with_context(|| format!("write {}", path.display()))?;
    key.zeroize();
    read(path)?.with_context(|| format!("{} vanished", path.display()))
}

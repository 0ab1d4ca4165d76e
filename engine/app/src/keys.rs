//! The node's Ed25519 key, which signs every segment and manifest. It lives in `data_dir/keys`, readable by its owner
//! only, and is made when the gateway first starts.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use deskreel_recording::{SigningKey, VerifyingKey, key_id};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use rand::Rng as _;
use zeroize::Zeroizing;

use crate::private;

const FOLDER: &str = "keys";
const PRIVATE: &str = "node.pem";
const PUBLIC: &str = "node.pub.pem";
/// A PEM of such a key has about 200 bytes; a larger file is something else.
const PEM_MAX_BYTES: u64 = 16 << 10;

/// The node's key pair.
pub(crate) struct NodeKey {
    signing: SigningKey,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NodeKey")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl NodeKey {
    /// The key of this `data_dir`; `None` when it has none yet.
    ///
    /// # Errors
    /// A key file that others may read, that can't be read, or that holds no Ed25519 key.
    pub(crate) fn load(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = private_path(data_dir);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("open the node key {}", path.display())),
        };
        let metadata = file
            .metadata()
            .with_context(|| format!("look at the node key {}", path.display()))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!(
                "node key {} has mode {mode:o}: others may read it; make it 600",
                path.display()
            );
        }
        let mut pem = Zeroizing::new(String::new());
        file.take(PEM_MAX_BYTES)
            .read_to_string(&mut pem)
            .with_context(|| format!("read the node key {}", path.display()))?;
        let signing = SigningKey::from_pkcs8_pem(&pem)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("node key {} is no Ed25519 key in PKCS#8 PEM", path.display()))?;
        Ok(Some(Self { signing }))
    }

    /// The key of this `data_dir`; makes one if there is none. Call it with the lock on `data_dir` held.
    ///
    /// # Errors
    /// As [`NodeKey::load`], and files that can't be written.
    pub(crate) fn load_or_create(data_dir: &Path) -> anyhow::Result<Self> {
        let key = match Self::load(data_dir)? {
            Some(key) => key,
            None => Self::create(data_dir)?,
        };
        // The public half is a convenience for auditors; it is written again if somebody removed it.
        let public = data_dir.join(FOLDER).join(PUBLIC);
        let pem = key.public_pem()?;
        if fs::read_to_string(&public).ok().as_deref() != Some(pem.as_str()) {
            fs::write(&public, pem).with_context(|| format!("write {}", public.display()))?;
        }
        Ok(key)
    }

    fn create(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        private::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let mut seed = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(seed.as_mut());
        let signing = SigningKey::from_bytes(&seed);
        let pem = signing
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| anyhow::anyhow!("encode the node key: {error}"))?;
        // Whole or not at all: half a key file would keep the gateway from ever starting again.
        let path = private_path(data_dir);
        let temporary = folder.join(".node.pem.new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", temporary.display()));
            }
            _ => {}
        }
        let write = || -> io::Result<()> {
            let mut file = private::open_options().write(true).create_new(true).open(&temporary)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()?;
            private::give_to_owner_of(data_dir, &temporary)?;
            private::give_to_owner_of(data_dir, &folder)?;
            fs::rename(&temporary, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().with_context(|| format!("write the node key {}", path.display()))?;
        Ok(Self { signing })
    }

    /// The key that signs.
    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The key that verifies.
    pub(crate) fn public(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }

    /// The public key as PEM (SubjectPublicKeyInfo), as `recordings verify --public-key` takes it.
    ///
    /// # Errors
    /// None in practice; the encoder's signature has one.
    pub(crate) fn public_pem(&self) -> anyhow::Result<String> {
        self.public()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| anyhow::anyhow!("encode the node's public key: {error}"))
    }

    /// The key's name in seals, manifests and reports: SHA-256 of the 32 key bytes, hexadecimal.
    pub(crate) fn fingerprint(&self) -> String {
        key_id(&self.public())
    }
}

/// The keys that count: this node's and those of `recording.trusted_keys`.
///
/// # Errors
/// A key that can't be read; names the file.
pub(crate) fn trust(config: &deskreel_config::Config) -> anyhow::Result<crate::keep::Trust> {
    let others = config.recording.trusted_keys.iter();
    Ok(crate::keep::Trust {
        own: NodeKey::load(&config.data_dir)?.map(|key| key.public()),
        others: others
            .map(|path| public_key(path).context("recording.trusted_keys"))
            .collect::<anyhow::Result<_>>()?,
    })
}

/// A public key in a PEM file; text before it is skipped, so the output of `keys show` will do.
///
/// # Errors
/// A file that can't be read or holds no such key.
pub(crate) fn public_key(path: &Path) -> anyhow::Result<VerifyingKey> {
    let name = || path.display().to_string();
    let size = fs::metadata(path).with_context(name)?.len();
    if size > PEM_MAX_BYTES {
        bail!("{}: {size} bytes are no public key", name());
    }
    let text = fs::read_to_string(path).with_context(name)?;
    let pem = text.find("-----BEGIN PUBLIC KEY-----").and_then(|at| text.get(at..));
    let Some(pem) = pem else {
        bail!("{}: holds no line \"-----BEGIN PUBLIC KEY-----\"", name());
    };
    VerifyingKey::from_public_key_pem(pem)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("{} is no Ed25519 public key", name()))
}

/// [`NodeKey::fingerprint`] of this `data_dir`, by its public half; empty when it has none yet.
pub(crate) fn fingerprint(data_dir: &Path) -> String {
    let pem = fs::read_to_string(data_dir.join(FOLDER).join(PUBLIC)).unwrap_or_default();
    let key = VerifyingKey::from_public_key_pem(&pem);
    key.map(|key| key_id(&key)).unwrap_or_default()
}

/// Where the private key of a `data_dir` lies.
pub(crate) fn private_path(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(PRIVATE)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn made_once_and_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        assert!(NodeKey::load(folder.path()).unwrap().is_none());
        let made = NodeKey::load_or_create(folder.path()).unwrap();
        let again = NodeKey::load_or_create(folder.path()).unwrap();
        assert_eq!(made.fingerprint(), again.fingerprint());
        let mode = fs::metadata(private_path(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(
            NodeKey::load_or_create(other.path()).unwrap().fingerprint(),
            made.fingerprint()
        );
    }

    #[test]
    fn openssl_style_pem() {
        let folder = tempfile::tempdir().unwrap();
        let key = NodeKey::load_or_create(folder.path()).unwrap();
        let private = fs::read_to_string(private_path(folder.path())).unwrap();
        assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{private}");
        let public = key.public_pem().unwrap();
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
        assert_eq!(
            fs::read_to_string(folder.path().join("keys/node.pub.pem")).unwrap(),
            public
        );
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        NodeKey::load_or_create(folder.path()).unwrap();
        let path = private_path(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = NodeKey::load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("mode 640"), "{error:#}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "junk").unwrap();
        let error = NodeKey::load_or_create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("no Ed25519 key"), "{error:#}");
    }

    #[test]
    fn a_crash_while_the_key_is_made_does_not_block_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/.node.pem.new"), "half").unwrap();
        NodeKey::load_or_create(folder.path()).unwrap();
    }
}

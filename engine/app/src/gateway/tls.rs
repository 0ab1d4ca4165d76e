//! TLS on both legs: the gateway's own certificate, and the check of the desktop's.
//!
//! No session is ever resumed: CredSSP does not support it, and a resumed session would skip the certificate check.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use deskreel_config::TlsMin;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tracing::{info, warn};

use super::credssp;
use crate::private;

const CERTIFICATE_FILE: &str = "gateway.crt";
const KEY_FILE: &str = "gateway.key";
/// Validity of a certificate that we made ourselves. Clients pin it, so it should outlive them.
const SELF_SIGNED_YEARS: i32 = 10;
/// What the gateway shows to clients, and the pages to browsers.
#[derive(Clone)]
pub(crate) struct Identity {
    /// For the acceptor.
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate's DER, as lower-case hex.
    pub(super) fingerprint: String,
    /// Content of the certificate's `subjectPublicKey`, which CredSSP binds to.
    pub(super) public_key: Vec<u8>,
}

/// A certificate, the gateway's or the pages', read again when its files change.
pub(crate) struct Identities {
    certificate: PathBuf,
    private_key: PathBuf,
    tls_min: TlsMin,
    current: Mutex<Current>,
}

struct Current {
    identity: Identity,
    /// What the files looked like when they were last read, well or badly.
    seen: Option<[Stamp; 2]>,
}

/// What changes when a file does.
type Stamp = (std::time::SystemTime, u64, u64);

impl Identities {
    /// Reads certificate and key, or makes a self-signed one, and looks for changes of the files from then on.
    ///
    /// # Errors
    /// A file that can't be read or used.
    pub(crate) fn load(
        certificate: Option<&Path>,
        private_key: Option<&Path>,
        data_dir: &Path,
        tls_min: TlsMin,
    ) -> anyhow::Result<Self> {
        let (certificate, private_key) = files(certificate, private_key, data_dir)?;
        let seen = stamps(&certificate, &private_key);
        let identity = Identity::read(&certificate, &private_key, tls_min)?;
        Ok(Self {
            certificate,
            private_key,
            tls_min,
            current: Mutex::new(Current { identity, seen }),
        })
    }

    /// The certificate to show now. New files that can't be used are warned of once; the old certificate stays.
    pub(crate) fn current(&self) -> Identity {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = stamps(&self.certificate, &self.private_key);
        if seen != current.seen {
            current.seen = seen;
            match Identity::read(&self.certificate, &self.private_key, self.tls_min) {
                Ok(identity) => {
                    info!(fingerprint = identity.fingerprint, "certificate was read again");
                    current.identity = identity;
                }
                Err(error) => warn!(
                    error = format!("{error:#}"),
                    "the changed certificate can't be used, the one before stays"
                ),
            }
        }
        current.identity.clone()
    }
}

fn stamps(certificate: &Path, private_key: &Path) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    Some([stamp(certificate)?, stamp(private_key)?])
}

/// The configured files, or those kept in `data_dir`; makes the latter when there are none.
fn files(
    certificate: Option<&Path>,
    private_key: Option<&Path>,
    data_dir: &Path,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Ok((certificate.to_owned(), private_key.to_owned())),
        (Some(_), None) => bail!("gateway.certificate is set but gateway.private_key is not"),
        (None, Some(_)) => bail!("gateway.private_key is set but gateway.certificate is not"),
        (None, None) => keep_self_signed(data_dir),
    }
}

/// The versions that are spoken, newest first.
fn versions(min: TlsMin) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    static FROM_13: [&SupportedProtocolVersion; 1] = [&TLS13];
    match min {
        TlsMin::Tls12 => &FROM_12,
        TlsMin::Tls13 => &FROM_13,
    }
}

impl Identity {
    /// Reads the configured certificate and key, or those kept in `data_dir`; makes the latter when there are none.
    ///
    /// # Errors
    /// Unreadable files, a key that doesn't belong to the certificate, only one of the two configured.
    #[cfg(test)]
    pub(super) fn load(
        certificate: Option<&Path>,
        private_key: Option<&Path>,
        data_dir: &Path,
    ) -> anyhow::Result<Self> {
        let (certificate, private_key) = files(certificate, private_key, data_dir)?;
        Self::read(&certificate, &private_key, TlsMin::Tls12)
    }

    fn read(certificate: &Path, private_key: &Path, tls_min: TlsMin) -> anyhow::Result<Self> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| anyhow!("read the certificate {}: {error}", certificate.display()))?;
        let first = chain
            .first()
            .with_context(|| format!("no certificate in {}", certificate.display()))?;
        let fingerprint = fingerprint(first);
        let public_key =
            credssp::public_key(first).with_context(|| format!("read the key in {}", certificate.display()))?;
        let key = PrivateKeyDer::from_pem_file(private_key)
            .map_err(|error| anyhow!("read the private key {}: {error}", private_key.display()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(tls_min))
            .context("set up TLS for clients")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| format!("use {} with {}", certificate.display(), private_key.display()))?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
            fingerprint,
            public_key,
        })
    }
}

/// SHA-256 of a certificate's DER, as lower-case hex.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(certificate.as_ref()))
}

/// Fingerprint of the certificate that a gateway without a configured one keeps in `data_dir`.
///
/// # Errors
/// The gateway has not run with this `data_dir` yet.
pub(crate) fn kept_fingerprint(data_dir: &Path) -> anyhow::Result<String> {
    let file = data_dir.join(CERTIFICATE_FILE);
    let certificate = CertificateDer::from_pem_file(&file)
        .map_err(|error| anyhow!("read the gateway's certificate {}: {error}", file.display()))?;
    Ok(fingerprint(&certificate))
}

/// Where the certificate that the gateway made itself lies, once there is one.
pub(crate) fn kept_certificate(data_dir: &Path) -> PathBuf {
    data_dir.join(CERTIFICATE_FILE)
}

/// The pair in `data_dir`, made if absent.
fn keep_self_signed(data_dir: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let certificate = kept_certificate(data_dir);
    let private_key = data_dir.join(KEY_FILE);
    if certificate.exists() {
        return Ok((certificate, private_key));
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names = if name.is_empty() || !name.is_ascii() {
        vec!["deskreel".into()]
    } else {
        vec![name.clone()]
    };
    let mut params = rcgen::CertificateParams::new(names).context("make a certificate")?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("Deskreel gateway {name}"));
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now
        .replace_year(now.year().saturating_add(SELF_SIGNED_YEARS))
        .unwrap_or(now + time::Duration::days(365 * i64::from(SELF_SIGNED_YEARS)));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("make a key pair")?;
    let signed = params.self_signed(&key).context("sign the certificate")?;
    fs::create_dir_all(data_dir).with_context(|| format!("create {}", data_dir.display()))?;
    // The key first: a certificate file means that the pair is complete.
    write_atomically(&private_key, key.serialize_pem().as_bytes(), 0o600)?;
    write_atomically(&certificate, signed.pem().as_bytes(), 0o644)?;
    Ok((certificate, private_key))
}

/// Writes a whole file or nothing: temporary file, fsync, rename, fsync of the folder. It belongs to the folder's owner, also when
/// root writes it.
pub(super) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            private::give_to_owner_of(folder, &temporary)?;
        }
        fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// TLS towards a desktop whose certificate is pinned, or not verified: any certificate passes here, the caller looks
/// at it before it sends anything. The proof that the desktop owns the key is always demanded.
pub(crate) fn any_certificate(tls_min: TlsMin) -> anyhow::Result<Arc<ClientConfig>> {
    client_config(Arc::new(AnyCertificate { provider: provider() }), tls_min)
}

/// TLS towards a desktop whose certificate an authority in the PEM file `ca` must have signed.
///
/// # Errors
/// No usable root in the file.
pub(super) fn signed_by(ca: &Path, tls_min: TlsMin) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(ca)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow!("read the authorities in {}: {error}", ca.display()))?;
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        bail!("no usable authority in {}", ca.display());
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .with_context(|| format!("use the authorities in {}", ca.display()))?;
    client_config(verifier, tls_min)
}

fn client_config(verifier: Arc<dyn ServerCertVerifier>, tls_min: TlsMin) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls_min))
        .context("set up TLS for desktops")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes every certificate, but checks that the peer has its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn own_certificate_is_kept_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = Identity::load(None, None, dir.path()).unwrap();
        let again = Identity::load(None, None, dir.path()).unwrap();
        assert_eq!(made.fingerprint, again.fingerprint);
        let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_foreign_key_and_half_a_pair_are_refused() {
        let one = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        Identity::load(None, None, one.path()).unwrap();
        Identity::load(None, None, other.path()).unwrap();
        let certificate = one.path().join(CERTIFICATE_FILE);
        let foreign = other.path().join(KEY_FILE);
        assert!(Identity::load(Some(&certificate), Some(&foreign), one.path()).is_err());
        let error = Identity::load(Some(&certificate), None, one.path()).err().unwrap();
        assert!(error.to_string().contains("gateway.private_key"), "{error}");
    }

    #[test]
    fn a_changed_certificate_is_shown_at_once_and_a_bad_one_never() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identities = Identities::load(None, None, dir.path(), TlsMin::Tls12).unwrap();
        let first = identities.current().fingerprint;
        assert_eq!(identities.current().fingerprint, first);
        let new = Identity::load(None, None, other.path()).unwrap().fingerprint;
        let put = |name: &str| {
            let (from, to) = (other.path().join(name), dir.path().join(name));
            write_atomically(&to, &fs::read(from).unwrap(), 0o600).unwrap();
        };
        put(CERTIFICATE_FILE);
        assert_eq!(identities.current().fingerprint, first, "the key is not there yet");
        put(KEY_FILE);
        assert_eq!(identities.current().fingerprint, new);
        fs::write(dir.path().join(CERTIFICATE_FILE), "").unwrap();
        assert_eq!(identities.current().fingerprint, new);
    }

    #[test]
    fn authorities_must_be_usable() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load(None, None, dir.path()).unwrap();
        signed_by(&dir.path().join(CERTIFICATE_FILE), TlsMin::Tls12).unwrap();
        let empty = dir.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        assert!(
            signed_by(&empty, TlsMin::Tls13)
                .unwrap_err()
                .to_string()
                .contains("empty.pem")
        );
    }
}

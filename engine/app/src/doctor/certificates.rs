//! Certificates: the gateway's own, that of the pages, and the authorities that desktops are checked by.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use deskreel_config::Loaded;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::Report;
use crate::access::look;
use crate::gateway::tls::kept_certificate;

const CHECK: &str = "certificate";
/// Time before the end of a certificate from which an operator is warned.
const WARN_BEFORE: Duration = Duration::days(30);

/// What renews a certificate in place.
const RENEW: &str = "put the renewed certificate in its place; a running gateway takes it at once";

/// Looks at the certificates.
pub(super) fn examine(loaded: &Loaded, now: OffsetDateTime, report: &mut Report) {
    let gateway = &loaded.config.gateway;
    match &gateway.certificate {
        Some(file) => certificate("gateway.certificate", file, now, RENEW, report),
        None => {
            let file = kept_certificate(&loaded.config.data_dir);
            if file.exists() {
                let remedy = "remove it and its key and restart: a new one is made, which clients have to accept anew";
                certificate("the gateway's own certificate", &file, now, remedy, report);
            } else {
                report.ok(CHECK, "a self-signed one is made at the first start");
            }
        }
    }
    if let Some(file) = &loaded.config.web.certificate {
        certificate("web.certificate", file, now, RENEW, report);
    }
    let Ok(snapshot) = look(loaded) else { return };
    let view = snapshot.view(now);
    for (name, desktop) in &view.desktops {
        if let Some(ca) = &desktop.resource.gateway.tls.ca {
            let what = format!("authority of windows_desktop/{name}");
            certificate(&what, ca, now, "get the authority's new certificate", report);
        }
    }
}

fn certificate(what: &str, file: &Path, now: OffsetDateTime, remedy: &str, report: &mut Report) {
    let here = file.display();
    let end = match ends(file) {
        Ok(end) => end,
        Err(error) => {
            let remedy = "put a PEM certificate that the gateway's account may read in its place";
            return report.error(CHECK, format!("{what} {here}: {error:#}"), remedy);
        }
    };
    let shown = end.format(&Rfc3339).unwrap_or_default();
    if end <= now {
        report.error(CHECK, format!("{what} {here} has expired at {shown}"), remedy);
    } else if end <= now + WARN_BEFORE {
        report.warn(CHECK, format!("{what} {here} expires at {shown}"), remedy);
    } else {
        report.ok(CHECK, format!("{what} {here} is good until {shown}"));
    }
}

/// When the first certificate in a file that ends, ends: a chain is as good as its shortest part.
fn ends(file: &Path) -> anyhow::Result<OffsetDateTime> {
    let mut first: Option<OffsetDateTime> = None;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| anyhow!("{error}"))? {
        let der = certificate.map_err(|error| anyhow!("{error}"))?;
        let parsed = Certificate::from_der(&der).map_err(|error| anyhow!("not an X.509 certificate: {error}"))?;
        let end = parsed.tbs_certificate().validity().not_after.to_unix_duration();
        let end = i64::try_from(end.as_secs()).context("its end is too far away")?;
        let end = OffsetDateTime::from_unix_timestamp(end).context("its end is too far away")?;
        first = Some(first.map_or(end, |first| first.min(end)));
    }
    first.context("holds no certificate")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::doctor::State;

    #[test]
    fn certificates_are_told_of_before_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let pem = |ends: OffsetDateTime| {
            let mut params = CertificateParams::new(vec!["gw".to_owned()]).unwrap();
            params.not_before = now - Duration::days(100);
            params.not_after = ends;
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        };
        let state = |text: &str| {
            let file = folder.path().join("c.pem");
            std::fs::write(&file, text).unwrap();
            let mut report = Report::new();
            certificate("c", &file, now, "renew it", &mut report);
            report.findings.pop().unwrap().state
        };
        let [long, soon, gone] = [200, 20, -1].map(|days| pem(now + Duration::days(days)));
        assert_eq!(state(&long), State::Ok);
        assert_eq!(state(&soon), State::Warning);
        assert_eq!(state(&gone), State::Error);
        // a chain is as good as its shortest part
        assert_eq!(state(&format!("{long}{gone}")), State::Error);
        assert_eq!(state("junk"), State::Error);
    }
}

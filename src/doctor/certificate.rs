//! The public certificate: does it fit its key and the public URL, does it lead to an authority, and how long is it good?

use jiff::{SignedDuration, Timestamp};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::finding::{Check, Finding};
use crate::config::{Config, TlsFiles};
use crate::listen::Certificates;
use crate::tls;

pub(super) const NAME: &str = "certificate";

/// A certificate that ends sooner should have been replaced by now; of a short-lived one, a third of its life.
const NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) fn check(config: &Config, now: Timestamp) -> Check {
    let finding = match &config.tls {
        Some(files) => judge(config, files, now).unwrap_or_else(|fault| fault),
        None => Finding::fine("not ours: ENTRADA_TLS=off, TLS ends in front of Entrada"),
    };
    Check { name: NAME, finding }
}

/// What is well, or else the first fault.
fn judge(config: &Config, files: &TlsFiles, now: Timestamp) -> Result<Finding, Finding> {
    let chain = Certificates::new(files).map_err(|error| {
        let fix = "ENTRADA_TLS_CERT_FILE and ENTRADA_TLS_KEY_FILE must hold a certificate and its own key";
        Finding::fault(format!("{error:#}"), fix)
    })?;
    let chain = chain.chain();
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .map_err(|error| Finding::fault(format!("it cannot be read: {error}"), "replace it"))?;
    let (Some(leaf), Some((leaf_der, above))) = (parsed.first(), chain.split_first()) else {
        return Err(Finding::fault("there is none", "replace it"));
    };
    names_host(leaf_der, config.public_url.host())?;
    let ends = in_its_time(leaf, now)?;
    in_order(&parsed)?;
    let trust = leads_to_authority(config, leaf_der, above, now)?;
    Ok(Finding::fine(format!("for {}, good until {ends}, {trust}", config.public_url.host())))
}

fn names_host(leaf: &CertificateDer<'_>, host: &str) -> Result<(), Finding> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let fits = ServerName::try_from(bare)
        .map_err(|_| Error::General("no name of a server".to_owned()))
        .and_then(|name| verify_server_name(&ParsedCertificate::try_from(leaf)?, &name));
    fits.map_err(|error| {
        let seen = match error {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                format!("it is not for {host}, but for {}", tls::names(&presented).join(", "))
            }
            other => format!("it is not for {host}: {other}"),
        };
        Finding::fault(seen, format!("get a certificate for {host}, or correct ENTRADA_PUBLIC_URL"))
    })
}

/// When it ends.
fn in_its_time(leaf: &X509Certificate<'_>, now: Timestamp) -> Result<Timestamp, Finding> {
    let time = |time: &ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let validity = leaf.validity();
    let (begins, ends) = (time(&validity.not_before), time(&validity.not_after));
    let renew = "renew it; Entrada reads the files again by itself";
    if now < begins {
        return Err(Finding::fault(format!("it is not good before {begins}"), "wait, or replace it"));
    }
    if now >= ends {
        return Err(Finding::fault(format!("it ended at {ends}"), renew));
    }
    let notice = NOTICE.min(ends.duration_since(begins) / 3);
    if ends.duration_since(now) < notice {
        let days = ends.duration_since(now).as_hours() / 24;
        return Err(Finding::fault(format!("it ends in {days} days, at {ends}"), renew));
    }
    Ok(ends)
}

/// The leaf comes first, then who issued it, and so on.
fn in_order(chain: &[X509Certificate<'_>]) -> Result<(), Finding> {
    let gap = chain.windows(2).find(|pair| pair[0].issuer() != pair[1].subject());
    gap.map_or(Ok(()), |pair| {
        let (issuer, next) = (pair[0].issuer(), pair[1].subject());
        let seen = format!("the chain is broken: `{issuer}` should follow, but `{next}` does");
        Err(Finding::fault(seen, "put the leaf first in ENTRADA_TLS_CERT_FILE, then each issuer in turn"))
    })
}

/// Who trusts it.
fn leads_to_authority(
    config: &Config,
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<&'static str, Finding> {
    let told = config.public_ca_pem.as_deref();
    let verified = || -> anyhow::Result<()> {
        let roots = tls::roots_or_public(told.map(str::as_bytes))?;
        let seconds = u64::try_from(now.as_second())?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let leaf = ParsedCertificate::try_from(leaf)?;
        Ok(verify_server_cert_signed_by_trust_anchor(&leaf, &roots, above, time, algorithms.all)?)
    };
    let Err(error) = verified() else {
        return Ok(if told.is_some() { "from ENTRADA_PUBLIC_CA_FILE" } else { "from a public authority" });
    };
    let unknown =
        matches!(error.downcast_ref(), Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
    match told {
        Some(_) if unknown => Err(Finding::fault(
            "it does not lead to an authority in ENTRADA_PUBLIC_CA_FILE",
            "put the intermediate certificates behind the leaf in ENTRADA_TLS_CERT_FILE, or the right authority into \
             ENTRADA_PUBLIC_CA_FILE",
        )),
        // An authority of the organisation's own, which its computers trust already; or an intermediate is missing.
        None if unknown => Ok("from no public authority: clients must trust its issuer already"),
        _ => Err(Finding::fault(format!("it is not accepted: {error}"), "replace it, and those above it")),
    }
}

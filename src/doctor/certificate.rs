//! The certificates: does each fit its key, is there one for every host, do they lead to an authority, and how long are
//! they good?

use jiff::{SignedDuration, Timestamp};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::finding::{Check, Finding};
use crate::config::Config;
use crate::listen::Certificates;
use crate::tls;

pub(super) const NAME: &str = "certificate";

/// A certificate that ends sooner should have been replaced by now; of a short-lived one, a third of its life.
const NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) fn check(config: &Config, now: Timestamp) -> Check {
    let finding = if config.tls.is_empty() {
        Finding::fine("not ours: ENTRADA_TLS=off, TLS ends in front of Entrada")
    } else {
        judge_all(config, now).unwrap_or_else(|fault| fault)
    };
    Check { name: NAME, finding }
}

/// What is well of each, or else the first fault.
fn judge_all(config: &Config, now: Timestamp) -> Result<Finding, Finding> {
    let certificates = Certificates::new(&config.tls).map_err(|error| {
        let fix = "ENTRADA_TLS_CERT_FILE and ENTRADA_TLS_KEY_FILE must hold a certificate and its own key";
        Finding::fault(format!("{error:#}"), fix)
    })?;
    let chains = certificates.chains();
    let mut well = Vec::new();
    for (index, (files, chain)) in config.tls.iter().zip(&chains).enumerate() {
        let hosts = config.hosts().into_iter().filter(|host| certificates.chosen_for(host) == index);
        let judged = judge(config, &hosts.collect::<Vec<_>>(), chain, now);
        // Which one is meant goes without saying where there is but one.
        let of = if chains.len() > 1 { format!("{}: ", files.cert.display()) } else { String::new() };
        match judged {
            Ok(seen) => well.push(format!("{of}{seen}")),
            Err((seen, fix)) => return Err(Finding::fault(format!("{of}{seen}"), fix)),
        }
    }
    Ok(Finding::fine(well.join("; ")))
}

/// What is wrong, and what would be right.
type Fault = (String, String);

fn fault(seen: impl Into<String>, fix: impl Into<String>) -> Fault {
    (seen.into(), fix.into())
}

/// What is well of the certificate that is presented for these hosts, or else its first fault.
fn judge(
    config: &Config,
    hosts: &[&str],
    chain: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<String, Fault> {
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .map_err(|error| fault(format!("it cannot be read: {error}"), "replace it"))?;
    let (Some(leaf), Some((leaf_der, above))) = (parsed.first(), chain.split_first()) else {
        return Err(fault("there is none", "replace it"));
    };
    hosts.iter().try_for_each(|host| names_host(config, leaf_der, host))?;
    let ends = in_its_time(leaf, now)?;
    in_order(&parsed)?;
    let trust = leads_to_authority(config, leaf_der, above, now)?;
    let hosts = if hosts.is_empty() { "no host of ours".to_owned() } else { hosts.join(", ") };
    Ok(format!("for {hosts}, good until {ends}, {trust}"))
}

fn names_host(config: &Config, leaf: &CertificateDer<'_>, host: &str) -> Result<(), Fault> {
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
        let is_public = host == config.public_url.host();
        let setting = if is_public { "ENTRADA_PUBLIC_URL" } else { "ENTRADA_MOUNTS" };
        fault(seen, format!("get a certificate for {host}, or correct {setting}"))
    })
}

/// When it ends.
fn in_its_time(leaf: &X509Certificate<'_>, now: Timestamp) -> Result<Timestamp, Fault> {
    let time = |time: &ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let validity = leaf.validity();
    let (begins, ends) = (time(&validity.not_before), time(&validity.not_after));
    let renew = "renew it; Entrada reads the files again by itself";
    if now < begins {
        return Err(fault(format!("it is not good before {begins}"), "wait, or replace it"));
    }
    if now >= ends {
        return Err(fault(format!("it ended at {ends}"), renew));
    }
    let notice = NOTICE.min(ends.duration_since(begins) / 3);
    if ends.duration_since(now) < notice {
        let days = ends.duration_since(now).as_hours() / 24;
        return Err(fault(format!("it ends in {days} days, at {ends}"), renew));
    }
    Ok(ends)
}

/// The leaf comes first, then who issued it, and so on.
fn in_order(chain: &[X509Certificate<'_>]) -> Result<(), Fault> {
    let gap = chain.windows(2).find(|pair| pair[0].issuer() != pair[1].subject());
    gap.map_or(Ok(()), |pair| {
        let (issuer, next) = (pair[0].issuer(), pair[1].subject());
        let seen = format!("the chain is broken: `{issuer}` should follow, but `{next}` does");
        Err(fault(seen, "put the leaf first in ENTRADA_TLS_CERT_FILE, then each issuer in turn"))
    })
}

/// Who trusts it.
fn leads_to_authority(
    config: &Config,
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<&'static str, Fault> {
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
        Some(_) if unknown => Err(fault(
            "it does not lead to an authority in ENTRADA_PUBLIC_CA_FILE",
            "put the intermediate certificates behind the leaf in ENTRADA_TLS_CERT_FILE, or the right authority into \
             ENTRADA_PUBLIC_CA_FILE",
        )),
        // An authority of the organisation's own, which its computers trust already; or an intermediate is missing.
        None if unknown => Ok("from no public authority: clients must trust its issuer already"),
        _ => Err(fault(format!("it is not accepted: {error}"), "replace it, and those above it")),
    }
}

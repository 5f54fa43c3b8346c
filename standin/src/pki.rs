//! A certificate authority made anew for each run, and the certificates that it issues.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsConnector;

/// A private certificate authority. Whoever trusts [`Ca::pem`] trusts every certificate issued here.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A serving certificate for `localhost` and `127.0.0.1`, with its key.
pub struct Issued {
    /// Certificate chain in PEM, leaf first.
    pub cert_pem: String,
    /// Private key in PEM (PKCS #8).
    pub key_pem: String,
    cert_der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Ca {
    /// Makes a new authority with the given common name.
    ///
    /// # Errors
    /// When key or certificate generation fails.
    pub fn new(common_name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let params = authority(common_name);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The authority's own certificate, for trust stores.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// An authority whose certificate this one has signed. A chain through it needs its certificate behind the leaf.
    ///
    /// # Errors
    /// When key or certificate generation fails.
    pub fn subordinate(&self, common_name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let params = authority(common_name);
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Issues a serving certificate for `localhost`, `127.0.0.1` and the extra DNS names.
    ///
    /// # Errors
    /// When a name is not a DNS name or signing fails.
    pub fn issue(&self, extra_names: &[&str]) -> anyhow::Result<Issued> {
        self.sign(extra_names, |_| ())
    }

    /// The same, good from a year ago until about the end of the day that is so many days away.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue_until_in_days(&self, days: i64) -> anyhow::Result<Issued> {
        let today = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date();
        let date = |days: i64| -> anyhow::Result<_> {
            let date = today.checked_add(jiff::Span::new().days(days))?;
            Ok(rcgen::date_time_ymd(date.year().into(), date.month().try_into()?, date.day().try_into()?))
        };
        let (begins, ends) = (date(-365)?, date(days + 1)?);
        self.sign(&[], |params| (params.not_before, params.not_after) = (begins, ends))
    }

    /// The same, expiring at the beginning of this day (UTC).
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue_until(&self, day: jiff::civil::Date) -> anyhow::Result<Issued> {
        let (year, month, day) = (i32::from(day.year()), day.month(), day.day());
        let (month, day) = (u8::try_from(month)?, u8::try_from(day)?);
        self.sign(&[], |params| params.not_after = rcgen::date_time_ymd(year, month, day))
    }

    fn sign(
        &self,
        extra_names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<Issued> {
        let key = KeyPair::generate()?;
        let mut names = vec!["localhost".to_owned()];
        names.extend(extra_names.iter().map(|name| (*name).to_owned()));
        let mut params = CertificateParams::new(names)?;
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.distinguished_name.push(DnType::CommonName, "localhost");
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert_der: cert.der().clone(),
            key_der: key.serialize_der(),
        })
    }
}

impl Issued {
    /// A rustls server configuration that presents this certificate and offers h2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// When rustls refuses the certificate or the key.
    pub fn server_config(&self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.cert_der.clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Connects to those whose certificate comes from this authority (PEM), and to no others.
pub(crate) fn trusting(ca_pem: &str) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

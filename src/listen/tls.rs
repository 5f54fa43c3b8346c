//! The certificates that are presented to clients: of several the one that fits the name which the client asks for, and
//! each replaced when its files change.
//!
//! A connection is opened for one name, but its requests may be for others: browsers send requests for all hosts of one
//! certificate over one HTTP/2 connection. So nothing may be concluded from the name of a connection; each request's own
//! host decides where it goes, on whatever connection it comes.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::metrics::Metrics;
use crate::reload::{self, Reload};

/// The present certificates and the TLS settings around them.
#[derive(Debug)]
pub(crate) struct Certificates {
    config: Arc<ServerConfig>,
    pairs: Arc<Pairs>,
}

/// At least one. The first is presented where none is for the name.
#[derive(Debug)]
struct Pairs(Vec<Pair>);

/// A certificate and its key, as two files hold them.
#[derive(Debug)]
struct Pair {
    files: [PathBuf; 2],
    current: ArcSwap<Presented>,
}

#[derive(Debug)]
struct Presented {
    key: Arc<CertifiedKey>,
    /// DNS names of the leaf, in lower case.
    names: Vec<String>,
    /// When the first certificate of the chain expires, in Unix time.
    ends: Option<i64>,
}

impl Certificates {
    /// Reads certificates and keys. `files`: at least one pair.
    ///
    /// # Errors
    /// When one cannot be read, or a certificate and its key do not belong together.
    pub(crate) fn new(files: &[TlsFiles]) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        anyhow::ensure!(!files.is_empty(), "there is no certificate");
        let pairs: anyhow::Result<Vec<Pair>> =
            files.iter().map(|files| Pair::read(files, &provider)).collect();
        let pairs = Arc::new(Pairs(pairs?));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(pairs.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption without memory per client; the ticket keys roll by themselves. A ticket is good for the name that it
        // was given for, which rustls seals into it.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), pairs })
    }

    /// The present chains in the order of the files, each with its leaf first.
    pub(crate) fn chains(&self) -> Vec<Vec<CertificateDer<'static>>> {
        self.pairs.0.iter().map(|pair| pair.current.load().key.cert.clone()).collect()
    }

    /// Which of the chains a client gets that asks for this host.
    pub(crate) fn chosen_for(&self, host: &str) -> usize {
        self.pairs.choose(Some(host))
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Watches the files for ever, each pair for itself: one that is broken keeps no other one from being renewed.
    pub(crate) async fn keep_fresh(&self, clock: &Clock, metrics: &Metrics) {
        let provider = self.config.crypto_provider();
        let pairs = self.pairs.0.iter().enumerate();
        join_all(pairs.map(async |(index, pair)| {
            let what = label(index);
            let reload = Reload { what: &what, files: &pair.files, clock, metrics };
            reload
                .run(|content| {
                    let presented = Presented::of(&content[0], &content[1], provider)?;
                    if let Some(ends) = presented.ends {
                        metrics.certificate_expiry.with_label_values(&[&what]).set(ends);
                    }
                    pair.current.store(Arc::new(presented));
                    Ok(())
                })
                .await;
        }))
        .await;
    }
}

/// A pair's name in metrics and logs, in the order of the setting.
fn label(index: usize) -> String {
    reload::numbered("certificate", index)
}

impl Pairs {
    /// The first pair whose certificate names the host, else the first whose wildcard covers it, else the first of all.
    fn choose(&self, host: Option<&str>) -> usize {
        let Some(host) = host.map(str::to_ascii_lowercase) else { return 0 };
        let with = |name: &str| {
            self.0.iter().position(|pair| pair.current.load().names.iter().any(|own| own.as_str() == name))
        };
        // RFC 6125 section 6.4.3: a wildcard stands for one label.
        let covered = || host.split_once('.').and_then(|(_, rest)| with(&format!("*.{rest}")));
        with(&host).or_else(covered).unwrap_or_default()
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = self.0.get(self.choose(hello.server_name()))?;
        Some(pair.current.load().key.clone())
    }
}

impl Pair {
    fn read(files: &TlsFiles, provider: &CryptoProvider) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| path.display().to_string());
        let presented = Presented::of(&read(&files.cert)?, &read(&files.key)?, provider);
        let presented = presented.with_context(|| files.cert.display().to_string())?;
        Ok(Self { files: [files.cert.clone(), files.key.clone()], current: ArcSwap::from_pointee(presented) })
    }
}

impl Presented {
    fn of(cert: &[u8], key: &[u8], provider: &CryptoProvider) -> anyhow::Result<Self> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().context("certificate")?;
        anyhow::ensure!(!chain.is_empty(), "no certificate in the file");
        let key = PrivateKeyDer::from_pem_slice(key).context("private key")?;
        let parsed: Vec<X509Certificate<'_>> =
            chain.iter().filter_map(|der| Some(x509_parser::parse_x509_certificate(der).ok()?.1)).collect();
        let names = parsed.first().map(dns_names).unwrap_or_default();
        let ends = parsed.iter().map(|certificate| certificate.validity().not_after.timestamp()).min();
        let key = CertifiedKey::from_der(chain.clone(), key, provider)
            .context("certificate and key do not belong together")?;
        Ok(Self { key: Arc::new(key), names, ends })
    }
}

fn dns_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = leaf.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

//! The public certificate: presented to every new connection, replaced when its files change.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::metrics::Metrics;
use crate::reload::Reload;

/// The present certificate and the TLS settings around it.
#[derive(Debug)]
pub(crate) struct Certificates {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: [PathBuf; 2],
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificates {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together.
    pub(crate) fn new(files: &TlsFiles) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| path.display().to_string());
        let (key, _) = certified_key(&read(&files.cert)?, &read(&files.key)?, &provider)?;
        let current = Arc::new(Current(ArcSwap::from_pointee(key)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption without memory per client; the ticket keys roll by themselves.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), current, files: [files.cert.clone(), files.key.clone()] })
    }

    /// The present certificate chain, leaf first.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current.0.load().cert.clone()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Watches the files for ever.
    pub(crate) async fn keep_fresh(&self, clock: &Clock, metrics: &Metrics) {
        let reload = Reload { what: "certificate", files: &self.files, clock, metrics };
        reload
            .run(|content| {
                let (key, expiry) = certified_key(&content[0], &content[1], self.config.crypto_provider())?;
                if let Some(expiry) = expiry {
                    metrics.certificate_expiry.with_label_values(&[] as &[&str]).set(expiry);
                }
                self.current.0.store(Arc::new(key));
                Ok(())
            })
            .await;
    }
}

/// A certificate chain with its key, and when the first of the chain's certificates expires, in Unix time.
fn certified_key(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> anyhow::Result<(CertifiedKey, Option<i64>)> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().context("certificate")?;
    anyhow::ensure!(!chain.is_empty(), "no certificate in the file");
    let key = PrivateKeyDer::from_pem_slice(key).context("private key")?;
    let ends = chain.iter().filter_map(|certificate| {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    let expiry = ends.min();
    let key =
        CertifiedKey::from_der(chain, key, provider).context("certificate and key do not belong together")?;
    Ok((key, expiry))
}

//! The one way in which this program makes a TLS client: TLS 1.2 or 1.3, the server verified against given roots.

use anyhow::Context;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The roots that browsers trust.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// Adds every certificate of a PEM text.
///
/// # Errors
/// When one is broken, or there is none.
pub(crate) fn add_roots(roots: &mut RootCertStore, pem: &[u8]) -> anyhow::Result<()> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.context("not a certificate in PEM")?)?;
    }
    anyhow::ensure!(roots.len() > before, "the file holds no certificate");
    Ok(())
}

/// A client that trusts `roots` and nobody else.
///
/// # Errors
/// When the cryptography library lacks what TLS needs.
pub(crate) fn client(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

//! The one way in which this program makes a TLS client: TLS 1.2 or 1.3, the server verified against given roots. Over it,
//! the HTTP client for calls to others: Entra, and collectors of audit events and traces.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Makes calls with small bodies.
pub(crate) type CallClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Which addresses may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schemes {
    /// `https` alone: whoever answers is verified.
    Https,
    /// Also `http`: within a cluster, a collector is mostly reached without TLS.
    HttpsAndHttp,
}

/// An unused connection of a call is kept so long for the next one.
const CALL_IDLE: Duration = Duration::from_secs(60);

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

/// The authorities in a PEM text, or where there is none those that browsers trust.
///
/// # Errors
/// When one is broken, or the text holds none.
pub(crate) fn roots_or_public(pem: Option<&[u8]>) -> anyhow::Result<RootCertStore> {
    let Some(pem) = pem else { return Ok(public_roots()) };
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, pem)?;
    Ok(roots)
}

/// An HTTP/1.1 client for calls. `connect_timeout` is that of TCP; how long a call may take is its caller's to say.
///
/// # Errors
/// As [`client`].
pub(crate) fn call_client(
    roots: RootCertStore,
    schemes: Schemes,
    connect_timeout: Duration,
) -> anyhow::Result<CallClient> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new().with_tls_config(client(roots)?);
    let builder = match schemes {
        Schemes::Https => builder.https_only(),
        Schemes::HttpsAndHttp => builder.https_or_http(),
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(CALL_IDLE)
        .build(builder.enable_http1().wrap_connector(tcp)))
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

/// What is wrong with the certificate of whoever answered, where that is why a call failed. The whole chain is looked at,
/// because each layer wraps the one below.
pub(crate) fn refused_certificate(error: &(dyn std::error::Error + 'static)) -> Option<CertificateError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(why.clone());
        }
        // What an io::Error or an Arc wraps is not its source: that is the wrapped error's source.
        let in_io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let in_arc = error.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>().map(|inner| &**inner);
        let wrapped = in_io.or(in_arc).map(|inner| inner as &(dyn std::error::Error + 'static));
        cause = wrapped.or_else(|| error.source());
    }
    None
}

/// What is wrong with a certificate, for people: rustls has names for it, and some have no sentence.
pub(crate) fn why_refused(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "no authority that is trusted here has issued it".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is not for {}, but for {}", expected.to_str(), names(presented).join(", "))
        }
        other => other.to_string(),
    }
}

/// The names in a certificate, out of rustls' `DnsName("localhost")` and `IpAddress(127.0.0.1)`.
pub(crate) fn names(presented: &[String]) -> Vec<&str> {
    presented
        .iter()
        .map(|name| {
            let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
            inner.unwrap_or(name).trim_matches('"')
        })
        .collect()
}

/// An error of a call, with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

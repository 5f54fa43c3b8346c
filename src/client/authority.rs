//! Whose certificates are believed.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;

use super::{Exit, Failure, files};
use crate::tls;

const MAX_BYTES: u64 = 256 * 1024;

/// What the system trusts, or where that is nothing (a bare container) what browsers trust; and `own`, in PEM.
pub(super) fn roots(own: Option<&[u8]>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    // Single certificates that cannot be read are no reason to stop: others are there.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots = tls::public_roots();
    }
    if let Some(pem) = own {
        tls::add_roots(&mut roots, pem).map_err(|error| {
            Failure::failed(format!("The certificate authority cannot be used: {error:#}."))
        })?;
    }
    Ok(roots)
}

/// The authority in a file that the user names: its PEM.
pub(super) fn from_file(path: &Path) -> Result<String, Failure> {
    let usage = |why: String| Failure::new(Exit::Usage, format!("--ca-file {}: {why}.", path.display()));
    let pem = files::read(path, MAX_BYTES).map_err(|error| usage(error.to_string()))?;
    tls::add_roots(&mut RootCertStore::empty(), pem.as_bytes())
        .map_err(|error| usage(format!("{error:#}")))?;
    Ok(pem)
}

/// The authority as a kubeconfig holds it: PEM in base64. Nothing, where it is no such thing.
pub(super) fn from_base64(data: &str) -> Option<String> {
    let pem = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
    tls::add_roots(&mut RootCertStore::empty(), pem.as_bytes()).ok()?;
    Some(pem)
}

pub(super) fn to_base64(pem: &str) -> String {
    STANDARD.encode(pem)
}

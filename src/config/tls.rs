//! The files of the certificates that are presented to clients.

use std::path::PathBuf;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::check::{Checker, given};
use super::{RawConfig, TlsFiles};

const CERT: &str = "ENTRADA_TLS_CERT_FILE";
const KEY: &str = "ENTRADA_TLS_KEY_FILE";

impl Checker {
    /// Certificates with their keys; none where TLS ends in front of us. With several, the n-th key is that of the n-th
    /// certificate.
    pub(super) fn tls(&mut self, raw: &RawConfig) -> Vec<TlsFiles> {
        let on = self.choice("ENTRADA_TLS", raw.tls.as_deref(), &[("on", true), ("off", false)]);
        let Some(on) = on else { return Vec::new() };
        let (certs, keys) = (list(raw.tls_cert_file.as_deref()), list(raw.tls_key_file.as_deref()));
        if !on {
            if !certs.is_empty() || !keys.is_empty() {
                let seen = "is `off`, but certificate or key file is set";
                self.fault("ENTRADA_TLS", seen, "must be `on`, or the files must not be set");
            }
            return Vec::new();
        }
        let both = format!("{CERT}, {KEY}");
        if certs.is_empty() || keys.is_empty() {
            let fix = "must both be set, or ENTRADA_TLS=off where TLS ends in front of Entrada";
            self.fault(&both, "not both are set", fix);
            return Vec::new();
        }
        if certs.len() != keys.len() {
            let seen = format!("name {} certificates and {} keys", certs.len(), keys.len());
            self.fault(&both, seen, "must name a key for each certificate, in the same order");
        }
        certs.iter().for_each(|path| drop(self.certificates(CERT, Some(path))));
        keys.iter().for_each(|path| self.private_key(path));
        let pairs = certs.iter().zip(&keys);
        pairs.map(|(cert, key)| TlsFiles { cert: PathBuf::from(cert), key: PathBuf::from(key) }).collect()
    }

    fn private_key(&mut self, path: &str) {
        let text = self.read(KEY, path);
        if text.is_some_and(|pem| PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_err()) {
            self.fault(KEY, format!("{path} contains no private key"), "must contain a private key in PEM");
        }
    }
}

fn list(value: Option<&str>) -> Vec<&str> {
    let entries = given(value).into_iter().flat_map(|list| list.split(','));
    entries.map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cert: &str, key: &str) -> (usize, String) {
        let some = |text: &str| Some(text.to_owned());
        let raw = RawConfig { tls_cert_file: some(cert), tls_key_file: some(key), ..RawConfig::default() };
        let mut checker = Checker::default();
        (checker.tls(&raw).len(), checker.told())
    }

    /// The n-th key belongs to the n-th certificate, so there are as many; each file that cannot be read is told.
    #[test]
    fn there_is_a_key_for_each_certificate() {
        let (_, told) = read("/nonexistent/a.crt, /nonexistent/b.crt", "/nonexistent/a.key");
        assert!(told.contains("must name a key for each certificate"), "{told}");
        assert!(told.contains("name 2 certificates and 1 keys"), "{told}");
        for file in ["a.crt", "b.crt", "a.key"] {
            assert!(told.contains(&format!("cannot read /nonexistent/{file}")), "{told}");
        }
        let (count, told) =
            read("/nonexistent/a.crt,/nonexistent/b.crt", "/nonexistent/a.key,/nonexistent/b.key,");
        assert_eq!((count, told.matches("cannot read").count()), (2, 4), "{told}");
        assert!(read("/nonexistent/a.crt", ",").1.contains("not both are set"));
    }
}

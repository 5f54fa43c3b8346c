//! Dashboards on hosts of their own: `<origin>=<dashboard>[;<option>…]`, comma-separated.
//!
//! A value is not repeated in a fault as it came: what stands there by mistake may be a secret.

use std::path::PathBuf;

use url::Url;

use super::check::{Checker, given};
use super::{MountConfig, PublicUrl, Server, Trust};

const NAME: &str = "ENTRADA_MOUNTS";
/// More dashboards than anybody has; each has connections of its own.
const MAX_MOUNTS: usize = 32;

impl Checker {
    pub(super) fn mounts(
        &mut self,
        value: Option<&str>,
        public_url: Option<&PublicUrl>,
        allowed_origins: &[String],
    ) -> Vec<MountConfig> {
        let entries = given(value).into_iter().flat_map(|list| list.split(',')).map(str::trim);
        let entries: Vec<&str> = entries.filter(|entry| !entry.is_empty()).collect();
        let mut mounts: Vec<MountConfig> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let place = format!("entry {}", index + 1);
            let Some(mount) = self.mount(&place, entry) else { continue };
            let host = mount.url.host();
            if public_url.is_some_and(|public| public.host() == host) {
                let seen = format!("{place} has the public URL's host, {host}");
                self.fault(NAME, seen, "must give each dashboard a host of its own, not only a port");
            }
            if mounts.iter().any(|other| other.url.host() == host) {
                let seen = format!("{place} has the host of an earlier one, {host}");
                self.fault(NAME, seen, "must give each dashboard a host of its own, not only a port");
            }
            if allowed_origins.iter().any(|allowed| allowed == mount.url.origin()) {
                let seen = format!("{place}, {host}, is in ENTRADA_ALLOWED_ORIGINS, too");
                self.fault(
                    NAME,
                    seen,
                    "must have no origin of those: a dashboard acts with its bearer alone",
                );
            }
            mounts.push(mount);
        }
        if mounts.len() > MAX_MOUNTS {
            let fix = format!("must have at most {MAX_MOUNTS}");
            self.fault(NAME, format!("has {} entries", mounts.len()), fix);
        }
        mounts
    }

    fn mount(&mut self, place: &str, entry: &str) -> Option<MountConfig> {
        let mut options = entry.split(';').map(str::trim);
        let Some((origin, dashboard)) = options.next().and_then(|pair| pair.split_once('=')) else {
            let fix = "must be https://host=https://dashboard, or https://host=http://dashboard;insecure";
            self.fault(NAME, format!("{place} has no `=`"), fix);
            return None;
        };
        let origin = self.origin(&format!("the host of {place}"), origin, &["https"])?;
        let dashboard = self.origin(&format!("the dashboard of {place}"), dashboard, &["https", "http"])?;
        let (mut insecure, mut ca_file) = (false, None);
        for option in options {
            match option.split_once('=') {
                None if option == "insecure" => insecure = true,
                Some(("ca", file)) => {
                    self.certificates(NAME, Some(file))?;
                    ca_file = Some(PathBuf::from(file));
                }
                _ => {
                    let fix = "must have no other options than `insecure` and `ca=<file>`";
                    self.fault(NAME, format!("{place} has another option"), fix);
                    return None;
                }
            }
        }
        let trust = match (dashboard.scheme(), insecure, ca_file) {
            ("https", false, None) => Trust::Public,
            ("https", false, Some(file)) => Trust::File(file),
            ("http", true, None) => Trust::Nobody,
            ("http", false, None) => {
                let fix =
                    "must be https, or say `;insecure`: whoever is on the way reads and changes everything";
                self.fault(NAME, format!("the dashboard of {place} is http"), fix);
                return None;
            }
            (scheme, ..) => {
                let fix = "must have `ca=` with https alone, and `insecure` with http alone";
                self.fault(NAME, format!("{place} is {scheme} with another scheme's option"), fix);
                return None;
            }
        };
        let authority = dashboard.authority().parse().ok()?;
        Some(MountConfig { url: PublicUrl::of(&origin)?, dashboard: Server { authority, trust } })
    }

    /// A URL that is an origin, nothing more, with one of these schemes.
    fn origin(&mut self, what: &str, text: &str, schemes: &[&str]) -> Option<Url> {
        let url = Url::parse(text.trim()).ok().filter(|url| {
            let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            let is_anybodys = url.username().is_empty() && url.password().is_none();
            is_bare && is_anybodys && url.host_str().is_some() && schemes.contains(&url.scheme())
        });
        if url.is_none() {
            let fix =
                format!("must be an origin such as {}://host, without path or user", schemes.join(":// or "));
            self.fault(NAME, format!("{what} is none"), fix);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(value: &str) -> (Vec<MountConfig>, String) {
        let mut checker = Checker::default();
        let public = PublicUrl::of(&Url::parse("https://k8s.example.com").unwrap());
        let mounts =
            checker.mounts(Some(value), public.as_ref(), &["https://console.example.com".to_owned()]);
        (mounts, checker.told())
    }

    /// Each entry gives a host and a dashboard; https is trusted by the public authorities unless it names others.
    #[test]
    fn entries_give_hosts_and_dashboards() {
        let (mounts, told) = checked(
            "https://headlamp.example.com=http://headlamp.headlamp.svc:80;insecure, \
             https://Pods.example.com:8443=https://pods.svc:9443,",
        );
        assert_eq!(told, "0 faults in the settings:");
        let told: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.url.origin(), mount.dashboard.authority.as_str(), &mount.dashboard.trust))
            .collect();
        let expected = [
            ("https://headlamp.example.com", "headlamp.headlamp.svc", &Trust::Nobody),
            ("https://pods.example.com:8443", "pods.svc:9443", &Trust::Public),
        ];
        assert_eq!(told, expected);
        assert!(checked("").0.is_empty());
    }

    /// Whatever could mix up two hosts, or be read by others on the way, is a fault, and no value is repeated.
    #[test]
    fn wrong_entries_are_faults() {
        let (_, told) = checked(
            "hunter2,\
             http://a.example.com=https://hunter2.svc,\
             https://b.example.com/path=https://hunter2.svc,\
             https://c.example.com=http://hunter2.svc,\
             https://d.example.com=https://user:hunter2@d.svc,\
             https://e.example.com=https://hunter2.svc;insecure,\
             https://f.example.com=http://hunter2.svc;insecure;ca=/nonexistent/ca.crt,\
             https://g.example.com=https://hunter2.svc;hunter2,\
             https://k8s.example.com:8443=https://hunter2.svc,\
             https://h.example.com=https://hunter2.svc,\
             https://h.example.com:8443=https://hunter2.svc,\
             https://console.example.com=https://hunter2.svc",
        );
        assert!(!told.contains("hunter2"), "{told}");
        insta::assert_snapshot!(told);
    }
}

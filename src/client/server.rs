//! The address of an Entrada.

use url::Url;

use super::{Exit, Failure};

const LONGEST: usize = 512;

/// `https://host[:port]`, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server(Url);

impl Server {
    /// From what a person types: `k8s.example.com` means `https://k8s.example.com`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| {
            let text = super::talk::plain(text, 80);
            Failure::new(Exit::Usage, format!("{text:?} {what}. Example: https://k8s.example.com"))
        };
        if text.len() > LONGEST {
            return Err(wrong("is too long for an address"));
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&full).map_err(|_| wrong("is no address"))?;
        if url.scheme() != "https" {
            return Err(wrong("does not begin with https://"));
        }
        let has_more = !url.username().is_empty()
            || url.password().is_some()
            || url.path() != "/"
            || url.query().is_some()
            || url.fragment().is_some();
        if has_more {
            return Err(wrong("has more than a host and a port"));
        }
        Ok(Self(url))
    }

    /// Without a slash at the end.
    pub(super) fn origin(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// `path` begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    pub(super) fn host(&self) -> String {
        self.0.host_str().unwrap_or_default().to_owned()
    }

    /// A file's name for it, on any system: `k8s.example.com_8443`.
    pub(super) fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
        let host: String = self.host().chars().map(plain).collect();
        match self.0.port() {
            Some(port) => format!("{host}_{port}"),
            None => host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        // Proves that what a person types is understood, and that nothing but an https origin passes.
        let origin = |text: &str| Server::parse(text).map(|server| server.origin().to_owned());
        assert_eq!(origin("k8s.example.com").unwrap(), "https://k8s.example.com");
        assert_eq!(origin("https://K8s.Example.com:443/").unwrap(), "https://k8s.example.com");
        assert_eq!(origin("https://[::1]:8443").unwrap(), "https://[::1]:8443");
        for bad in ["", "http://x", "https://x/path", "https://me@x", "https://x/?q", "ftp://x", "a b"] {
            assert_eq!(origin(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        let name = |text: &str| Server::parse(text).unwrap().file_name();
        assert_eq!(name("https://k8s.example.com:8443"), "k8s.example.com_8443");
        assert_eq!(name("https://[::1]:1"), "___1__1");
    }
}

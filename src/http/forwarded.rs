//! Who the client is, and what upstream is told of it. `X-Forwarded-*` and `Forwarded` come from us alone; `X-Real-Ip`
//! is removed with the inbound ones (see `headers`) and not set.
//!
//! Inbound values are believed, and kept, only when the connection comes from a trusted proxy.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::headers::list;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client's address, and the headers that tell upstream about one request's way here.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedHeaders {
    /// The client's address, as far as trusted proxies vouch for it.
    pub(crate) client: IpAddr,
    forwarded_for: HeaderValue,
    forwarded: HeaderValue,
    proto: HeaderValue,
    host: HeaderValue,
}

/// Makes a [`ForwardedHeaders`]; one for the process.
#[derive(Clone, Debug)]
pub(crate) struct Forwarding {
    trusted: Vec<IpNet>,
    /// `host[:port]` of the public URL.
    host: HeaderValue,
}

impl Forwarding {
    /// `public_authority` is `host[:port]` of the public URL.
    #[must_use]
    pub(crate) fn new(trusted: Vec<IpNet>, public_authority: &str) -> Self {
        let host = HeaderValue::from_str(public_authority);
        Self { trusted, host: host.unwrap_or(HeaderValue::from_static("")) }
    }

    /// For a connection from `peer` without regard to any request: made once, and cloned for each request.
    #[must_use]
    pub(crate) fn direct(&self, peer: IpAddr) -> ForwardedHeaders {
        let host = self.host.to_str().unwrap_or_default();
        ForwardedHeaders {
            client: peer,
            forwarded_for: value(&peer.to_string()),
            forwarded: value(&format!("for={};host=\"{host}\";proto=https", node(peer))),
            proto: HeaderValue::from_static("https"),
            host: self.host.clone(),
        }
    }

    /// For one request on that connection.
    #[must_use]
    pub(crate) fn of(&self, direct: &ForwardedHeaders, headers: &HeaderMap) -> ForwardedHeaders {
        if self.trusted.is_empty() || !self.trusts(direct.client) {
            return direct.clone();
        }
        let texts = |name: HeaderName| list(headers, &name).filter_map(|entry| str::from_utf8(entry).ok());
        let chain: Vec<&str> = texts(X_FORWARDED_FOR).collect();
        // From the right, each entry was written by the proxy after it: the first untrusted one is the client.
        let mut client = direct.client;
        for entry in chain.iter().rev() {
            let Some(address) = address(entry) else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
        }
        let kept = |name: &HeaderName, ours: &HeaderValue| headers.get(name).unwrap_or(ours).clone();
        let whole = chain.iter().copied().map(str::to_owned).chain([direct.client.to_string()]);
        let whole: Vec<String> = whole.collect();
        let elements: Vec<String> = texts(FORWARDED)
            .map(str::to_owned)
            .chain([direct.forwarded.to_str().unwrap_or_default().to_owned()])
            .collect();
        ForwardedHeaders {
            client,
            forwarded_for: value(&whole.join(", ")),
            forwarded: value(&elements.join(", ")),
            proto: kept(&X_FORWARDED_PROTO, &direct.proto),
            host: kept(&X_FORWARDED_HOST, &direct.host),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl ForwardedHeaders {
    /// Sets the headers on an outgoing request, from which all inbound ones were removed.
    pub(crate) fn set(&self, headers: &mut HeaderMap) {
        headers.insert(X_FORWARDED_FOR, self.forwarded_for.clone());
        headers.insert(X_FORWARDED_PROTO, self.proto.clone());
        headers.insert(X_FORWARDED_HOST, self.host.clone());
        headers.insert(FORWARDED, self.forwarded.clone());
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
fn node(address: IpAddr) -> String {
    if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() }
}

/// An entry of `X-Forwarded-For`, with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_matches('"');
    let parsed = bare.parse().ok();
    let parsed: Option<IpAddr> =
        parsed.or_else(|| bare.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    // A proxy that listens on IPv6 for both writes IPv4 as `::ffff:203.0.113.7`.
    parsed.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(forwarded_headers: &ForwardedHeaders) -> Vec<String> {
        let mut headers = HeaderMap::new();
        forwarded_headers.set(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    fn inbound() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("9.9.9.9, 198.51.100.7, 10.0.0.9"));
        headers
    }

    /// A stranger's claims are not repeated.
    #[test]
    fn a_stranger_is_not_believed() {
        let forwarding = Forwarding::new(Vec::new(), "k8s.example.com");
        let direct = forwarding.direct("203.0.113.5".parse().unwrap());
        insta::assert_debug_snapshot!(set(&forwarding.of(&direct, &inbound())), @r#"
        [
            "x-forwarded-for: 203.0.113.5",
            "x-forwarded-proto: https",
            "x-forwarded-host: k8s.example.com",
            "forwarded: for=203.0.113.5;host=\"k8s.example.com\";proto=https",
        ]
        "#);
    }

    /// Behind trusted proxies the client is the first address from the right that is not one of them.
    #[test]
    fn trusted_proxies_vouch_for_the_client() {
        let forwarding = Forwarding::new(vec!["10.0.0.0/8".parse().unwrap()], "k8s.example.com");
        let direct = forwarding.direct("10.0.0.1".parse().unwrap());
        let forwarded_headers = forwarding.of(&direct, &inbound());
        assert_eq!(forwarded_headers.client, "198.51.100.7".parse::<IpAddr>().unwrap());
        assert_eq!(set(&forwarded_headers)[0], "x-forwarded-for: 9.9.9.9, 198.51.100.7, 10.0.0.9, 10.0.0.1");
        let mut mapped = HeaderMap::new();
        mapped.insert(X_FORWARDED_FOR, HeaderValue::from_static("::ffff:198.51.100.7, ::ffff:10.0.0.9"));
        assert_eq!(forwarding.of(&direct, &mapped).client, forwarded_headers.client);
    }
}

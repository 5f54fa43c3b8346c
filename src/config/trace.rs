//! Where spans go, by the environment variables that OpenTelemetry gives all programs. Unlike with other programs a value
//! that is wrong is a fault, and nothing is looked at where no collector is named.
//!
//! Source: "Environment Variable Specification" and "OTLP Exporter Configuration" of opentelemetry.io/docs/specs/otel.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use url::Url;

use super::RawConfig;
use super::check::{Checker, given};

const SERVICE_NAME: &str = "service.name";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where spans go, and which requests have them.
#[derive(Clone, Debug)]
pub(crate) struct TraceConfig {
    /// The collector, with its whole path.
    pub(crate) endpoint: Uri,
    /// For each call to it. Their values may be secrets and are marked so, which keeps them out of `Debug`.
    pub(crate) headers: HeaderMap,
    /// For one call, from connecting to the last byte.
    pub(crate) timeout: Duration,
    /// PEM of the authority that signs its certificate; `None`: the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// What is said of this process beside its spans.
    pub(crate) resource: Vec<(String, String)>,
    /// Which requests.
    pub(crate) sampler: Sampler,
}

/// Which requests have spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// A caller that says whether it samples decides for us, too.
    pub(crate) follows_parent: bool,
    /// Of all others, so many: from 0 to 1.
    pub(crate) share: f64,
}

impl Checker {
    pub(super) fn trace(&mut self, raw: &RawConfig) -> Option<TraceConfig> {
        let disabled = raw.otel_sdk_disabled.as_deref().map(str::to_ascii_lowercase);
        let words = [("false", false), ("true", true)];
        let is_disabled = self.choice("OTEL_SDK_DISABLED", disabled.as_deref(), &words);
        let words = [("otlp", false), ("none", true)];
        let exports_nothing =
            self.choice("OTEL_TRACES_EXPORTER", raw.otel_traces_exporter.as_deref(), &words);
        if is_disabled? || exports_nothing? {
            return None;
        }
        let whole = given(raw.otel_exporter_otlp_traces_endpoint.as_deref());
        let base = given(raw.otel_exporter_otlp_endpoint.as_deref());
        let endpoint = match (whole, base) {
            (Some(whole), _) => self.collector("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole, ""),
            (None, Some(base)) => self.collector("OTEL_EXPORTER_OTLP_ENDPOINT", base, "v1/traces"),
            (None, None) => return None,
        };
        self.choice(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            raw.otel_exporter_otlp_protocol.as_deref(),
            &[("http/protobuf", ())],
        );
        let ca_file = given(raw.otel_exporter_otlp_certificate.as_deref());
        self.certificates("OTEL_EXPORTER_OTLP_CERTIFICATE", ca_file);
        let headers = self.collector_headers(raw);
        let timeout = self.milliseconds(raw.otel_exporter_otlp_timeout.as_deref());
        let resource = self.resource(raw);
        let sampler = self.sampler(raw);
        Some(TraceConfig {
            endpoint: endpoint?,
            headers,
            timeout,
            ca_file: ca_file.map(PathBuf::from),
            resource,
            sampler: sampler?,
        })
    }

    /// A collector's URL with `path` added. The value is not repeated in a fault: it may hold a key.
    fn collector(&mut self, name: &str, text: &str, path: &str) -> Option<Uri> {
        let Some(mut url) = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
        else {
            self.fault(name, "is no such URL", "must be a URL that begins with http:// or https://");
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let fix = "must contain neither; a key belongs in OTEL_EXPORTER_OTLP_HEADERS";
            self.fault(name, "contains user information or a query", fix);
            return None;
        }
        url.set_fragment(None);
        if !path.is_empty() {
            url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        }
        url.as_str().parse().ok()
    }

    fn collector_headers(&mut self, raw: &RawConfig) -> HeaderMap {
        let name = "OTEL_EXPORTER_OTLP_HEADERS";
        let mut headers = HeaderMap::new();
        for (key, value) in self.pairs(name, raw.otel_exporter_otlp_headers.as_deref()) {
            match (HeaderName::try_from(&key), HeaderValue::try_from(value)) {
                (Ok(key), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.append(key, value);
                }
                _ => self.fault(name, "holds a name or a value that no header can have", PAIRS),
            }
        }
        headers
    }

    fn resource(&mut self, raw: &RawConfig) -> Vec<(String, String)> {
        let mut resource = self.pairs("OTEL_RESOURCE_ATTRIBUTES", raw.otel_resource_attributes.as_deref());
        let named = resource.iter().any(|(key, _)| key == SERVICE_NAME);
        match given(raw.otel_service_name.as_deref()) {
            Some(name) => {
                resource.retain(|(key, _)| key != SERVICE_NAME);
                resource.push((SERVICE_NAME.to_owned(), name.to_owned()));
            }
            None if !named => resource.push((SERVICE_NAME.to_owned(), "entrada".to_owned())),
            None => {}
        }
        resource
    }

    /// `key=value,key=value`, both percent-encoded. Not repeated in a fault: a value may be a secret.
    fn pairs(&mut self, name: &str, value: Option<&str>) -> Vec<(String, String)> {
        let entries = given(value).into_iter().flat_map(|list| list.split(',')).map(str::trim);
        let mut pairs = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let pair = entry.split_once('=').map(|(key, value)| (decoded(key.trim()), decoded(value.trim())));
            match pair {
                Some((Some(key), Some(value))) if !key.is_empty() => pairs.push((key, value)),
                _ => self.fault(name, "holds an entry that is no such pair", PAIRS),
            }
        }
        pairs
    }

    fn milliseconds(&mut self, value: Option<&str>) -> Duration {
        let Some(text) = given(value) else { return DEFAULT_TIMEOUT };
        match text.parse() {
            Ok(millis @ 1..=600_000) => Duration::from_millis(millis),
            _ => {
                let fix = "must be a number of milliseconds from 1 to 600000";
                self.fault("OTEL_EXPORTER_OTLP_TIMEOUT", format!("is `{text}`"), fix);
                DEFAULT_TIMEOUT
            }
        }
    }

    fn sampler(&mut self, raw: &RawConfig) -> Option<Sampler> {
        let text = given(raw.otel_traces_sampler_arg.as_deref()).unwrap_or("1");
        let share: f64 = text.parse().unwrap_or(-1.0);
        if !(0.0..=1.0).contains(&share) {
            let fix = "must be a share from 0 to 1, e.g. 0.1";
            self.fault("OTEL_TRACES_SAMPLER_ARG", format!("is `{text}`"), fix);
        }
        let sampler = |follows_parent, share| Sampler { follows_parent, share };
        self.choice(
            "OTEL_TRACES_SAMPLER",
            raw.otel_traces_sampler.as_deref(),
            &[
                ("parentbased_always_on", sampler(true, 1.0)),
                ("parentbased_always_off", sampler(true, 0.0)),
                ("parentbased_traceidratio", sampler(true, share)),
                ("always_on", sampler(false, 1.0)),
                ("always_off", sampler(false, 0.0)),
                ("traceidratio", sampler(false, share)),
            ],
        )
    }
}

const PAIRS: &str = "must be pairs such as key=value,other=value, percent-encoded where needed";

/// Without its percent-encoding; nothing where that is broken or what is left is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'%' => {
                let hex = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))?;
                rest = &tail[2..];
                u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn checked(raw: &RawConfig) -> (Option<TraceConfig>, String) {
        let mut checker = Checker::default();
        let config = checker.trace(raw);
        (config, checker.told())
    }

    fn to_collector() -> RawConfig {
        RawConfig { otel_exporter_otlp_endpoint: some("http://collector:4318"), ..RawConfig::default() }
    }

    /// Without a collector, or where it is turned off, nothing is made and nothing else is looked at.
    #[test]
    fn there_is_no_tracing_unless_a_collector_is_named() {
        let off = [
            RawConfig { otel_exporter_otlp_endpoint: some(" "), ..RawConfig::default() },
            RawConfig { otel_sdk_disabled: some("TRUE"), ..to_collector() },
            RawConfig { otel_traces_exporter: some("none"), ..to_collector() },
        ];
        for raw in off {
            let (config, faults) = checked(&RawConfig { otel_exporter_otlp_protocol: some("grpc"), ..raw });
            assert!(config.is_none());
            assert_eq!(faults, "0 faults in the settings:");
        }
    }

    /// The general endpoint gets the path of traces; the one for traces is used as it is, and wins.
    #[test]
    fn the_endpoint_is_completed_as_opentelemetry_says() {
        for (base, whole) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://collector/otlp/", "https://collector/otlp/v1/traces"),
        ] {
            let raw = RawConfig { otel_exporter_otlp_endpoint: some(base), ..RawConfig::default() };
            assert_eq!(checked(&raw).0.unwrap().endpoint, whole);
        }
        let raw =
            RawConfig { otel_exporter_otlp_traces_endpoint: some("http://traces:1/in"), ..to_collector() };
        assert_eq!(checked(&raw).0.unwrap().endpoint, "http://traces:1/in");
    }

    /// What is not said is as OpenTelemetry says; pairs are decoded; the service's own variable wins.
    #[test]
    fn defaults_and_pairs_are_those_of_opentelemetry() {
        let config = checked(&to_collector()).0.unwrap();
        assert_eq!(config.resource, [(SERVICE_NAME.to_owned(), "entrada".to_owned())]);
        assert_eq!(config.sampler, Sampler { follows_parent: true, share: 1.0 });
        assert_eq!(config.timeout, DEFAULT_TIMEOUT);
        let config = checked(&RawConfig {
            otel_resource_attributes: some("service.name=other, team=a%2Cb"),
            otel_service_name: some("edge"),
            otel_exporter_otlp_headers: some("Authorization=Bearer%20hunter2=="),
            otel_exporter_otlp_timeout: some("250"),
            otel_traces_sampler: some("traceidratio"),
            otel_traces_sampler_arg: some("0.25"),
            ..to_collector()
        });
        let config = config.0.unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(config.resource, [pair("team", "a,b"), pair(SERVICE_NAME, "edge")]);
        assert_eq!(config.headers["authorization"], "Bearer hunter2==");
        assert!(!format!("{config:?}").contains("hunter2"), "headers may hold secrets");
        assert_eq!(config.timeout, Duration::from_millis(250));
        assert_eq!(config.sampler, Sampler { follows_parent: false, share: 0.25 });
    }

    /// Wrong values are faults, and what may be a secret is not repeated.
    #[test]
    fn wrong_values_are_faults() {
        let (_, faults) = checked(&RawConfig {
            otel_exporter_otlp_endpoint: some("https://key:hunter2@collector"),
            otel_exporter_otlp_protocol: some("grpc"),
            otel_exporter_otlp_headers: some("hunter2,a=%zz,b=x\u{1}"),
            otel_exporter_otlp_timeout: some("10s"),
            otel_exporter_otlp_certificate: some("/nonexistent/ca.crt"),
            otel_resource_attributes: some("=x"),
            otel_traces_sampler: some("jaeger_remote"),
            otel_traces_sampler_arg: some("2"),
            ..RawConfig::default()
        });
        assert!(!faults.contains("hunter2"), "{faults}");
        insta::assert_snapshot!(faults);
    }
}

//! The audit log: where its events go, which are recorded, and what happens where they cannot be.

mod policy;

use std::fmt;
use std::path::PathBuf;

use url::Url;

pub(crate) use self::policy::{AuditPolicy, AuditRule, GroupResources, Stages};
use super::RawConfig;
use super::check::{Checker, given};

const DEFAULT_FILE_BYTES: u64 = 100 * 1024 * 1024;
const DEFAULT_FILES: u64 = 10;
const DEFAULT_QUEUE_BYTES: u64 = 16 * 1024 * 1024;

/// The audit log.
#[derive(Clone, Debug)]
pub(crate) struct AuditConfig {
    /// Where events go.
    pub(crate) sink: AuditSink,
    /// Which are recorded.
    pub(crate) policy: AuditPolicy,
    /// Whether a request that cannot be recorded is refused.
    pub(crate) strict: bool,
    /// Events that wait for the sink.
    pub(crate) queue_bytes: usize,
}

/// Where audit events go.
#[derive(Clone, Debug)]
pub(crate) enum AuditSink {
    /// To standard output, between the lines of the log.
    Stdout,
    /// To a file.
    File(AuditFile),
    /// To a web server.
    Webhook(AuditWebhook),
}

/// A file that is rotated.
#[derive(Clone, Debug)]
pub(crate) struct AuditFile {
    /// The file that is written.
    pub(crate) path: PathBuf,
    /// Its size before it is put aside.
    pub(crate) max_bytes: u64,
    /// How many that were put aside are kept.
    pub(crate) keep: usize,
}

/// A web server that takes batches of events.
#[derive(Clone)]
pub(crate) struct AuditWebhook {
    /// Where they are posted.
    pub(crate) url: Url,
    /// PEM of the authority that signs its certificate; `None`: the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// Holds the bearer token; read anew for each batch.
    pub(crate) token_file: Option<PathBuf>,
}

impl fmt::Debug for AuditWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Path and query of some collectors' addresses are a secret.
        f.debug_struct("AuditWebhook")
            .field("host", &self.url.origin().ascii_serialization())
            .field("ca_file", &self.ca_file)
            .field("token_file", &self.token_file)
            .finish()
    }
}

impl Checker {
    /// `None`: nothing is recorded, or there was a fault.
    pub(super) fn audit(&mut self, raw: &RawConfig) -> Option<AuditConfig> {
        let strict =
            self.choice("ENTRADA_AUDIT_STRICT", raw.audit_strict.as_deref(), &[("off", false), ("on", true)]);
        let limits = 1024..=1 << 40;
        let file_bytes = self.number("ENTRADA_AUDIT_FILE_BYTES", raw.audit_file_bytes.as_deref(), limits);
        let files = self.number("ENTRADA_AUDIT_FILES", raw.audit_files.as_deref(), 0..=100_000);
        let queue_limits = 64 * 1024..=1 << 30;
        let queue_bytes =
            self.number("ENTRADA_AUDIT_QUEUE_BYTES", raw.audit_queue_bytes.as_deref(), queue_limits);
        let ca_file = given(raw.audit_ca_file.as_deref());
        let token_file = given(raw.audit_token_file.as_deref());
        self.certificates("ENTRADA_AUDIT_CA_FILE", ca_file);
        if let Some(path) = token_file {
            self.read("ENTRADA_AUDIT_TOKEN_FILE", path);
        }
        let policy_file = given(raw.audit_policy_file.as_deref());
        let policy = self.audit_policy(policy_file);
        let sink = match given(raw.audit.as_deref()).unwrap_or("off") {
            "off" => None,
            "stdout" => Some(AuditSink::Stdout),
            text => match text.strip_prefix("file:") {
                Some(path) => Some(AuditSink::File(AuditFile {
                    path: self.audit_path(path)?,
                    max_bytes: file_bytes.unwrap_or(DEFAULT_FILE_BYTES),
                    keep: usize::try_from(files.unwrap_or(DEFAULT_FILES)).unwrap_or(usize::MAX),
                })),
                None => Some(AuditSink::Webhook(AuditWebhook {
                    url: self.audit_url(text)?,
                    ca_file: ca_file.map(PathBuf::from),
                    token_file: token_file.map(PathBuf::from),
                })),
            },
        };
        let unused = [
            ("ENTRADA_AUDIT_POLICY_FILE", policy_file.is_some() && sink.is_none()),
            ("ENTRADA_AUDIT_STRICT", strict == Some(true) && sink.is_none()),
            ("ENTRADA_AUDIT_QUEUE_BYTES", queue_bytes.is_some() && sink.is_none()),
            ("ENTRADA_AUDIT_FILE_BYTES", file_bytes.is_some() && !matches!(sink, Some(AuditSink::File(_)))),
            ("ENTRADA_AUDIT_FILES", files.is_some() && !matches!(sink, Some(AuditSink::File(_)))),
            ("ENTRADA_AUDIT_CA_FILE", ca_file.is_some() && !matches!(sink, Some(AuditSink::Webhook(_)))),
            (
                "ENTRADA_AUDIT_TOKEN_FILE",
                token_file.is_some() && !matches!(sink, Some(AuditSink::Webhook(_))),
            ),
        ];
        for (name, _) in unused.iter().filter(|(_, unused)| *unused) {
            self.fault(name, "is set, but ENTRADA_AUDIT is not what it is for", "set both or none");
        }
        let queue_bytes = usize::try_from(queue_bytes.unwrap_or(DEFAULT_QUEUE_BYTES)).unwrap_or(usize::MAX);
        Some(AuditConfig { sink: sink?, policy: policy?, strict: strict?, queue_bytes })
    }

    fn audit_path(&mut self, path: &str) -> Option<PathBuf> {
        let path = PathBuf::from(path);
        if !path.is_absolute() || path.file_name().is_none() || path.is_dir() {
            let fix =
                "must be `off`, `stdout`, `file:` and the absolute path of a file, or an https:// address";
            self.fault("ENTRADA_AUDIT", "names no file", fix);
            return None;
        }
        if !path.parent().is_some_and(std::path::Path::is_dir) {
            self.fault(
                "ENTRADA_AUDIT",
                "its folder does not exist",
                "must be a file in a folder that exists",
            );
            return None;
        }
        Some(path)
    }

    /// Not repeated in a fault: it may hold a secret.
    fn audit_url(&mut self, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "https");
        let Some(url) = url else {
            let fix =
                "must be `off`, `stdout`, `file:` and the absolute path of a file, or an https:// address";
            self.fault("ENTRADA_AUDIT", "is none of them", fix);
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            let fix = "must not contain a user name, a password or a fragment; use ENTRADA_AUDIT_TOKEN_FILE";
            self.fault("ENTRADA_AUDIT", "contains one", fix);
            return None;
        }
        Some(url)
    }

    fn number(
        &mut self,
        name: &str,
        value: Option<&str>,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let text = given(value)?;
        let parsed = text.parse().ok().filter(|number| range.contains(number));
        if parsed.is_none() {
            let fix = format!("must be a number from {} to {}", range.start(), range.end());
            self.fault(name, format!("is `{text}`"), fix);
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut RawConfig)) -> (Option<AuditConfig>, String) {
        let mut raw = RawConfig::default();
        change(&mut raw);
        let mut checker = Checker::default();
        let config = checker.audit(&raw);
        let faults = checker.into_faults();
        (config, if faults.is_empty() { String::new() } else { faults.to_string() })
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// Each form of the contract is read; nothing is recorded by default.
    #[test]
    fn every_sink_is_read() {
        let sink = |text: &str| {
            let (config, faults) = checked(|raw| raw.audit = some(text));
            assert_eq!(faults, "", "{text}");
            config.map(|config| config.sink)
        };
        assert!(sink("").is_none() && sink("off").is_none());
        assert!(matches!(sink("stdout"), Some(AuditSink::Stdout)));
        let Some(AuditSink::File(file)) = sink("file:/tmp/audit.log") else { panic!("a file") };
        assert_eq!((file.max_bytes, file.keep), (100 * 1024 * 1024, 10));
        let Some(AuditSink::Webhook(webhook)) = sink("https://collector.example/key-a1b2?c=d") else {
            panic!("a webhook")
        };
        let shown = format!("{webhook:?}");
        assert!(shown.contains("https://collector.example") && !shown.contains("a1b2"), "{shown}");
    }

    /// What is no sink is a fault that does not repeat it, and so is a setting without the sink that it is for.
    #[test]
    fn what_is_wrong_is_told() {
        for wrong in ["on", "file:audit.log", "file:/", "file:/nonexistent/audit.log", "http://a/hunter2"] {
            let (config, faults) = checked(|raw| raw.audit = some(wrong));
            assert!(config.is_none() && faults.contains("ENTRADA_AUDIT: must be"), "{wrong}: {faults}");
            assert!(!faults.contains("hunter2"));
        }
        let (_, faults) = checked(|raw| raw.audit = some("https://user:hunter2@collector"));
        assert!(faults.contains("must not contain") && !faults.contains("hunter2"), "{faults}");
        let (_, faults) = checked(|raw| {
            raw.audit_strict = some("on");
            raw.audit_files = some("3");
            raw.audit_queue_bytes = some("1");
        });
        assert!(faults.contains("ENTRADA_AUDIT_STRICT: set both or none"), "{faults}");
        assert!(faults.contains("ENTRADA_AUDIT_FILES: set both or none"), "{faults}");
        assert!(faults.contains("ENTRADA_AUDIT_QUEUE_BYTES: must be a number from 65536"), "{faults}");
    }
}

//! `client.authentication.k8s.io`: what kubectl asks a credential plugin, and how it is answered.

use std::io::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Exit, Failure, talk};
use crate::secret::CredentialSecret;

const GROUP: &str = "client.authentication.k8s.io/";

/// What kubectl asks, in `KUBERNETES_EXEC_INFO`.
pub(super) struct Asked {
    version: Version,
    /// A person can be talked to: kubectl says so.
    pub(super) interactive: bool,
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V1Beta1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo {
    api_version: String,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Spec {
    interactive: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential<'a> {
    kind: &'a str,
    api_version: &'a str,
    spec: Spec,
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    expiration_timestamp: String,
    token: &'a str,
}

impl Asked {
    pub(super) fn read() -> Result<Self, Failure> {
        match std::env::var("KUBERNETES_EXEC_INFO") {
            Ok(info) => Self::parse(&info),
            // Somebody runs it by hand.
            Err(_) => Ok(Self { version: Version::V1, interactive: true }),
        }
    }

    fn parse(info: &str) -> Result<Self, Failure> {
        let usage = |why: String| Failure::new(Exit::Usage, format!("KUBERNETES_EXEC_INFO {why}."));
        let info: ExecInfo =
            serde_json::from_str(info).map_err(|error| usage(format!("is broken: {error}")))?;
        let version = match info.api_version.strip_prefix(GROUP) {
            Some("v1") => Version::V1,
            Some("v1beta1") => Version::V1Beta1,
            _ => {
                let named = talk::plain(&info.api_version, 80);
                return Err(usage(format!("names {named:?}; entrada knows {GROUP}v1 and v1beta1")));
            }
        };
        Ok(Self { version, interactive: info.spec.interactive })
    }

    /// The answer on standard output.
    pub(super) fn answer(&self, token: &CredentialSecret, until: Timestamp) -> Result<(), Failure> {
        let text = self.format(token, until);
        let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
        written.map_err(|error| Failure::failed(format!("The token cannot be given to kubectl: {error}.")))
    }

    fn format(&self, token: &CredentialSecret, until: Timestamp) -> String {
        let version = match self.version {
            Version::V1 => "v1",
            Version::V1Beta1 => "v1beta1",
        };
        let answer = ExecCredential {
            kind: "ExecCredential",
            api_version: &format!("{GROUP}{version}"),
            spec: Spec { interactive: self.interactive },
            // Whole seconds: metav1.Time has no fractions.
            status: Status {
                expiration_timestamp: until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                token: token.expose(),
            },
        };
        serde_json::to_string(&answer).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_version_of_the_question() {
        // Proves both versions that kubectl speaks, and that another one is refused with a sentence.
        let info = |version: &str| {
            format!(
                r#"{{"apiVersion":"{GROUP}{version}","kind":"ExecCredential","spec":{{"interactive":true,"cluster":{{}}}}}}"#
            )
        };
        let until: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        for version in ["v1", "v1beta1"] {
            let asked = Asked::parse(&info(version)).unwrap();
            assert!(asked.interactive);
            let expected = format!(
                r#"{{"kind":"ExecCredential","apiVersion":"{GROUP}{version}","spec":{{"interactive":true}},"status":{{"expirationTimestamp":"2026-01-02T03:04:05Z","token":"t"}}}}"#
            );
            assert_eq!(asked.format(&CredentialSecret::new("t"), until).trim_end(), expected);
        }
        let old = Asked::parse(&info("v1alpha1")).err().unwrap();
        assert_eq!(old.exit, Exit::Usage);
        assert!(old.sentence.contains("v1alpha1"), "{}", old.sentence);
        assert!(!Asked::parse(r#"{"apiVersion":"client.authentication.k8s.io/v1"}"#).unwrap().interactive);
    }
}

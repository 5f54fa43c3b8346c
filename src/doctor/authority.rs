//! Entra's sign-in host: can it be reached, is it who it should be, and do its clock and ours agree?

use jiff::Timestamp;
use rustls::CertificateError;

use super::LONGER;
use super::finding::{Check, Finding};
use crate::config::EntraConfig;
use crate::entra::{CallError, Look, Trouble};
use crate::tls;

pub(super) const NAME: &str = "authority";
pub(super) const CLOCK: &str = "clock";

/// What ID tokens may be off by; `entra::id_token` refuses those that are further off.
const LEEWAY_SECONDS: i64 = 60;

/// What was seen of the authority.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) check: Check,
    pub(super) clock: Check,
    /// The true time: Entra's, where it was told.
    pub(super) now: Timestamp,
}

impl Authority {
    /// `looked`: `None` where it took too long. `environment`: the names of all variables.
    pub(super) fn new(
        config: &EntraConfig,
        looked: Option<Look>,
        ours: Timestamp,
        environment: &[String],
    ) -> Self {
        let timeout = || Look { date: None, trouble: Some(Trouble::Call(CallError::Timeout(LONGER))) };
        let Look { date, trouble } = looked.unwrap_or_else(timeout);
        let uses_proxy = environment.iter().any(|name| name.eq_ignore_ascii_case("HTTPS_PROXY"));
        let finding = match trouble {
            Some(trouble) => fault(config, &trouble, uses_proxy),
            None => Finding::fine(format!(
                "{} answers, and its issuer is that of tenant {}",
                config.authority, config.tenant_id
            )),
        };
        let check = Check { name: NAME, finding };
        let clock = match date {
            Some(theirs) => compare(ours, theirs),
            None if check.is_fault() => Check::skipped(CLOCK, NAME),
            None => Check::fine(CLOCK, "not compared: the authority's answer bears no Date"),
        };
        Self { check, clock, now: date.unwrap_or(ours) }
    }
}

fn compare(ours: Timestamp, theirs: Timestamp) -> Check {
    let ahead = ours.duration_since(theirs).as_secs();
    if ahead.abs() <= LEEWAY_SECONDS {
        return Check::fine(CLOCK, format!("within {LEEWAY_SECONDS} s of Entra's"));
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let seen = format!("{} s {direction} Entra's: sign-ins are refused", ahead.abs());
    Check::fault(CLOCK, seen, "set the node's clock, and keep it set (NTP)")
}

fn fault(config: &EntraConfig, trouble: &Trouble, uses_proxy: bool) -> Finding {
    let authority = &config.authority;
    let host = authority.host_str().unwrap_or_default();
    match trouble {
        Trouble::Call(CallError::Certificate(why)) => certificate_fault(host, why),
        Trouble::Call(error) if uses_proxy => Finding::fault(
            format!("{host}: {error}; HTTPS_PROXY is set"),
            format!("Entrada makes no use of a proxy: allow the pod to reach {host}, port 443, directly"),
        ),
        Trouble::Call(error) => Finding::fault(
            format!("{host}: {error}"),
            format!("allow the pod DNS, and TCP to {host}, port 443 (NetworkPolicy, firewall)"),
        ),
        Trouble::Refused(90_002) => Finding::fault(
            format!("AADSTS90002: {host} knows no tenant {}", config.tenant_id),
            "correct AZURE_TENANT_ID, or AZURE_AUTHORITY_HOST where the tenant is in another cloud",
        ),
        Trouble::Refused(code) => Finding::fault(
            format!("AADSTS{code} for tenant {}", config.tenant_id),
            format!("see https://login.microsoftonline.com/error?code={code}"),
        ),
        Trouble::NotJson(status, kind) => Finding::fault(
            format!("{host} answered {status} with {kind} in place of JSON: that is not Entra"),
            format!(
                "a proxy or gateway in between answers instead, or AZURE_AUTHORITY_HOST is wrong: exempt {host} from it"
            ),
        ),
        Trouble::Document(why) => Finding::fault(
            why.as_str(),
            "set AZURE_TENANT_ID to the tenant's GUID and AZURE_AUTHORITY_HOST to its own cloud's host",
        ),
    }
}

fn certificate_fault(host: &str, why: &CertificateError) -> Finding {
    let fix = match why {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "set the node's clock, if it is that which is wrong".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "AZURE_AUTHORITY_HOST, or DNS, leads to another server: correct it".to_owned()
        }
        _ => format!(
            "something in between ends TLS, such as an inspecting proxy: put its CA into ENTRADA_ENTRA_CA_FILE, or \
             exempt {host} from inspection"
        ),
    };
    Finding::fault(
        format!("the certificate that {host} presents is not accepted: {}", tls::why_refused(why)),
        fix,
    )
}

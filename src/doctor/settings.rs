//! The settings, as `entrada serve` would judge them.

use super::federated_token;
use super::finding::Check;
use crate::config::{Fault, Faults, RawConfig};

/// What the workload-identity webhook sets beside the authority's host.
const WEBHOOKS: [&str; 3] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"];
const WEBHOOK_FIX: &str = "let the workload-identity webhook act on the pod: enable it for the cluster, label the pod \
                           azure.workload.identity/use=true, annotate its service account with the client id, and \
                           make the pod anew";

/// A row for each fault. All of the webhook's settings missing is one fault: it did not act on the pod.
pub(super) fn faults(raw: &RawConfig, faults: &Faults) -> Vec<Check> {
    let is_absent = |value: &Option<String>| value.as_deref().is_none_or(|text| text.trim().is_empty());
    let webhook_is_absent = [&raw.azure_tenant_id, &raw.azure_client_id, &raw.azure_federated_token_file]
        .iter()
        .all(|value| is_absent(value));
    let mut checks = Vec::new();
    if webhook_is_absent {
        let seen = format!("{} are not set", WEBHOOKS.join(", "));
        checks.push(Check::fault(federated_token::NAME, seen, WEBHOOK_FIX));
    }
    for Fault { check, seen, fix } in faults.iter() {
        let told = format!("{check}: {seen}");
        match check.as_str() {
            name if webhook_is_absent && WEBHOOKS.contains(&name) => {}
            "AZURE_FEDERATED_TOKEN_FILE" => {
                checks.push(Check::fault(federated_token::NAME, told, WEBHOOK_FIX));
            }
            _ => checks.push(Check::fault("settings", told, fix.as_str())),
        }
    }
    checks
}

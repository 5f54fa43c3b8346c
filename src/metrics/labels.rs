//! Labels whose values are known beforehand, so that no client can make time series: what is not known becomes `other`.

use std::sync::LazyLock;

/// Resources of Kubernetes' own API groups and of the metrics server, as `resource` or `resource.group`, sorted.
const RESOURCES: &[&str] = &[
    "apiservices.apiregistration.k8s.io",
    "certificatesigningrequests.certificates.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "componentstatuses",
    "configmaps",
    "controllerrevisions.apps",
    "cronjobs.batch",
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "csistoragecapacities.storage.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "daemonsets.apps",
    "deployments.apps",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "events",
    "events.events.k8s.io",
    "flowschemas.flowcontrol.apiserver.k8s.io",
    "horizontalpodautoscalers.autoscaling",
    "ingressclasses.networking.k8s.io",
    "ingresses.networking.k8s.io",
    "jobs.batch",
    "leases.coordination.k8s.io",
    "limitranges",
    "localsubjectaccessreviews.authorization.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "namespaces",
    "networkpolicies.networking.k8s.io",
    "nodes",
    "nodes.metrics.k8s.io",
    "persistentvolumeclaims",
    "persistentvolumes",
    "poddisruptionbudgets.policy",
    "pods",
    "pods.metrics.k8s.io",
    "podtemplates",
    "priorityclasses.scheduling.k8s.io",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
    "replicasets.apps",
    "replicationcontrollers",
    "resourcequotas",
    "rolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "runtimeclasses.node.k8s.io",
    "secrets",
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "serviceaccounts",
    "services",
    "statefulsets.apps",
    "storageclasses.storage.k8s.io",
    "subjectaccessreviews.authorization.k8s.io",
    "tokenreviews.authentication.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "volumeattachments.storage.k8s.io",
];

/// The same as name and group, so that nothing is put together or taken apart for each request.
static IN_PIECES: LazyLock<Vec<(&str, &str)>> =
    LazyLock::new(|| RESOURCES.iter().map(|known| known.split_once('.').unwrap_or((known, ""))).collect());

/// Statuses that the API server, Entrada and ordinary web servers answer, sorted.
const CODES: &[(u16, &str)] = &[
    (101, "101"),
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (499, "499"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// Reasons of problems that are not the client's: what an alert may ask for.
pub(super) const FAULTS: &[&str] = &[
    "administrator_required",
    "audit_unavailable",
    "dashboard_broken",
    "dashboard_busy",
    "dashboard_timeout",
    "dashboard_unreachable",
    "dashboard_untrusted",
    "entra_unavailable",
    "store_unavailable",
    "upstream_broken",
    "upstream_busy",
    "upstream_timeout",
    "upstream_unreachable",
    "upstream_untrusted",
];

/// Settings whose limit a request can exceed.
pub(super) const LIMITS: &[&str] = &[
    "max_requests_per_user",
    "max_streams_per_user",
    "max_upstream_connections",
    "mount_connections",
    "rate_limit",
    "signin_rate_limit",
    "stall_timeout",
];

/// Why a connection is closed before it is served.
pub(super) const CONNECTIONS_REFUSED: &[&str] =
    &["accept_failed", "handshake_failed", "handshake_slow", "too_many", "too_many_of_address"];

/// What Entra's token endpoint is asked for, and what comes of it.
pub(super) const GRANTS: &[&str] = &["authorization_code", "client_credentials", "refresh_token"];
pub(super) const ENTRA_OUTCOMES: &[&str] = &["admin", "blocked", "ok", "sign_in", "step_up", "transient"];

/// What becomes of a sign-in.
pub(super) const SIGN_INS: &[&str] = &["completed", "failed", "refused"];

/// Files that are read again when they change.
pub(super) const FILES: &[&str] = &["api_server_ca", "certificate", "mount_ca"];

/// Neither in its list nor nameless.
pub(crate) const OTHER: &str = "other";

/// The label of a resource; empty for a path that names none.
pub(crate) fn resource(group: &str, resource: &str) -> &'static str {
    if resource.is_empty() {
        return "";
    }
    let found = IN_PIECES.binary_search(&(resource, group));
    found.map_or(OTHER, |at| RESOURCES[at])
}

/// The label of a status.
pub(crate) fn code(status: u16) -> &'static str {
    let found = CODES.binary_search_by_key(&status, |(code, _)| *code);
    found.map_or(OTHER, |at| CODES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both lists are in the order in which they are searched, and each entry is found.
    #[test]
    fn what_is_listed_is_found() {
        for known in RESOURCES {
            let (name, group) = known.split_once('.').unwrap_or((known, ""));
            assert_eq!(resource(group, name), *known);
        }
        for (status, text) in CODES {
            assert_eq!((code(*status), *text), (*text, status.to_string().as_str()));
        }
    }

    /// What a client makes up is `other`.
    #[test]
    fn what_is_not_listed_is_other() {
        assert_eq!(resource("example.com", "pods"), OTHER);
        assert_eq!(resource("", "deployments"), OTHER);
        assert_eq!(resource("apps", "x"), OTHER);
        assert_eq!(resource("", ""), "");
        assert_eq!((code(299), code(999)), (OTHER, OTHER));
    }
}

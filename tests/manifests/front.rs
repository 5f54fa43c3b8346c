//! What stands in front of the pods: an ingress, a gateway, and the certificate.

use serde_json::json;

use super::render::{Rendered, root};
use super::{installations, setting, text};

/// The host of the public URL, and those of mounted dashboards.
fn hosts(rendered: &Rendered) -> Vec<String> {
    let host = |origin: &str| origin.trim_start_matches("https://").to_owned();
    let mut hosts = vec![host(&text(&setting(rendered, "ENTRADA_PUBLIC_URL")))];
    let mounts = setting(rendered, "ENTRADA_MOUNTS");
    let mounts = mounts.as_str().unwrap_or_default().split(',');
    hosts.extend(mounts.filter_map(|mount| mount.split_once('=')).map(|(origin, _)| host(origin)));
    hosts
}

#[test]
fn what_stands_in_front_speaks_https_to_the_pods_and_is_told_of() {
    // Proves that no proxy in front drops TLS or its check, knows another host, or leaves clients without an address.
    for rendered in installations() {
        let (ingresses, policies) = (rendered.all("Ingress"), rendered.all("BackendTLSPolicy"));
        let is_behind = !ingresses.is_empty() || !policies.is_empty();
        assert_eq!(!setting(rendered, "ENTRADA_TRUSTED_PROXIES").is_null(), is_behind, "{}", rendered.name);
        let hosts = hosts(rendered);
        let host = &hosts[0];
        for ingress in ingresses {
            let rules = ingress["spec"]["rules"].as_array().expect("rules");
            let leading: Vec<_> = rules.iter().map(|rule| text(&rule["host"])).collect();
            assert_eq!(leading, hosts);
            assert!(rules.iter().all(|rule| rule["http"] == rules[0]["http"]), "{rules:?}");
            assert_eq!(ingress["spec"]["tls"], json!([{ "hosts": hosts, "secretName": "entrada-tls" }]));
            let annotations = &ingress["metadata"]["annotations"];
            let nginx = |name: &str| annotations[&format!("nginx.ingress.kubernetes.io/{name}")].clone();
            let agic = |name: &str| annotations[&format!("appgw.ingress.kubernetes.io/{name}")].clone();
            if ingress["spec"]["ingressClassName"] == "nginx" {
                assert_eq!(
                    (nginx("backend-protocol"), nginx("proxy-ssl-verify")),
                    (json!("HTTPS"), json!("on"))
                );
                assert_eq!((nginx("proxy-ssl-name"), nginx("proxy-buffering")), (json!(host), json!("off")));
                assert_eq!(
                    (nginx("proxy-read-timeout"), nginx("proxy-body-size")),
                    (json!("86400"), json!("0"))
                );
            } else {
                assert_eq!(
                    (agic("backend-protocol"), agic("backend-hostname")),
                    (json!("https"), json!(host))
                );
                assert_eq!(
                    (agic("request-timeout"), agic("health-probe-port")),
                    (json!("86400"), json!("8443"))
                );
                let probed = text(&agic("health-probe-path"));
                assert!(root().join(format!("src/pages{probed}")).exists(), "{probed} is not served");
            }
        }
        for policy in policies {
            assert_eq!(policy["spec"]["validation"]["hostname"], *host);
            let route = &rendered.one("HTTPRoute")["spec"];
            assert_eq!(route["hostnames"], json!(hosts));
            assert_eq!(route["rules"][0]["timeouts"]["request"], "0s");
        }
        for certificate in rendered.all("Certificate") {
            assert_eq!(
                (&certificate["spec"]["dnsNames"], &certificate["spec"]["secretName"]),
                (&json!(hosts), &json!("entrada-tls"))
            );
        }
    }
}

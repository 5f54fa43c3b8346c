//! What a security reviewer would ask of the recipes for dashboards, put to what kubectl makes of them. The other half of
//! each, Entrada with the mount, is an overlay like the others.

// Beside this file it would be a test of its own.
#[path = "manifests/render.rs"]
#[expect(dead_code, reason = "the chart is no part of this")]
mod render;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use render::{Rendered, kustomize, ok, root};

fn all() -> Vec<Rendered> {
    let folder = fs::read_dir(root().join("manifests/dashboards")).expect("the folder of dashboards");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name in UTF-8");
    let all: Vec<_> = folder.map(|entry| name(entry.expect("an entry"))).collect();
    assert!(all.len() >= 3, "{all:?}");
    all.iter()
        .map(|name| Rendered { name: name.clone(), ..kustomize(&format!("dashboards/{name}")) })
        .collect()
}

fn pod(rendered: &Rendered) -> &Value {
    &rendered.one("Deployment")["spec"]["template"]
}

fn containers(rendered: &Rendered) -> &[Value] {
    pod(rendered)["spec"]["containers"].as_array().expect("containers")
}

/// A file of the generated ConfigMap.
fn file<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
    rendered.one("ConfigMap")["data"][name].as_str()
}

#[test]
fn they_have_nothing_to_act_with() {
    // Proves that no dashboard has a role or a token of its own: whatever it does, it does with the bearer of a person.
    for rendered in all() {
        let kinds = ["ConfigMap", "Deployment", "Namespace", "NetworkPolicy", "Service", "ServiceAccount"];
        let found: BTreeSet<_> =
            rendered.objects.iter().map(|object| object["kind"].as_str().expect("a kind")).collect();
        assert_eq!(found, BTreeSet::from(kinds), "{}", rendered.name);
        for object in &rendered.objects {
            let home = if object["kind"] == "Namespace" { "name" } else { "namespace" };
            assert_eq!(object["metadata"][home], *rendered.name);
        }
        assert_eq!(rendered.one("ServiceAccount")["automountServiceAccountToken"], false);
        let spec = &pod(&rendered)["spec"];
        assert_eq!(spec["serviceAccountName"], *rendered.name);
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert!(!spec["volumes"].to_string().contains("serviceAccountToken"), "{}", rendered.name);
    }
}

#[test]
fn the_pods_meet_the_restricted_profile() {
    // Proves that a pod is not root and can become nobody else, and that the namespace insists on it.
    for rendered in all() {
        let enforced = &rendered.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(enforced, "restricted");
        let security = &pod(&rendered)["spec"]["securityContext"];
        assert_eq!(
            (&security["runAsNonRoot"], &security["seccompProfile"]["type"]),
            (&json!(true), &json!("RuntimeDefault"))
        );
        for container in containers(&rendered) {
            let security = &container["securityContext"];
            let name = format!("{}: {}", rendered.name, container["name"]);
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
            assert!(!container["resources"]["limits"]["memory"].is_null(), "{name}");
            let image = container["image"].as_str().expect("an image");
            assert!(image.contains('/') && image.contains(':'), "{name}: {image} is not where images are");
        }
    }
}

#[test]
fn only_entrada_reaches_them_and_at_the_port_of_the_mount() {
    // Proves that the mount in the overlay leads to the dashboard's port, and that nobody else gets there.
    for rendered in all() {
        let labels = json!({ "matchLabels": { "app.kubernetes.io/name": rendered.name } });
        let policy = &rendered.one("NetworkPolicy")["spec"];
        assert_eq!((&policy["podSelector"], &policy["policyTypes"]), (&labels, &json!(["Ingress"])));
        let entrada = kustomize(&format!("overlays/{}", rendered.name));
        let from = json!([{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": entrada.one("Namespace")["metadata"]["name"] } },
            "podSelector": { "matchLabels": entrada.one("Deployment")["spec"]["selector"]["matchLabels"] },
        }]);
        assert_eq!(policy["ingress"], json!([{ "ports": [{ "port": "http" }], "from": from }]));
        assert_eq!(pod(&rendered)["metadata"]["labels"]["app.kubernetes.io/name"], *rendered.name);

        let mount = entrada.one("ConfigMap")["data"]["ENTRADA_MOUNTS"].as_str().expect("a mount").to_owned();
        let (_, dashboard) = mount.split_once('=').expect("a host and a dashboard");
        assert_eq!(dashboard, format!("http://{0}.{0}.svc;insecure", rendered.name));
        let service = rendered.one("Service");
        assert_eq!(service["spec"]["ports"], json!([{ "name": "http", "port": 80, "targetPort": "http" }]));
        let ports =
            containers(&rendered).iter().filter_map(|container| container["ports"].as_array()).flatten();
        assert_eq!(ports.filter(|port| port["name"] == "http").count(), 1);
    }
}

#[test]
fn their_api_server_is_entrada_and_they_check_who_answers() {
    // Proves that kubectl's own code reads the kubeconfigs so: Entrada's address, its authority, and a user without any
    // credential; and that the page's web server checks the same.
    for rendered in all() {
        let service = kustomize(&format!("overlays/{}", rendered.name)).one("Service").clone();
        let name = |of: &str| service["metadata"][of].as_str().expect("a name").to_owned();
        let address = format!("https://{}.{}.svc", name("name"), name("namespace"));
        assert_eq!(service["spec"]["ports"][0]["port"], 443);
        assert!(
            pod(&rendered)["spec"]["volumes"].to_string().contains(r#""configMap":{"name":"entrada-ca"}"#)
        );
        let Some(kubeconfig) = file(&rendered, "kubeconfig") else {
            let web_server = file(&rendered, "nginx.conf").expect("a web server's configuration");
            assert!(web_server.contains(&format!("proxy_pass {address};")), "{}", rendered.name);
            assert!(web_server.contains("proxy_ssl_verify on;"), "{}", rendered.name);
            continue;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        fs::write(&path, kubeconfig).expect("it can be written");
        let path = path.to_str().expect("UTF-8");
        let read = ok("kubectl", &["config", "view", "--raw", "--output=json", "--kubeconfig", path], "");
        let read: Value = serde_json::from_str(&read).expect("JSON");
        let cluster = &read["clusters"][0]["cluster"];
        assert_eq!(
            (&cluster["server"], &cluster["certificate-authority"]),
            (&json!(address), &json!("/etc/entrada-ca/ca.crt"))
        );
        assert!(cluster["insecure-skip-tls-verify"].is_null(), "{}", rendered.name);
        assert_eq!(read["users"], json!([{ "name": "whoever-looks", "user": {} }]));
        assert_eq!(read["current-context"], "main");
    }
}

#[test]
fn kubernetes_knows_every_field() {
    // Proves that no field is misspelt or of another type.
    let folder = tempfile::tempdir().expect("a folder");
    for rendered in all() {
        let path = folder.path().join(format!("{}.yaml", rendered.name));
        let documents: String = rendered.objects.iter().map(|object| format!("---\n{object}\n")).collect();
        fs::write(&path, documents).expect("it can be written");
        let path = path.to_str().expect("UTF-8");
        for version in ["1.30", "1.34", "1.37"] {
            let said = ok("kubernetes-validate", &["--strict", "--kubernetes-version", version, path], "");
            assert!(!said.contains("Couldn't find schema"), "{said}");
            assert!(said.contains(&format!("passed for resource deployment/{}", rendered.name)), "{said}");
        }
    }
}

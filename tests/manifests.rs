//! What a security reviewer would ask of the manifests, put to what kubectl and helm make of them: the base, the site, every
//! overlay, and the chart with the values of every overlay.

// Beside this file they would be tests of their own.
#[path = "manifests/front.rs"]
mod front;
#[path = "manifests/render.rs"]
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use clap::{Args, Command, FromArgMatches};
use entrada::config::{Config, RawConfig};
use serde_json::{Value, json};
use standin::pki::Ca;

use render::{Rendered, chart, kustomize, overlays};

static ALL: LazyLock<Vec<Rendered>> = LazyLock::new(|| {
    let mut all = vec![kustomize("base"), kustomize("site")];
    for overlay in overlays() {
        all.push(kustomize(&format!("overlays/{overlay}")));
        all.push(chart(&overlay, &[]));
    }
    all
});

/// What a user installs: everything but the base, which names no site.
fn installations() -> impl Iterator<Item = &'static Rendered> {
    ALL.iter().filter(|rendered| rendered.name != "base")
}

#[test]
fn they_hold_these_objects_and_no_privilege() {
    // Proves that nothing is bound to a role, and that an object of a new kind is noticed here before it is applied.
    let common = ["ConfigMap", "Deployment", "Namespace", "Service", "ServiceAccount"];
    let several = ["HorizontalPodAutoscaler", "PodDisruptionBudget"];
    let routed = ["BackendTLSPolicy", "HTTPRoute"];
    let more: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("single", vec![]),
        ("redis", several.to_vec()),
        ("cert-manager", [&several[..], &["Certificate"]].concat()),
        ("ingress-nginx", vec!["Ingress"]),
        ("ingress-agic", vec!["Ingress"]),
        ("istio", routed.to_vec()),
        ("envoy-gateway", [&routed[..], &["BackendTrafficPolicy"]].concat()),
        ("headlamp", vec!["Certificate"]),
        ("kubernetes-dashboard", vec!["Ingress"]),
        ("own-page", routed.to_vec()),
    ]);
    let kinds = |rendered: &Rendered| -> BTreeSet<String> {
        rendered.objects.iter().map(|object| text(&object["kind"])).collect()
    };
    let expected = |kinds: &[&str]| kinds.iter().map(|&kind| kind.to_owned()).collect::<BTreeSet<_>>();
    for name in ["base", "site"] {
        assert_eq!(kinds(named(name)), expected(&common), "{name}");
    }
    for overlay in overlays() {
        let more = more.get(overlay.as_str()).expect("an overlay that stands in the table above");
        let all = [&common[..], &["NetworkPolicy"], more].concat();
        assert_eq!(kinds(named(&format!("overlays/{overlay}"))), expected(&all));
        // The namespace is there before the chart, whose settings stand in the pods; the Pod is what `helm test` runs.
        let not_there = ["Namespace", "ConfigMap"];
        let all: Vec<_> = all.into_iter().filter(|kind| !not_there.contains(kind)).chain(["Pod"]).collect();
        assert_eq!(kinds(named(&format!("chart {overlay} "))), expected(&all));
    }
}

#[test]
fn everything_lives_in_one_namespace_under_one_label() {
    // Proves that deleting the namespace leaves nothing behind, and that the label finds what was installed.
    for rendered in installations() {
        for object in &rendered.objects {
            let name = format!("{}: {}", rendered.name, object["kind"]);
            let home = if object["kind"] == "Namespace" { "name" } else { "namespace" };
            assert_eq!(object["metadata"][home], "entrada", "{name}");
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/part-of"], "entrada", "{name}");
        }
    }
}

#[test]
fn no_token_for_the_api_server_is_mounted_but_the_ca_is() {
    // Proves that the pods have no credential for Kubernetes, yet can check the API server's certificate.
    for rendered in ALL.iter() {
        assert_eq!(rendered.one("ServiceAccount")["automountServiceAccountToken"], false);
        for pod in pods(rendered) {
            assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
            assert!(!pod["spec"]["volumes"].to_string().contains("serviceAccountToken"), "{}", rendered.name);

            let mount = mount_at(pod, "/var/run/secrets/kubernetes.io/serviceaccount");
            let sources = volume(pod, mount)["projected"]["sources"].as_array().expect("projected sources");
            assert_eq!(sources.len(), 1);
            assert_eq!(sources[0]["configMap"]["name"], "kube-root-ca.crt");
            assert_eq!(sources[0]["configMap"]["items"][0]["path"], "ca.crt");
        }
    }
}

#[test]
fn workload_identity_is_asked_for_and_the_site_fills_it_in() {
    // Proves that the webhook acts on the pods, and that filling in the site leaves no placeholder of the base behind.
    let names = ["azure.workload.identity/client-id", "azure.workload.identity/tenant-id"];
    let annotation =
        |rendered: &Rendered, name| text(&rendered.one("ServiceAccount")["metadata"]["annotations"][name]);
    for name in names {
        assert!(annotation(named("base"), name).starts_with("00000000-"), "{name}");
    }
    for rendered in installations() {
        for name in names {
            assert!(!annotation(rendered, name).starts_with("00000000-"), "{}: {name}", rendered.name);
        }
        for pod in pods(rendered) {
            assert_eq!(pod["metadata"]["labels"]["azure.workload.identity/use"], "true");
            let account = &rendered.one("ServiceAccount")["metadata"]["name"];
            assert_eq!(pod["spec"]["serviceAccountName"], *account);
            assert_eq!(container(pod)["image"], "registry.example.com/entrada:0.1.0");
        }
        assert!(text(&setting(rendered, "ENTRADA_PUBLIC_URL")).starts_with("https://"));
        assert!(!rendered.objects.iter().any(|object| object.to_string().contains("replaced")));
    }
}

#[test]
fn the_pods_meet_the_restricted_profile() {
    // Proves that a pod is not root, cannot become it, and can write nowhere; and that the namespace insists on it.
    let labels = &named("base").one("Namespace")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    for rendered in ALL.iter() {
        for pod in pods(rendered) {
            let spec = &pod["spec"];
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            assert_ne!(spec["securityContext"]["runAsUser"].as_u64().expect("a numeric user"), 0);
            assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            for shared in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
                assert!(spec[shared].is_null(), "{shared}");
            }

            let security = &container(pod)["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            assert!(security["capabilities"]["add"].is_null() && security["privileged"].is_null());
            for mount in container(pod)["volumeMounts"].as_array().expect("mounts") {
                assert_eq!(mount["readOnly"], true, "{mount}");
            }
            assert!(!container(pod)["resources"]["limits"]["memory"].is_null());
        }
    }
}

#[test]
fn secrets_lie_where_the_settings_say_and_nobody_else_reads_them() {
    // Proves that certificate and store password are found, and that no other user of the pod could read them.
    for rendered in ALL.iter() {
        let files: Vec<_> =
            settings(rendered).into_iter().filter(|(_, value)| value.starts_with("/etc/")).collect();
        assert!(files.len() >= 2, "{}: {files:?}", rendered.name);
        for (name, path) in files {
            let (folder, file) = path.rsplit_once('/').expect("a path");
            let secret = match (name.contains("STORE"), file) {
                (true, "password" | "ca.crt") => "entrada-store",
                (false, "tls.crt" | "tls.key") => "entrada-tls",
                _ => panic!("{}: {name}: {path} is no file of a Secret", rendered.name),
            };
            for pod in pods(rendered) {
                let volume = &volume(pod, mount_at(pod, folder))["secret"];
                assert_eq!(volume["secretName"], secret);
                assert_eq!(volume["defaultMode"].as_u64().expect("a mode") & 0o007, 0);
            }
        }
    }
}

#[test]
fn the_settings_come_from_one_place_and_nothing_comes_between() {
    // Proves that the pods have these settings, and no variables of a Service (ENTRADA_PORT, …) beside them.
    for rendered in ALL.iter() {
        for pod in pods(rendered) {
            assert_eq!(pod["spec"]["enableServiceLinks"], false);
            if rendered.name.starts_with("chart") {
                let env = container(pod)["env"].as_array().expect("settings");
                assert_eq!(env.len(), rendered.settings().len(), "{}: each once", rendered.name);
                assert!(container(pod)["envFrom"].is_null(), "{}: and all there", rendered.name);
                continue;
            }
            let map = &container(pod)["envFrom"][0]["configMapRef"]["name"];
            assert_eq!(*map, rendered.one("ConfigMap")["metadata"]["name"]);
            assert!(container(pod)["env"].is_null(), "{}: settings stand in the ConfigMap", rendered.name);
        }
    }
}

#[test]
fn the_program_takes_the_settings_as_they_are() {
    // Proves that no setting is misspelt, and that none has a value that would end the program with exit code 64.
    let ca = Ca::new("an authority").expect("an authority");
    let issued = ca.issue(&["k8s.example.com"]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    for (file, content) in [
        ("tls/tls.crt", issued.cert_pem.as_str()),
        ("tls/tls.key", issued.key_pem.as_str()),
        ("store/password", "secret"),
        ("store/ca.crt", ca.pem()),
        ("token", "a token"),
    ] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        std::fs::write(path, content).expect("it can be written");
    }
    let at = |path: &str| format!("{}/{path}", folder.path().display());
    for rendered in installations() {
        let flag = |name: &str| name.trim_start_matches("ENTRADA_").to_lowercase().replace('_', "-");
        let own = settings(rendered).into_iter();
        let mut given: Vec<(String, String)> =
            own.map(|(name, value)| (flag(&name), value.replace("/etc/entrada/", &at("")))).collect();
        let account = &rendered.one("ServiceAccount")["metadata"]["annotations"];
        // What the webhook, the kubelet and the mounts add.
        given.extend([
            ("azure-client-id".to_owned(), text(&account["azure.workload.identity/client-id"])),
            ("azure-tenant-id".to_owned(), text(&account["azure.workload.identity/tenant-id"])),
            ("azure-federated-token-file".to_owned(), at("token")),
            ("api-server-url".to_owned(), "https://10.0.0.1:443".to_owned()),
            ("api-server-ca-file".to_owned(), at("store/ca.crt")),
        ]);
        let arguments = given.iter().map(|(flag, value)| format!("--{flag}={value}"));
        let command = RawConfig::augment_args(Command::new("serve"));
        let matches = command.try_get_matches_from(["serve".to_owned()].into_iter().chain(arguments));
        let raw = RawConfig::from_arg_matches(&matches.expect("settings")).expect("settings");
        let config = Config::from_raw(&raw).unwrap_or_else(|faults| panic!("{}: {faults}", rendered.name));
        assert_eq!((config.public_url.host(), config.drain.as_secs()), ("k8s.example.com", 25));
    }
}

#[test]
fn the_drain_fits_in_the_grace_period_and_an_update_never_leaves_nobody_serving() {
    // Proves that Kubernetes does not kill a pod that still drains, and that a bad update leaves the old pod alone.
    for rendered in ALL.iter().chain([&chart("single", &["--set", "drainSeconds=100"])]) {
        let drain = text(&setting(rendered, "ENTRADA_DRAIN"));
        let drain: u64 = drain.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).expect("seconds");
        let deployment = &rendered.one("Deployment")["spec"];
        let grace =
            deployment["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
        let notice = container(&deployment["template"])["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        let notice = notice.expect("a load balancer may notice");
        let is_agic = rendered.all("Ingress").iter().any(|it| it.to_string().contains("appgw."));
        assert!(notice >= if is_agic { 90 } else { 10 }, "{}: {notice} s", rendered.name);
        assert!(grace >= notice + drain + 10, "{}: {grace} s for {notice} and {drain} s", rendered.name);
        assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    }
}

#[test]
fn several_replicas_share_a_store_and_do_not_fail_together() {
    // Proves that nobody is signed in at one replica only, and that a drained node or zone takes one replica.
    for rendered in ALL.iter() {
        let deployment = &rendered.one("Deployment")["spec"];
        if rendered.all("HorizontalPodAutoscaler").is_empty() {
            assert_eq!(deployment["replicas"], 1, "{}", rendered.name);
            assert!(rendered.all("PodDisruptionBudget").is_empty(), "one replica would block every drain");
            continue;
        }
        assert!(text(&setting(rendered, "ENTRADA_STORE")).starts_with("rediss://"));
        // Both counts would be set: by the autoscaler, and by each `apply` or upgrade.
        assert!(deployment["replicas"].is_null(), "{}", rendered.name);
        let scaler = &rendered.one("HorizontalPodAutoscaler")["spec"];
        assert_eq!(
            (scaler["scaleTargetRef"]["name"].as_str(), scaler["minReplicas"].as_u64()),
            (Some("entrada"), Some(3))
        );

        let budget = &rendered.one("PodDisruptionBudget")["spec"];
        let selector = &deployment["selector"];
        assert_eq!((&budget["maxUnavailable"], &budget["selector"]), (&json!(1), selector));
        let spread =
            deployment["template"]["spec"]["topologySpreadConstraints"].as_array().expect("constraints");
        let keys: Vec<_> = spread.iter().map(|own| text(&own["topologyKey"])).collect();
        assert_eq!(keys, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]);
        assert!(spread.iter().all(|own| own["labelSelector"] == *selector));
    }
}

#[test]
fn the_service_leads_to_the_public_listener_and_the_probes_to_the_admin_listener() {
    // Proves that the public port, and that port alone, is reachable through the Service; at the serving pods only.
    for rendered in ALL.iter() {
        let template = &rendered.one("Deployment")["spec"]["template"];
        let listener = |name: &Value| {
            let ports = container(template)["ports"].as_array().cloned().expect("ports");
            let port = ports.into_iter().find(|port| port["name"] == *name).expect("a port of this name");
            port["containerPort"].as_u64().expect("a number")
        };
        let service = &rendered.one("Service")["spec"];
        let ports = service["ports"].as_array().expect("ports");
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0]["port"].as_u64(), listener(&ports[0]["targetPort"])), (Some(443), 8443));

        let selector = service["selector"].as_object().expect("a selector");
        let selects = |labels: &Value| selector.iter().all(|(label, value)| labels[label] == *value);
        assert!(selects(&template["metadata"]["labels"]));
        assert!(!rendered.all("Pod").iter().any(|pod| selects(&pod["metadata"]["labels"])));
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let http = &container(template)[probe]["httpGet"];
            assert_eq!((text(&http["path"]).as_str(), listener(&http["port"])), (path, 9090));
        }
    }
}

#[test]
fn only_monitoring_reaches_the_admin_port() {
    // Proves that the network policy opens the public port to all and the metrics to one namespace.
    for rendered in installations().filter(|rendered| rendered.name != "site") {
        let policy = &rendered.one("NetworkPolicy")["spec"];
        assert_eq!(policy["podSelector"], rendered.one("Deployment")["spec"]["selector"]);
        let from = json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]);
        let rules =
            json!([{ "ports": [{ "port": "https" }] }, { "ports": [{ "port": "admin" }], "from": from }]);
        assert_eq!(policy["ingress"], rules, "{}", rendered.name);
    }
}

// Finding one's way in what was rendered.

fn named(name: &str) -> &'static Rendered {
    ALL.iter().find(|rendered| rendered.name == name).expect("one of this name")
}

/// The Deployment's pod, and the chart's test pod.
fn pods(rendered: &Rendered) -> Vec<&Value> {
    let mut pods = rendered.all("Pod");
    pods.push(&rendered.one("Deployment")["spec"]["template"]);
    pods
}

fn container(pod: &Value) -> &Value {
    let containers = &pod["spec"]["containers"];
    assert_eq!(containers.as_array().expect("containers").len(), 1);
    &containers[0]
}

fn mount_at<'a>(pod: &'a Value, path: &str) -> &'a Value {
    let mounts = container(pod)["volumeMounts"].as_array().expect("mounts");
    mounts.iter().find(|mount| mount["mountPath"] == path).expect("a mount at this path")
}

fn volume<'a>(pod: &'a Value, mount: &Value) -> &'a Value {
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("the volume of this mount")
}

fn settings(rendered: &Rendered) -> Vec<(String, String)> {
    rendered.settings().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn setting(rendered: &Rendered, name: &str) -> Value {
    rendered.settings().get(name).cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

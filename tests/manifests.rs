//! What a security reviewer would ask of the manifests, put to what kubectl makes of them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Settings that a manifest may set: those of the outside contract.
const SETTINGS: &[&str] = &[
    "ENTRADA_ADMIN_LISTEN",
    "ENTRADA_API_SERVER_CA_FILE",
    "ENTRADA_API_SERVER_URL",
    "ENTRADA_CLUSTER_NAME",
    "ENTRADA_COOKIE_IDLE",
    "ENTRADA_DRAIN",
    "ENTRADA_ENTRA_CA_FILE",
    "ENTRADA_LISTEN",
    "ENTRADA_MAX_CONNECTIONS",
    "ENTRADA_MAX_CONNECTIONS_PER_ADDRESS",
    "ENTRADA_MAX_REQUESTS_PER_USER",
    "ENTRADA_MAX_STREAMS_PER_USER",
    "ENTRADA_PUBLIC_CA_FILE",
    "ENTRADA_PUBLIC_URL",
    "ENTRADA_RATE_LIMIT",
    "ENTRADA_REARM",
    "ENTRADA_SESSION_LIFETIME",
    "ENTRADA_SIGNIN_RATE_LIMIT",
    "ENTRADA_STORE",
    "ENTRADA_TLS",
    "ENTRADA_TLS_CERT_FILE",
    "ENTRADA_TLS_KEY_FILE",
    "ENTRADA_TOKEN_LIFETIME",
    "ENTRADA_TRUSTED_PROXIES",
];

#[test]
fn they_hold_these_objects_and_no_privilege() {
    // Proves that nothing is bound to a role, and that an object of a new kind is noticed here before it is applied.
    for folder in ["base", "example"] {
        let kinds: Vec<_> = render(folder).iter().map(|object| text(&object["kind"])).collect();
        assert_eq!(kinds, ["Namespace", "ServiceAccount", "ConfigMap", "Service", "Deployment"], "{folder}");
    }
    let optional = render("network-policy");
    assert_eq!(optional.iter().map(|object| text(&object["kind"])).collect::<Vec<_>>(), ["NetworkPolicy"]);
}

#[test]
fn no_token_for_the_api_server_is_mounted_but_the_ca_is() {
    // Proves that the pod has no credential for Kubernetes, yet can check the API server's certificate.
    for folder in ["base", "example"] {
        let objects = render(folder);
        assert_eq!(one(&objects, "ServiceAccount")["automountServiceAccountToken"], false);
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert!(!pod["volumes"].to_string().contains("serviceAccountToken"), "{folder}");

        let mount = mount_at(pod, "/var/run/secrets/kubernetes.io/serviceaccount");
        let sources = volume(pod, mount)["projected"]["sources"].as_array().expect("projected sources");
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0]["configMap"]["name"], "kube-root-ca.crt");
        assert_eq!(sources[0]["configMap"]["items"][0]["path"], "ca.crt");
    }
}

#[test]
fn workload_identity_is_asked_for_and_the_example_fills_it_in() {
    // Proves that the webhook acts on the pod, and that copying the example leaves no placeholder of the base behind.
    let (base, example) = (render("base"), render("example"));
    for objects in [&base, &example] {
        let template = &one(objects, "Deployment")["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["azure.workload.identity/use"], "true");
        assert_eq!(
            template["spec"]["serviceAccountName"],
            one(objects, "ServiceAccount")["metadata"]["name"]
        );
    }
    for name in ["azure.workload.identity/client-id", "azure.workload.identity/tenant-id"] {
        let of = |objects: &[Value]| text(&one(objects, "ServiceAccount")["metadata"]["annotations"][name]);
        assert!(of(&base).starts_with("00000000-"), "{name}");
        assert!(!of(&example).starts_with("00000000-"), "{name}");
    }
    assert!(text(&setting(&example, "ENTRADA_PUBLIC_URL")).starts_with("https://"));
    assert_ne!(container(&base)["image"], container(&example)["image"]);
}

#[test]
fn the_pod_meets_the_restricted_profile() {
    // Proves that the pod is not root, cannot become it, and can write nowhere; and that the namespace insists on it.
    for folder in ["base", "example"] {
        let objects = render(folder);
        let labels = &one(&objects, "Namespace")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");

        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_ne!(pod["securityContext"]["runAsUser"].as_u64().expect("a numeric user"), 0);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for shared in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            assert!(pod[shared].is_null(), "{shared}");
        }

        let security = &container(&objects)["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(security["capabilities"]["add"].is_null() && security["privileged"].is_null());
        for mount in container(&objects)["volumeMounts"].as_array().expect("mounts") {
            assert_eq!(mount["readOnly"], true, "{mount}");
        }
        assert!(!container(&objects)["resources"]["limits"]["memory"].is_null());
    }
}

#[test]
fn the_tls_key_comes_from_a_secret_and_lies_where_the_settings_say() {
    // Proves that the listener finds its certificate, and that no other user of the pod could read the key.
    for folder in ["base", "example"] {
        let objects = render(folder);
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        for (name, file) in [("ENTRADA_TLS_CERT_FILE", "tls.crt"), ("ENTRADA_TLS_KEY_FILE", "tls.key")] {
            let path = text(&setting(&objects, name));
            let mount =
                mount_at(pod, path.strip_suffix(&format!("/{file}")).expect("the Secret's own file name"));
            let secret = &volume(pod, mount)["secret"];
            assert_eq!(secret["secretName"], "entrada-tls");
            assert_eq!(secret["defaultMode"].as_u64().expect("a mode") & 0o007, 0);
        }
    }
}

#[test]
fn every_setting_is_one_of_the_contract() {
    // Proves that no setting is misspelt, and that a Service's variables (ENTRADA_PORT, …) do not come between ours.
    for folder in ["base", "example"] {
        let objects = render(folder);
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["enableServiceLinks"], false);

        let map = one(&objects, "ConfigMap");
        assert_eq!(container(&objects)["envFrom"][0]["configMapRef"]["name"], map["metadata"]["name"]);
        let own = container(&objects)["env"].as_array().cloned().unwrap_or_default();
        let own = own.iter().map(|variable| text(&variable["name"]));
        for name in map["data"].as_object().expect("settings").keys().cloned().chain(own) {
            assert!(SETTINGS.contains(&name.as_str()), "{folder}: {name} is not in the contract");
        }
    }
}

#[test]
fn the_drain_fits_in_the_grace_period_and_an_update_never_leaves_nobody_serving() {
    // Proves that Kubernetes does not kill a pod that still drains, and that a bad update leaves the old pod alone.
    for folder in ["base", "example"] {
        let objects = render(folder);
        let drain = text(&setting(&objects, "ENTRADA_DRAIN"));
        let drain: u64 = drain.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).expect("seconds");
        let deployment = &one(&objects, "Deployment")["spec"];
        let grace =
            deployment["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
        assert!(grace >= drain + 10, "{folder}: {grace} s for a drain of {drain} s");
        assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
        // The base's store is the memory of one process.
        assert_eq!(deployment["replicas"], 1);
    }
}

#[test]
fn the_service_leads_to_the_public_listener_and_the_probes_to_the_admin_listener() {
    // Proves that the public port, and that port alone, is reachable through the Service.
    for folder in ["base", "example"] {
        let objects = render(folder);
        let listener = |name: &Value| {
            let ports = container(&objects)["ports"].as_array().cloned().expect("ports");
            let port = ports.into_iter().find(|port| port["name"] == *name).expect("a port of this name");
            port["containerPort"].as_u64().expect("a number")
        };
        let service = &one(&objects, "Service")["spec"];
        let ports = service["ports"].as_array().expect("ports");
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0]["port"].as_u64(), listener(&ports[0]["targetPort"])), (Some(443), 8443));

        let template = &one(&objects, "Deployment")["spec"]["template"];
        let pods = &template["metadata"]["labels"];
        for (label, value) in service["selector"].as_object().expect("a selector") {
            assert_eq!(pods[label], *value);
        }
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let http = &container(&objects)[probe]["httpGet"];
            assert_eq!((text(&http["path"]).as_str(), listener(&http["port"])), (path, 9090));
        }
    }
}

#[test]
fn kubernetes_knows_every_field_of_the_deployment() {
    // Proves that no field is misspelt: kubectl's own types drop what they do not know, so that it would be missing.
    let deployment = one(&render("example"), "Deployment").clone();
    let account = text(&deployment["spec"]["template"]["spec"]["serviceAccountName"]);
    let typed = |given: &Value| {
        let known = ["set", "serviceaccount", "--local", "--filename", "-", "--output", "json", &account];
        json(&kubectl(&known, &given.to_string())).remove(0)
    };
    assert_eq!(lost(&deployment, &typed(&deployment), "Deployment"), [""; 0]);

    // And proof that a misspelt field is noticed.
    let security = "/spec/template/spec/containers/0/securityContext";
    let mut misspelt = deployment;
    misspelt.pointer_mut(security).expect("a context")["readOnlyRootFileSystem"] = Value::Bool(true);
    let expected = format!("Deployment{security}/readOnlyRootFileSystem");
    assert_eq!(lost(&misspelt, &typed(&misspelt), "Deployment"), [expected]);
}

/// The paths of what stands in `given` but not in `kept`.
fn lost(given: &Value, kept: &Value, path: &str) -> Vec<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(_)) => {
            given.iter().flat_map(|(key, value)| lost(value, &kept[key], &format!("{path}/{key}"))).collect()
        }
        (Value::Array(given), Value::Array(_)) => {
            let items = given.iter().enumerate();
            items.flat_map(|(at, item)| lost(item, &kept[at], &format!("{path}/{at}"))).collect()
        }
        _ if given == kept => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

// Finding one's way in what was rendered.

fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).expect("an object of this kind")
}

fn container(objects: &[Value]) -> &Value {
    let containers = &one(objects, "Deployment")["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().expect("containers").len(), 1);
    &containers[0]
}

fn mount_at<'a>(pod: &'a Value, path: &str) -> &'a Value {
    let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
    mounts.iter().find(|mount| mount["mountPath"] == path).expect("a mount at this path")
}

fn volume<'a>(pod: &'a Value, mount: &Value) -> &'a Value {
    let volumes = pod["volumes"].as_array().expect("volumes");
    volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("the volume of this mount")
}

fn setting(objects: &[Value], name: &str) -> Value {
    one(objects, "ConfigMap")["data"][name].clone()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

// kubectl.

/// What `kubectl apply --kustomize manifests/<folder>` would send.
fn render(folder: &str) -> Vec<Value> {
    let yaml = kubectl(&["kustomize", &format!("manifests/{folder}")], "");
    // A patch that changes nothing, for kubectl to print the same as JSON: it needs no server, and we no YAML parser.
    json(&kubectl(
        &["patch", "--local", "--type=merge", "--patch={}", "--filename=-", "--output=json"],
        &yaml,
    ))
}

fn json(objects: &str) -> Vec<Value> {
    let stream = serde_json::Deserializer::from_str(objects).into_iter();
    stream.map(|object| object.expect("kubectl prints JSON")).collect()
}

fn kubectl(arguments: &[&str], input: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/tools/kubectl");
    assert!(program.exists(), "kubectl is missing: run scripts/tools kubectl");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root)
        // Whoever runs the tests may have a cluster: it has no part in this.
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    // Some kilobytes, which a pipe holds even before kubectl reads them; dropped, and so closed, at once.
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kubectl takes its input");
    let output = child.wait_with_output().expect("kubectl ends");
    assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("kubectl writes UTF-8")
}

//! The chart against the overlays, against helm's own checks, and all manifests against Kubernetes' own schemas.

// Beside this file it would be a test of its own.
#[path = "manifests/render.rs"]
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use render::{CHART, Rendered, chart, kustomize, kustomize_at, ok, overlays, release, root, run, values};

/// The oldest Kubernetes that the chart admits, kubectl's and the newest that there are schemas of.
const KUBERNETES: &[&str] = &["1.30", "1.34", "1.37"];

/// Kinds that Kubernetes does not define. Their fields are checked by nothing here but our eyes.
const CUSTOM: &[&str] = &["BackendTLSPolicy", "BackendTrafficPolicy", "Certificate", "HTTPRoute"];

/// What helm and Kustomize add of their own.
const OWN_LABELS: &[&str] = &["app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"];

#[test]
fn kubernetes_knows_every_field() {
    // Proves that no field is misspelt or of another type, in any version that is promised; and that one would be found.
    let folder = tempfile::tempdir().expect("a folder");
    let write = |rendered: &Rendered| {
        let path = folder.path().join(format!("{}.yaml", rendered.name.replace(['/', ' '], "-")));
        let documents: String = rendered.objects.iter().map(|object| format!("---\n{object}\n")).collect();
        fs::write(&path, documents).expect("it can be written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let all = overlays().into_iter();
    let all = all.flat_map(|overlay| [kustomize(&format!("overlays/{overlay}")), chart(&overlay, &[])]);
    let files: Vec<String> = all.map(|rendered| write(&rendered)).collect();
    for version in KUBERNETES {
        let arguments = ["--strict", "--kubernetes-version", version].into_iter();
        let arguments: Vec<&str> = arguments.chain(files.iter().map(String::as_str)).collect();
        let said = ok("kubernetes-validate", &arguments, "");
        let unknown = said
            .lines()
            .filter_map(|line| line.split_once("Couldn't find schema for kind ")?.1.split(' ').next());
        assert_eq!(unknown.collect::<BTreeSet<_>>(), CUSTOM.iter().copied().collect(), "{said}");
        assert!(said.contains("passed for resource deployment/entrada"), "{said}");
    }

    let mut misspelt = chart("redis", &[]);
    for object in &mut misspelt.objects {
        if object["kind"] == "Deployment" {
            object["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] =
                json!(true);
        }
    }
    let output = run("kubernetes-validate", &["--strict", &write(&misspelt)], "");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("'readOnlyRootFileSystem' was unexpected"), "{said}");
}

#[test]
fn the_chart_installs_what_the_overlay_installs() {
    // Proves that whoever changes from one to the other, or reads only one of them, gets the same objects.
    for overlay in overlays() {
        let (theirs, ours) = (kustomize(&format!("overlays/{overlay}")), chart(&overlay, &[]));
        assert_eq!(theirs.settings(), ours.settings(), "{overlay}");
        let (mut theirs, mut ours) = (by_name(&theirs), by_name(&ours));
        // Whoever installs the chart makes the namespace first; the overlay has no `helm test`.
        assert!(theirs.remove("Namespace entrada").is_some() && ours.remove("Pod entrada-doctor").is_some());
        assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{overlay}");
        for (name, object) in theirs {
            assert_eq!(
                differences(&object, &ours[&name], ""),
                [""; 0],
                "{overlay}: {name}: in overlay and chart"
            );
        }
    }
}

#[test]
fn the_charts_monitoring_is_the_components() {
    // Proves that both bring the same alerts, dashboard and PodMonitor, and that another release's are its own.
    let parts = |rendered: &Rendered| -> BTreeMap<String, Value> {
        let name =
            |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', "");
        let is_part = |name: &String| {
            name.starts_with("PodMonitor ")
                || name.starts_with("PrometheusRule ")
                || name.ends_with("-dashboard")
        };
        let mut objects: BTreeMap<_, _> =
            rendered.objects.iter().map(|object| (name(object), object.clone())).collect();
        objects.retain(|name, _| is_part(name));
        for object in objects.values_mut() {
            without(&mut object["metadata"], "labels", OWN_LABELS);
        }
        objects
    };
    let on = ["--set", "monitoring.enabled=true"];
    let (theirs, ours) = (parts(&kustomize("components/monitoring")), parts(&chart("single", &on)));
    assert_eq!(theirs.len(), 3);
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (name, object) in theirs {
        assert_eq!(differences(&object, &ours[&name], ""), [""; 0], "{name}: in component and chart");
    }
    let more = "monitoring.runbooks=https://wiki.example.com/entrada,monitoring.labels.release=prometheus";
    let other = [&on[..], &["--set", more]].concat();
    let other = release("other", "elsewhere", "single", &other);
    let selector = &other.one("PodMonitor")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"];
    assert_eq!(selector, "other");
    let rules = other.one("PrometheusRule").to_string();
    assert!(
        rules.contains("https://wiki.example.com/entrada#entradadown") && !rules.contains("docs.example.com")
    );
    for kind in ["PodMonitor", "PrometheusRule"] {
        assert_eq!(other.one(kind)["metadata"]["labels"]["release"], "prometheus", "{kind}");
    }
    let dashboard = &parts(&other)["ConfigMap other-dashboard"];
    assert!(dashboard["data"]["other.json"].as_str().is_some_and(|text| text.contains(r#""uid": "other""#)));
    let dashboard = dashboard.to_string();
    assert!(dashboard.contains(r#"job=\\\"other\\\""#) && !dashboard.contains(r#"job=\\\"entrada"#));
}

#[test]
fn components_can_be_mixed_as_the_documentation_says() {
    // Proves that the example of docs/install.md is an overlay, and that it has what each of its components brings.
    let text = fs::read_to_string(root().join("docs/install.md")).expect("the documentation");
    let first = "# manifests/overlays/mine/kustomization.yaml";
    let example = text.split("```").find(|block| block.contains(first)).expect("the example");
    let copy = tempfile::tempdir().expect("a folder");
    let project = root();
    let copied = Command::new("cp").arg("-r").arg(project.join("manifests")).arg(copy.path()).status();
    assert!(copied.expect("cp runs").success());
    let mine = copy.path().join("manifests/overlays/mine");
    fs::create_dir(&mine).expect("it can be made");
    fs::write(mine.join("kustomization.yaml"), example.trim_start_matches("yaml"))
        .expect("it can be written");
    let rendered = kustomize_at(&mine);
    for kind in ["NetworkPolicy", "HorizontalPodAutoscaler", "Certificate", "HTTPRoute", "BackendTLSPolicy"] {
        assert_eq!(rendered.one(kind)["metadata"]["namespace"], "entrada");
    }
    let settings = rendered.one("ConfigMap")["data"].as_object().expect("settings");
    for name in ["ENTRADA_PUBLIC_URL", "ENTRADA_STORE", "ENTRADA_TRUSTED_PROXIES", "ENTRADA_DRAIN"] {
        assert!(settings.contains_key(name), "{name}: {settings:?}");
    }
}

#[test]
fn two_releases_do_not_touch_each_other() {
    // Proves that name and namespace of a release are those of all its objects and of all that they refer to.
    for overlay in overlays() {
        let rendered = release("other", "elsewhere", &overlay, &["--set", "store.username=a-user"]);
        for object in &rendered.objects {
            let meta = &object["metadata"];
            let name = meta["name"].as_str().expect("a name");
            assert!(name == "other" || name == "other-doctor", "{overlay}: {name}");
            assert_eq!(
                (&meta["namespace"], &meta["labels"]["app.kubernetes.io/name"]),
                (&json!("elsewhere"), &json!(name))
            );
            for (path, text) in texts(object, "") {
                // The program's own name stays.
                let is_program = path.ends_with("/part-of") || path.ends_with(".containers.0.name");
                let is_usual_name = text == "entrada" || text.starts_with("entrada/");
                assert!(is_program || !is_usual_name, "{overlay}: {name}{path} is {text}");
            }
        }
    }
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    // Proves that the chart is well-formed with the values of every overlay, and that its version is the program's.
    for overlay in overlays() {
        let values = values(&overlay);
        let arguments = ["lint", "--strict", CHART].into_iter().chain(values.iter().map(String::as_str));
        let said = ok("helm", &arguments.collect::<Vec<_>>(), "");
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
    }
    let about = fs::read_to_string(root().join(CHART).join("Chart.yaml")).expect("the chart");
    for field in ["version", "appVersion"] {
        let line = format!("\n{field}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(about.contains(&line), "Chart.yaml lacks {line:?}");
    }
    let site = kustomize("site");
    let image = &site.one("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert!(
        image.as_str().is_some_and(|image| image.ends_with(concat!(":", env!("CARGO_PKG_VERSION")))),
        "{image}"
    );
}

#[test]
fn wrong_values_are_refused_with_the_name_of_the_value() {
    // Proves that a misspelt or impossible value ends the installation before it begins, and is named.
    for (set, named) in [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("store.passwordd=x", "at '/store': additional properties 'passwordd' not allowed"),
        ("publicUrl=http://k8s.example.com", "at '/publicUrl'"),
        ("publicUrl=https://k8s.example.com/path", "at '/publicUrl'"),
        ("publicUrl=https://K8S.example.com", "at '/publicUrl'"),
        ("mounts={https://headlamp.example.com}", "at '/mounts/0'"),
        ("mounts={https://headlamp.example.com/x=http://headlamp.headlamp.svc;insecure}", "at '/mounts/0'"),
        ("entra.clientId=entrada", "at '/entra/clientId'"),
        ("entra.tenantId=contoso.onmicrosoft.com", "at '/entra/tenantId'"),
        ("image.repository=", "at '/image/repository'"),
        ("store.url=rediss://user:secret@redis:6379", "at '/store/url'"),
        ("replicas=0", "at '/replicas'"),
        ("replicas=2", "several replicas need a store that they share: set store.url"),
        ("autoscaling.enabled=true", "several replicas need a store that they share: set store.url"),
        ("trustedProxies={0.0.0.0/0}", "at '/trustedProxies/0'"),
        ("trustedProxies={10.0.0.1}", "at '/trustedProxies/0'"),
        ("settings.ENTRADA_REARM=false", "at '/settings/ENTRADA_REARM': got boolean, want string"),
        ("settings.LOG=x", "at '/settings': additional properties 'LOG' not allowed"),
        ("settings.ENTRADA_DRAIN=5s", "settings.ENTRADA_DRAIN: this setting has a value of its own"),
        ("settings.ENTRADA_MOUNTS=x", "settings.ENTRADA_MOUNTS: this setting has a value of its own"),
        ("settings.ENTRADA_STORE=x", "settings.ENTRADA_STORE: this setting has a value of its own"),
        (
            "settings.ENTRADA_TRUSTED_PROXIES=0.0.0.0/0",
            "settings.ENTRADA_TRUSTED_PROXIES: this setting has a value of its own",
        ),
        ("noticeSeconds=-1", "at '/noticeSeconds'"),
        ("ingress.controller=traefik", "at '/ingress/controller'"),
        (
            "tls.certManager.enabled=true",
            "tls.certManager.issuer.name: the issuer that cert-manager shall ask",
        ),
        ("gateway.enabled=true", "gateway.name: the Gateway that leads to Entrada"),
    ] {
        let site = "manifests/site/values.yaml";
        let output = run("helm", &["template", "entrada", CHART, "--values", site, "--set", set], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named), "{set}: {said}");
    }
    let output = run("helm", &["template", "entrada", CHART], "");
    let said = String::from_utf8_lossy(&output.stderr);
    for required in ["/image/repository", "/publicUrl", "/entra/clientId", "/entra/tenantId"] {
        assert!(said.contains(required), "without {required}: {said}");
    }
}

#[test]
fn what_has_no_value_of_its_own_can_be_set_all_the_same() {
    // Proves that every setting, a header from a Secret and a file reach the pods, as they are.
    let values = json!({
        "settings": { "ENTRADA_RATE_LIMIT": "100/s burst 3000", "ENTRADA_REARM": "off", "OTEL_SERVICE_NAME": "$(HOME)" },
        "env": [{ "name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": { "secretKeyRef": { "name": "otlp", "key": "headers" } } }],
        "volumes": [{ "name": "audit", "configMap": { "name": "audit-policy" } }],
        "volumeMounts": [{ "name": "audit", "mountPath": "/etc/entrada/audit", "readOnly": true }],
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, values.to_string()).expect("it can be written");
    let rendered = chart("single", &["--values", file.path().to_str().expect("UTF-8")]);
    let data = rendered.settings();
    assert_eq!(
        (&data["ENTRADA_RATE_LIMIT"], &data["ENTRADA_REARM"]),
        (&json!("100/s burst 3000"), &json!("off"))
    );
    for pod in [rendered.one("Pod"), &rendered.one("Deployment")["spec"]["template"]] {
        let container = &pod["spec"]["containers"][0];
        let is_there = |all: &Value, one: &Value| all.as_array().is_some_and(|all| all.contains(one));
        assert!(is_there(&container["env"], &values["env"][0]));
        assert!(is_there(&container["env"], &json!({ "name": "ENTRADA_REARM", "value": "off" })));
        let escaped = json!({ "name": "OTEL_SERVICE_NAME", "value": "$$(HOME)" });
        assert!(is_there(&container["env"], &escaped), "Kubernetes would put a variable in its place");
        assert!(is_there(&pod["spec"]["volumes"], &values["volumes"][0]));
        assert!(is_there(&container["volumeMounts"], &values["volumeMounts"][0]));
    }

    let azure = [
        "--set",
        "store.auth=entra,store.secretName=,store.username=",
        "--set",
        "autoscaling.enabled=false,replicas=3",
    ];
    let azure = chart("redis", &azure);
    let data = azure.settings();
    let store: Vec<_> = data.iter().filter(|(name, _)| name.starts_with("ENTRADA_STORE")).collect();
    let expected = [("ENTRADA_STORE", "rediss://redis.redis.svc:6379"), ("ENTRADA_STORE_AUTH", "entra")];
    let store: Vec<_> =
        store.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect();
    assert_eq!(store, expected);
    assert_eq!(azure.one("Deployment")["spec"]["replicas"], 3);
    assert!(!azure.one("Deployment").to_string().contains("entrada-store"));
}

/// The objects by kind and name, without what the two tools add of their own.
fn by_name(rendered: &Rendered) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for mut object in rendered.objects.iter().cloned() {
        without(&mut object["metadata"], "labels", OWN_LABELS);
        // The settings are looked at by themselves, because they lie elsewhere.
        if object["kind"] == "ConfigMap" {
            continue;
        }
        let container = object.pointer_mut("/spec/template/spec/containers/0");
        if let Some(container) = container.and_then(Value::as_object_mut) {
            container.retain(|name, _| name != "env" && name != "envFrom");
        }
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let name = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        assert!(found.insert(name, object).is_none(), "{}: twice the same object", rendered.name);
    }
    found
}

fn without(metadata: &mut Value, field: &str, names: &[&str]) {
    if let Some(fields) = metadata[field].as_object_mut() {
        fields.retain(|name, _| !names.contains(&name.as_str()));
        if fields.is_empty() {
            metadata.as_object_mut().expect("an object").remove(field);
        }
    } else if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove(field);
    }
}

/// Every text in a value, with its path.
fn texts<'a>(value: &'a Value, path: &str) -> Vec<(String, &'a str)> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| texts(value, &format!("{path}.{key}"))).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(at, value)| texts(value, &format!("{path}.{at}"))).collect()
        }
        Value::String(text) => vec![(path.to_owned(), text)],
        _ => Vec::new(),
    }
}

/// Where two values differ, and what stands there. The order of named things (volumes, mounts) has no meaning.
fn differences(left: &Value, right: &Value, path: &str) -> Vec<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter()
                .flat_map(|key| differences(&left[key], &right[key], &format!("{path}.{key}")))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = in_order(a).into_iter().zip(in_order(b)).enumerate();
            pairs.flat_map(|(at, (a, b))| differences(a, b, &format!("{path}[{at}]"))).collect()
        }
        _ if left == right => Vec::new(),
        _ => vec![format!("{path}: {left}, {right}")],
    }
}

fn in_order(items: &[Value]) -> Vec<&Value> {
    let mut items: Vec<&Value> = items.iter().collect();
    items.sort_by_key(|item| item["name"].as_str().map(str::to_owned));
    items
}

//! Entrada's own installation, by real kubectl and helm that go through an Entrada: every overlay, and the chart with the
//! values of every overlay, is installed, upgraded and removed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use standin::apiserver::{Rule, Subject};

use super::support::kubectl::Kubectl;
use super::support::{World, eventually};

const CHART: &str = "manifests/helm/entrada";

/// Kinds that an installation is made of, by resource; the last two are the tools' own.
const RESOURCES: &[&str] = &[
    "deployments.apps",
    "horizontalpodautoscalers.autoscaling",
    "poddisruptionbudgets.policy",
    "ingresses.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "certificates.cert-manager.io",
    "httproutes.gateway.networking.k8s.io",
    "backendtlspolicies.gateway.networking.k8s.io",
    "backendtrafficpolicies.gateway.envoyproxy.io",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
    "services",
    "serviceaccounts",
    "pods",
    "configmaps",
    "secrets",
];

/// A world whose alice may do everything, and her tools with a kubeconfig that Entrada has made.
struct Admin {
    world: World,
    kubectl: Kubectl,
    helm: Kubectl,
}

impl Admin {
    async fn start() -> Self {
        let world = World::start().await;
        let alice = Subject::User(world.entra.user("alice").unwrap().kubernetes_name().to_owned());
        world.api.add_rule(Rule::new(&alice, &["*"], &["*"], &["*"], &["*"]));
        let kubeconfig = world.kubeconfig(&world.signed_in("alice").await).await;
        let (kubectl, helm) = (Kubectl::new(&kubeconfig), Kubectl::helm(&kubeconfig));
        Self { world, kubectl, helm }
    }

    /// What there is in the namespace: `kind/name`, settings without the digest in their name.
    async fn there(&self) -> BTreeSet<String> {
        let all = ["get", &RESOURCES.join(","), "-n", "entrada", "-o", "json"];
        let list: Value = serde_json::from_str(&self.kubectl.ok(&all).await).unwrap();
        let name = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            let kind = object["kind"].as_str().unwrap();
            let name = if kind == "ConfigMap" { name.get(..7).unwrap_or(name) } else { name };
            format!("{kind}/{name}")
        };
        list["items"].as_array().unwrap().iter().map(name).collect()
    }

    /// A setting of the chart's pods.
    fn setting(&self, name: &str) -> Option<String> {
        let deployment = self.world.api.get("deployments.apps", "entrada", "entrada").unwrap();
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
        let found = env.iter().find(|variable| variable["name"] == name)?;
        found["value"].as_str().map(str::to_owned)
    }

    async fn helm(&self, command: &[&str], overlay: &str, more: &[&str]) -> String {
        let values = format!("manifests/overlays/{overlay}/values.yaml");
        let values = ["-f", "manifests/site/values.yaml", "-f", &values];
        self.helm
            .ok(&[command, &["entrada", CHART, "-n", "entrada", "--wait", "--timeout", "30s"], &values, more]
                .concat())
            .await
    }

    /// The namespace and what its owner puts into it before an installation, as docs/install.md says.
    async fn make_namespace(&self) {
        let issued = self.world.ca.issue(&["k8s.example.com"]).unwrap();
        let file = |name: &str, content: &str| {
            let path = self.world.dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (cert, key) = (file("tls.crt", &issued.cert_pem), file("tls.key", &issued.key_pem));
        let authority = format!("--from-file=ca.crt={}", file("ca.crt", self.world.ca.pem()));
        let password = format!("--from-file=password={}", file("password", "secret"));
        self.kubectl.ok(&["apply", "--server-side", "-f", "manifests/base/namespace.yaml"]).await;
        for made in [
            &["secret", "tls", "entrada-tls", "--cert", &cert, "--key", &key][..],
            &["secret", "generic", "entrada-store", &password, &authority],
            &["secret", "generic", "entrada-ca", &authority],
            &["configmap", "entrada-ca", &authority],
        ] {
            self.kubectl.ok(&[&["-n", "entrada", "create"], made].concat()).await;
        }
        let stored = self.world.api.get("secrets", "entrada", "entrada-store").unwrap();
        assert_eq!(stored["data"]["password"], "c2VjcmV0");
    }
}

/// The blocks of commands of a page that are for a cluster.
fn cluster_blocks(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let after =
        text.split("```sh cluster\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    after.collect()
}

/// As the autoscaler does it.
async fn scale(kubectl: &Kubectl, replicas: u32) {
    let patch = format!(r#"{{"spec":{{"replicas":{replicas}}}}}"#);
    let patch = ["patch", "deployment", "entrada", "-n", "entrada", "--type=merge", "--patch", &patch];
    kubectl.ok(&[&patch[..], &["--field-manager=kube-controller-manager"]].concat()).await;
}

fn overlays() -> Vec<String> {
    let entries = std::fs::read_dir("manifests/overlays").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_overlay_is_applied_changed_and_deleted_by_kubectl() {
    // Proves that each overlay passes a server's checks, that a second apply changes nothing, and that nothing stays.
    let admin = Admin::start().await;
    for overlay in overlays() {
        let folder = format!("manifests/overlays/{overlay}");
        let apply = ["apply", "--server-side", "-k", &folder];
        admin.make_namespace().await;
        let said = admin.kubectl.ok(&apply).await;
        assert!(said.contains("deployment.apps/entrada serverside-applied"), "{said}");
        let first = admin.there().await;
        assert!(first.len() >= 5, "{overlay}: {first:?}");
        admin
            .kubectl
            .ok(&["-n", "entrada", "rollout", "status", "deployment/entrada", "--timeout=10s"])
            .await;

        let version = || {
            admin.world.api.get("deployments.apps", "entrada", "entrada").unwrap()["metadata"]["resourceVersion"].clone()
        };
        let before = version();
        admin.kubectl.ok(&apply).await;
        assert_eq!((admin.there().await, version()), (first, before), "{overlay}: applied a second time");

        admin.kubectl.ok(&["delete", "--ignore-not-found", "-k", &folder]).await;
        assert!(admin.world.api.get("namespaces", "", "entrada").is_none());
        assert_eq!(admin.there().await, BTreeSet::new(), "{overlay}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dashboard_is_applied_and_deleted_by_kubectl() {
    // Proves that each dashboard's own half passes a server's checks, and that its namespace is all that there is of it.
    let admin = Admin::start().await;
    for entry in std::fs::read_dir("manifests/dashboards").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let folder = format!("manifests/dashboards/{name}");
        let apply = ["apply", "--server-side", "-k", &folder];
        admin.kubectl.ok(&apply).await;
        let version = || {
            admin.world.api.get("deployments.apps", &name, &name).unwrap()["metadata"]["resourceVersion"]
                .clone()
        };
        let before = version();
        admin.kubectl.ok(&apply).await;
        assert_eq!(version(), before, "{name}: applied a second time");
        admin.kubectl.ok(&["delete", "namespace", &name]).await;
        assert!(admin.world.api.get("deployments.apps", &name, &name).is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_install_it() {
    // Proves that the commands of the README and of docs/install.md work as they stand, by kubectl and then by helm.
    let admin = Admin::start().await;
    let folder = admin.world.dir.path().join("project");
    std::fs::create_dir(&folder).unwrap();
    let here = std::env::current_dir().unwrap();
    std::os::unix::fs::symlink(here.join("manifests"), folder.join("manifests")).unwrap();
    let issued = admin.world.ca.issue(&["k8s.example.com"]).unwrap();
    for (name, content) in [
        ("tls.crt", issued.cert_pem.as_str()),
        ("tls.key", &issued.key_pem),
        ("ca.crt", admin.world.ca.pem()),
        ("password", "secret"),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let documented = cluster_blocks("docs/install.md");
    let (helm, kubectl): (Vec<_>, Vec<_>) = documented.iter().partition(|block| block.contains("helm "));
    assert!(helm.len() >= 3 && kubectl.len() >= 6, "{documented:?}");
    let first = kubectl[0].as_str();
    let clear = "kubectl delete namespace entrada";
    // Another test plays the kubelet for `helm test`.
    let helm = helm.iter().map(|block| block.replace("helm test", "true helm test")).collect::<Vec<_>>();
    let mut scripts = cluster_blocks("README.md");
    scripts.push(clear.to_owned());
    scripts.extend(kubectl.iter().map(|block| (*block).clone()));
    scripts.extend([clear.to_owned(), first.to_owned()]);
    scripts.extend(helm);
    for script in scripts {
        admin.kubectl.shell(&folder, &script).await;
    }
    assert_eq!(admin.there().await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_replica_to_several_and_back_by_kubectl() {
    // Proves that the autoscaler's count survives an apply, that what an overlay no longer sets goes away, and that the
    // commands in docs/install.md remove the rest.
    let admin = Admin::start().await;
    let kubectl = &admin.kubectl;
    let deployment = || admin.world.api.get("deployments.apps", "entrada", "entrada").unwrap();
    kubectl.ok(&["apply", "--server-side", "-k", "manifests/overlays/single"]).await;
    kubectl.ok(&["apply", "--server-side", "-k", "manifests/overlays/redis"]).await;
    assert!(deployment().to_string().contains("entrada-store"));
    scale(kubectl, 4).await;
    kubectl.ok(&["apply", "--server-side", "-k", "manifests/overlays/redis"]).await;
    assert_eq!(deployment()["spec"]["replicas"], 4);

    kubectl.ok(&["-n", "entrada", "delete", "hpa,pdb", "entrada"]).await;
    let back = ["apply", "--server-side", "-k", "manifests/overlays/single"];
    let refused = kubectl.run(&back).await;
    assert!(refused.stderr.contains("conflict with \"kube-controller-manager\""), "{refused:?}");
    kubectl.ok(&[&back[..], &["--force-conflicts"]].concat()).await;
    assert_eq!(deployment()["spec"]["replicas"], 1);
    assert!(!deployment().to_string().contains("entrada-store"), "{}", deployment());

    let maps = ["-n", "entrada", "get", "configmap", "-l", "app.kubernetes.io/part-of=entrada", "-o", "name"];
    assert_eq!(kubectl.ok(&maps).await.lines().count(), 2, "the settings of both");
    let current = ["-n", "entrada", "get", "deployment", "entrada", "-o", "jsonpath={..configMapRef.name}"];
    let current = kubectl.ok(&current).await;
    let others = format!("metadata.name!={current}");
    let others = ["-l", "app.kubernetes.io/part-of=entrada,!grafana_dashboard", "--field-selector", &others];
    kubectl.ok(&[&["-n", "entrada", "delete", "configmap"], &others[..]].concat()).await;
    assert_eq!(kubectl.ok(&maps).await.trim(), format!("configmap/{current}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_is_installed_upgraded_rolled_back_and_removed_by_helm() {
    // Proves the life of a release with the values of every overlay, and that nothing of it stays.
    let admin = Admin::start().await;
    admin.make_namespace().await;
    let before = admin.there().await;
    for overlay in overlays() {
        let notes = admin.helm(&["install"], &overlay, &[]).await;
        assert!(notes.contains("https://k8s.example.com/callback"), "{notes}");
        assert!(notes.contains("system:serviceaccount:entrada:entrada"), "{notes}");
        let first = admin.there().await;
        assert!(first.contains("Deployment/entrada"), "{overlay}: {first:?}");

        admin
            .helm(&["upgrade"], &overlay, &["--set", "settings.ENTRADA_REARM=off,monitoring.enabled=true"])
            .await;
        assert_eq!(admin.setting("ENTRADA_REARM").as_deref(), Some("off"), "{overlay}");
        assert!(admin.there().await.contains("PrometheusRule/entrada"), "{overlay}");
        admin.helm.ok(&["rollback", "entrada", "1", "-n", "entrada", "--wait", "--timeout", "30s"]).await;
        assert_eq!(admin.setting("ENTRADA_REARM"), None, "{overlay}");

        admin.helm.ok(&["uninstall", "entrada", "-n", "entrada", "--wait", "--timeout", "30s"]).await;
        assert_eq!(admin.there().await, before, "{overlay}");
    }
    admin.kubectl.ok(&["delete", "namespace", "entrada"]).await;
    assert_eq!(admin.there().await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_from_one_replica_to_three_and_back_leaves_what_its_values_say() {
    // Proves that parts come and go with the values, and that the autoscaler's count survives an upgrade.
    let admin = Admin::start().await;
    admin.make_namespace().await;
    admin.helm(&["install"], "single", &[]).await;
    let one = admin.there().await;
    let parts = |there: &BTreeSet<String>| -> BTreeSet<String> {
        there.iter().filter(|name| !name.starts_with("Secret/")).cloned().collect()
    };
    admin.helm(&["upgrade"], "redis", &[]).await;
    let mut more: BTreeSet<String> = parts(&one);
    more.extend(["HorizontalPodAutoscaler/entrada", "PodDisruptionBudget/entrada"].map(str::to_owned));
    assert_eq!(parts(&admin.there().await), more);
    let deployment = || admin.world.api.get("deployments.apps", "entrada", "entrada").unwrap();
    scale(&admin.kubectl, 4).await;
    admin.helm(&["upgrade"], "redis", &[]).await;
    assert_eq!(deployment()["spec"]["replicas"], 4, "the autoscaler's count");
    admin.helm(&["upgrade"], "single", &["--force-conflicts"]).await;
    assert_eq!(deployment()["spec"]["replicas"], 1);
    assert_eq!(parts(&admin.there().await), parts(&one));
    assert!(!deployment().to_string().contains("entrada-store"), "{}", deployment());
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_test_runs_the_doctor() {
    // Proves that `helm test` starts one pod without privilege, shows its report, and succeeds only where the pod does.
    let admin = Admin::start().await;
    admin.make_namespace().await;
    admin.helm(&["install"], "single", &[]).await;
    for (phase, is_good) in [("Succeeded", true), ("Failed", false)] {
        let world = &admin.world;
        let ended = async {
            // Not the one of the test before, which stays until this one's.
            let is_new = |pod: &Value| pod["status"]["phase"] != "Succeeded";
            let doctor = || world.api.get("pods", "entrada", "entrada-doctor").filter(is_new);
            eventually("the test's pod", async || doctor().is_some()).await;
            world.api.append_log("entrada", "entrada-doctor", "certificate: ends in 60 days");
            let mut pod = doctor().unwrap();
            assert_eq!(pod["spec"]["containers"][0]["args"], json!(["doctor"]));
            pod["status"]["phase"] = json!(phase);
            world.api.put(pod).unwrap();
        };
        let tested = admin.helm.run(&["test", "entrada", "-n", "entrada", "--logs", "--timeout", "30s"]);
        let (tested, ()) = tokio::join!(tested, ended);
        assert_eq!(tested.code == Some(0), is_good, "{tested:?}");
        assert!(tested.stdout.contains("certificate: ends in 60 days"), "{tested:?}");
        assert!(admin.world.api.get("pods", "entrada", "entrada-doctor").is_some(), "its report can be read");
    }
}

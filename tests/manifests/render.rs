//! What kubectl and helm make of the manifests: every overlay, by Kustomize and by the chart.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value};

pub(crate) const CHART: &str = "manifests/helm/entrada";

/// One way to install, and the objects that it installs.
pub(crate) struct Rendered {
    /// For messages: `overlays/redis`, `chart redis`.
    pub(crate) name: String,
    pub(crate) objects: Vec<Value>,
}

impl Rendered {
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The one object of this kind.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str) -> &Value {
        let found = self.all(kind);
        assert_eq!(found.len(), 1, "{}: objects of kind {kind}", self.name);
        found[0]
    }

    /// The settings: of an overlay in a ConfigMap, of the chart in the pods themselves.
    pub(crate) fn settings(&self) -> Map<String, Value> {
        if !self.name.starts_with("chart") {
            return self.one("ConfigMap")["data"].as_object().expect("settings").clone();
        }
        let container = &self.one("Deployment")["spec"]["template"]["spec"]["containers"][0];
        let env = container["env"].as_array().expect("settings").iter();
        let own = env.filter(|variable| variable["value"].is_string());
        own.map(|variable| (variable["name"].as_str().expect("a name").to_owned(), variable["value"].clone()))
            .collect()
    }
}

/// The names of the folders in `manifests/overlays`.
pub(crate) fn overlays() -> Vec<String> {
    let folder = std::fs::read_dir(root().join("manifests/overlays")).expect("the folder of overlays");
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().expect("a name in UTF-8");
    let mut names: Vec<String> = folder.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    assert!(names.len() >= 7, "{names:?}");
    names
}

/// What `kubectl apply --kustomize manifests/<folder>` would send.
pub(crate) fn kustomize(folder: &str) -> Rendered {
    Rendered { name: folder.to_owned(), ..kustomize_at(&root().join("manifests").join(folder)) }
}

pub(crate) fn kustomize_at(folder: &Path) -> Rendered {
    let folder = folder.to_str().expect("UTF-8");
    Rendered { name: folder.to_owned(), objects: json(&kubectl(&["kustomize", folder], "")) }
}

/// The arguments that give a chart the values of an overlay.
pub(crate) fn values(overlay: &str) -> Vec<String> {
    ["site".to_owned(), format!("overlays/{overlay}")]
        .iter()
        .flat_map(|folder| ["--values".to_owned(), format!("manifests/{folder}/values.yaml")])
        .collect()
}

/// What `helm install entrada` would send with the values of this overlay, and with these arguments.
pub(crate) fn chart(overlay: &str, more: &[&str]) -> Rendered {
    release("entrada", "entrada", overlay, more)
}

/// The same under another name, in another namespace.
pub(crate) fn release(name: &str, namespace: &str, overlay: &str, more: &[&str]) -> Rendered {
    let values = values(overlay);
    let mut arguments = vec!["template", name, CHART, "--namespace", namespace];
    arguments.extend(values.iter().map(String::as_str).chain(more.iter().copied()));
    let yaml = ok("helm", &arguments, "");
    Rendered { name: format!("chart {overlay} {}", more.join(" ")), objects: json(&yaml) }
}

/// YAML documents as JSON: a patch that changes nothing, for kubectl to print them so. It needs no server, and we no
/// YAML parser.
fn json(yaml: &str) -> Vec<Value> {
    let patch = ["patch", "--local", "--type=merge", "--patch={}", "--filename=-", "--output=json"];
    let objects = kubectl(&patch, yaml);
    let stream = serde_json::Deserializer::from_str(&objects).into_iter();
    stream.map(|object| object.expect("kubectl prints JSON")).collect()
}

fn kubectl(arguments: &[&str], input: &str) -> String {
    ok("kubectl", arguments, input)
}

/// Runs it to its good end; what it printed.
#[track_caller]
pub(crate) fn ok(tool: &str, arguments: &[&str], input: &str) -> String {
    let output = run(tool, arguments, input);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{tool} {arguments:?}: {}{}",
        said(&output.stdout),
        said(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// Runs a program of `target/tools`, in the project's folder and without a cluster, to its end.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &str) -> Output {
    let program = root().join("target/tools").join(tool);
    assert!(program.exists(), "{tool} is missing: run scripts/tools");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root())
        // Whoever runs the tests may have a cluster: it has no part in this.
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Some kilobytes, which a pipe holds even before they are read; dropped, and so closed, at once.
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it takes its input");
    child.wait_with_output().expect("it ends")
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

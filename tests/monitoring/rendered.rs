//! Manifests as kubectl makes them of the files.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::NamedTempFile;

/// What `kubectl apply --kustomize manifests/<folder>` would send.
pub(crate) fn render(folder: &str) -> Vec<Value> {
    let yaml = kubectl(&["kustomize", &format!("manifests/{folder}")]);
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, yaml).unwrap();
    // As in tests/manifests.rs: a patch that changes nothing, for kubectl to print the same as JSON.
    let path = file.path().to_str().unwrap();
    let json =
        kubectl(&["patch", "--local", "--type=merge", "--patch={}", "--output=json", "--filename", path]);
    serde_json::Deserializer::from_str(&json).into_iter().map(Result::unwrap).collect()
}

fn kubectl(arguments: &[&str]) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubectl");
    assert!(program.exists(), "kubectl is missing: run scripts/tools kubectl");
    // Whoever runs the tests may have a cluster: it has no part in this.
    let output = Command::new(program).args(arguments).env("KUBECONFIG", "/dev/null").output().unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

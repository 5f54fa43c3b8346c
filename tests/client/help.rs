//! Help where people look for it.

use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;

fn output(program: &std::path::Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_has_examples_and_shells_and_man_pages_are_there() {
    // Proves that each kind of help names the commands, for every shell.
    let entrada = std::path::Path::new(env!("CARGO_BIN_EXE_entrada"));
    assert!(output(entrada, &["--help"]).contains("  entrada login k8s.example.com "));
    assert!(output(entrada, &["login", "--help"]).contains("Exit codes: 0 signed in"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = output(entrada, &["completions", shell]);
        assert!(script.contains("login") && script.contains("no-browser"), "{shell}");
    }
    assert!(output(entrada, &["man"]).contains(".TH entrada 1"));
    let login = output(entrada, &["man", "login"]);
    assert!(login.contains(".TH entrada\\-login 1") || login.contains(".TH entrada-login 1"), "{login}");
    assert!(!Command::new(entrada).args(["man", "nothing"]).output().unwrap().status.success());
}

#[test]
fn it_is_a_plugin_of_kubectl() {
    // Proves that under the name kubectl-entrada it speaks of `kubectl entrada`.
    let dir = TempDir::new().unwrap();
    let plugin = dir.path().join("kubectl-entrada");
    symlink(env!("CARGO_BIN_EXE_entrada"), &plugin).unwrap();
    assert!(output(&plugin, &["login", "--help"]).contains("Usage: kubectl entrada login"));
}

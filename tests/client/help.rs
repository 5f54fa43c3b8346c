//! Help where people look for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;

use crate::home::kubectl;

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

#[test]
fn kubectl_completes_it() {
    // Proves with kubectl itself that Tab brings subcommands, options, values and the servers of this computer.
    let dir = TempDir::new().unwrap();
    for name in ["kubectl-entrada", "kubectl_complete-entrada"] {
        symlink(env!("CARGO_BIN_EXE_entrada"), dir.path().join(name)).unwrap();
    }
    let kept = dir.path().join("entrada");
    fs::create_dir(&kept).unwrap();
    let token = r#"{"server":"https://k8s.example.com","id":"1","token":"t","obtained_at":"2026-01-01T00:00:00Z",
        "expires_at":"2026-01-02T00:00:00Z","username":"alice","cluster_name":"prod"}"#;
    fs::write(kept.join("k8s.example.com.json"), token).unwrap();
    let after_tab = |words: &[&str]| {
        let mut command = Command::new(kubectl());
        command.args([&["__complete", "entrada"], words].concat()).env_clear();
        let output = command.env("PATH", dir.path()).env("KUBECACHEDIR", dir.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = after_tab(&[""]);
    assert!(all.contains("login\tSign in to a cluster") && all.contains("logout\t"), "{all}");
    assert!(all.ends_with(":4\n"), "no file names are offered: {all}");
    assert_eq!(after_tab(&["logo"]), "logout\tSign this computer out: revoke its token and forget it\n:4\n");
    assert_eq!(after_tab(&["logout", ""]), "https://k8s.example.com\tsigned in\n:4\n");
    let options = after_tab(&["login", "--device", "--"]);
    assert!(options.contains("--no-browser\t") && !options.contains("--device\t"), "{options}");
    assert!(after_tab(&["login", "--kubeconfig", ""]).ends_with(":0\n"), "file names are offered");
    assert_eq!(after_tab(&["completions", "z"]), "zsh\n:4\n");
}

//! `entrada doctor`, the real program, in set-ups that are well and in set-ups that are broken in one way each.

mod cloud;
mod cluster;
mod old_redis;
mod pod;
mod store;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::support::World;
use super::support::program::{settings, subcommand};

/// The checks, in their order.
const CHECKS: [&str; 11] = [
    "settings",
    "federated_token",
    "clock",
    "authority",
    "client_assertion",
    "redirect_uri",
    "aks_permission",
    "api_server",
    "store",
    "certificate",
    "file_limit",
];

/// A set-up, and the settings that the program gets.
pub(crate) struct Ground {
    world: World,
    settings: BTreeMap<&'static str, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    check: String,
    ok: bool,
    seen: String,
    fix: String,
}

impl Ground {
    async fn new() -> Self {
        let world = World::start().await;
        let settings = settings(&world);
        Self { world, settings }
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.settings.insert(name, value.into());
    }

    /// A new file; its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.world.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Exit code, standard output and standard error. Nothing of them is a secret.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = subcommand("doctor", &self.settings).args(arguments).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for secret in self.world.entra.secrets() {
            let end = &secret[secret.len() - 24..];
            assert!(!out.contains(end) && !err.contains(end), "a secret is told: {out}{err}");
        }
        for secret in ["hunter2", "correct-horse-battery"] {
            assert!(!out.contains(secret) && !err.contains(secret), "a secret is told: {out}{err}");
        }
        (output.status.code(), out, err)
    }

    async fn rows(&self) -> (Option<i32>, Vec<Row>) {
        let (code, out, err) = self.run(&["--output", "json"]).await;
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    }
}

/// Breaks a good set-up, and looks for the one fault: its check, and words of what was seen and how to mend it.
async fn broken(name: &str, breaks: impl AsyncFnOnce(&mut Ground), expected: (&str, &str, &str)) {
    let mut ground = Ground::new().await;
    breaks(&mut ground).await;
    assert_only_fault(name, &ground, expected).await;
}

async fn assert_only_fault(name: &str, ground: &Ground, (check, seen, fix): (&str, &str, &str)) {
    let began = std::time::Instant::now();
    let (code, rows) = ground.rows().await;
    let faults: Vec<&Row> = rows.iter().filter(|row| !row.ok).collect();
    assert_eq!((code, faults.len()), (Some(1), 1), "{name}: {faults:#?}");
    assert_eq!(faults[0].check, check, "{name}: {faults:#?}");
    assert!(faults[0].seen.contains(seen) && faults[0].fix.contains(fix), "{name}: {faults:#?}");
    assert!(began.elapsed().as_secs() < 30, "{name} took {:?}", began.elapsed());
}

async fn assert_well(ground: &Ground) -> Vec<Row> {
    let (code, rows) = ground.rows().await;
    assert!(rows.iter().all(|row| row.ok && !row.seen.is_empty() && row.fix.is_empty()), "{rows:#?}");
    assert_eq!(code, Some(0));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_in_a_good_set_up() {
    // Proves the form of the report, every check in its order, and that it needs one token request and changes nothing.
    let ground = Ground::new().await;
    let checks: Vec<String> = assert_well(&ground).await.into_iter().map(|row| row.check).collect();
    assert_eq!(checks, CHECKS);
    assert_eq!(ground.world.entra.calls().token_code, 1);
    let (code, text, _) = ground.run(&[]).await;
    assert_eq!(code, Some(0));
    for check in CHECKS {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("ok     {check} "))),
            "{check} in:\n{text}"
        );
    }
    assert!(text.ends_with("\nAll is well.\n") && !text.contains('\x1b'), "no colours in a file: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_names_what_was_seen_and_how_to_mend_it() {
    // Proves the text form: a fault with its fix in one line, and what was not looked at because of it.
    let ground = Ground::new().await;
    ground.world.entra.kill().await;
    let (code, text, _) = ground.run(&["--output", "text"]).await;
    assert_eq!(code, Some(1));
    let line = |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
    assert!(line("FAULT  authority ").contains("Fix: allow the pod DNS, and TCP to localhost"), "{text}");
    assert!(line("skip   client_assertion ").contains("not looked at before authority is well"), "{text}");
    assert!(text.ends_with("\nOne fault.\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_makes_no_sense_is_told_apart_from_a_fault() {
    // Proves exit code 64 for wrong arguments, and 0 for help.
    let ground = Ground::new().await;
    for arguments in [&["--output", "yaml"][..], &["--no-such-flag"], &["now"]] {
        let (code, out, err) = ground.run(arguments).await;
        assert_eq!(code, Some(64), "{arguments:?}");
        assert!(out.is_empty() && err.contains("error:"), "{out}{err}");
    }
    let (code, out, _) = ground.run(&["--help"]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("kubectl exec deploy/entrada -- entrada doctor"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals() {
    // Proves colours on a terminal, and none there with NO_COLOR.
    let ground = Ground::new().await;
    let program = subcommand("doctor", &ground.settings).as_std().get_program().to_str().unwrap().to_owned();
    let on_terminal = async |no_color: &str| {
        // `script` gives the program a terminal of its own.
        let mut script = tokio::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &format!("{program} doctor"), "/dev/null"]);
        script.envs(&ground.settings).env("NO_COLOR", no_color).stdin(std::process::Stdio::null());
        String::from_utf8(script.output().await.unwrap().stdout).unwrap()
    };
    assert!(on_terminal("").await.contains("\x1b[32mok   \x1b[0m  settings"));
    let plain = on_terminal("1").await;
    assert!(plain.contains("ok     settings") && !plain.contains('\x1b'), "{plain}");
}

#[test]
fn every_check_is_documented() {
    // Proves that docs/doctor.md has a row for each check, in their order, and none for others.
    let text = std::fs::read_to_string("docs/doctor.md").unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(check, _)| check).collect::<Vec<_>>(), CHECKS);
}

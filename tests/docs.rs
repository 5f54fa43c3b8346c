//! The documentation against the program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Args, Command};
use entrada::config::RawConfig;

/// The rows of the tables in docs/settings.md: name and default.
fn documented() -> BTreeMap<String, String> {
    let text = fs::read_to_string("docs/settings.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `") && line.split('|').count() == 5);
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    rows.map(|row| row.split('|').collect::<Vec<_>>()).map(|cells| (cell(cells[1]), cell(cells[2]))).collect()
}

/// The program's settings: name and the default that its help names.
fn built() -> BTreeMap<String, String> {
    let command = RawConfig::augment_args(Command::new("serve"));
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
    visible
        .map(|argument| {
            let help = argument.get_help().unwrap().to_string();
            let default = help
                .split_once("[default: ")
                .map_or("", |(_, rest)| rest.trim_end_matches(']').trim_matches('`'));
            (argument.get_env().unwrap().to_str().unwrap().to_owned(), default.to_owned())
        })
        .collect()
}

/// A block of commands in a page: where it begins, what it needs, and its lines.
struct Block {
    place: String,
    needs: String,
    lines: String,
}

/// README.md and every page of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> =
        docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    pages.push("README.md".into());
    pages.sort();
    pages
}

/// The blocks of commands: those that begin with "```sh".
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
            let rest = lines.by_ref().map(|(_, line)| line.trim_start());
            let body: Vec<_> = rest.take_while(|line| *line != "```").collect();
            let place = format!("{}:{}", page.display(), number + 1);
            let is_shell =
                ["bash", "shell", "console", "sh"].contains(&kind.split(' ').next().unwrap_or_default());
            if is_shell {
                let needs = kind.strip_prefix("sh").unwrap_or_else(|| panic!("{place}: write sh")).trim();
                blocks.push(Block { place, needs: needs.to_owned(), lines: body.join("\n") });
            }
        }
    }
    blocks
}

/// A copy of what commands of the pages read, so that what they write is nobody's.
fn copy_of_the_project(folder: &Path) {
    for part in ["docs", "manifests", "kubeconfig-templates", "Makefile", "target/tools"] {
        let link = folder.join(part);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let whole = fs::canonicalize(part).unwrap();
        let copied = match part {
            "target/tools" => std::os::unix::fs::symlink(whole, link).is_ok(),
            _ => Process::new("cp").arg("-R").arg(whole).arg(link).status().unwrap().success(),
        };
        assert!(copied, "{part}");
    }
}

#[test]
fn the_commands_of_the_pages_work() {
    // Proves that each command works as it stands, or says what it needs. Those for a cluster are run by
    // tests/suite/install.rs. Lines with `make` name a target that there is.
    let tools = fs::canonicalize("target/tools").unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let targets = fs::read_to_string("Makefile").unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy_of_the_project(folder.path());
    for Block { place, needs, lines } in blocks() {
        match needs.as_str() {
            "azure" | "cluster" | "elsewhere" => continue,
            "" => {}
            other => panic!("{place}: {other}"),
        }
        let (make, script): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.starts_with("make "));
        for line in make {
            let target = line.split(' ').nth(1).unwrap();
            assert!(targets.contains(&format!("\n{target}:")), "{place}: {line}");
        }
        let mut shell = Process::new("bash");
        let run = shell.args(["-euo", "pipefail", "-c", &script.join("\n")]);
        let ran = run.current_dir(folder.path()).env("PATH", &path).output().unwrap();
        assert!(ran.status.success(), "{place}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    // Proves that no page names a file, or a heading of a page, that is not there.
    let slug = |heading: &str| -> String {
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        heading
            .trim_start_matches('#')
            .trim()
            .chars()
            .filter(kept)
            .collect::<String>()
            .to_lowercase()
            .replace(' ', "-")
    };
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            let has_heading =
                |text: &str| text.lines().any(|line| line.starts_with('#') && slug(line) == heading);
            if !heading.is_empty() {
                assert!(has_heading(&fs::read_to_string(&target).unwrap()), "{}: {link}", page.display());
            }
        }
    }
}

#[test]
fn every_setting_is_documented_with_its_default() {
    // Proves that docs/settings.md names each setting, no other, and the default that the program's help names.
    let (documented, built) = (documented(), built());
    let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&documented), names(&built));
    for (name, default) in built.iter().filter(|(_, default)| !default.is_empty()) {
        let told = &documented[name];
        // A path that only pods have is described in the help.
        let is_described = default.contains("usual");
        assert!(told == default || is_described, "{name}: documented {told}, built {default}");
    }
}

#[test]
fn flags_are_the_settings_in_kebab_case() {
    // Proves that a setting's flag can be guessed from its variable.
    let command = RawConfig::augment_args(Command::new("serve"));
    for argument in command.get_arguments() {
        let env = argument.get_env().unwrap().to_str().unwrap();
        let flag = env.strip_prefix("ENTRADA_").unwrap_or(env).to_lowercase().replace('_', "-");
        assert_eq!(argument.get_long(), Some(flag.as_str()));
    }
}

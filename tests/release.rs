//! What a release is made with: the image's base, the workflows and the changelog. `make image-test` tries the image.

use std::fs;

use saphyr::{LoadableYamlNode as _, Yaml};

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("a file of the project")
}

/// What stands between two words, wherever the first one stands.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split(after).next().unwrap_or_default()).collect()
}

#[test]
fn everything_builds_with_the_rust_that_cargo_toml_names() {
    // Proves that raising the version in one place is noticed in the others.
    let rust = between(&read("Cargo.toml"), "rust-version = \"", "\"")[0].to_owned();
    for (path, times) in [("Dockerfile", 1), (".github/workflows/ci.yaml", 1), ("scripts/image-test", 1)] {
        assert_eq!(between(&read(path), "rust:", "-trixie"), vec![rust.as_str(); times], "{path}");
    }
}

#[test]
fn workflows_run_nothing_that_others_can_change_and_may_do_nothing_by_default() {
    // Proves that each action is pinned to a commit, named with its version, and that rights are given to single jobs.
    for name in ["ci", "release"] {
        let text = read(&format!(".github/workflows/{name}.yaml"));
        assert!(text.starts_with("# Untried"), "{name}: says so first");
        let documents = Yaml::load_from_str(&text).expect("YAML");
        let [workflow] = documents.as_slice() else { panic!("{name}: one document") };
        let rights = workflow["permissions"].as_mapping().expect("permissions for all jobs");
        for (what, right) in rights {
            assert_eq!((what.as_str(), right.as_str()), (Some("contents"), Some("read")), "{name}");
        }
        for (job, steps) in workflow["jobs"].as_mapping().expect("jobs") {
            assert!(!steps["steps"].as_vec().expect("steps").is_empty(), "{name}: {job:?}");
        }
        for action in between(&text, "uses: ", "\n") {
            let (commit, version) = action
                .split_once('@')
                .and_then(|(_, pin)| pin.split_once(" # v"))
                .unwrap_or_else(|| panic!("{name}: {action} has no commit and version"));
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {action}");
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name}: {action}");
        }
    }
}

#[test]
fn what_workflows_call_is_there() {
    // Proves that a script that was moved is missed here, and not on the day of a release.
    for (path, scripts) in [
        (".github/workflows/ci.yaml", vec![".ci/run"]),
        (".github/workflows/release.yaml", vec!["scripts/image"]),
    ] {
        let text = read(path);
        for script in scripts {
            assert!(text.contains(script) && fs::metadata(script).is_ok(), "{path}: {script}");
        }
    }
}

#[test]
fn the_changelog_begins_with_what_is_to_come() {
    // Proves that there is a place for the next line, and that its sections are those of Keep a Changelog.
    let text = read("CHANGELOG.md");
    let versions = between(&text, "\n## [", "]");
    assert_eq!(versions.first(), Some(&"Unreleased"));
    let sections = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for section in between(&text, "\n### ", "\n") {
        assert!(sections.contains(&section), "{section}");
    }
}

//! The documentation against the program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::fs;

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

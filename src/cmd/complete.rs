//! `kubectl_complete-entrada`: under that name kubectl runs the program when somebody presses Tab after
//! `kubectl entrada …`, with the words so far, of which the last one is to be completed.
//!
//! The answer is a candidate on each line, its help after a tab, and at the end what the shell may add by itself.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::{Arg, Command, ValueHint};

use crate::client;

/// In the numbers of cobra, the library that kubectl's command line is made with.
#[derive(Clone, Copy)]
enum ShellAdds {
    Files = 0,
    Nothing = 4,
}

struct Candidate {
    word: String,
    help: String,
}

pub(super) fn complete(words: &[String], mut program: Command) -> ExitCode {
    program.build();
    let (candidates, shell_adds) = candidates(words, &program);
    let lines = candidates.iter().map(|Candidate { word, help }| format!("{word}\t{help}\n"));
    let text = lines.collect::<String>() + &format!(":{}\n", shell_adds as u8);
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn candidates(words: &[String], program: &Command) -> (Vec<Candidate>, ShellAdds) {
    let (last, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let command =
        before.iter().fold(program, |command, word| command.find_subcommand(word).unwrap_or(command));
    let option = before.last().and_then(|word| {
        let name = word.strip_prefix("--")?;
        command.get_arguments().find(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values())
    });
    let (mut found, shell_adds) = match option {
        Some(option) => values(option),
        None if last.starts_with('-') => (options(command, before), ShellAdds::Nothing),
        None => {
            let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
            let mut found: Vec<_> =
                subcommands.map(|one| candidate(one.get_name(), one.get_about())).collect();
            found.extend(command.get_positionals().flat_map(|positional| values(positional).0));
            (found, ShellAdds::Nothing)
        }
    };
    found.retain(|candidate| candidate.word.starts_with(last));
    (found, shell_adds)
}

/// The options that have not been given yet.
fn options(command: &Command, given: &[String]) -> Vec<Candidate> {
    let options = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = options.filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg.get_help())));
    named.filter(|(name, _)| !given.contains(name)).map(|(name, help)| candidate(&name, help)).collect()
}

/// What may stand for an argument's value.
fn values(arg: &Arg) -> (Vec<Candidate>, ShellAdds) {
    match arg.get_value_hint() {
        ValueHint::FilePath => (Vec::new(), ShellAdds::Files),
        ValueHint::Url => {
            let servers = client::signed_in_to().into_iter();
            let found = servers.map(|word| Candidate { word, help: "signed in".to_owned() });
            (found.collect(), ShellAdds::Nothing)
        }
        _ => {
            let values = arg.get_possible_values();
            let visible = values.iter().filter(|value| !value.is_hide_set());
            (visible.map(|value| candidate(value.get_name(), value.get_help())).collect(), ShellAdds::Nothing)
        }
    }
}

fn candidate(word: &str, help: Option<&StyledStr>) -> Candidate {
    let help = help.map(ToString::to_string).unwrap_or_default();
    Candidate { word: word.to_owned(), help: help.lines().next().unwrap_or_default().to_owned() }
}

//! The command line: its subcommands, and what each leads to.

mod client;
mod complete;
#[cfg(unix)]
mod doctor;
mod help;
#[cfg(unix)]
mod serve;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[cfg(unix)]
use crate::config::RawConfig;

/// The command line makes no sense: `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

const EXAMPLES: &str = "\
Examples:
  entrada login k8s.example.com           sign in with your browser; kubectl works from then on
  entrada login k8s.example.com --device  the same over SSH, or where there is no browser
  entrada logout                          sign this computer out again

Installed as kubectl-entrada, all this is also `kubectl entrada login` and so on.";

/// Puts an AKS cluster's Kubernetes API behind Microsoft Entra sign-in, and signs you in to it.
#[derive(Parser)]
#[command(name = "entrada", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sign in to a cluster, and make it kubectl's current context
    Login(client::LoginArgs),
    /// Print a token for kubectl, which runs this by itself
    Credential(client::CredentialArgs),
    /// Sign this computer out: revoke its token and forget it
    Logout(client::LogoutArgs),
    /// Run the proxy
    #[cfg(unix)]
    Serve(Box<RawConfig>),
    /// Look at everything that must be right before a user can be served, and say what is wrong
    #[cfg(unix)]
    #[command(after_help = doctor::HELP)]
    Doctor {
        /// For people or for scripts
        #[arg(long, value_enum, default_value_t)]
        output: doctor::Output,
        #[command(flatten)]
        raw: Box<RawConfig>,
    },
    /// Print a shell's completions
    Completions(help::CompletionsArgs),
    /// Print a manual page
    Man(help::ManArgs),
}

/// Runs what the command line asks for, to its end. A command line that makes no sense is exit code 64.
#[must_use]
pub fn run() -> ExitCode {
    if is_started_as("kubectl_complete-entrada") {
        let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        return complete::complete(&words.collect::<Vec<_>>(), program());
    }
    let command = match parse() {
        Ok(Cli { command }) => command,
        // Help and version are among these: they end well, and go to standard output.
        Err(told) => {
            let _closed = told.print();
            return if told.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match command {
        Command::Login(args) => client::login(args),
        Command::Credential(args) => client::credential(&args),
        Command::Logout(args) => client::logout(args),
        #[cfg(unix)]
        Command::Serve(raw) => serve::serve(&raw.in_this_environment()),
        #[cfg(unix)]
        Command::Doctor { output, raw } => doctor::doctor(&raw.in_this_environment(), output),
        Command::Completions(args) => help::completions(&args, program()),
        Command::Man(args) => help::man(&args, program()),
    }
}

fn parse() -> Result<Cli, clap::Error> {
    // kubectl runs `kubectl-entrada` for `kubectl entrada`; usage texts should say what was typed.
    let is_plugin = is_started_as("kubectl-entrada");
    let command = if is_plugin { program().bin_name("kubectl entrada") } else { program() };
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// The same file may have several names, by links.
fn is_started_as(name: &str) -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program).file_stem().is_some_and(|stem| stem == name)
}

/// Each flag that is a setting also takes its environment variable's whole name: `--entrada-listen` is `--listen`.
#[cfg(unix)]
fn program() -> clap::Command {
    let with_aliases = |subcommand: clap::Command| {
        subcommand.mut_args(|arg| match (arg.get_env(), arg.get_long()) {
            (Some(_), Some(long)) if !long.starts_with("azure") && !long.starts_with("otel") => {
                let alias = format!("entrada-{long}");
                arg.alias(alias)
            }
            _ => arg,
        })
    };
    Cli::command().mut_subcommand("serve", with_aliases).mut_subcommand("doctor", with_aliases)
}

#[cfg(not(unix))]
fn program() -> clap::Command {
    Cli::command()
}

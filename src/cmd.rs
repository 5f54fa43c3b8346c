//! The command line: one file for each subcommand.

mod doctor;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{EXIT_USAGE, RawConfig};

/// Puts an AKS cluster's Kubernetes API behind Microsoft Entra sign-in.
#[derive(Parser)]
#[command(name = "entrada", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy
    Serve(Box<RawConfig>),
    /// Look at everything that must be right before a user can be served, and say what is wrong
    #[command(after_help = doctor::HELP)]
    Doctor {
        /// For people or for scripts
        #[arg(long, value_enum, default_value_t)]
        output: doctor::Output,
        #[command(flatten)]
        raw: Box<RawConfig>,
    },
}

/// Runs what the command line asks for, to its end. A command line that makes no sense is exit code 64.
#[must_use]
pub fn run() -> ExitCode {
    match parse() {
        Ok(Cli { command: Command::Serve(raw) }) => serve::serve(&raw.in_this_environment()),
        Ok(Cli { command: Command::Doctor { output, raw } }) => {
            doctor::doctor(&raw.in_this_environment(), output)
        }
        // Help and version are among these: they end well, and go to standard output.
        Err(told) => {
            let _closed = told.print();
            if told.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

/// Each flag also takes its environment variable's whole name: `--entrada-listen` is `--listen`.
fn parse() -> Result<Cli, clap::Error> {
    let with_aliases = |subcommand: clap::Command| {
        subcommand.mut_args(|arg| match (arg.get_env(), arg.get_long()) {
            (Some(_), Some(long)) if !long.starts_with("azure") && !long.starts_with("otel") => {
                let alias = format!("entrada-{long}");
                arg.alias(alias)
            }
            _ => arg,
        })
    };
    let command = Cli::command().mut_subcommand("serve", with_aliases).mut_subcommand("doctor", with_aliases);
    Cli::from_arg_matches(&command.try_get_matches()?)
}

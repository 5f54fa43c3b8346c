//! The command line: one file for each subcommand.

mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::RawConfig;

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
}

/// Runs what the command line asks for, to its end.
#[must_use]
pub fn run() -> ExitCode {
    match parse().command {
        Command::Serve(raw) => serve::serve(&raw.in_this_environment()),
    }
}

/// Each flag also takes its environment variable's whole name: `--entrada-listen` is `--listen`.
fn parse() -> Cli {
    let command = Cli::command().mut_subcommand("serve", |serve| {
        serve.mut_args(|arg| match arg.get_long() {
            Some(long) if !long.starts_with("azure") && !long.starts_with("otel") => {
                let alias = format!("entrada-{long}");
                arg.alias(alias)
            }
            _ => arg,
        })
    });
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

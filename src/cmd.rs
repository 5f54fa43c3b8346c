//! The command line: its subcommands, and what each leads to.

mod client;
mod help;
#[cfg(unix)]
mod serve;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[cfg(unix)]
use crate::config::RawConfig;

const EXAMPLES: &str = "\
Examples:
  entrada login k8s.example.com           sign in with your browser; kubectl works from then on
  entrada login k8s.example.com --device  the same over SSH, or where there is no browser
  entrada logout                          end it

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
    /// Revoke the token and forget it
    Logout(client::LogoutArgs),
    /// Run the proxy
    #[cfg(unix)]
    Serve(Box<RawConfig>),
    /// Print a shell's completions
    Completions(help::CompletionsArgs),
    /// Print a manual page
    Man(help::ManArgs),
}

/// Runs what the command line asks for, to its end.
#[must_use]
pub fn run() -> ExitCode {
    match parse().command {
        Command::Login(args) => client::login(args),
        Command::Credential(args) => client::credential(&args),
        Command::Logout(args) => client::logout(args),
        #[cfg(unix)]
        Command::Serve(raw) => serve::serve(&raw.in_this_environment()),
        Command::Completions(args) => help::completions(&args, program()),
        Command::Man(args) => help::man(&args, program()),
    }
}

fn parse() -> Cli {
    let command = if is_plugin() { program().bin_name("kubectl entrada") } else { program() };
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// kubectl runs `kubectl-entrada` for `kubectl entrada`; usage texts should say what was typed.
fn is_plugin() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    Path::new(&program).file_stem().is_some_and(|name| name == "kubectl-entrada")
}

/// Each flag of `serve` also takes its environment variable's whole name: `--entrada-listen` is `--listen`.
#[cfg(unix)]
fn program() -> clap::Command {
    Cli::command().mut_subcommand("serve", |serve| {
        serve.mut_args(|arg| match arg.get_long() {
            Some(long) if !long.starts_with("azure") && !long.starts_with("otel") => {
                let alias = format!("entrada-{long}");
                arg.alias(alias)
            }
            _ => arg,
        })
    })
}

#[cfg(not(unix))]
fn program() -> clap::Command {
    Cli::command()
}

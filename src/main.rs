//! The command line: `entrada serve`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use entrada::app;
use entrada::clock::Clock;
use entrada::config::{Config, EXIT_USAGE, RawConfig};
use tokio::signal::unix::{SignalKind, signal};

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

fn main() -> ExitCode {
    let Command::Serve(raw) = parse().command;
    let config = match Config::from_raw(&raw) {
        Ok(config) => config,
        Err(faults) => {
            // Before logging starts, and for the eyes of whoever typed it.
            let _closed = writeln!(std::io::stderr(), "entrada: {faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    entrada::log::init();
    match serve(&config) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "could not start");
            ExitCode::FAILURE
        }
    }
}

/// Each flag also takes its environment variable's whole name: `--entrada-listen` is `--listen`.
fn parse() -> Cli {
    let command = Cli::command().mut_subcommand("serve", |serve| {
        serve.mut_args(|arg| match arg.get_long() {
            Some(long) if !long.starts_with("azure") => {
                let alias = format!("entrada-{long}");
                arg.alias(alias)
            }
            _ => arg,
        })
    });
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let sockets = app::Sockets::bind(config).await?;
        let running = app::start(config, Clock::system(), sockets)?;
        tokio::select! {
            () = running.crashed() => {
                running.kill().await;
                return Ok(ExitCode::FAILURE);
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::select! {
            () = running.stop() => Ok(ExitCode::SUCCESS),
            // A second signal cuts the window short.
            _ = terminate.recv() => Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        }
    })
}

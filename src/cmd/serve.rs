//! `entrada serve`: settings, runtime, signals, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app::{self, Sockets};
use crate::clock::Clock;
use crate::config::{Config, EXIT_USAGE, RawConfig};

/// Exit code 64 for faulty settings, 1 for a start that failed, a task that panicked, or a second signal; else 0.
pub(super) fn serve(raw: &RawConfig) -> ExitCode {
    let config = match Config::from_raw(raw) {
        Ok(config) => config,
        Err(faults) => {
            // Before logging starts, and for the eyes of whoever typed it.
            let _closed = writeln!(std::io::stderr(), "entrada: {faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let _log = match crate::log::init(EnvFilter::new(&config.log)) {
        Ok(log) => log,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "entrada: the log cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&config) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "could not start");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("runtime")?;
    let code = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let sockets = Sockets::bind(config).await?;
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
            () = running.stop() => return Ok(ExitCode::SUCCESS),
            // A second signal cuts the window short.
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running.write_audit().await;
        Ok(ExitCode::FAILURE)
    });
    // What has ended in time has ended. What may be left is the lookup of a host's name, on a thread that nothing can
    // interrupt: with a name server that does not answer, waiting for it would outlast the pod's grace period.
    runtime.shutdown_background();
    code
}

//! `entrada doctor`: runtime, what is printed, exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;

use crate::clock::Clock;
use crate::config::RawConfig;
use crate::doctor::{self, Report};

pub(super) const HELP: &str = "\
Takes the settings of `entrada serve`, from the same variables and flags. In the pod it needs no argument:
  kubectl exec deploy/entrada -- entrada doctor
Exit code: 0 when all is well, 1 when a fault was found, 64 for a command line that makes no sense.";

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Output {
    /// A line for each check
    #[default]
    Text,
    /// An array of {"check","ok","seen","fix"}
    Json,
}

pub(super) fn doctor(raw: &RawConfig, output: Output) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "entrada: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = runtime.block_on(doctor::examine(raw, &Clock::system()));
    // The lookup of a host's name may still wait for a name server, on a thread that nothing can interrupt.
    runtime.shutdown_background();
    let printed = std::io::stdout().write_all(shown(&report, output).as_bytes());
    if report.is_good() && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn shown(report: &Report, output: Output) -> String {
    match output {
        Output::Json => report.json(),
        // See no-color.org: set, and not to nothing.
        Output::Text => {
            let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            report.text(std::io::stdout().is_terminal() && !unwanted)
        }
    }
}

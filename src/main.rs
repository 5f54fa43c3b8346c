//! The program. What it does stands in `cmd`, one file for each subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    entrada::cmd::run()
}

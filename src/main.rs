//! The program. What it does stands in `cmd`, one file for each subcommand.

use std::process::ExitCode;

/// glibc's own allocator keeps what a burst has taken: after 1,000 watches had seen 200 events each and were closed, it
/// held 197 MB a minute later, this one 68 MB. A thread of its own gives back what nobody has used for ten seconds.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    entrada::cmd::run()
}

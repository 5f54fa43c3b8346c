//! The program. What it does stands in `cmd`, one file for each subcommand.

use std::process::ExitCode;

/// Gives back within seconds what a burst has used. glibc's allocator keeps it: 94 KiB of each of 1,000 watches over HTTP/2 a
/// minute after 100 KB of events each, where 14 were in use before; with this it is 18. A request takes less time, too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    entrada::cmd::run()
}

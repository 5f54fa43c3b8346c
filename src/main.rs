//! The program. What it does stands in `cmd`, one file for each subcommand.

use std::process::ExitCode;

/// glibc's own allocator keeps what a burst has taken. Of 1,000 watches that had seen 200 events each, one on HTTP/2 held
/// 176 KiB with it a minute later, and 103 KiB with this one (on HTTP/1.1 231 and 173), whose threads give back what
/// nobody has used for ten seconds. A request takes the same processor time with both.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    entrada::cmd::run()
}

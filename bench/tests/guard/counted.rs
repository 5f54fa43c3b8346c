//! Entrada with an allocator that counts, and a port that tells the count.

use std::alloc::System;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Where the port is; where this is set, the test is Entrada.
pub(crate) const LISTEN: &str = "COUNTED_LISTEN";

/// Runs Entrada with this process' arguments.
pub(crate) fn run(listen: &str) -> ExitCode {
    let listener = TcpListener::bind(listen).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _gone = stream.write_all(mark().as_bytes());
        }
    });
    entrada::cmd::run()
}

/// Allocations, bytes allocated and bytes freed so far. Callgrind is told this name: it writes down what it has counted,
/// and starts anew, whenever this is called.
#[inline(never)]
fn mark() -> String {
    let stats = ALLOCATOR.stats();
    let calls = stats.allocations + stats.reallocations;
    format!("{calls} {} {}\n", stats.bytes_allocated, stats.bytes_deallocated)
}

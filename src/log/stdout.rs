//! Standard output, which the log's and the audit log's writers share.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// Standard output as a file of its own: the standard library's handle cuts what is written into pieces of its buffer.
static STDOUT: LazyLock<io::Result<Mutex<File>>> = LazyLock::new(|| {
    let own = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Mutex::new(File::from(own)))
});

/// Between two attempts where standard output was made non-blocking by somebody, and is full.
const FULL_NAP: Duration = Duration::from_millis(10);

/// Writes whole lines; no other writer's lines come between them. Blocks while standard output is full: only a thread
/// that nobody waits for may call it.
///
/// # Errors
/// When nobody reads it any more, or it was closed.
pub(crate) fn write_to_stdout(lines: &[u8]) -> io::Result<()> {
    let file = STDOUT.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let mut left = lines;
    while !left.is_empty() {
        match file.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(FULL_NAP),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! Files that only their user can read, replaced whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::clock::Clock;

/// The user's home directory.
pub(super) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// Makes a directory, and those above it, that only its user can enter.
pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    // One that was there before may have been open to others.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// A file's text, if it is no larger than `most_bytes`.
pub(super) fn read(path: &Path, most_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(most_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {most_bytes} bytes"),
        ));
    }
    Ok(text)
}

/// Writes beside `path` first and then renames, so that a reader sees the old text or the new one, also after the power
/// failed. The file keeps the owner that `before` names, and is readable for that user alone.
pub(super) fn replace(path: &Path, text: &[u8], before: Option<&Metadata>) -> io::Result<()> {
    replace_with(path, |file| {
        keep_owner(file, before)?;
        file.write_all(text)?;
        file.sync_all()
    })
}

/// The same for what may be lost when the power fails: kubectl waits for it, and a disk may take its time.
pub(super) fn replace_cached(path: &Path, text: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(text))
}

fn replace_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // No other process has this name now; a random one would cost the start of the random generator, some 20 ms.
    let (process, now) = (std::process::id(), Clock::system().now().as_nanosecond());
    let new = path.with_file_name(format!(".{name}.{process}-{now}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written =
        options.open(&new).and_then(|mut file| write(&mut file)).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _was_not_made = fs::remove_file(&new);
    }
    written
}

/// With `sudo` the user's own file would become root's.
#[cfg(unix)]
fn keep_owner(file: &File, before: Option<&Metadata>) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(before) = before else { return Ok(()) };
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid()))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn keep_owner(_: &File, _: Option<&Metadata>) -> io::Result<()> {
    Ok(())
}

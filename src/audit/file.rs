//! Events in a file: whole lines only, rotated by size, reopened when somebody else has moved it away.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::writer::Sink;
use crate::clock::{Clock, after};
use crate::config::AuditFile;
use crate::outbox::Gathering;

/// Of a file that was put aside: what stands between its name and its ending. Sorted by name they are sorted by age.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const NAMES_DIFFER_BY: Duration = Duration::from_millis(1);

/// Each write has a price of its own (a thread that wakes up, three system calls), and nobody follows an audit file by
/// the millisecond. So many events still lie in the processor's cache when they are written.
const GATHERING: Gathering = Gathering { time: Duration::from_millis(10), lines: 400 };

/// A file that events are appended to.
pub(super) struct FileSink {
    settings: AuditFile,
    clock: Clock,
    /// Nothing while it could not be opened.
    file: Option<File>,
}

impl FileSink {
    /// Opens the file, or makes it: nobody but us may read it.
    ///
    /// # Errors
    /// When that is not possible.
    pub(super) fn open(settings: AuditFile, clock: Clock) -> anyhow::Result<Self> {
        let file = open(&settings.path).context("ENTRADA_AUDIT")?;
        Ok(Self { settings, clock, file: Some(file) })
    }

    /// The file to append so many bytes to, which is the one that its path names, and what it is before that.
    fn current(&mut self, bytes: usize) -> anyhow::Result<(&mut File, Metadata)> {
        let path = &self.settings.path;
        // What is known of it where it is still the one that its path names. It is asked for once for each write.
        let still_named = |file: &File| -> io::Result<Option<Metadata>> {
            let (own, named) = (file.metadata()?, fs::metadata(path)?);
            let is_current = (own.dev(), own.ino()) == (named.dev(), named.ino());
            Ok(is_current.then_some(own))
        };
        let mut metadata = self.file.as_ref().and_then(|file| still_named(file).ok().flatten());
        if let Some(known) = &metadata {
            let full = known.len() > 0 && known.len() + bytes as u64 > self.settings.max_bytes;
            if known.is_file() && full {
                match self.put_aside() {
                    Ok(()) => metadata = None,
                    // A file that grows too large is better than events that are lost.
                    Err(error) => tracing::error!(%error, "the audit file cannot be put aside"),
                }
            }
        }
        let metadata = if let Some(known) = metadata {
            known
        } else {
            self.file = None;
            self.file.insert(open(path)?).metadata()?
        };
        Ok((self.file.as_mut().context("it was just opened")?, metadata))
    }

    fn put_aside(&self) -> io::Result<()> {
        let path = &self.settings.path;
        let names = Names::of(path);
        let mut old = names.found_beside(path)?;
        old.sort();
        // Later than all others, even where the clock was set back: which one is the oldest is told by their names.
        let newest = old.last().and_then(|newest| names.time_of(newest.file_name()?.to_str()?));
        let time =
            newest.map_or(self.clock.now(), |newest| self.clock.now().max(after(newest, NAMES_DIFFER_BY)));
        let aside = path.with_file_name(names.aside(time));
        fs::rename(path, &aside)?;
        old.push(aside);
        let surplus = old.len().saturating_sub(self.settings.keep);
        for file in &old[..surplus] {
            fs::remove_file(file)?;
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn gathering(&self) -> Gathering {
        GATHERING
    }

    fn write(&mut self, events: &[u8]) -> anyhow::Result<()> {
        let (file, before) = self.current(events.len())?;
        let Err(error) = file.write_all(events) else { return Ok(()) };
        // What was written of it would stay as a broken line. Where it cannot be cut off now, it is ended when the file is
        // opened again.
        if before.is_file() && file.set_len(before.len()).is_err() {
            self.file = None;
        }
        Err(error.into())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _as_far_as_it_goes = file.sync_data();
        }
    }
}

/// Opens a file to append to it. A line that a crash left half written is ended, so that it is the only broken one.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.file_type().is_fifo() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a pipe, which would stand still unread",
        ));
    }
    if metadata.is_file() && metadata.len() > 0 {
        let mut last = [0];
        let mut reader = File::open(path)?;
        reader.seek(SeekFrom::End(-1))?;
        reader.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// The names of files that were put aside: `audit-2026-01-02T03-04-05.678.log`.
struct Names {
    beginning: String,
    ending: String,
}

impl Names {
    fn of(path: &Path) -> Self {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let ending = match path.extension() {
            None => String::new(),
            extension => format!(".{}", text(extension)),
        };
        Self { beginning: format!("{}-", text(path.file_stem())), ending }
    }

    fn aside(&self, time: Timestamp) -> String {
        format!("{}{}{}", self.beginning, time.strftime(TIME), self.ending)
    }

    /// When a file of this name was put aside.
    fn time_of(&self, name: &str) -> Option<Timestamp> {
        let time = name.strip_prefix(&self.beginning)?.strip_suffix(&self.ending)?;
        let time = DateTime::strptime(TIME, time).ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    }

    /// Those that are there. A file of another name is nobody's to remove.
    fn found_beside(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| self.time_of(name).is_some()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;

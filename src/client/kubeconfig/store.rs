//! One kubeconfig file: read, locked as kubectl locks it, and replaced whole with a backup beside it.

use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::{Failure, files, talk::Talk};
use super::yaml::{self, Node};
use crate::clock;

/// Hundreds of clusters are about 1 MB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// kubectl holds its lock for a moment.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A file as it was read, and what it shall become.
pub(super) struct Text {
    path: PathBuf,
    /// As it was; nothing where there is no file.
    before: Option<(String, Metadata)>,
    has_comments: bool,
    original: Node,
    pub(super) root: Node,
}

/// kubectl's own lock: a file beside the kubeconfig, which stands while somebody writes.
pub(super) struct Lock(PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        let _is_gone = fs::remove_file(&self.0);
    }
}

impl Text {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let fault = |why: String| Failure::failed(format!("{} is left alone: {why}.", path.display()));
        let before = match files::read(path, MAX_BYTES) {
            Ok(text) => Some((text, fs::metadata(path).map_err(|error| fault(error.to_string()))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fault(error.to_string())),
        };
        let text = before.as_ref().map_or("", |(text, _)| text.as_str());
        let parsed = yaml::parse(text).map_err(|why| fault(format!("it cannot be understood ({why})")))?;
        let mut root = parsed.root;
        if root.is_nothing() {
            root = Node::Map(Vec::new());
        }
        if !matches!(root, Node::Map(_)) {
            return Err(fault("it is no kubeconfig".to_owned()));
        }
        let original = root.clone();
        Ok(Self { path: path.to_owned(), before, has_comments: parsed.has_comments, original, root })
    }

    pub(super) fn exists(&self) -> bool {
        self.before.is_some()
    }

    /// Writes what has changed, after a backup. Comments are lost, which is said first.
    pub(super) fn write(&mut self, talk: Talk) -> Result<(), Failure> {
        if self.root == self.original {
            return Ok(());
        }
        let path = self.path.display();
        let fault = |why: io::Error| Failure::failed(format!("{path} cannot be written: {why}."));
        // Where a symbolic link leads to is replaced, not the link.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some((text, metadata)) = &self.before {
            if metadata.permissions().readonly() {
                return Err(Failure::failed(format!(
                    "{path} is read-only: make it writable, or use --kubeconfig."
                )));
            }
            let backup = beside(&target, ".entrada-backup");
            if self.has_comments {
                talk.say(format!(
                    "{path} has comments, which are lost now; {} keeps them.",
                    backup.display()
                ));
            }
            files::replace(&backup, text.as_bytes(), Some(metadata)).map_err(fault)?;
        }
        let metadata = self.before.as_ref().map(|(_, metadata)| metadata);
        files::replace(&target, yaml::write(&self.root).as_bytes(), metadata).map_err(fault)?;
        self.original = self.root.clone();
        Ok(())
    }
}

/// Waits for whoever writes the file now. The directory is made where there is none.
pub(super) async fn lock(path: &Path) -> Result<Lock, Failure> {
    let fault = |why: &dyn std::fmt::Display| {
        Failure::failed(format!("{} cannot be written: {why}.", path.display()))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        files::make_private_dir(folder).map_err(|error| fault(&error))?;
    }
    let lock = beside(path, ".lock");
    for _ in 0..LOCK_TRIES {
        match OpenOptions::new().write(true).create_new(true).open(&lock) {
            Ok(_) => return Ok(Lock(lock)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clock::pause(LOCK_PAUSE).await,
            Err(error) => return Err(fault(&error)),
        }
    }
    let stale = format!("another program holds {0}. If none does, remove that file: rm {0}", lock.display());
    Err(fault(&stale))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

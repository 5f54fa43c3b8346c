//! A folder that only its owner can enter. What is secret in it does not outlive the demo.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

pub(crate) const CA: &str = "ca.pem";
pub(crate) const TLS_CERT: &str = "tls.crt";
pub(crate) const TLS_KEY: &str = "tls.key";
pub(crate) const ASSERTION: &str = "assertion";
pub(crate) const KUBECONFIG: &str = "kubeconfig";

const LOG: &str = "entrada.log";
const LOCK: &str = "lock";
const KUBECTL_CACHE: &str = "kubectl-cache";
/// What is removed at the end. The log stays: it is most wanted when the demo is over.
const PASSING: [&str; 6] = [CA, TLS_CERT, TLS_KEY, ASSERTION, KUBECONFIG, LOCK];

/// The demo's folder, while this demo has it to itself.
pub(crate) struct Folder {
    path: PathBuf,
    log: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder with mode 0700, or takes over one that is private already.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(named),
            _ => {}
        }
        let path = path.canonicalize().with_context(named)?;
        let mode = fs::metadata(&path).with_context(named)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("{0} is open to others, and tokens go there: chmod 700 {0}", path.display());
        }
        let lock = private().create(true).write(true).truncate(false).open(path.join(LOCK))?;
        if lock.try_lock().is_err() {
            bail!("another demo is running in {}", path.display());
        }
        Ok(Self { log: path.join(LOG), path, _lock: lock })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts a file there, for its owner alone (0600), in one step: who reads it meanwhile sees the old or the new one.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let write = || {
            private().create(true).write(true).truncate(true).open(&new)?.write_all(text.as_bytes())?;
            fs::rename(&new, self.file(name))
        };
        write().with_context(|| self.file(name).display().to_string())
    }

    /// Where Entrada's log is.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// An empty log to write to.
    pub(crate) fn new_log(&self) -> anyhow::Result<File> {
        let log = private().create(true).write(true).truncate(true).open(&self.log);
        log.with_context(|| self.log.display().to_string())
    }

    /// For what our own kubectl remembers of the cluster.
    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.path.join(KUBECTL_CACHE)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What was never written, or was removed by hand, is no fault.
        for name in PASSING {
            let _absent = fs::remove_file(self.file(name));
        }
        let _absent = fs::remove_dir_all(self.kubectl_cache());
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

//! Tokens between two commands: one file for each server, in `$KUBECACHEDIR/entrada` or `~/.kube/cache/entrada`, where
//! kubectl keeps what it caches.
//!
//! A file that is broken, foreign or too large is no token; the next one replaces it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::api::Granted;
use super::server::Server;
use super::talk::Talk;
use super::{Failure, files};
use crate::secret::CredentialSecret;

const MAX_BYTES: u64 = 512 * 1024;
/// A token is renewed with a fifth of its lifetime left, but not earlier than this before its end.
const RENEWED_EARLIEST: SignedDuration = SignedDuration::from_mins(10);
/// Between two attempts to renew one token, where the server has no new one to give.
const RENEWAL_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// kubectl is told an end so much before the real one, or a tenth of the lifetime where that is less: a request that is
/// on its way should still arrive.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// Two calls that the server answers at the last moment.
const LONGEST_RENEWAL: Duration = Duration::from_secs(65);
const LOCK_LOOK: Duration = Duration::from_millis(100);

/// A token and what is known of it.
pub(super) struct Known {
    pub(super) id: String,
    pub(super) token: CredentialSecret,
    obtained_at: Timestamp,
    pub(super) expires_at: Timestamp,
    session_expires_at: Option<Timestamp>,
    pub(super) username: String,
    pub(super) cluster_name: String,
    pub(super) authority: Option<String>,
    pub(super) renewal_tried_at: Option<Timestamp>,
    /// The server refused it, so it is asked before the token is used again: its user may have armed it since.
    pub(super) refused: bool,
}

/// The file.
#[derive(Deserialize, Serialize)]
struct Stored {
    server: String,
    id: String,
    token: String,
    obtained_at: Timestamp,
    expires_at: Timestamp,
    session_expires_at: Option<Timestamp>,
    username: String,
    cluster_name: String,
    certificate_authority: Option<String>,
    renewal_tried_at: Option<Timestamp>,
    #[serde(default)]
    refused: bool,
}

/// Where the token of one server is kept.
pub(super) struct Cache {
    folder: PathBuf,
    server: Server,
}

/// Held while one process renews, signs in or signs out; the others wait and use what it brought. The system releases it when the
/// process ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

/// What came of asking for the lock.
pub(super) enum Locking {
    Held(Lock),
    /// Another process has it.
    Busy,
    /// Nothing can be written here.
    Impossible(io::Error),
}

impl Known {
    pub(super) fn new(granted: Granted, now: Timestamp) -> Self {
        Self {
            id: granted.id,
            token: granted.token,
            obtained_at: now,
            expires_at: granted.expires_at,
            session_expires_at: granted.session_expires_at,
            username: granted.username,
            cluster_name: granted.cluster_name,
            authority: granted.authority,
            renewal_tried_at: None,
            refused: false,
        }
    }

    /// Its end, or that of its session if that comes first.
    fn end(&self) -> Timestamp {
        self.session_expires_at.map_or(self.expires_at, |session| session.min(self.expires_at))
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        now < self.end()
    }

    pub(super) fn wants_renewal(&self, now: Timestamp) -> bool {
        let window = (self.lifetime() / 5).min(RENEWED_EARLIEST);
        let tried =
            self.renewal_tried_at.is_some_and(|tried| now.duration_since(tried).abs() < RENEWAL_PAUSE);
        // A new token would end with the session, too.
        let is_last = self.session_expires_at.is_some_and(|session| session <= self.expires_at);
        self.end().duration_since(now) < window && !is_last && !tried
    }

    /// Until when kubectl may use it without asking again.
    pub(super) fn told_end(&self, now: Timestamp) -> Timestamp {
        let margin = (self.lifetime() / 10).min(MARGIN);
        let told = self.end().saturating_sub(margin).unwrap_or(self.end());
        // The last moments of a token that could not be renewed: a time that has passed would have kubectl ask each time.
        if told > now { told } else { self.end() }
    }

    fn lifetime(&self) -> SignedDuration {
        self.end().duration_since(self.obtained_at)
    }
}

impl Cache {
    pub(super) fn of(server: &Server) -> Result<Self, Failure> {
        let folder = folder().ok_or_else(|| Failure::failed("There is no home directory: set HOME."))?;
        Ok(Self { folder, server: server.clone() })
    }

    /// The servers whose token is kept.
    pub(super) fn servers() -> Vec<Server> {
        let entries = folder().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let stored =
            entries.filter_map(|entry| stored(&entry.path()).filter(|_| is_token_file(&entry.path())));
        let mut servers: Vec<_> = stored.filter_map(|stored| Server::parse(&stored.server).ok()).collect();
        servers.sort_by(|a, b| a.origin().cmp(b.origin()));
        servers
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Of another kind, beside the token's own: `lock`, `handed`.
    pub(super) fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.server.file_name()))
    }

    pub(super) fn read(&self) -> Option<Known> {
        let stored = stored(&self.file("json")).filter(|stored| stored.server == self.server.origin())?;
        Some(Known {
            id: stored.id,
            token: CredentialSecret::new(stored.token),
            obtained_at: stored.obtained_at,
            expires_at: stored.expires_at,
            session_expires_at: stored.session_expires_at,
            username: stored.username,
            cluster_name: stored.cluster_name,
            authority: stored.certificate_authority,
            renewal_tried_at: stored.renewal_tried_at,
            refused: stored.refused,
        })
    }

    pub(super) fn write(&self, known: &Known) -> io::Result<()> {
        files::make_private_dir(&self.folder)?;
        let stored = Stored {
            server: self.server.origin().to_owned(),
            id: known.id.clone(),
            token: known.token.expose().to_owned(),
            obtained_at: known.obtained_at,
            expires_at: known.expires_at,
            session_expires_at: known.session_expires_at,
            username: known.username.clone(),
            cluster_name: known.cluster_name.clone(),
            certificate_authority: known.authority.clone(),
            renewal_tried_at: known.renewal_tried_at,
            refused: known.refused,
        };
        files::replace_cached(&self.file("json"), &serde_json::to_vec(&stored)?)
    }

    /// Whether a token could be kept: asked before a person is bothered.
    pub(super) fn can_keep(&self) -> io::Result<()> {
        match self.lock_now() {
            Locking::Impossible(error) => Err(error),
            Locking::Held(_) | Locking::Busy => {
                let probe = self.file("probe");
                files::replace_cached(&probe, b"")?;
                fs::remove_file(probe)
            }
        }
    }

    pub(super) fn forget(&self) -> io::Result<()> {
        for kind in ["json", "handed"] {
            match fs::remove_file(self.file(kind)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn lock_now(&self) -> Locking {
        match self.open_lock().map(|file| file.try_lock().map(|()| Lock { _file: file })) {
            Ok(Ok(lock)) => Locking::Held(lock),
            Ok(Err(TryLockError::WouldBlock)) => Locking::Busy,
            Ok(Err(TryLockError::Error(error))) | Err(error) => Locking::Impossible(error),
        }
    }

    /// Waits for the lock, at most so long.
    pub(super) fn lock_within(&self, patience: Duration) -> Locking {
        let file = match self.open_lock() {
            Ok(file) => file,
            Err(error) => return Locking::Impossible(error),
        };
        let (sender, locked) = mpsc::channel();
        // The system's own waiting has no end, so it is done aside; a lock that comes too late is dropped with its file.
        let waiting = std::thread::Builder::new().spawn(move || {
            let taken = file.lock();
            let _too_late = sender.send(taken.map(|()| Lock { _file: file }));
        });
        match waiting.map(|_| locked.recv_timeout(patience)) {
            Ok(Ok(Ok(lock))) => Locking::Held(lock),
            Ok(Ok(Err(error))) | Err(error) => Locking::Impossible(error),
            Ok(Err(_)) => Locking::Busy,
        }
    }

    /// Waits for a process that renews the token at this moment, which would otherwise put its new one where ours is, or was.
    /// Nothing where nobody can write, or where somebody takes longer to sign in: that is a token of its own.
    pub(super) async fn settled(&self, talk: Talk) -> Option<Lock> {
        let mut looks = tokio::time::interval(LOCK_LOOK);
        let longest = LONGEST_RENEWAL.as_millis() / LOCK_LOOK.as_millis();
        for look in 0..longest {
            looks.tick().await;
            match self.lock_now() {
                Locking::Held(lock) => return Some(lock),
                Locking::Impossible(_) => return None,
                Locking::Busy if look == 0 => {
                    talk.say("Another process is renewing the token, or signing in. Waiting for it.");
                }
                Locking::Busy => {}
            }
        }
        None
    }

    fn open_lock(&self) -> io::Result<File> {
        files::make_private_dir(&self.folder)?;
        File::options().create(true).truncate(false).write(true).open(self.file("lock"))
    }
}

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECACHEDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cache = named.or_else(|| Some(files::home()?.join(".kube").join("cache")))?;
    Some(cache.join("entrada"))
}

fn is_token_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn stored(path: &Path) -> Option<Stored> {
    let stored: Stored = serde_json::from_str(&files::read(path, MAX_BYTES).ok()?).ok()?;
    // It becomes a header of a request.
    let is_token = !stored.token.is_empty() && stored.token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then_some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(lifetime_seconds: i64, session_seconds: Option<i64>) -> (Known, impl Fn(i64) -> Timestamp) {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let granted = Granted {
            id: "1".to_owned(),
            token: CredentialSecret::new("entrada_x"),
            expires_at: at(lifetime_seconds),
            session_expires_at: session_seconds.map(at),
            username: String::new(),
            cluster_name: String::new(),
            authority: None,
        };
        (Known::new(granted, at(0)), at)
    }

    #[test]
    fn a_token_is_renewed_in_its_last_fifth_and_at_most_ten_minutes_early() {
        // Proves when a renewal is due, for long tokens and short ones, and that none is tried where it brings nothing.
        let (twelve_hours, at) = known(43_200, Some(600_000));
        assert!(!twelve_hours.wants_renewal(at(43_200 - 601)));
        assert!(twelve_hours.wants_renewal(at(43_200 - 599)));
        let (short, at) = known(100, None);
        assert!(!short.wants_renewal(at(79)) && short.wants_renewal(at(81)));
        let (last_of_its_session, at) = known(100, Some(100));
        assert!(!last_of_its_session.wants_renewal(at(99)));
        let (mut tried, at) = known(1_000, None);
        tried.renewal_tried_at = Some(at(900));
        assert!(!tried.wants_renewal(at(959)) && tried.wants_renewal(at(961)));
    }

    #[test]
    fn kubectl_is_told_an_earlier_end() {
        // Proves that kubectl asks before the token ends, never for one that has, and asks within the time of renewal.
        let (long, at) = known(43_200, Some(40_000));
        assert_eq!(long.told_end(at(0)), at(40_000 - 60));
        assert!(long.is_valid(at(39_999)) && !long.is_valid(at(40_000)));
        let (short, at) = known(100, None);
        assert_eq!(short.told_end(at(0)), at(90));
        assert!(short.wants_renewal(at(90)));
        assert_eq!(short.told_end(at(95)), at(100));
    }
}

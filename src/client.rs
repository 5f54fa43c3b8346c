//! What runs on a user's computer: `entrada login`, `entrada credential` and `entrada logout`.
//!
//! ```text
//! login       loopback or device hand-over (login)  → token → cache → kubeconfig entry that runs `entrada credential`
//! credential  token from the cache, renewed or fetched anew → ExecCredential on standard output (exec)
//! logout      revokes the token, forgets it
//! ```
//!
//! What always holds:
//!
//! - It uses nothing of the server's rooms: only the clock, the secrets and the TLS client are shared.
//! - The answer from the cache starts no runtime, reads no trust roots and opens no connection: kubectl waits for it at
//!   each command.
//! - The token stands in one file that only its user can read, and on `credential`'s standard output; never in a
//!   kubeconfig, a URL, an argument or a message.
//! - A file is replaced whole, or not at all.

mod api;
mod authority;
mod browser;
mod cache;
mod credential;
mod device;
mod exec;
mod files;
mod handed;
mod http;
mod kubeconfig;
mod login;
mod logout;
mod loopback;
mod server;
mod talk;

pub(crate) use credential::credential;
pub(crate) use login::{Login, login};
pub(crate) use logout::logout;

/// The servers whose token is kept on this computer.
pub(crate) fn signed_in_to() -> Vec<String> {
    cache::Cache::servers().iter().map(|server| server.origin().to_owned()).collect()
}

/// Why a command failed: one sentence that says what to do, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) sentence: String,
}

/// Exit codes, as `docs/login.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The server, the network or a file.
    Failed = 1,
    /// What was typed makes no sense.
    Usage = 64,
    /// There is no valid token, and nobody who could sign in now.
    SignInNeeded = 3,
    /// The person in the browser said no.
    Refused = 4,
    /// Nobody answered in time.
    TooLate = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Failure {
    fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    fn failed(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    /// With one sentence more.
    fn with(self, more: &str) -> Self {
        Self { sentence: format!("{} {more}", self.sentence), ..self }
    }
}

/// Runs `work` on this thread; Ctrl-C ends it with exit code 130. What writes files does so between two points where it
/// could be ended.
fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("The program cannot start: {error}.")))?;
    let result = runtime.block_on(async {
        tokio::select! {
            // First, because the signal is caught from its first poll on: what `work` prints may be answered by Ctrl-C.
            biased;
            _ = tokio::signal::ctrl_c() => {
                talk::Talk::new().clear();
                Err(Failure::new(Exit::Interrupted, "Interrupted."))
            }
            result = work => result,
        }
    });
    // A look-up of a host's name may still hang on a thread of its own.
    runtime.shutdown_background();
    result
}

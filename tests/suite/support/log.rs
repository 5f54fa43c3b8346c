//! Everything that was logged, and the search for secrets in it.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};

use aho_corasick::AhoCorasick;
use tracing_subscriber::EnvFilter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static SECRETS: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
static INIT: Once = Once::new();

/// Of a secret, this much is searched for: more than chance could bring, and a shortened one is found too.
const TELLING_CHARS: usize = 24;

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&LOG).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs into memory, in more detail than production does: libraries at `debug`, ourselves at `trace`.
pub(crate) fn init() {
    INIT.call_once(|| entrada::log::init_with(|| Sink, EnvFilter::new("debug,entrada=trace")));
}

/// How much was logged so far: a place to look from.
pub(crate) fn mark() -> usize {
    lock(&LOG).len()
}

/// The log lines since `mark` that hold `text`.
pub(crate) fn lines_with(mark: usize, text: &str) -> Vec<String> {
    let log = lock(&LOG);
    let text_since = String::from_utf8_lossy(&log[mark..]);
    text_since.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// Searches all that was ever logged for the new secrets, and all that was logged since `mark` for all of them.
pub(crate) fn assert_no_secrets(new: Vec<String>, mark: usize) {
    let new: HashSet<String> = new.iter().map(|secret| telling(secret).to_owned()).collect();
    let log = lock(&LOG);
    assert_absent(&new, &log);
    let mut all = lock(&SECRETS);
    all.extend(new);
    assert_absent(&all, &log[mark..]);
}

fn assert_absent(secrets: &HashSet<String>, log: &[u8]) {
    let searcher = AhoCorasick::new(secrets).unwrap();
    if let Some(found) = searcher.find(log) {
        let line = log[..found.start()].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&log[line..found.start()]);
        panic!("a secret was logged, in the line that begins: {text}");
    }
}

/// The end of a secret: a JWT begins like every other one, and a token's prefix is public.
fn telling(secret: &str) -> &str {
    assert!(secret.is_ascii() && secret.len() >= 16, "no secret is that short");
    &secret[secret.len().saturating_sub(TELLING_CHARS)..]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

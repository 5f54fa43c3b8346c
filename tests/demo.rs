//! The demo as a person meets it: its program, the files that it names, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use standin::browser::Browser;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{Mutex, MutexGuard};

/// Longer than anything here takes on a slow machine; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
const LAST_WORDS: &str = "Ctrl-C ends everything.\n";
/// The demo wants friendly ports for itself, so one runs at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A demo that has been started, in a folder of its own.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

#[tokio::test]
async fn a_person_can_follow_it_and_end_it() {
    // Proves that it gets ready, that its kubeconfig works, and that each signal ends all of it with code 0.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut demo = Demo::start(&[], &entrada()).await;
        demo.until_ready().await;
        assert!(demo.said.contains("$ kubectl -n team-a get pods\n  NAME "), "{}", demo.said);
        assert!(!demo.said.contains('\x1b'), "colours without a terminal: {:?}", demo.said);
        demo.assert_private();
        assert!(demo.kubectl(&["auth", "whoami"]).await.contains("alice@contoso.example"));
        assert!(demo.kubectl(&["-n", "team-a", "logs", "worker"]).await.contains("job 1 is done"));
        demo.assert_bob_sees_what_was_promised().await;
        // So that the search below is known to find what it looks for.
        #[cfg(target_os = "linux")]
        assert!(processes_that_name(demo.dir.path()).len() >= 2, "the demo and entrada");

        demo.signal(signal);
        let (status, dir) = demo.ended().await;
        assert_eq!(status.code(), Some(0));
        assert_nothing_is_left(dir.path());
    }
}

#[tokio::test]
async fn once_is_enough_for_a_check() {
    // Proves that --once checks everything and ends by itself, at once when nobody uses Entrada.
    let demo = Demo::start(&["--once"], &entrada()).await;
    let (status, dir) = demo.ended().await;
    assert_eq!(status.code(), Some(0));
    assert_nothing_is_left(dir.path());
    let log = std::fs::read_to_string(dir.path().join("entrada.log")).unwrap();
    assert!(log.contains("stopping") && !log.contains("the window has ended"), "{log}");
}

#[tokio::test]
async fn a_failed_start_is_told_with_the_end_of_the_log() {
    // Proves that a program which ends at once ends the demo with code 1 and its last words: kubectl cannot `serve`.
    let mut demo = Demo::start(&[], &kubectl()).await;
    let mut stderr = demo.child.stderr.take().unwrap();
    let mut complaint = String::new();
    let read = tokio::time::timeout(PATIENCE, stderr.read_to_string(&mut complaint)).await;
    read.expect("it goes on without entrada").unwrap();
    let (status, dir) = demo.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("entrada has ended"), "{complaint}");
    assert!(complaint.contains("unknown command \"serve\""), "{complaint}");
    assert_nothing_is_left(dir.path());
}

impl Demo {
    async fn start(arguments: &[&str], entrada: &Path) -> Self {
        let alone = ALONE.lock().await;
        let dir = TempDir::new().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let mut child = Command::new(beside(&self::entrada(), "demo"))
            .arg(entrada)
            .arg("--dir")
            .arg(dir.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, said: String::new(), dir, _alone: alone }
    }

    async fn until_ready(&mut self) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !self.said.ends_with(LAST_WORDS) {
                let mut piece = [0; 4096];
                let length = self.stdout.read(&mut piece).await.unwrap();
                assert!(length > 0, "it ended before it was ready: {}", self.said);
                self.said.push_str(std::str::from_utf8(&piece[..length]).unwrap());
            }
        });
        assert!(waited.await.is_ok(), "it does not get ready: {}", self.said);
    }

    /// Tokens and keys are for one pair of eyes.
    fn assert_private(&self) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o777;
            assert!(metadata.is_dir() || mode == 0o600, "{:o} {}", mode, entry.path().display());
        }
    }

    /// Runs the real kubectl with the kubeconfig of the demo.
    async fn kubectl(&self, arguments: &[&str]) -> String {
        let home = TempDir::new().unwrap();
        let mut command = Command::new(kubectl());
        command.args(arguments).env_clear().env("HOME", home.path()).kill_on_drop(true);
        command.env("KUBECONFIG", self.dir.path().join("kubeconfig")).stdin(Stdio::null());
        let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("kubectl ends").unwrap();
        assert!(output.status.success(), "kubectl {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The address that is printed for bob opens in his browser, and the same of the other team does not.
    async fn assert_bob_sees_what_was_promised(&self) {
        let browser =
            Browser::new(&std::fs::read_to_string(self.dir.path().join("ca.pem")).unwrap()).unwrap();
        let promised =
            self.said.lines().find(|line| line.ends_with("/namespaces/team-b/pods")).unwrap().trim();
        let page = browser.navigate(promised).await.unwrap();
        let page = browser.choose(page, "bob").await.unwrap();
        assert_eq!((page.status.as_u16(), page.url.as_str()), (200, promised), "{}", page.text());
        let page = browser.navigate(&promised.replace("team-b", "team-a")).await.unwrap();
        assert_eq!(page.status, 403, "{}", page.text());
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended, reading on so that it can speak.
    async fn ended(mut self) -> (ExitStatus, TempDir) {
        let waited = tokio::time::timeout(PATIENCE, async {
            self.stdout.read_to_string(&mut self.said).await.unwrap();
            self.child.wait().await.unwrap()
        });
        let status = waited.await.unwrap_or_else(|_| panic!("it does not end: {}", self.said));
        (status, self.dir)
    }
}

fn assert_nothing_is_left(dir: &Path) {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["entrada.log"], "secrets must not outlive the demo");
    #[cfg(target_os = "linux")]
    assert_eq!(processes_that_name(dir), Vec::<String>::new());
}

/// Every process whose arguments or environment hold this path: all of a demo's do.
#[cfg(target_os = "linux")]
fn processes_that_name(dir: &Path) -> Vec<String> {
    let path = dir.to_str().unwrap();
    // Processes come and go while we look; one that is gone, or is another user's, is none of ours.
    let read = |file: PathBuf| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let processes = entries.map(|process| (read(process.join("cmdline")), read(process.join("environ"))));
    let named =
        processes.filter(|(command, environment)| command.contains(path) || environment.contains(path));
    named.map(|(command, _)| command.replace('\0', " ")).collect()
}

fn entrada() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_entrada"))
}

fn kubectl() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubectl");
    assert!(program.exists(), "{} is missing: run scripts/tools kubectl", program.display());
    program
}

/// Cargo tells a test of its own package's programs only; the demo's is built by `--workspace`, into the same place.
fn beside(program: &Path, name: &str) -> PathBuf {
    let program = program.with_file_name(name);
    assert!(program.exists(), "{} is missing: run cargo test --workspace", program.display());
    program
}

//! A computer with a home directory, and programs that run on it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use url::Url;

use crate::fake::Fake;

/// Longer than anything here takes on a slow machine; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(120);
const ENTRADA: &str = env!("CARGO_BIN_EXE_entrada");

/// A home directory with nothing in it but the authority of the fake server.
pub(crate) struct Home {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

/// A program that runs.
pub(crate) struct Running {
    child: Option<Child>,
    pieces: mpsc::UnboundedReceiver<Vec<u8>>,
    said: String,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// What it said on standard error.
    pub(crate) said: String,
}

impl Home {
    pub(crate) fn new(fake: &Fake) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.crt"), fake.ca.pem()).unwrap();
        Self { dir, environment: Vec::new() }
    }

    /// With a variable more in its environment.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// The files below a directory.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Where the token of the fake server is kept.
    pub(crate) fn token_file(fake: &Fake) -> String {
        format!(".kube/cache/entrada/{}.json", fake.url.trim_start_matches("https://").replace(':', "_"))
    }

    pub(crate) fn keep(&self, fake: &Fake, text: &str) {
        self.write(&Self::token_file(fake), text);
    }

    pub(crate) fn token(&self, fake: &Fake) -> String {
        let stored: serde_json::Value = serde_json::from_str(&self.read(&Self::token_file(fake))).unwrap();
        stored["token"].as_str().unwrap().to_owned()
    }

    /// A program that stands for the browser: it writes the address that it is given into a pipe.
    pub(crate) fn with_browser(self) -> Self {
        let (program, pipe) = (self.path("browser"), self.path("opened"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::write(&program, format!("#!/bin/sh\nprintf '%s\\n' \"$1\" > '{}'\n", pipe.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let program = program.display().to_string();
        self.with("BROWSER", program)
    }

    /// The address that the browser was opened with.
    pub(crate) async fn opened(&self) -> Url {
        let pipe = self.path("opened");
        let read = tokio::task::spawn_blocking(move || fs::read_to_string(pipe));
        let address = tokio::time::timeout(PATIENCE, read).await.expect("no browser was opened").unwrap();
        Url::parse(address.unwrap().trim()).unwrap()
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let folders = [Path::new(ENTRADA).parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")];
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("USER", "alice")
            .env("PATH", std::env::join_paths(folders).unwrap())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(Path::new(ENTRADA), arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Running::new(child, stderr)
    }

    /// With a terminal for standard error, as kubectl has where a person runs it.
    pub(crate) fn start_in_terminal(&self, arguments: &[&str]) -> Running {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = fs::File::options().read(true).write(true).open(name).unwrap();
        let mut command = self.command(Path::new(ENTRADA), arguments);
        let child = command.stderr(terminal).spawn().unwrap();
        // Ours is closed, so that the end is seen.
        drop(command);
        Running::new(child, fs::File::from(master))
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended().await
    }

    /// `entrada login`, with the authority of the fake server and no browser to open.
    pub(crate) fn login(&self, fake: &Fake, more: &[&str]) -> Running {
        let ca = self.path("ca.crt").display().to_string();
        self.start(&[&["login", &fake.url, "--ca-file", &ca], more].concat())
    }

    /// Signs in, with a person who allows it.
    pub(crate) async fn logged_in(&self, fake: &Fake, more: &[&str]) -> Ended {
        let mut running = self.login(fake, &[&["--no-browser"], more].concat());
        let address = running.address().await;
        assert!(visit(&fake.allow(&address)).await.contains("You can close this tab"));
        running.ended().await
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Ended {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubectl");
        assert!(program.exists(), "run scripts/tools kubectl");
        let mut child = self.command(&program, arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Running::new(child, stderr).ended().await
    }
}

impl Running {
    fn new(child: Child, mut stderr: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child: Some(child), pieces, said: String::new() }
    }

    /// Waits until it has said this.
    pub(crate) async fn until(&mut self, words: &str) -> &str {
        while !self.said.contains(words) {
            let piece = tokio::time::timeout(PATIENCE, self.pieces.recv()).await;
            let piece = piece.unwrap_or_else(|_| panic!("it never says {words:?}: {}", self.said));
            let piece = piece.unwrap_or_else(|| panic!("it ended without {words:?}: {}", self.said));
            self.said.push_str(&String::from_utf8_lossy(&piece));
        }
        &self.said
    }

    /// The address that it asks a person to open.
    pub(crate) async fn address(&mut self) -> Url {
        loop {
            let (before, rest) = self.until("/cli/authorize?").await.split_once("/cli/authorize?").unwrap();
            if let Some((rest, _)) = rest.split_once('\n') {
                let begins = before.rsplit(char::is_whitespace).next().unwrap();
                return Url::parse(&format!("{begins}/cli/authorize?{}", rest.trim())).unwrap();
            }
            let piece = tokio::time::timeout(PATIENCE, self.pieces.recv()).await.unwrap().unwrap();
            self.said.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    pub(crate) fn interrupt(&self) {
        let id = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::INT).unwrap();
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let child = self.child.take().unwrap();
        let wait = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let output = tokio::time::timeout(PATIENCE, wait).await.expect("it does not end").unwrap();
        while let Some(piece) = self.pieces.recv().await {
            self.said.push_str(&String::from_utf8_lossy(&piece));
        }
        let stdout = String::from_utf8(output.stdout).unwrap();
        Ended { code: output.status.code(), stdout, said: std::mem::take(&mut self.said) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn assert(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.said.contains(words), "{words:?} is not in {self:?}");
        self
    }

    /// The token of an `ExecCredential`.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        let answer: serde_json::Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(answer["kind"], "ExecCredential");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

/// Goes where the browser is sent: the answer, head and all.
pub(crate) async fn visit(address: &Url) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", address.port().unwrap())).await.unwrap();
    let target = &address[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

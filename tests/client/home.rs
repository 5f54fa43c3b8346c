//! A computer with a home directory, and programs that run on it. `tests/suite` uses it, too, beside an Entrada.

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use url::Url;

/// Longer than anything here takes on a slow machine; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(120);
const ENTRADA: &str = env!("CARGO_BIN_EXE_entrada");

/// A home directory with nothing in it but the authority of one server.
pub(crate) struct Home {
    dir: TempDir,
    server: String,
    environment: Vec<(String, String)>,
}

/// A program that runs.
pub(crate) struct Running {
    child: Option<Child>,
    pieces: mpsc::UnboundedReceiver<Vec<u8>>,
    said: String,
    /// Of its terminal.
    keyboard: Option<fs::File>,
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
    /// Of somebody who uses the server at this address, and has its authority (PEM) in a file.
    pub(crate) fn of(server: &str, authority: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.crt"), authority).unwrap();
        Self { dir, server: server.to_owned(), environment: Vec::new() }
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

    /// The files below a directory.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Where the token is kept.
    pub(crate) fn token_file(&self) -> String {
        format!(".kube/cache/entrada/{}.json", self.server.trim_start_matches("https://").replace(':', "_"))
    }

    pub(crate) fn token(&self) -> String {
        let stored: serde_json::Value = serde_json::from_str(&self.read(&self.token_file())).unwrap();
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

    /// A program in this home, with `entrada` on its `PATH`.
    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
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
        Running::piped(self.command(Path::new(ENTRADA), arguments))
    }

    /// With a terminal for standard error, as kubectl has where a person runs it.
    pub(crate) fn start_in_terminal(&self, arguments: &[&str]) -> Running {
        self.in_terminal(Path::new(ENTRADA), arguments)
    }

    /// A program that a person starts in a terminal: its standard input and standard error, and where Ctrl-C comes from.
    pub(crate) fn in_terminal(&self, program: &Path, arguments: &[&str]) -> Running {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = fs::File::options().read(true).write(true).open(name).unwrap();
        let program = program.to_str().unwrap();
        // Ctrl-C does what it does for a person, also where a shell has begun the tests in its background and has them
        // ignore it.
        let fresh = ["--default-signal=INT", "setsid", "--ctty", "--wait", program];
        let mut command = self.command(Path::new("env"), &[&fresh, arguments].concat());
        let child = command.stdin(terminal.try_clone().unwrap()).stderr(terminal).spawn().unwrap();
        // Ours are closed, so that the end is seen.
        drop(command);
        let master = fs::File::from(master);
        let keyboard = master.try_clone().unwrap();
        let mut running = Running::new(child, master);
        running.keyboard = Some(keyboard);
        running
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended().await
    }

    /// `entrada login`, with the server's authority.
    pub(crate) fn login(&self, more: &[&str]) -> Running {
        let ca = self.path("ca.crt").display().to_string();
        self.start(&[&["login", &self.server, "--ca-file", &ca], more].concat())
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Ended {
        Running::piped(self.command(&kubectl(), arguments)).ended().await
    }
}

pub(crate) fn kubectl() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubectl");
    assert!(program.exists(), "run scripts/tools kubectl");
    program
}

impl Running {
    pub(crate) fn piped(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self::new(child, stderr)
    }

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
        Self { child: Some(child), pieces, said: String::new(), keyboard: None }
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

    pub(crate) fn press_ctrl_c(&mut self) {
        self.keyboard.as_mut().unwrap().write_all(b"\x03").unwrap();
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
}

/// Goes to a port of this computer, as a browser that is sent there: the answer, head and all.
pub(crate) async fn visit(address: &Url) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", address.port().unwrap())).await.unwrap();
    let target = &address[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

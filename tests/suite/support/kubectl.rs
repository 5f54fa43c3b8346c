//! The real kubectl, as `scripts/tools` fetched it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::PATIENCE;

/// A kubectl with a kubeconfig, and a home directory of its own so that no cached discovery helps it.
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: tempfile::TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

/// What a finished kubectl left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A kubectl that runs.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Kubectl {
    /// kubectl 1.34.
    pub(crate) fn new(kubeconfig: &Path) -> Self {
        Self::of("kubectl", kubeconfig)
    }

    /// Debian's kubectl 1.20.
    pub(crate) fn old(kubeconfig: &Path) -> Self {
        Self::of("kubectl-old", kubeconfig)
    }

    /// helm, which reads the same kubeconfig.
    pub(crate) fn helm(kubeconfig: &Path) -> Self {
        Self::of("helm", kubeconfig)
    }

    fn of(name: &str, kubeconfig: &Path) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name);
        assert!(program.exists(), "{} is missing: run scripts/tools {name}", program.display());
        let home = tempfile::TempDir::new().unwrap();
        Self { program, kubeconfig: kubeconfig.to_owned(), home, variables: Vec::new() }
    }

    /// The same with SPDY where it would speak WebSocket.
    pub(crate) fn over_spdy(mut self) -> Self {
        for feature in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            self.variables.push((feature, "false"));
        }
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(self.variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, b"").await
    }

    /// Runs it to its end with this on its standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Finished {
        let output = self.output(arguments, stdin).await;
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same; what it printed need not be text.
    pub(crate) async fn output(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let write = async move {
            // It may have ended without reading.
            let _closed = input.write_all(stdin).await;
        };
        let wait = async { tokio::join!(write, child.wait_with_output()).1 };
        let output = tokio::time::timeout(PATIENCE, wait).await;
        output.unwrap_or_else(|_| panic!("kubectl or helm {arguments:?} does not end")).unwrap()
    }

    /// Runs it to its good end; what it printed.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let finished = self.run(arguments).await;
        assert_eq!(finished.code, Some(0), "{} {arguments:?}: {finished:?}", self.program.display());
        finished.stdout
    }

    /// Runs a script in this folder to its good end: what stands in a page, for people to copy.
    pub(crate) async fn shell(&self, folder: &Path, script: &str) {
        let tools = self.program.parent().unwrap().display();
        let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        let shell = shell.args(["-euo", "pipefail", "-c", script]).current_dir(folder).stdin(Stdio::null());
        let environment = [("PATH", path.as_str()), ("HOME", self.home.path().to_str().unwrap())];
        let shell =
            shell.env_clear().envs(environment).env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, shell.output()).await.expect(script).unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it and reads what it prints line by line.
    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        let mut child = self.command(arguments).spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Started { child, stdin, lines }
    }
}

impl Started {
    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("kubectl prints nothing more and does not end").unwrap()
    }
}

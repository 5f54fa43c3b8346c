//! The program as a process of its own.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::{PATIENCE, World};

/// A running program whose log is read line by line.
pub(crate) struct Program {
    child: Child,
    /// Its log, read all the time: a full pipe would hold it up.
    log: JoinHandle<Vec<Value>>,
    pub(crate) addr: String,
    admin: String,
}

/// The proxy with these settings and no others.
pub(crate) fn command(settings: &BTreeMap<&str, String>) -> Command {
    subcommand("serve", settings)
}

/// A subcommand with these settings and no others.
pub(crate) fn subcommand(name: &str, settings: &BTreeMap<&str, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
    command
        .arg(name)
        .env_clear()
        .envs(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The settings of a world's Entrada, on other ports.
pub(crate) fn settings(world: &World) -> BTreeMap<&'static str, String> {
    let file = |name: &str| world.dir.path().join(name).to_str().unwrap().to_owned();
    BTreeMap::from([
        ("ENTRADA_PUBLIC_URL", world.url.clone()),
        ("ENTRADA_LISTEN", "127.0.0.1:0".to_owned()),
        ("ENTRADA_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("ENTRADA_TLS_CERT_FILE", file("tls.crt")),
        ("ENTRADA_TLS_KEY_FILE", file("tls.key")),
        ("ENTRADA_API_SERVER_URL", world.api.url()),
        ("ENTRADA_API_SERVER_CA_FILE", file("ca.pem")),
        ("ENTRADA_ENTRA_CA_FILE", file("ca.pem")),
        ("AZURE_TENANT_ID", world.entra.tenant_id()),
        ("AZURE_CLIENT_ID", world.entra.client_id()),
        ("AZURE_AUTHORITY_HOST", world.entra.authority_host()),
        ("AZURE_FEDERATED_TOKEN_FILE", file("assertion")),
    ])
}

/// Starts it, and waits until it says so.
pub(crate) async fn start(settings: &BTreeMap<&str, String>) -> Program {
    start_unread(settings).await.reading()
}

/// A running program whose log nobody reads after the line that says that it has started.
pub(crate) struct Unread {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    pub(crate) addr: String,
    admin: String,
}

/// Starts it, waits until it says so, and reads no further.
pub(crate) async fn start_unread(settings: &BTreeMap<&str, String>) -> Unread {
    spawn(command(settings)).await
}

/// The same, started by this command.
pub(crate) async fn start_as(command: Command) -> Program {
    spawn(command).await.reading()
}

async fn spawn(mut command: Command) -> Unread {
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = log.next_line().await.unwrap().expect("it ended before it had started");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["message"] == "started" {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            let (addr, admin) = (text("addr"), text("admin_addr"));
            return Unread { child, log, addr, admin };
        }
    }
}

impl Unread {
    /// From now on its log is read.
    pub(crate) fn reading(self) -> Program {
        let Self { child, log, addr, admin } = self;
        Program { child, log: tokio::spawn(read(log)), addr, admin }
    }

    pub(crate) async fn probe(&self, path: &str) -> String {
        probe(&self.admin, path).await
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Its exit code, without a look at its log.
    pub(crate) async fn ended_unread(mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it does not end").unwrap().code()
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

async fn read(mut log: Lines<BufReader<ChildStdout>>) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(line) = log.next_line().await.unwrap() {
        events.push(serde_json::from_str(&line).unwrap());
    }
    events
}

impl Program {
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Its exit code, and the rest of its log.
    pub(crate) async fn ended(mut self) -> (Option<i32>, Vec<Value>) {
        let rest = async { (self.child.wait().await.unwrap().code(), self.log.await.unwrap()) };
        tokio::time::timeout(PATIENCE, rest).await.expect("it does not end")
    }

    pub(crate) async fn probe(&self, path: &str) -> String {
        probe(&self.admin, path).await
    }
}

async fn probe(admin: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

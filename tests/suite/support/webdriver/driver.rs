//! `chromedriver`, to which commands are sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

/// Starting Chromium is most of a command's longest time; chromedriver itself gives up after a minute.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// So many ports are tried; hardly ever is a second one needed.
const PORTS: usize = 10;

/// `chromedriver`, on a port that it chose.
pub(super) struct Driver {
    _process: Process,
    addr: SocketAddr,
    /// Kept open: nobody reads on, but it may write.
    _stdout: BufReader<ChildStdout>,
}

/// Ends when dropped. Chromium hangs on a pipe to its driver: when that breaks, it ends, too.
struct Process(Child);

impl Driver {
    pub(super) async fn start(home: &Path) -> Self {
        for _ in 0..PORTS {
            if let Some(driver) = Self::on_some_port(home).await {
                return driver;
            }
        }
        panic!("chromedriver found no port");
    }

    /// It takes a port that is free on `::1`, and ends where another program has the same one on `127.0.0.1`.
    async fn on_some_port(home: &Path) -> Option<Self> {
        let spawned = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", home)
            .env("TMPDIR", home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = Process(spawned.expect("chromedriver is missing: run scripts/tools browser"));
        let stdout = BufReader::new(process.0.stdout.take().unwrap());
        let port = tokio::task::spawn_blocking(|| announced_port(stdout));
        let announced = tokio::time::timeout(COMMAND_TIMEOUT, port).await.map(Result::unwrap);
        let (port, stdout) = announced.expect("chromedriver does not say its port")?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Some(Self { _process: process, addr, _stdout: stdout })
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let exchange = self.exchange(method, path, body);
        let answer = tokio::time::timeout(COMMAND_TIMEOUT, exchange).await;
        let value = answer.unwrap_or_else(|_| panic!("chromedriver does not answer {path}"))["value"].take();
        match value["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["message"].as_str().unwrap_or_default())),
            None => Ok(value),
        }
    }

    /// Ends a session, and with it its Chromium; waits until that is done.
    pub(super) fn end(&self, session: &str) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        write!(stream, "DELETE {session} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr)?;
        stream.read_exact(&mut [0; 12])
    }

    async fn exchange(&self, method: Method, path: &str, body: &Value) -> Value {
        let stream = tokio::net::TcpStream::connect(self.addr).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let body = if method == Method::GET { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("host", self.addr.to_string());
        let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let answer = async {
            let response = sender.send_request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice(&body).unwrap()
        };
        tokio::select! {
            answer = answer => answer,
            ended = connection => panic!("chromedriver hung up: {ended:?}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Nothing where the port was another program's, too.
fn announced_port(mut stdout: BufReader<ChildStdout>) -> Option<(u16, BufReader<ChildStdout>)> {
    for line in stdout.by_ref().lines().map_while(Result::ok) {
        if line.contains("port not available") {
            return None;
        }
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return Some((port.trim_end_matches('.').parse().unwrap(), stdout));
        }
    }
    panic!("chromedriver ended at once");
}

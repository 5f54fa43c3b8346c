//! Entrada as it is run: a process of its own, whose memory, processor time and sockets the kernel tells.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::{World, eventually};

/// The unit of times in /proc: USER_HZ is 100 on every Linux of ours.
const TICKS_PER_SECOND: u64 = 100;

/// A running Entrada.
pub(crate) struct Program {
    child: Child,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    /// The public URL, without a trailing slash.
    pub(crate) url: String,
    log: PathBuf,
}

/// What a process holds and has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) rss_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) sockets: usize,
    pub(crate) cpu: Duration,
}

impl Program {
    /// Starts one between the world's stand-ins and waits until it is ready.
    ///
    /// Its ports are found by opening port 0 and closing it again: the public URL must be known beforehand. Another
    /// process could take them in between; then this one does not start and the test fails.
    pub(crate) async fn start(world: &World, extra: &[(&str, &str)]) -> Self {
        let addr = free_port().await;
        let url = format!("https://localhost:{}", addr.port());
        world.expect_callback(&url);
        Self::start_replica(world, &url, addr, extra).await
    }

    /// Starts one of several that share this public URL, and waits until it is ready.
    pub(crate) async fn start_replica(
        world: &World,
        url: &str,
        addr: SocketAddr,
        extra: &[(&str, &str)],
    ) -> Self {
        let admin = free_port().await;
        let log = world.dir.path().join(format!("{}.log", addr.port()));
        // Where one ran before at this address, its lines stay.
        let lines = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let binary =
            std::env::var("SOAK_ENTRADA").unwrap_or_else(|_| env!("CARGO_BIN_EXE_entrada").to_owned());
        let child = Command::new(binary)
            .arg("serve")
            .env_clear()
            .envs(world.settings())
            .env("ENTRADA_PUBLIC_URL", url)
            .env("ENTRADA_LISTEN", addr.to_string())
            .env("ENTRADA_ADMIN_LISTEN", admin.to_string())
            .envs(extra.iter().copied())
            .stdin(Stdio::null())
            .stdout(lines)
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let program = Self { child, addr, admin, url: url.to_owned(), log };
        eventually("readiness", || async { program.is_ready().await }).await;
        program
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.probe("/readyz").await.is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
    }

    /// A metric's value, by its name with labels; 0 where it does not stand.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.probe("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    async fn probe(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    pub(crate) fn held(&self) -> Held {
        let pid = self.pid().as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // After the name in brackets, which may hold anything: state is the 1st field, utime the 12th, stime the 13th.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let is_socket = |file: &std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        Held {
            rss_kib: kib("VmRSS:"),
            peak_kib: kib("VmHWM:"),
            sockets: files.flatten().filter(is_socket).count(),
            cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND),
        }
    }

    /// Asks it to stop gracefully.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Ends it without a word, as a lost node does.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Its exit code, once it has ended.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }

    /// The lines of its log that hold `text`.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().expect("it runs")).unwrap()).unwrap()
    }
}

/// One that nobody listens on right now.
pub(crate) async fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

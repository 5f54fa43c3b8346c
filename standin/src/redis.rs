//! Real Redis servers on loopback, each a process of its own with an empty directory: alone, behind Sentinel, as a
//! cluster. Nothing stands in for Redis here; this only starts it, and does to it what happens to servers.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::interval;

/// Where `scripts/tools redis` puts the programs.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools");
/// A server answers a few milliseconds after its start; a cluster needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Redis server. Killed when dropped.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    arguments: Vec<String>,
    port: u16,
    directory: PathBuf,
    login: Vec<String>,
}

impl Redis {
    /// A server alone, with nothing kept on disk and no password.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_with(directory, &[]).await
    }

    /// The same with more options, e.g. `["--appendonly", "yes"]`.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub async fn start_with(directory: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let directory = directory.join(format!("redis-{port}"));
        std::fs::create_dir_all(&directory)?;
        let mut arguments = vec!["--port".to_owned(), port.to_string()];
        arguments.extend(["--bind", "127.0.0.1", "--save", "", "--daemonize", "no"].map(str::to_owned));
        arguments.extend(["--dir".to_owned(), directory.to_string_lossy().into_owned()]);
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let mut server = Self { child: None, arguments, port, directory, login: Vec::new() };
        server.restart().await?;
        Ok(server)
    }

    /// A server that takes TLS only, with this certificate and key in PEM.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub async fn start_with_tls(directory: &Path, ca: &crate::pki::Ca) -> anyhow::Result<Self> {
        let port = free_port()?;
        let directory = directory.join(format!("redis-{port}"));
        std::fs::create_dir_all(&directory)?;
        let issued = ca.issue(&[])?;
        let file = |name: &str, text: &str| -> anyhow::Result<String> {
            let path = directory.join(name);
            std::fs::write(&path, text)?;
            Ok(path.to_string_lossy().into_owned())
        };
        let (cert, key) = (file("tls.crt", &issued.cert_pem)?, file("tls.key", &issued.key_pem)?);
        let ca_file = file("ca.pem", ca.pem())?;
        let mut arguments =
            vec!["--port".to_owned(), "0".to_owned(), "--tls-port".to_owned(), port.to_string()];
        arguments.extend(["--tls-cert-file".to_owned(), cert, "--tls-key-file".to_owned(), key]);
        arguments.extend(["--tls-ca-cert-file".to_owned(), ca_file.clone()]);
        arguments
            .extend(["--tls-auth-clients", "no", "--bind", "127.0.0.1", "--save", ""].map(str::to_owned));
        arguments.extend(["--dir".to_owned(), directory.to_string_lossy().into_owned()]);
        let login = vec!["--tls".to_owned(), "--cacert".to_owned(), ca_file];
        let mut server = Self { child: None, arguments, port, directory, login };
        server.restart().await?;
        Ok(server)
    }

    /// Three masters that share the slots, as one cluster, each with so many replicas that have all it has.
    ///
    /// # Errors
    /// When Redis is not installed or the cluster does not come up.
    pub async fn start_cluster(directory: &Path, replicas: usize) -> anyhow::Result<Vec<Self>> {
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let mut nodes = Vec::new();
        for _ in 0..3 * (1 + replicas) {
            nodes.push(Self::start_with(directory, &options).await?);
        }
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(nodes.iter().map(Self::address));
        create.extend(["--cluster-replicas".to_owned(), replicas.to_string(), "--cluster-yes".to_owned()]);
        let output = Command::new(program("redis-cli")).args(&create).output().context("redis-cli")?;
        if !output.status.success() {
            bail!("redis-cli --cluster create: {}", String::from_utf8_lossy(&output.stdout));
        }
        for node in &nodes {
            node.until("cluster_state:ok", &["CLUSTER", "INFO"]).await?;
            let slots = "cluster_slots_ok:16384";
            node.until(slots, &["CLUSTER", "INFO"]).await?;
        }
        // The masters are the first three. A replica without a copy never takes its master's place.
        for replica in &nodes[3..] {
            replica.until("master_link_status:up", &["INFO", "replication"]).await?;
        }
        Ok(nodes)
    }

    /// A sentinel that watches `master` under the name `mymaster`; `quorum` of them must agree that it is down.
    ///
    /// # Errors
    /// When Redis is not installed or the sentinel does not start.
    pub async fn start_sentinel(directory: &Path, master: &Self, quorum: usize) -> anyhow::Result<Self> {
        let port = free_port()?;
        let directory = directory.join(format!("sentinel-{port}"));
        std::fs::create_dir_all(&directory)?;
        let config = directory.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} {quorum}\n\
             sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n",
            directory.display(),
            master.port,
        );
        std::fs::write(&config, text)?;
        let arguments = vec![config.to_string_lossy().into_owned(), "--sentinel".to_owned()];
        let mut sentinel = Self { child: None, arguments, port, directory, login: Vec::new() };
        sentinel.restart().await?;
        Ok(sentinel)
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From here on, [`Redis::run`] logs in with this.
    pub fn log_in_with(&mut self, user: &str, password: &str) {
        self.login = ["--user", user, "--pass", password, "--no-auth-warning"].map(str::to_owned).to_vec();
    }

    /// What it answers to a command.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut cli = Command::new(program("redis-cli"));
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(&self.login).args(command);
        let output = cli.output().context("redis-cli; `scripts/tools redis` installs it")?;
        if !output.status.success() {
            bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Everything that it holds, keys and values, as Redis itself would write it to disk.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn dump(&self) -> anyhow::Result<Vec<u8>> {
        let file = self.directory.join("dump.rdb");
        self.run(&["CONFIG", "SET", "rdbcompression", "no"])?;
        self.run(&["SAVE"])?;
        Ok(std::fs::read(file)?)
    }

    /// Waits until the answer to a command holds `text`.
    ///
    /// # Errors
    /// When it never does.
    pub async fn until(&self, text: &str, command: &[&str]) -> anyhow::Result<()> {
        let (began, mut poll) = (Instant::now(), interval(Duration::from_millis(20)));
        loop {
            if self.run(command).is_ok_and(|answer| answer.contains(text)) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("waited in vain for {text} in {command:?}");
            }
            poll.tick().await;
        }
    }

    /// Stops it without a word, as a lost node does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }

    /// Holds it still: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Starts it (again) with the same options, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        let log = std::fs::File::create(self.directory.join("log"))?;
        let child = Command::new(program("redis-server"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server; `scripts/tools redis` installs it")?;
        self.child = Some(child);
        let (began, mut poll) = (Instant::now(), interval(Duration::from_millis(5)));
        // Also one that wants a login answers.
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
            if began.elapsed() > PATIENCE {
                bail!("redis-server on port {} does not start", self.port);
            }
            poll.tick().await;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _runs = self.resume();
        self.kill();
    }
}

/// The program that `scripts/tools` has put aside, or the system's own.
fn program(name: &str) -> PathBuf {
    let own = Path::new(TOOLS).join(name);
    if own.exists() { own } else { PathBuf::from(name) }
}

fn free_port() -> anyhow::Result<u16> {
    // A cluster's nodes also listen 10,000 above.
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if port < 50_000 && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 10_000)).is_ok() {
            return Ok(port);
        }
    }
}

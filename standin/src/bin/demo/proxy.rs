//! The child process `entrada serve`: set by environment alone, as in a pod, and ended with the demo.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::Signals;
use super::folder::{self, Folder};
use super::surroundings::{LOOPBACK, Surroundings};

const FRIENDLY_PORT: u16 = 8443;
const FRIENDLY_ADMIN_PORT: u16 = 9090;
const READY_WITHIN: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Entrada's own window for what is still open: short, because a person waits for it.
pub(crate) const DRAIN: &str = "3s";
/// The window, and then some; whoever has not ended by then is killed.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const TAIL_LINES: usize = 15;
/// Settings of ours that reach Entrada. Anything else in this environment might be somebody's real cluster.
const HANDED_ON: [&str; 2] = ["ENTRADA_LOG", "RUST_BACKTRACE"];

/// A running `entrada serve`. Dropping it kills it.
pub(crate) struct Proxy {
    pub(crate) address: Address,
    child: Child,
    log: PathBuf,
}

/// Where to find it.
#[derive(Clone)]
pub(crate) struct Address {
    /// The public URL, without a trailing slash.
    pub(crate) url: String,
    pub(crate) admin: SocketAddr,
    listen: SocketAddr,
}

impl Proxy {
    pub(crate) fn spawn(program: &Path, folder: &Folder, around: &Surroundings) -> anyhow::Result<Self> {
        let address = Address::choose()?;
        around.entra.set_redirect_uris(vec![format!("{}/callback", address.url)]);
        around.entra.set_frontchannel_logout_url(Some(&format!("{}/logout/frontchannel", address.url)));
        let log = folder.new_log()?;
        let child = Command::new(program)
            .arg("serve")
            .env_clear()
            .envs(HANDED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(settings(&address, folder, around))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C goes to everybody in the terminal's group. Entrada is to hear of it from us, once.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        Ok(Self { address, child, log: folder.log().to_owned() })
    }

    /// Resolves when it ends though nobody asked it to; says so with the end of its log.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => {
                anyhow!("entrada has ended ({status}). The end of {}:\n{}", self.log.display(), self.tail())
            }
            Err(error) => anyhow!(error).context("entrada"),
        }
    }

    /// Ends it gracefully; at once if another signal comes, or if it takes too long.
    pub(crate) async fn stop(mut self, signals: &mut Signals) -> anyhow::Result<()> {
        // None: it has been waited for, and its process id may be another's by now.
        let Some(pid) = self.child.id() else { return Ok(()) };
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("entrada has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::select! {
            status = self.child.wait() => status?,
            () = signals.next() => return Ok(self.child.kill().await?),
            () = tokio::time::sleep(GONE_WITHIN) => {
                self.child.kill().await?;
                bail!("entrada did not stop within {} s, and was killed", GONE_WITHIN.as_secs());
            }
        };
        if !status.success() {
            bail!(
                "entrada did not stop well ({status}). The end of {}:\n{}",
                self.log.display(),
                self.tail()
            );
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Address {
    fn choose() -> anyhow::Result<Self> {
        let port = free_port(FRIENDLY_PORT)?;
        let admin = SocketAddr::from((LOOPBACK, free_port(FRIENDLY_ADMIN_PORT)?));
        Ok(Self { url: format!("https://localhost:{port}"), admin, listen: (LOOPBACK, port).into() })
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let mut ask = tokio::time::interval(ASK_EVERY);
        let mut last = anyhow!("it was never asked");
        let waited = tokio::time::timeout(READY_WITHIN, async {
            loop {
                ask.tick().await;
                match self.ready().await {
                    Ok(()) => break,
                    Err(error) => last = error,
                }
            }
        });
        let ended = waited.await;
        ended.map_err(|_| last.context(format!("entrada was not ready within {} s", READY_WITHIN.as_secs())))
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.admin).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(anyhow!("{answer}")) }
    }
}

fn settings(address: &Address, folder: &Folder, around: &Surroundings) -> Vec<(&'static str, String)> {
    let file = |name: &str| folder.file(name).display().to_string();
    vec![
        ("ENTRADA_PUBLIC_URL", address.url.clone()),
        ("ENTRADA_LISTEN", address.listen.to_string()),
        ("ENTRADA_ADMIN_LISTEN", address.admin.to_string()),
        ("ENTRADA_TLS_CERT_FILE", file(folder::TLS_CERT)),
        ("ENTRADA_TLS_KEY_FILE", file(folder::TLS_KEY)),
        ("ENTRADA_PUBLIC_CA_FILE", file(folder::CA)),
        ("ENTRADA_CLUSTER_NAME", "demo".to_owned()),
        ("ENTRADA_DRAIN", DRAIN.to_owned()),
        ("ENTRADA_API_SERVER_URL", around.api.url()),
        ("ENTRADA_API_SERVER_CA_FILE", file(folder::CA)),
        ("ENTRADA_ENTRA_CA_FILE", file(folder::CA)),
        ("AZURE_AUTHORITY_HOST", around.entra.authority_host()),
        ("AZURE_TENANT_ID", around.entra.tenant_id()),
        ("AZURE_CLIENT_ID", around.entra.client_id()),
        ("AZURE_FEDERATED_TOKEN_FILE", file(folder::ASSERTION)),
    ]
}

/// This port if it is free, else any free one. It is free again when this returns: whoever takes it in between makes
/// Entrada end, with a log that says so.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    // Clients may look for `localhost` on the IPv6 side first; who listens there must not get our tokens. A computer
    // without an IPv6 side is fine.
    let taken_by_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, wanted))
        .is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if !taken_by_v6 && TcpListener::bind((LOOPBACK, wanted)).is_ok() {
        return Ok(wanted);
    }
    let any = TcpListener::bind((LOOPBACK, 0)).context("no port is free")?;
    Ok(any.local_addr()?.port())
}

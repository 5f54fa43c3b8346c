//! Load from `wrk` (HTTP/1.1) and `h2load` (HTTP/2): as fast as the answers come.

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;

use crate::process::Process;
use crate::proxies::Proxy;
use crate::world::{Account, World};

/// What is spoken with the proxy. With the API server all of them speak HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    H1,
    /// HTTP/2
    H2,
}

impl Protocol {
    /// Both, in the order of the tables.
    pub const BOTH: [Self; 2] = [Self::H1, Self::H2];

    /// Its name in TLS.
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        })
    }
}

/// Longer than any measurement takes; the generator is ended when this is dropped.
const SECONDS: &str = "300";

/// A load generator that asks for this path over so many connections, each of which has one request under way.
///
/// # Errors
/// When the generator cannot be started.
pub fn start(
    protocol: Protocol,
    addr: SocketAddr,
    account: &Account,
    path: &str,
    connections: usize,
) -> anyhow::Result<Process> {
    let connections = connections.to_string();
    let authorization = format!("authorization: {}", account.authorization.to_str()?);
    let url = format!("https://{addr}{path}");
    let mut command = match protocol {
        Protocol::H1 => {
            let mut wrk = Command::new("wrk");
            wrk.args(["-t1", "-c", &connections, "-d", SECONDS]);
            wrk
        }
        Protocol::H2 => {
            let mut h2load = Command::new("h2load");
            h2load.args(["-t1", "-c", &connections, "-m1", "-D", SECONDS]);
            h2load
        }
    };
    command.args(["-H", &authorization, &url]);
    Process::start(&mut command, "/dev/null".into())
}

/// Each request is another user's, in turn.
const ROUND: &str = r#"
local requests, n = {}, 0
init = function()
  for token in io.lines(os.getenv("BENCH_TOKENS")) do
    requests[#requests + 1] = wrk.format(nil, nil, { ["Authorization"] = token })
  end
end
request = function()
  n = n % #requests + 1
  return requests[n]
end
"#;

/// The same over HTTP/1.1, for the accounts of a proxy in turn, whichever connection is free. There are `turns` before
/// it begins anew, however few the accounts: a longer script costs the generator more, and caches that the proxy shares.
///
/// # Errors
/// When the generator cannot be started.
pub fn start_round(
    world: &World,
    proxy: &Proxy,
    path: &str,
    connections: usize,
    turns: usize,
) -> anyhow::Result<Process> {
    let accounts = proxy.accounts.iter().cycle().take(turns);
    let lines = accounts.map(|account| Ok(format!("{}\n", account.authorization.to_str()?)));
    let tokens = world.write("tokens", &lines.collect::<anyhow::Result<String>>()?)?;
    let script = world.write("round.lua", ROUND)?;
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c", &connections.to_string(), "-d", SECONDS]);
    wrk.arg("-s").arg(script).arg(format!("https://{}{path}", proxy.addr)).env("BENCH_TOKENS", tokens);
    Process::start(&mut wrk, "/dev/null".into())
}

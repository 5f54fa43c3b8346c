//! What a request, a watch, an event and a tunnel cost in instructions, allocations and bytes, against the figures that
//! are kept in `figures/`. It fails when one of them has become worse. When one has become better it says so:
//! `UPDATE_FIGURES=1 make bench-guard` records that, and the next change is held to it.
//!
//! Instructions are counted by valgrind's callgrind, allocations by the allocator in `counted.rs`; both of one
//! thread of Entrada's on one core, which serves one request after the other. What it takes to start is not in them:
//! counting begins when it is warm. Instructions are those in user space; what the kernel does is not seen.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::print_stdout, reason = "figures are what this is for")]

mod counted;

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use bench::client::list;
use bench::kept::{Figures, differences, parse, print};
use bench::load::Protocol;
use bench::measure::watches::Watches;
use bench::proxies::{Proxy, free_port};
use bench::world::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const WARM: usize = 50;
const TIMES: usize = 200;
const WATCHES: usize = 50;
const BYTES: usize = 2_000;
const CHUNK_BYTES: usize = 16 * 1024;

/// What was counted at a moment.
struct Mark {
    /// Since the mark before.
    instructions: f64,
    /// Since the start.
    allocations: f64,
    allocated_bytes: f64,
    freed_bytes: f64,
}

/// An Entrada that counts.
struct Counted {
    proxy: Proxy,
    listen: SocketAddr,
    dumps: PathBuf,
    figures: Figures,
    count: usize,
}

impl Counted {
    async fn start(world: &World) -> Self {
        let listen = free_port().unwrap();
        let dumps = world.file("callgrind");
        // One core for valgrind, and so one thread of the runtime's. Each dump is a file of its own: callgrind.1, .2, …
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0", "valgrind", "--tool=callgrind", "--dump-before=*counted::mark*", "--quiet"])
            .arg(format!("--callgrind-out-file={}", dumps.display()))
            .arg(std::env::current_exe().unwrap())
            .env(counted::LISTEN, listen.to_string());
        let started = Proxy::start_entrada(world, command, 1).await;
        let proxy = started.expect("`scripts/tools guard` installs valgrind");
        Self { proxy, listen, dumps, figures: Figures::new(), count: 0 }
    }

    /// What was counted up to now.
    fn mark(&mut self) -> Mark {
        let mut text = String::new();
        TcpStream::connect(self.listen).unwrap().read_to_string(&mut text).unwrap();
        let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let (allocations, allocated_bytes, freed_bytes) = (next(), next(), next());
        self.count += 1;
        let dump = fs::read_to_string(format!("{}.{}", self.dumps.display(), self.count)).unwrap();
        let totals = dump.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
        Mark { instructions: totals.trim().parse().unwrap(), allocations, allocated_bytes, freed_bytes }
    }

    /// Keeps what so many of these have cost.
    fn keep(&mut self, what: &str, times: usize, [before, after]: [&Mark; 2]) {
        let each = |total: f64| total / times as f64;
        self.figures.insert(format!("{what}: instructions"), each(after.instructions));
        self.figures.insert(format!("{what}: allocations"), each(after.allocations - before.allocations));
        let bytes = after.allocated_bytes - before.allocated_bytes;
        self.figures.insert(format!("{what}: bytes allocated"), each(bytes));
    }

    async fn requests(&mut self, world: &World, protocol: Protocol) {
        let mut sender = world.dialer.open(protocol, self.proxy.addr).await.unwrap();
        let (account, path) = (self.proxy.accounts[0].clone(), list(BYTES));
        for _ in 0..WARM {
            sender.read(&account, &path).await.unwrap();
        }
        let before = self.mark();
        for _ in 0..TIMES {
            assert_eq!(sender.read(&account, &path).await.unwrap(), BYTES);
        }
        let after = self.mark();
        self.keep(&format!("a request, {protocol}"), TIMES, [&before, &after]);
    }

    async fn watches(&mut self, world: &World, protocol: Protocol) {
        let warm = Watches::open(world, &self.proxy, protocol, WATCHES).await.unwrap();
        let before = self.mark();
        let watches = Watches::open(world, &self.proxy, protocol, WATCHES).await.unwrap();
        let after = self.mark();
        let held = |mark: &Mark| mark.allocated_bytes - mark.freed_bytes;
        let each = (held(&after) - held(&before)) / WATCHES as f64;
        self.figures.insert(format!("an idle watch, {protocol}: bytes held"), each);
        drop((warm, watches));

        let one = Watches::open(world, &self.proxy, protocol, 1).await.unwrap();
        one.put_each(world, WARM, BYTES).await.unwrap();
        let before = self.mark();
        one.put_each(world, TIMES, BYTES).await.unwrap();
        let after = self.mark();
        self.keep(&format!("an event of a watch, {protocol}"), TIMES, [&before, &after]);
    }

    async fn tunnel(&mut self, world: &World) {
        let mut tunnel = world.dialer.tunnel(self.proxy.addr, &self.proxy.accounts[0]).await.unwrap();
        let (chunk, mut back) = (vec![b'x'; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let mut before = None;
        for n in 0..WARM + TIMES {
            if n == WARM {
                before = Some(self.mark());
            }
            tunnel.write_all(&chunk).await.unwrap();
            tunnel.flush().await.unwrap();
            tunnel.read_exact(&mut back).await.unwrap();
        }
        let after = self.mark();
        self.keep("16 KiB through a tunnel and back", TIMES, [&before.unwrap(), &after]);
    }
}

/// Where the figures are kept: those of a build with optimisation are others.
fn kept() -> PathBuf {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("figures/{profile}.txt"))
}

/// Measures and compares. Whether all is as it was.
async fn is_as_kept() -> bool {
    let world = World::start().await.unwrap();
    let mut counted = Counted::start(&world).await;
    for protocol in Protocol::BOTH {
        counted.requests(&world, protocol).await;
        counted.watches(&world, protocol).await;
    }
    counted.tunnel(&world).await;
    let now = &counted.figures;
    println!("{}", print(now));
    if std::env::var_os("UPDATE_FIGURES").is_some() {
        fs::write(kept(), print(now)).unwrap();
        return true;
    }
    let differences = differences(&parse(&fs::read_to_string(kept()).unwrap_or_default()), now);
    for difference in &differences {
        println!("{}", difference.text);
    }
    if !differences.is_empty() {
        println!("`UPDATE_FIGURES=1 make bench-guard` records them, if that is how it shall be.");
    }
    !differences.iter().any(|difference| difference.is_fault)
}

fn main() -> ExitCode {
    if let Ok(listen) = std::env::var(counted::LISTEN) {
        return counted::run(&listen);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if runtime.block_on(is_as_kept()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

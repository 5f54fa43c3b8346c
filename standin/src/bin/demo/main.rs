//! `make demo`: Entrada between the stand-ins, on this computer, to be tried with a browser and the real kubectl.
//!
//! In order: `folder` (a private place for files), `surroundings` (the stand-ins, and what moves in them), `proxy`
//! (the child process `entrada serve`), `visit` (a first sign-in, a kubeconfig, a first kubectl), `guide` (what the
//! person reads).
//!
//! Invariants: everything listens on loopback; keys and tokens are files that only their owner can read, and are gone
//! when the demo ends; however the demo ends, Entrada ends with it (only a SIGKILL to the demo itself can prevent
//! that). Ctrl-C, SIGTERM and SIGHUP are the ways to end it, so the exit code after them is 0.

mod folder;
mod guide;
mod proxy;
mod surroundings;
mod visit;

use std::convert::Infallible;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use folder::Folder;
use guide::Guide;
use proxy::Proxy;
use surroundings::Surroundings;

const USAGE: &str = "usage: demo ENTRADA [--once] [--dir DIR]

  ENTRADA     the entrada program to run
  --once      check that everything works, then end
  --dir DIR   where to put files; new, or readable by you alone [default: .demo in the project]";

/// The exit code for arguments that make no sense (`EX_USAGE` of sysexits).
const EXIT_USAGE: u8 = 64;

/// What was asked for on the command line.
struct Options {
    entrada: PathBuf,
    once: bool,
    dir: PathBuf,
}

/// The signals that end the demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        complain(USAGE);
        return ExitCode::from(EXIT_USAGE);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    if !options.entrada.is_file() {
        bail!("there is no program {}; `cargo build --workspace` makes it", options.entrada.display());
    }
    let folder = Folder::open(&options.dir)?;
    let surroundings = Surroundings::start(&folder).await?;
    let mut proxy = Proxy::spawn(&options.entrada, &folder, &surroundings)?;
    let address = proxy.address.clone();
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        ended = proxy.ended() => Err(ended),
        fault = surroundings.live(&folder) => fault.map(|never| match never {}),
        shown = show(options, &address, &folder, &surroundings) => shown,
    };
    if outcome.is_ok() {
        say(&Guide::farewell(folder.log()))?;
    }
    // What came first is what is told.
    outcome.and(proxy.stop(&mut signals).await)
}

/// Takes the first steps in the person's place, then shows how to go on. Returns only if once is enough.
async fn show(
    options: &Options,
    address: &proxy::Address,
    folder: &Folder,
    surroundings: &Surroundings,
) -> anyhow::Result<()> {
    let guide = Guide::new(address, folder, surroundings);
    say(&guide.greeting())?;
    address.wait_until_ready().await?;
    let kubeconfig = visit::download_kubeconfig(&address.url, &surroundings.ca).await?;
    folder.write(folder::KUBECONFIG, &kubeconfig)?;
    match visit::first_kubectl(folder).await? {
        Some(output) => say(&guide.checked(&output))?,
        None => say(&guide.unchecked())?,
    }
    say(&guide.ready())?;
    if options.once { Ok(()) } else { std::future::pending::<anyhow::Result<Infallible>>().await.map(drop) }
}

/// Printing is this program's job; all of it passes here.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

fn complain(text: &str) {
    // Nobody is left to tell if this fails.
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// The project's root. The demo runs where it was built, and is never installed.
fn project() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (mut entrada, mut once, mut dir) = (None, false, project().join(".demo"));
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--once" => once = true,
                "--dir" => dir = PathBuf::from(arguments.next()?),
                path if !path.starts_with('-') && entrada.is_none() => entrada = Some(PathBuf::from(path)),
                _ => return None,
            }
        }
        Some(Self { entrada: entrada?, once, dir })
    }
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

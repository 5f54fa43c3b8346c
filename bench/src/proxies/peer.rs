//! What nginx and HAProxy have in common: a configuration, and a map of tokens, in files.

use std::net::SocketAddr;
use std::process::Command;

use super::{Swap, cores, tool};
use crate::process::Process;
use crate::world::World;

/// One of them.
pub(super) struct Peer {
    pub(super) program: &'static str,
    /// What comes before the name of its configuration. It runs in the world's folder.
    pub(super) arguments: &'static [&'static str],
    /// These words in it are filled in: `NAME` (of its files), `ADDR` (where it listens), `API` (the API server's address),
    /// `WORKERS`, `CONNECTIONS` (of each worker), `FILES` (that it may open).
    pub(super) config: &'static str,
    /// More words in it: each with what it stands for with an access log, and without one.
    pub(super) logs: &'static [(&'static str, [&'static str; 2])],
    /// The line of its map that swaps a token.
    pub(super) line: fn(&Swap) -> String,
}

impl Peer {
    /// Starts one that swaps these tokens.
    pub(super) fn start(
        &self,
        world: &World,
        addr: SocketAddr,
        is_logged: bool,
        swaps: &[Swap],
    ) -> anyhow::Result<Process> {
        let name = format!("{}-{}", self.program, addr.port());
        let files = rlimit::increase_nofile_limit(u64::MAX)?.min(1_000_000);
        let words = [
            ("WORKERS", cores().to_string()),
            ("FILES", files.to_string()),
            ("CONNECTIONS", (24_000 / cores() + 1_000).to_string()),
            ("NAME", name.clone()),
            ("ADDR", addr.to_string()),
            ("API", world.upstream.addr().to_string()),
        ];
        let logs = self.logs.iter().map(|(word, texts)| (*word, texts[usize::from(!is_logged)].to_owned()));
        let config = self.config.to_owned();
        let config = logs.chain(words).fold(config, |config, (word, text)| config.replace(word, &text));
        let config = world.write(&format!("{name}.conf"), &config)?;
        world.write(&format!("{name}.tokens"), &swaps.iter().map(self.line).collect::<String>())?;
        let mut command = Command::new(tool(self.program));
        command.current_dir(world.dir.path()).args(self.arguments).arg(config);
        Process::start(&mut command, world.file(&format!("{name}.log")))
    }
}

//! What the kernel tells of a running program and its children: processor time and memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A running program. It is ended when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// Processor time of each thread so far.
pub struct Cpu(HashMap<u32, Duration>);

impl Process {
    /// Starts a program, with what it writes in a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let child = command.spawn().with_context(|| {
            format!("{}: `scripts/tools bench` installs it", command.get_program().display())
        })?;
        Ok(Self { child, log })
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        anyhow::bail!("it ended: {status}\n{}", fs::read_to_string(&self.log)?)
    }

    /// Itself and its children: nginx works in processes of its own.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            next += 1;
        }
        family
    }

    /// Processor time so far, to the nanosecond where the kernel keeps it (CONFIG_SCHED_INFO).
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        let mut times = HashMap::new();
        for pid in self.family() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
                let thread = task.file_name().to_str().and_then(|name| name.parse().ok());
                if let (Some(thread), Some(nanos)) = (thread, nanos) {
                    times.insert(thread, Duration::from_nanos(nanos));
                }
            }
        }
        Cpu(times)
    }

    /// Memory that is its own, and its share of what is shared (PSS).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn pss_kib(&self) -> anyhow::Result<u64> {
        let of = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()?)
        };
        self.family().into_iter().map(of).sum()
    }
}

impl Cpu {
    /// Time used since `before`. A thread that has ended in between is not counted; those of a proxy stay.
    #[must_use]
    pub fn since(&self, before: &Self) -> Duration {
        let used = |(thread, now): (&u32, &Duration)| {
            now.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(used).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A master takes its workers along. Entrada drains until a second signal, and HAProxy has no hurry either.
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if self.family().len() > 1 {
            let _ended = kill_process(pid, Signal::TERM);
        } else {
            let _ended = kill_process(pid, Signal::KILL);
        }
        let _status = self.child.wait();
    }
}

//! What can be run in a container: a handful of built-in programs. Nothing here reaches the host.
//!
//! They behave as their namesakes do for the arguments shown: `echo`, `cat [FILE]`, `true`, `false`, `id -un`, `seq N`,
//! `head -c N /dev/zero`, `yes`, `sleep N`, `sha256sum [FILE]`, `test -d PATH`, what `kubectl cp` runs (`tar cf - PATH`,
//! `tar -xmf - [-C DIR]`), and `sh`, by line or with `-c`, which knows these programs, `exit N`, `;` and a final `>&2`.

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::archive::{self, Unpacking};
use super::channels::{Channels, Gone, STDERR, STDOUT};
use super::files::{Content, Node, PodFiles};

/// Output goes out in messages of this size.
const PIECE_BYTES: usize = 16 * 1024;

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(u8),
    NotFound(String),
}

/// Where a program runs.
pub(crate) struct Program<'a> {
    pub(crate) io: &'a mut Channels,
    pub(crate) files: &'a PodFiles,
    pub(crate) is_tty: bool,
}

impl Program<'_> {
    /// Runs a command to its end, or until the caller leaves.
    pub(crate) async fn run(mut self, command: &[String]) -> Result<Exit, Gone> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["sh" | "/bin/sh" | "bash" | "/bin/bash", "-c", script, ..] => self.script_exit(script).await,
            ["sh" | "/bin/sh" | "bash" | "/bin/bash"] => self.shell().await,
            words => self.builtin(words, STDOUT).await,
        }
    }

    async fn builtin(&mut self, words: &[&str], out: u8) -> Result<Exit, Gone> {
        let mut code = 0;
        match words {
            ["echo", "-n", rest @ ..] => self.io.write(out, rest.join(" ").as_bytes()).await?,
            ["echo", rest @ ..] => self.io.write(out, format!("{}\n", rest.join(" ")).as_bytes()).await?,
            ["cat"] => {
                while let Some(bytes) = self.io.read().await? {
                    self.io.write(out, &bytes).await?;
                }
            }
            ["cat", path] => code = self.cat(path, out).await?,
            ["true"] => {}
            ["false"] => code = 1,
            ["id", "-un"] => self.io.write(out, b"nonroot\n").await?,
            ["seq", count] => self.seq(number(count), out).await?,
            ["head", "-c", count, "/dev/zero"] => self.zeros(number(count), out).await?,
            ["yes"] => loop {
                self.io.write(out, &b"y\n".repeat(PIECE_BYTES / 2)).await?;
            },
            ["sleep", seconds] => self.sleep(Duration::from_secs(number(seconds))).await?,
            ["sha256sum", path @ ..] if path.len() < 2 => code = self.sha256sum(path.first(), out).await?,
            ["test", "-d", path] => code = u8::from(!matches!(self.files.get(path), Some(Node::Directory))),
            ["tar", "cf", "-", path] => code = self.pack(path, out).await?,
            ["tar", options @ .., "-xmf", "-"] if are_ignored(options) => code = self.unpack("/").await?,
            ["tar", options @ .., "-xmf", "-", "-C", directory] if are_ignored(options) => {
                code = self.unpack(directory).await?;
            }
            [name, ..] => return Ok(Exit::NotFound((*name).to_owned())),
            [] => return Ok(Exit::NotFound(String::new())),
        }
        Ok(Exit::Code(code))
    }

    /// The content of a file; where there is none, says so in the name of `program`.
    async fn open(&mut self, program: &str, path: &str) -> Result<Option<Content>, Gone> {
        let why = match self.files.get(path) {
            Some(Node::File(content)) => return Ok(Some(content)),
            Some(Node::Directory) => "Is a directory",
            None => "No such file or directory",
        };
        self.complain(&format!("{program}: {path}: {why}")).await?;
        Ok(None)
    }

    async fn complain(&mut self, why: &str) -> Result<(), Gone> {
        self.io.write(STDERR, format!("{why}\n").as_bytes()).await
    }

    async fn cat(&mut self, path: &str, out: u8) -> Result<u8, Gone> {
        let Some(content) = self.open("cat", path).await? else { return Ok(1) };
        for piece in content.pieces() {
            self.io.write(out, &piece).await?;
        }
        Ok(0)
    }

    async fn sha256sum(&mut self, path: Option<&&str>, out: u8) -> Result<u8, Gone> {
        let mut context = digest::Context::new(&digest::SHA256);
        if let Some(path) = path {
            let Some(content) = self.open("sha256sum", path).await? else { return Ok(1) };
            for piece in content.pieces() {
                context.update(&piece);
            }
        } else {
            while let Some(bytes) = self.io.read().await? {
                context.update(&bytes);
            }
        }
        let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.io.write(out, format!("{hex}  {}\n", path.copied().unwrap_or("-")).as_bytes()).await?;
        Ok(0)
    }

    async fn pack(&mut self, path: &str, out: u8) -> Result<u8, Gone> {
        let members = self.files.all_below(path);
        if members.is_empty() {
            self.complain(&format!("tar: {path}: Cannot stat: No such file or directory")).await?;
            self.complain("tar: Exiting with failure status due to previous errors").await?;
            return Ok(2);
        }
        if path.starts_with('/') {
            self.complain("tar: Removing leading `/' from member names").await?;
        }
        let mut written = 0;
        for (path, node) in members {
            let head = match archive::head(&path, &node) {
                Ok(head) => head,
                Err(why) => {
                    self.complain(&format!("tar: {path}: {why}")).await?;
                    return Ok(2);
                }
            };
            self.io.write(out, &head).await?;
            written += head.len() as u64;
            let Node::File(content) = node else { continue };
            for piece in content.pieces() {
                self.io.write(out, &piece).await?;
            }
            let padding = archive::padding(content.length());
            self.io.write(out, &padding).await?;
            written += content.length() + padding.len() as u64;
        }
        self.io.write(out, &archive::end(written)).await?;
        Ok(0)
    }

    async fn unpack(&mut self, directory: &str) -> Result<u8, Gone> {
        if !matches!(self.files.get(directory), Some(Node::Directory)) {
            self.complain(&format!("tar: {directory}: Cannot open: No such file or directory")).await?;
            return Ok(2);
        }
        let mut unpacking = Unpacking::new(self.files, directory);
        while let Some(bytes) = self.io.read().await? {
            if let Err(why) = unpacking.take(bytes) {
                self.complain(&why).await?;
                return Ok(2);
            }
        }
        if !unpacking.is_whole() {
            self.complain("tar: Unexpected EOF in archive").await?;
            return Ok(2);
        }
        Ok(0)
    }

    async fn seq(&mut self, last: u64, out: u8) -> Result<(), Gone> {
        let mut text = String::new();
        for number in 1..=last {
            text.push_str(&number.to_string());
            text.push('\n');
            if text.len() >= PIECE_BYTES || number == last {
                self.io.write(out, text.as_bytes()).await?;
                text.clear();
            }
        }
        Ok(())
    }

    async fn zeros(&mut self, count: u64, out: u8) -> Result<(), Gone> {
        let piece = vec![0; PIECE_BYTES];
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let now = left.min(PIECE_BYTES);
            self.io.write(out, piece.get(..now).unwrap_or_default()).await?;
            left -= now;
        }
        Ok(())
    }

    async fn sleep(&mut self, time: Duration) -> Result<(), Gone> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            gone = self.io.left() => Err(gone),
        }
    }

    async fn script_exit(&mut self, script: &str) -> Result<Exit, Gone> {
        match self.statements(script, 0).await? {
            Step::Next(code) | Step::Exit(code) => Ok(Exit::Code(code)),
        }
    }

    async fn statements(&mut self, line: &str, last: u8) -> Result<Step, Gone> {
        let mut code = last;
        for statement in line.split([';', '\n']).map(str::trim).filter(|own| !own.is_empty()) {
            let (statement, out) =
                match statement.strip_suffix(">&2").or_else(|| statement.strip_suffix("1>&2")) {
                    Some(rest) => (rest, STDERR),
                    None => (statement, STDOUT),
                };
            let words: Vec<&str> =
                statement.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
            code = match words.as_slice() {
                ["exit"] => return Ok(Step::Exit(code)),
                ["exit", own] => return Ok(Step::Exit(own.parse().unwrap_or(2))),
                words => match self.builtin(words, out).await? {
                    Exit::Code(code) => code,
                    Exit::NotFound(name) => {
                        self.io.write(STDERR, format!("sh: {name}: not found\n").as_bytes()).await?;
                        127
                    }
                },
            };
        }
        Ok(Step::Next(code))
    }

    /// Reads statements line by line. With a terminal it echoes and edits as a terminal's line discipline would.
    async fn shell(&mut self) -> Result<Exit, Gone> {
        let mut line = String::new();
        let mut code = 0;
        self.prompt().await?;
        while let Some(bytes) = self.io.read().await? {
            for key in keys(&bytes) {
                match key {
                    '\r' | '\n' => {
                        self.echo("\n").await?;
                        match self.statements(&std::mem::take(&mut line), code).await? {
                            Step::Next(next) => code = next,
                            Step::Exit(code) => return Ok(Exit::Code(code)),
                        }
                        self.prompt().await?;
                    }
                    '\u{4}' if self.is_tty && line.is_empty() => return Ok(Exit::Code(code)),
                    '\u{3}' if self.is_tty => {
                        line.clear();
                        code = 130;
                        self.echo("^C\n").await?;
                        self.prompt().await?;
                    }
                    '\u{7f}' | '\u{8}' if self.is_tty => {
                        if line.pop().is_some() {
                            self.echo("\u{8} \u{8}").await?;
                        }
                    }
                    key => {
                        line.push(key);
                        self.echo(key.encode_utf8(&mut [0; 4])).await?;
                    }
                }
            }
        }
        match self.statements(&line, code).await? {
            Step::Next(code) | Step::Exit(code) => Ok(Exit::Code(code)),
        }
    }

    async fn echo(&mut self, text: &str) -> Result<(), Gone> {
        if self.is_tty { self.io.write(STDOUT, text.as_bytes()).await } else { Ok(()) }
    }

    async fn prompt(&mut self) -> Result<(), Gone> {
        self.echo("$ ").await
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// Options of tar's that change nothing here: there are no owners, and everybody may read and write everything.
fn are_ignored(options: &[&str]) -> bool {
    options.iter().all(|option| matches!(*option, "--no-same-permissions" | "--no-same-owner"))
}

fn keys(bytes: &Bytes) -> Vec<char> {
    String::from_utf8_lossy(bytes).chars().collect()
}

/// What a line of shell does besides running programs.
enum Step {
    Next(u8),
    Exit(u8),
}

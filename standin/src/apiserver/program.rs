//! What can be run in a container: a handful of built-in programs. Nothing here reaches the host.
//!
//! They behave as their namesakes do for the arguments shown: `echo`, `cat`, `true`, `false`, `id -un`, `seq N`,
//! `head -c N /dev/zero`, `yes`, `sleep N`, `sha256sum`, and `sh`, by line or with `-c`, which knows these programs,
//! `exit N`, `;` and a final `>&2`.

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::websocket::{Channels, Gone, STDERR, STDOUT};

/// Output goes out in messages of this size.
const PIECE_BYTES: usize = 16 * 1024;

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(u8),
    NotFound(String),
}

/// Runs a command to its end, or until the caller leaves.
pub(crate) async fn run(io: &mut Channels, command: &[String], is_tty: bool) -> Result<Exit, Gone> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sh" | "/bin/sh" | "bash" | "/bin/bash", "-c", script, ..] => script_exit(io, script).await,
        ["sh" | "/bin/sh" | "bash" | "/bin/bash"] => shell(io, is_tty).await,
        words => builtin(io, words, STDOUT).await,
    }
}

async fn builtin(io: &mut Channels, words: &[&str], out: u8) -> Result<Exit, Gone> {
    let mut code = 0;
    match words {
        ["echo", "-n", rest @ ..] => io.write(out, rest.join(" ").as_bytes()).await?,
        ["echo", rest @ ..] => io.write(out, format!("{}\n", rest.join(" ")).as_bytes()).await?,
        ["cat"] => {
            while let Some(bytes) = io.read().await? {
                io.write(out, &bytes).await?;
            }
        }
        ["true"] => {}
        ["false"] => code = 1,
        ["id", "-un"] => io.write(out, b"nonroot\n").await?,
        ["seq", count] => seq(io, number(count), out).await?,
        ["head", "-c", count, "/dev/zero"] => zeros(io, number(count), out).await?,
        ["yes"] => loop {
            io.write(out, &b"y\n".repeat(PIECE_BYTES / 2)).await?;
        },
        ["sleep", seconds] => sleep(io, Duration::from_secs(number(seconds))).await?,
        ["sha256sum"] => {
            let mut context = digest::Context::new(&digest::SHA256);
            while let Some(bytes) = io.read().await? {
                context.update(&bytes);
            }
            let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            io.write(out, format!("{hex}  -\n").as_bytes()).await?;
        }
        [name, ..] => return Ok(Exit::NotFound((*name).to_owned())),
        [] => return Ok(Exit::NotFound(String::new())),
    }
    Ok(Exit::Code(code))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

async fn seq(io: &mut Channels, last: u64, out: u8) -> Result<(), Gone> {
    let mut text = String::new();
    for number in 1..=last {
        text.push_str(&number.to_string());
        text.push('\n');
        if text.len() >= PIECE_BYTES || number == last {
            io.write(out, text.as_bytes()).await?;
            text.clear();
        }
    }
    Ok(())
}

async fn zeros(io: &mut Channels, count: u64, out: u8) -> Result<(), Gone> {
    let piece = vec![0; PIECE_BYTES];
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    while left > 0 {
        let now = left.min(PIECE_BYTES);
        io.write(out, piece.get(..now).unwrap_or_default()).await?;
        left -= now;
    }
    Ok(())
}

async fn sleep(io: &mut Channels, time: Duration) -> Result<(), Gone> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        gone = io.left() => Err(gone),
    }
}

/// What a line of shell does besides running programs.
enum Step {
    Next(u8),
    Exit(u8),
}

async fn script_exit(io: &mut Channels, script: &str) -> Result<Exit, Gone> {
    match statements(io, script, 0).await? {
        Step::Next(code) | Step::Exit(code) => Ok(Exit::Code(code)),
    }
}

async fn statements(io: &mut Channels, line: &str, last: u8) -> Result<Step, Gone> {
    let mut code = last;
    for statement in line.split([';', '\n']).map(str::trim).filter(|own| !own.is_empty()) {
        let (statement, out) = match statement.strip_suffix(">&2").or_else(|| statement.strip_suffix("1>&2"))
        {
            Some(rest) => (rest, STDERR),
            None => (statement, STDOUT),
        };
        let words: Vec<&str> =
            statement.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
        code = match words.as_slice() {
            ["exit"] => return Ok(Step::Exit(code)),
            ["exit", own] => return Ok(Step::Exit(own.parse().unwrap_or(2))),
            words => match builtin(io, words, out).await? {
                Exit::Code(code) => code,
                Exit::NotFound(name) => {
                    io.write(STDERR, format!("sh: {name}: not found\n").as_bytes()).await?;
                    127
                }
            },
        };
    }
    Ok(Step::Next(code))
}

/// Reads statements line by line. With a terminal it echoes and edits as a terminal's line discipline would.
async fn shell(io: &mut Channels, is_tty: bool) -> Result<Exit, Gone> {
    let mut line = String::new();
    let mut code = 0;
    prompt(io, is_tty).await?;
    while let Some(bytes) = io.read().await? {
        for key in keys(&bytes) {
            match key {
                '\r' | '\n' => {
                    echo(io, is_tty, "\n").await?;
                    match statements(io, &std::mem::take(&mut line), code).await? {
                        Step::Next(next) => code = next,
                        Step::Exit(code) => return Ok(Exit::Code(code)),
                    }
                    prompt(io, is_tty).await?;
                }
                '\u{4}' if is_tty && line.is_empty() => return Ok(Exit::Code(code)),
                '\u{3}' if is_tty => {
                    line.clear();
                    code = 130;
                    echo(io, is_tty, "^C\n").await?;
                    prompt(io, is_tty).await?;
                }
                '\u{7f}' | '\u{8}' if is_tty => {
                    if line.pop().is_some() {
                        echo(io, is_tty, "\u{8} \u{8}").await?;
                    }
                }
                key => {
                    line.push(key);
                    echo(io, is_tty, key.encode_utf8(&mut [0; 4])).await?;
                }
            }
        }
    }
    match statements(io, &line, code).await? {
        Step::Next(code) | Step::Exit(code) => Ok(Exit::Code(code)),
    }
}

fn keys(bytes: &Bytes) -> Vec<char> {
    String::from_utf8_lossy(bytes).chars().collect()
}

async fn echo(io: &mut Channels, is_tty: bool, text: &str) -> Result<(), Gone> {
    if is_tty { io.write(STDOUT, text.as_bytes()).await } else { Ok(()) }
}

async fn prompt(io: &mut Channels, is_tty: bool) -> Result<(), Gone> {
    echo(io, is_tty, "$ ").await
}

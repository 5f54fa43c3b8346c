//! `exec` and `attach`: the stream is opened, a program of our own runs over it, and its end is told as a `Status`.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::channels::{Channels, Gone, SERVED, STDOUT, Wanted};
use super::cluster::Cluster;
use super::files::PodFiles;
use super::logs::{self, Follower};
use super::program::{Exit, Program};
use super::tunnel::Tunnels;
use super::upgrade;

/// Answers a request for `exec` or `attach` in `pod`, which exists.
pub(crate) fn answer(
    cluster: &Arc<Cluster>,
    call: &Call,
    pod: &Value,
    tunnels: &Tunnels,
    on_upgrade: OnUpgrade,
) -> Answer {
    let (spoken, response) = upgrade::agree(call.headers(), &SERVED)?;
    logs::container(call, pod)?;
    let wanted = Wanted::of(&call.query)?;
    if call.target.subresource == "attach" {
        let attached = Attached {
            cluster: Arc::clone(cluster),
            follower: Follower::from_now(cluster, &call.target.namespace, &call.target.name),
            namespace: call.target.namespace.clone(),
            pod: call.target.name.clone(),
            has_stdin: wanted.stdin,
        };
        tunnels.spawn(call, on_upgrade, move |tunnel| async move {
            if let Ok(channels) = Channels::open(spoken, tunnel, wanted).await {
                let _gone = attached.run(channels).await;
            }
        });
    } else {
        let command = call.query.all("command");
        let files = PodFiles::new(cluster, &call.target.namespace, &call.target.name);
        tunnels.spawn(call, on_upgrade, move |tunnel| async move {
            if let Ok(channels) = Channels::open(spoken, tunnel, wanted).await {
                let _gone = execute(channels, files, &command, wanted.tty).await;
            }
        });
    }
    Ok(response)
}

async fn execute(
    mut channels: Channels,
    files: PodFiles,
    command: &[String],
    is_tty: bool,
) -> Result<(), Gone> {
    let exit = Program { io: &mut channels, files: &files, is_tty }.run(command).await?;
    channels.finish(end(&exit).to_string().as_bytes()).await
}

/// A caller attached to the pod's main process, which logs each line it reads and ends when its input does.
struct Attached {
    cluster: Arc<Cluster>,
    follower: Follower,
    namespace: String,
    pod: String,
    has_stdin: bool,
}

impl Attached {
    async fn run(mut self, mut channels: Channels) -> Result<(), Gone> {
        let mut unfinished = Vec::new();
        loop {
            tokio::select! {
                said = self.follower.next() => match said {
                    Some(text) => channels.write(STDOUT, &text).await?,
                    None => break,
                },
                heard = hear(&mut channels, self.has_stdin) => match heard? {
                    Some(bytes) => {
                        unfinished.extend_from_slice(&bytes);
                        self.log_lines(&mut unfinished);
                    }
                    None => break,
                },
            }
        }
        if let Some(rest) = self.follower.unread_now() {
            channels.write(STDOUT, &rest).await?;
        }
        channels.finish(end(&Exit::Code(0)).to_string().as_bytes()).await
    }

    fn log_lines(&self, unfinished: &mut Vec<u8>) {
        while let Some(at) = unfinished.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let line: Vec<u8> = unfinished.drain(..=at).take(at).collect();
            self.cluster.logs.append(&self.namespace, &self.pod, &String::from_utf8_lossy(&line));
        }
    }
}

/// The next input; for a caller without standard input, nothing ever, until it leaves.
async fn hear(channels: &mut Channels, has_stdin: bool) -> Result<Option<bytes::Bytes>, Gone> {
    if has_stdin { channels.read().await } else { Err(channels.left().await) }
}

/// How a program ended, in the words of the real server.
fn end(exit: &Exit) -> Value {
    match exit {
        Exit::Code(0) => json!({ "metadata": {}, "status": "Success" }),
        Exit::Code(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Exit::NotFound(name) => {
            let message = format!(
                "error executing command in container: failed to exec in container: failed to start exec: OCI \
                 runtime exec failed: exec failed: unable to start container process: exec: \"{name}\": \
                 executable file not found in $PATH"
            );
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": "InternalError",
                "details": { "causes": [{ "message": message }] },
                "code": 500,
            })
        }
    }
}

//! `port-forward`: SPDY/3.1 streams in pairs, `data` and `error`, each pair a connection to a port of the pod. kubectl
//! carries the SPDY inside WebSocket messages, or over the bare connection when told so.

use std::collections::HashMap;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::call::{Answer, Call};
use super::channels::Gone;
use super::services;
use super::spdy::{Incoming, Offered, Outgoing, Session, Stream};
use super::tunnel::Tunnels;
use super::upgrade::{self, Served, Spoken};

const SERVED: Served = Served { websocket: &["SPDY/3.1+portforward.k8s.io"], spdy: &["portforward.k8s.io"] };

/// What is read at once, and what waits between a stream and its service.
const PIECE_BYTES: usize = 32 * 1024;

/// Answers a request for `portforward` in a pod that exists.
pub(crate) fn answer(call: &Call, tunnels: &Tunnels, on_upgrade: OnUpgrade) -> Answer {
    let (spoken, response) = upgrade::agree(call.headers(), &SERVED)?;
    let pod = call.target.name.clone();
    tunnels.spawn(call, on_upgrade, move |tunnel| async move {
        match spoken {
            Spoken::Spdy => serve(Session::start(tunnel), &pod).await,
            Spoken::WebSocket => {
                let socket = WebSocketStream::from_raw_socket(tunnel, Role::Server, None).await;
                let (inner, outer) = tokio::io::duplex(PIECE_BYTES);
                tokio::join!(serve(Session::start(inner), &pod), unwrap(socket, outer));
            }
        }
    });
    Ok(response)
}

/// Passes the bytes on that are in the messages of a WebSocket, and back, until both sides have closed.
async fn unwrap(socket: WebSocketStream<TokioIo<Upgraded>>, pipe: DuplexStream) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_session, mut to_session) = tokio::io::split(pipe);
    let inwards = async {
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(bytes) if to_session.write_all(&bytes).await.is_ok() => {}
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
        let _gone = to_session.shutdown().await;
        // The client's closing is answered on the way.
        while from_client.next().await.is_some_and(|message| message.is_ok()) {}
    };
    let outwards = async {
        let mut bytes = BytesMut::new();
        while let Ok(1..) = from_session.read_buf(&mut bytes).await {
            if to_client.send(Message::binary(bytes.split().freeze())).await.is_err() {
                return;
            }
        }
        let _gone = to_client.send(Message::Close(None)).await;
    };
    tokio::join!(inwards, outwards);
}

/// Streams of one connection that wait for their other half, by request.
#[derive(Default)]
struct Pair {
    data: Option<Stream>,
    error: Option<Stream>,
}

async fn serve(mut session: Session, pod: &str) {
    let mut waiting: HashMap<String, Pair> = HashMap::new();
    let mut connections = JoinSet::new();
    while let Some(offered) = session.next().await {
        let Some((port, is_data)) = port(&offered) else {
            let _gone = offered.refuse().await;
            continue;
        };
        let request = offered.header("requestid").map(str::to_owned);
        let Ok(stream) = offered.accept().await else { break };
        // kubectls older than any that we know sent no number: there, `error` comes right before `data`.
        let before = if is_data { stream.number.wrapping_sub(2) } else { stream.number };
        let request = request.unwrap_or_else(|| before.to_string());
        let pair = waiting.entry(request.clone()).or_default();
        *(if is_data { &mut pair.data } else { &mut pair.error }) = Some(stream);
        if let Some(Pair { data: Some(_), error: Some(_) }) = waiting.get(&request)
            && let Some(Pair { data: Some(data), error: Some(error) }) = waiting.remove(&request)
        {
            let pod = pod.to_owned();
            connections.spawn(async move {
                let _gone = forward(port, &pod, data, error.outgoing).await;
            });
        }
        while connections.try_join_next().is_some() {}
    }
    drop(waiting);
    session.finish().await;
}

/// The port that a stream is for, and whether it is the one that bears the data.
fn port(offered: &Offered) -> Option<(u16, bool)> {
    let port = offered.header("port")?.parse().ok().filter(|port| *port > 0)?;
    match offered.header("streamtype")? {
        "data" => Some((port, true)),
        "error" => Some((port, false)),
        _ => None,
    }
}

/// One connection to a port of the pod.
async fn forward(port: u16, pod: &str, data: Stream, error: Outgoing) -> Result<(), Gone> {
    let Stream { incoming, outgoing, .. } = data;
    if services::is_served(port) {
        let (near, far) = tokio::io::duplex(PIECE_BYTES);
        let (from_service, to_service) = tokio::io::split(near);
        let service = services::serve(port, pod, far);
        // Over when the service has closed, as with any server; what the client still says is not heard then.
        tokio::select! {
            said = say(from_service, &outgoing) => said?,
            never = async {
                tokio::join!(service, hear(incoming, to_service));
                std::future::pending().await
            } => never,
        }
    } else {
        let text = format!(
            "error forwarding port {port} to pod {pod}, uid : failed to connect to localhost:{port} inside namespace: \
             dial tcp4 127.0.0.1:{port}: connect: connection refused"
        );
        error.write(text.into()).await?;
    }
    // Where the client has given the connection up already, it still waits for the end of `error`.
    let _reset = outgoing.finish().await;
    error.finish().await
}

async fn hear(mut incoming: Incoming, mut to_service: WriteHalf<DuplexStream>) {
    while let Ok(Some(bytes)) = incoming.read().await {
        if to_service.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _gone = to_service.shutdown().await;
}

async fn say(mut from_service: ReadHalf<DuplexStream>, outgoing: &Outgoing) -> Result<(), Gone> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(PIECE_BYTES);
        if !matches!(from_service.read_buf(&mut bytes).await, Ok(1..)) {
            return Ok(());
        }
        outgoing.write(bytes.split().freeze()).await?;
    }
}

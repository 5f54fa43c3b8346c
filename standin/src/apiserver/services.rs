//! What listens on the ports of every pod: 7 sends back what it hears, 9 hears it all and then says how much it was and
//! its SHA-256 (`5 2cf2…\n`), 19 sends as many bytes as it is asked for (`200M\n`), and 8080 serves the pod's page over
//! HTTP. Nothing listens elsewhere.

use std::io;

use aws_lc_rs::digest;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::made;
use crate::serve::{Body, full};

const ECHO: u16 = 7;
const SINK: u16 = 9;
const SOURCE: u16 = 19;
const PAGE: u16 = 8080;

pub(crate) fn is_served(port: u16) -> bool {
    matches!(port, ECHO | SINK | SOURCE | PAGE)
}

/// Serves one connection to its end.
pub(crate) async fn serve(port: u16, pod: &str, io: DuplexStream) {
    let _broken = match port {
        ECHO => echo(io).await,
        SINK => sink(io).await,
        SOURCE => source(io).await,
        _ => page(pod, io).await,
    };
}

async fn echo(io: DuplexStream) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(io);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

async fn sink(mut io: DuplexStream) -> io::Result<()> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; made::PIECE_BYTES];
    let mut total = 0;
    while let count @ 1.. = io.read(&mut buffer).await? {
        context.update(buffer.get(..count).unwrap_or_default());
        total += count;
    }
    let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    io.write_all(format!("{total} {hex}\n").as_bytes()).await?;
    io.shutdown().await
}

async fn source(io: DuplexStream) -> io::Result<()> {
    let mut io = BufReader::new(io);
    let mut asked = String::new();
    (&mut io).take(32).read_line(&mut asked).await?;
    for piece in made::pieces(made::size(asked.trim()).unwrap_or_default()) {
        io.write_all(&piece).await?;
    }
    io.shutdown().await
}

async fn page(pod: &str, io: DuplexStream) -> io::Result<()> {
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<Response<Body>, io::Error>(Response::new(full(format!("this is {pod}\n"))))
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    served.await.map_err(io::Error::other)
}

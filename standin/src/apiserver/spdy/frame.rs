//! SPDY/3.1 frames as bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Broken;

const VERSION: u16 = 3;
/// The first bit of a control frame; a data frame has its stream's number there.
const CONTROL: u32 = 1 << 31;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream is reset.
pub(super) const REFUSED_STREAM: u32 = 3;

/// A frame, its header block still or already compressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        stream: u32,
        block: Bytes,
        is_last: bool,
    },
    /// SYN_REPLY; a HEADERS frame, which looks the same, is read as one.
    Reply {
        stream: u32,
        block: Bytes,
    },
    Data {
        stream: u32,
        content: Bytes,
        is_last: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
    },
    /// SETTINGS and WINDOW_UPDATE, which Kubernetes' library for SPDY does not act upon either: it knows no windows, and
    /// neither do we.
    Other,
}

/// Reads the next frame; nothing at the end.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, Broken> {
    let mut head = [0; 8];
    if io.read_exact(&mut head[..1]).await.is_err() {
        return Ok(None);
    }
    io.read_exact(&mut head[1..]).await?;
    let mut fields = &head[..];
    let first = fields.get_u32();
    let flags_and_length = fields.get_u32();
    let is_last = flags_and_length.to_be_bytes()[0] & FIN != 0;
    let length = usize::try_from(flags_and_length & 0x00ff_ffff).map_err(|_| Broken)?;
    // Grows as it is filled: a length alone takes no memory.
    let mut body = BytesMut::new();
    while body.len() < length {
        let left = length - body.len();
        if (&mut *io).take(left as u64).read_buf(&mut body).await? == 0 {
            return Err(Broken);
        }
    }
    let body = body.freeze();
    if first & CONTROL == 0 {
        return Ok(Some(Frame::Data { stream: first, content: body, is_last }));
    }
    let [version, kind] = [(first >> 16) & 0x7fff, first & 0xffff];
    if version != u32::from(VERSION) {
        return Err(Broken);
    }
    control(u16::try_from(kind).map_err(|_| Broken)?, body, is_last).map(Some)
}

fn control(kind: u16, mut body: Bytes, is_last: bool) -> Result<Frame, Broken> {
    let mut number = || body.try_get_u32().map_err(|_| Broken);
    Ok(match kind {
        SYN_STREAM => {
            let stream = number()?;
            let _associated = number()?;
            let _priority_and_slot = body.try_get_u16().map_err(|_| Broken)?;
            Frame::Open { stream, block: body, is_last }
        }
        SYN_REPLY | HEADERS => Frame::Reply { stream: number()?, block: body },
        RST_STREAM => Frame::Reset { stream: number()?, status: number()? },
        PING => Frame::Ping { id: number()? },
        GOAWAY => Frame::GoAway { last_stream: number()? },
        _ => Frame::Other,
    })
}

impl Frame {
    /// The frame's bytes: what stands before its content, and the content.
    pub(super) fn write(self) -> (BytesMut, Bytes) {
        let mut head = BytesMut::with_capacity(32);
        match self {
            Self::Open { stream, block, is_last } => {
                control_head(&mut head, SYN_STREAM, is_last, 10 + block.len());
                head.put_u32(stream);
                head.put_u32(0);
                head.put_u16(0);
                (head, block)
            }
            Self::Reply { stream, block } => {
                control_head(&mut head, SYN_REPLY, false, 4 + block.len());
                head.put_u32(stream);
                (head, block)
            }
            Self::Data { stream, content, is_last } => {
                head.put_u32(stream);
                head.put_u32(flags_and_length(is_last, content.len()));
                (head, content)
            }
            Self::Reset { stream, status } => (two(head, RST_STREAM, stream, status), Bytes::new()),
            Self::GoAway { last_stream } => (two(head, GOAWAY, last_stream, 0), Bytes::new()),
            Self::Ping { id } => {
                control_head(&mut head, PING, false, 4);
                head.put_u32(id);
                (head, Bytes::new())
            }
            Self::Other => (BytesMut::new(), Bytes::new()),
        }
    }
}

fn two(mut head: BytesMut, kind: u16, first: u32, second: u32) -> BytesMut {
    control_head(&mut head, kind, false, 8);
    head.put_u32(first);
    head.put_u32(second);
    head
}

fn control_head(head: &mut BytesMut, kind: u16, is_last: bool, length: usize) {
    head.put_u16(VERSION | 1 << 15);
    head.put_u16(kind);
    head.put_u32(flags_and_length(is_last, length));
}

fn flags_and_length(is_last: bool, length: usize) -> u32 {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24);
    u32::from(is_last) << 24 | length.expect("what is sent in one frame is far below 16 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_the_wire() {
        // Proves that reading is the inverse of writing, and that the bytes are those of the draft's pictures.
        let frames = || {
            [
                Frame::Open { stream: 1, block: Bytes::from_static(b"block"), is_last: true },
                Frame::Reply { stream: 1, block: Bytes::from_static(b"b") },
                Frame::Data { stream: 0x7fff_ffff, content: Bytes::from_static(b"content"), is_last: true },
                Frame::Data { stream: 3, content: Bytes::new(), is_last: false },
                Frame::Reset { stream: 5, status: REFUSED_STREAM },
                Frame::Ping { id: 7 },
                Frame::GoAway { last_stream: 9 },
            ]
        };
        let mut wire = Vec::new();
        for frame in frames() {
            let (head, content) = frame.write();
            wire.extend_from_slice(&head);
            wire.extend_from_slice(&content);
        }
        // SETTINGS and WINDOW_UPDATE are skipped.
        wire.extend_from_slice(&[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0]);
        wire.extend_from_slice(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0xff, 0]);
        let mut io = &wire[..];
        for frame in frames() {
            assert_eq!(read(&mut io).await.ok().flatten(), Some(frame));
        }
        assert_eq!(read(&mut io).await.ok().flatten(), Some(Frame::Other));
        assert_eq!(read(&mut io).await.ok().flatten(), Some(Frame::Other));
        assert_eq!(read(&mut io).await.ok(), Some(None));

        let (ping, _) = Frame::Ping { id: 7 }.write();
        assert_eq!(ping[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        assert!(read(&mut &ping[..9]).await.is_err());
        assert!(read(&mut &[0x80, 2, 0, 6, 0, 0, 0, 0][..]).await.is_err());
    }
}

//! Channels as SPDY streams: one each, which the client opens and names in its header `streamtype`.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::{ERROR, Gone, STDERR, STDIN, STDOUT, Wanted};
use crate::apiserver::spdy::{Incoming, Outgoing, Session};

/// The open streams.
pub(super) struct Streams {
    session: Session,
    stdin: Option<Incoming>,
    outgoing: Vec<(u8, Outgoing)>,
}

impl Streams {
    /// Waits until the client has opened every stream that it asked for.
    pub(super) async fn open(tunnel: TokioIo<Upgraded>, wanted: Wanted) -> Result<Self, Gone> {
        let mut session = Session::start(tunnel);
        let mut expected = vec!["error"];
        for (is_wanted, name) in [
            (wanted.stdin, "stdin"),
            (wanted.stdout, "stdout"),
            (wanted.stderr, "stderr"),
            (wanted.tty, "resize"),
        ] {
            expected.extend(is_wanted.then_some(name));
        }
        let (mut stdin, mut outgoing) = (None, Vec::new());
        while !expected.is_empty() {
            let offered = session.next().await.ok_or(Gone)?;
            let name = offered.header("streamtype").unwrap_or_default().to_owned();
            if !expected.contains(&name.as_str()) {
                offered.refuse().await?;
                continue;
            }
            expected.retain(|own| *own != name);
            let stream = offered.accept().await?;
            // The other incoming halves are dropped: what comes there (resizes) is not heard.
            match name.as_str() {
                "stdin" => {
                    stdin = Some(stream.incoming);
                    outgoing.push((STDIN, stream.outgoing));
                }
                "stdout" => outgoing.push((STDOUT, stream.outgoing)),
                "stderr" => outgoing.push((STDERR, stream.outgoing)),
                "error" => outgoing.push((ERROR, stream.outgoing)),
                _ => {}
            }
        }
        Ok(Self { session, stdin, outgoing })
    }

    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Gone> {
        match &mut self.stdin {
            Some(stdin) => stdin.read().await,
            None => Ok(None),
        }
    }

    pub(super) async fn left(&mut self) -> Gone {
        // Unread input would hold up the news of the client's leaving.
        while let Ok(Some(_)) = self.read().await {}
        self.session.gone().cancelled().await;
        Gone
    }

    pub(super) async fn write(&self, channel: u8, content: Bytes) -> Result<(), Gone> {
        match self.outgoing.iter().find(|(own, _)| *own == channel) {
            Some((_, outgoing)) => outgoing.write(content).await,
            None => Ok(()),
        }
    }

    pub(super) async fn finish(self) -> Result<(), Gone> {
        drop(self.stdin);
        for (_, outgoing) in self.outgoing {
            // The client may have given one of them up.
            let _reset = outgoing.finish().await;
        }
        self.session.finish().await;
        Ok(())
    }
}

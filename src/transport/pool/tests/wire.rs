//! What the bytes of an answer mean, held against hyper's client.

use std::convert::Infallible;

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::Empty;
use proptest::prelude::*;

use super::super::decoder::Decoder;
use super::super::head::Head;
use super::*;

/// An answer as its reader sees it: status, headers, body, trailers.
type Seen = (u16, Vec<(String, Vec<u8>)>, Vec<u8>, Option<HeaderMap>);

/// Reads an answer that comes in these pieces, and then ends, the way a link does.
fn read(pieces: &[&[u8]]) -> Result<Seen, TransportError> {
    let (mut incoming, mut pieces) = (Bytes::new(), pieces.iter());
    let mut more = |incoming: &mut Bytes| {
        let piece = pieces.next().filter(|piece| !piece.is_empty());
        piece.inspect(|piece| *incoming = [&incoming[..], piece].concat().into()).is_some()
    };
    let head = loop {
        match Head::read(&incoming, false)? {
            Some((head, end)) => {
                incoming.advance(end);
                if !head.is_interim() {
                    break head;
                }
            }
            None if more(&mut incoming) => {}
            None => return Err(TransportError::HungUp(String::new())),
        }
    };
    let (mut decoder, mut body, mut trailers) = (Decoder::new(head.length), Vec::new(), None);
    while !decoder.is_over() {
        match decoder.take(&mut incoming)?.map(Frame::into_data) {
            Some(Ok(data)) => body.extend_from_slice(&data),
            Some(Err(frame)) => trailers = frame.into_trailers().ok(),
            None if decoder.is_over() || more(&mut incoming) => {}
            None => decoder.closed()?,
        }
    }
    Ok((head.response.status().as_u16(), sorted(head.response.headers()), body, trailers))
}

/// Each header line; those of one name in their order.
fn sorted(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let lines = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    lines
}

/// The same with hyper's client.
async fn read_by_hyper(answer: &[u8]) -> Option<Seen> {
    let (mut server, client) = tokio::io::duplex(1024 * 1024);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let asked = async {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?;
        let trailers = body.trailers().cloned();
        Some((head.status.as_u16(), sorted(&head.headers), body.to_bytes().to_vec(), trailers))
    };
    let ends = async {
        // hyper takes what comes before it has asked for something for nobody's.
        while server.read_u8().await.unwrap() != b'\n' {}
        server.write_all(answer).await.unwrap();
        server.shutdown().await.unwrap();
        std::future::pending::<Infallible>().await
    };
    let seen = tokio::select! { seen = asked => seen, _never = ends => unreachable!() };
    connection.abort();
    seen
}

prop_compose! {
    fn body()(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5)) -> Vec<Vec<u8>> {
        parts
    }
}

prop_compose! {
    /// A byte that damages: often one that means something in a head or a chunk.
    fn wrong()(
        means in prop::sample::select(b"\r\n\t\0 :,;=+-019afxX\x7f\xff".to_vec()),
        any in any::<u8>(),
        is_any in prop::bool::weighted(0.3),
    ) -> u8 {
        if is_any { any } else { means }
    }
}

prop_compose! {
    /// An answer that makes sense, in each framing.
    fn answer()(
        version in prop::sample::select(vec!["1.1", "1.1", "1.0"]),
        status in prop::sample::select(vec![200, 201, 204, 304, 404, 500]),
        framing in 0..3,
        interim in any::<bool>(),
        extension in prop::sample::select(vec!["", ";a", " ;a=\"b\""]),
        trailer in prop::sample::select(vec!["", "x-sum: 1\r\n"]),
        body in body(),
    ) -> Vec<u8> {
        let mut text = if interim { b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_vec() } else { Vec::new() };
        text.extend(format!("HTTP/{version} {status} OK\r\nx-a: 1\r\nX-A:  2 \r\n").bytes());
        if matches!(status, 204 | 304) {
            text.extend(b"\r\n");
            return text;
        }
        match framing {
            1 if version == "1.0" => text.extend(b"\r\n"),
            0 => {
                text.extend(format!("content-length: {}\r\n\r\n", body.concat().len()).bytes());
                text.extend(body.concat());
            }
            1 => {
                text.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in &body {
                    text.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                    text.extend(chunk);
                    text.extend(b"\r\n");
                }
                text.extend(format!("0{extension}\r\n{trailer}\r\n").bytes());
            }
            _ => {
                text.extend(b"\r\n");
                text.extend(body.concat());
            }
        }
        text
    }
}

/// Cut at these places.
fn pieces<'a>(answer: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
    cuts.extend([0, answer.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// However an answer is cut up on its way, it is the one that hyper reads.
    #[test]
    fn an_answer_is_read_as_hyper_reads_it(
        answer in answer(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let expected = runtime.block_on(read_by_hyper(&answer)).unwrap();
        prop_assert_eq!(&read(&pieces(&answer, &cuts)).unwrap(), &expected);
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        prop_assert_eq!(read(&bytes).unwrap(), expected);
    }

    /// One that was damaged or cut short is refused, or read as hyper reads it: never as something else.
    #[test]
    fn a_damaged_answer_is_refused_or_read_as_hyper_reads_it(
        answer in answer(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), wrong()), 0..3),
        end in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut answer = answer;
        for (at, byte) in damage {
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        if is_cut {
            answer.truncate(end.index(answer.len()));
        }
        if let Ok(seen) = read(&pieces(&answer, &cuts)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let expected = runtime.block_on(read_by_hyper(&answer));
            prop_assert_eq!(Some(seen), expected, "{}", answer.escape_ascii());
        }
    }
}

/// What could be understood in two ways is no answer: one reading would leave bytes for the next request.
#[test]
fn an_answer_with_two_meanings_is_refused() {
    for head in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "content-length: 3\r\ncontent-length: 4",
        "content-length: 3, 3",
        "content-length: +3",
        "content-length: -1",
        "content-length: 0x3",
        "content-length:",
        "content-length: 99999999999999999999",
        "transfer-encoding: gzip",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked,",
        "transfer-encoding:",
        "content-length : 3",
        " content-length: 3",
        "x: y\r\n content-length: 3",
        "no colon",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\nown\r\n0\r\n\r\n");
        assert!(read(&[answer.as_bytes()]).is_err(), "{head}");
    }
    let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\n";
    assert!(read(&[old]).is_err(), "HTTP/1.0 has no chunks");
    let twice = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nown";
    let (_, headers, body, _) = read(&[twice]).unwrap();
    assert_eq!((headers.len(), &body[..]), (1, &b"own"[..]), "said twice is not two meanings");
}

/// Neither is a chunk whose size is none.
#[test]
fn a_chunk_without_a_size_is_refused() {
    let long = format!("3;{}\r\nown\r\n0\r\n\r\n", "x".repeat(20_000));
    let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(65));
    let long_trailer = format!("0\r\nx: {}", "y".repeat(20_000));
    for body in [
        "\r\n0\r\n\r\n",
        "own\r\n0\r\n\r\n",
        "-3\r\nown\r\n0\r\n\r\n",
        "0x3\r\nown\r\n0\r\n\r\n",
        " 3\r\nown\r\n0\r\n\r\n",
        "3\nown\r\n0\r\n\r\n",
        "3;a\nb\r\nown\r\n0\r\n\r\n",
        "10000000000000000\r\nown",
        "2\r\nown\r\n0\r\n\r\n",
        "3\r\nown0\r\n\r\n",
        "3\r\nown\n0\r\n\r\n",
        "0\r\nno trailer\r\n\r\n",
        "0\r\nx: y\n\r\n",
        &long,
        &trailers,
        &long_trailer,
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let bytes: Vec<&[u8]> = answer.as_bytes().chunks(1_000).collect();
        assert!(read(&bytes).is_err(), "{}", &body[..body.len().min(40)]);
    }
}

/// A head without an end, and interim heads without an answer, are given up.
#[tokio::test]
async fn a_head_has_an_end() {
    for (line, count) in [("x-filler: 1234567890\r\n", 5_000), ("\r\nHTTP/1.1 100 Continue\r\n", 40)] {
        let (_server, pool, mut peer) = Server::with_an_idle_connection().await;
        let serve = async {
            peer.head().await;
            peer.say("HTTP/1.1 100 Continue\r\n").await;
            for _ in 0..count {
                if peer.0.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
            peer
        };
        let (told, _peer) = tokio::join!(ask(&pool, get("/second")), serve);
        assert!(matches!(told, Err(TransportError::Broken(_))), "{told:?}");
        assert_eq!(pool.idle.count(), 0);
    }
}

/// A reason phrase of the server's own reaches the client; an old version of HTTP does not.
#[test]
fn a_reason_of_its_own_is_kept() {
    let answer = Bytes::from("HTTP/1.0 200 Fine\r\n\r\n");
    let (head, _) = Head::read(&answer, false).unwrap().unwrap();
    let reason = head.response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
    assert_eq!(reason.as_bytes(), b"Fine");
    assert_eq!(head.response.version(), http::Version::HTTP_11);
    assert!(!head.keeps_open);
}

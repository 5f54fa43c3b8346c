//! A server that speaks as much of Redis' protocol as is needed to be looked at, and describes itself as a test wants:
//! for versions and accidents that a real one cannot be made to have.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const VERSION_6: &str = "redis_version:6.2.14\r\nmaxmemory_policy:volatile-lru\r\n";
pub(crate) const FULL_DISK: &str =
    "redis_version:7.2.4\r\nmaxmemory_policy:noeviction\r\nrdb_last_bgsave_status:err\r\n";

/// Ends with the test.
pub(crate) struct OldRedis {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl OldRedis {
    /// `info`: its answer to INFO.
    pub(crate) async fn start(info: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, info));
            }
        });
        Self { address, accepting }
    }
}

impl Drop for OldRedis {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, info: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let command = command(&mut stream).await?;
        let answer = match command[0].to_ascii_uppercase().as_str() {
            "HELLO" => "%2\r\n$5\r\nproto\r\n:3\r\n$4\r\nrole\r\n$6\r\nmaster\r\n".to_owned(),
            "INFO" => format!("${}\r\n{info}\r\n", info.len()),
            "EVAL" => "*0\r\n".to_owned(),
            "ACL" | "CONFIG" => "-NOPERM this user has no permissions\r\n".to_owned(),
            "SUBSCRIBE" => {
                format!(">3\r\n$9\r\nsubscribe\r\n${}\r\n{}\r\n:1\r\n", command[1].len(), command[1])
            }
            _ => "+OK\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// An array of strings, as clients send it.
async fn command(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Ok(words)
}

/// The number in a line such as `*3` or `$5`.
async fn number(stream: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim()[1..].parse().unwrap())
}

//! An HTTP client that repeats nothing by itself: what fails is seen.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer of a server that lives.
const PATIENCE: Duration = Duration::from_secs(8);

/// A connection that is kept, and made anew after a failure.
pub struct Http {
    address: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// What a request is, beside its path.
#[derive(Clone, Copy, Default)]
pub struct With<'a> {
    pub token: &'a str,
    /// `Idempotency-Key`.
    pub key: &'a str,
    /// JSON.
    pub body: &'a str,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    /// What `Retry-After` said.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Http {
    pub fn to(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None, buffer: Vec::new() }
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, With::default()).await
    }

    pub async fn ask(&mut self, method: &str, path: &str, with: With<'_>) -> io::Result<Answer> {
        let asked = timeout(PATIENCE, self.exchange(method, path, with)).await;
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The connection is only put back once the whole answer was read from it.
    async fn exchange(&mut self, method: &str, path: &str, with: With<'_>) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address).await?,
        };
        stream.set_nodelay(true)?;
        stream.write_all(request(method, &self.address, path, with).as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let Head { status, length, closes, retry_after } = parse(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body = self.buffer[head..head + length].to_vec();
        self.stream = (!closes).then_some(stream);
        Ok(Answer { status, retry_after, body })
    }
}

fn request(method: &str, host: &str, path: &str, with: With<'_>) -> String {
    let With { token, key, body } = with;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in [("authorization: Bearer ", token), ("idempotency-key: ", key)] {
        if !value.is_empty() {
            text += &format!("{name}{value}\r\n");
        }
    }
    if !body.is_empty() {
        text += "content-type: application/json\r\n";
    }
    text + "\r\n" + body
}

/// What the client looks at in an answer's head.
struct Head {
    status: u16,
    length: usize,
    /// Whether the server closes the connection.
    closes: bool,
    retry_after: Option<Duration>,
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let odd = || io::Error::other("what answers is no HTTP server");
    let head = std::str::from_utf8(head).map_err(|_| odd())?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(odd)?;
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = value("content-length:").map_or(Some(0), |length| length.parse().ok()).ok_or_else(odd)?;
    let retry_after = value("retry-after:").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    Ok(Head { status, length, closes: value("connection:") == Some("close"), retry_after })
}

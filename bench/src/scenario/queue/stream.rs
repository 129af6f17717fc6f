//! A user's own events at a gate, as server-sent events.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// An event of a gate is smaller.
const READ: usize = 512;
const EVENT_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 32;

pub struct Stream {
    stream: TcpStream,
    received: BytesMut,
    /// What the chunks held.
    text: BytesMut,
    /// Of the chunk that is being read.
    left: usize,
    is_chunked: bool,
    /// Both ways.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

impl Stream {
    /// `authority` is `HOST:PORT`.
    ///
    /// # Errors
    /// Nobody listens there, or the answer is another one than 200.
    pub async fn open(authority: &str, path: &str, token: &str) -> anyhow::Result<Self> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\naccept: text/event-stream\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        let opening = async {
            let mut stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            stream.write_all(request.as_bytes()).await?;
            let (received, text) = Default::default();
            let bytes = request.len() as u64;
            let mut stream = Self { stream, received, text, left: 0, is_chunked: false, bytes };
            while !stream.head()? {
                stream.read().await?;
            }
            anyhow::Ok(stream)
        };
        timeout(OPEN_TIMEOUT, opening).await.context("no stream was opened in time")?
    }

    /// The next event that has a name or data. Cancel-safe.
    ///
    /// # Errors
    /// The server closed the stream, or sent what is none.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let event = Event::read(&self.text.split_to(end + 2));
                if event != Event::default() {
                    return Ok(event);
                }
            }
            self.read().await?;
            self.unpack()?;
        }
    }

    /// Whether it is all there.
    fn head(&mut self) -> anyhow::Result<bool> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(&self.received)? else { return Ok(false) };
        let status = response.code.unwrap_or_default();
        if status != 200 {
            bail!("{status}");
        }
        self.is_chunked =
            response.headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding"));
        self.received.advance(length);
        self.unpack()?;
        Ok(true)
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        ensure!(self.received.len() + self.text.len() < EVENT_MAX, "an event that is too long");
        self.received.reserve(READ);
        let count = self.stream.read_buf(&mut self.received).await?;
        ensure!(count > 0, "the server closed the stream");
        self.bytes += count as u64;
        Ok(())
    }

    /// Takes chunks apart as far as they are there.
    fn unpack(&mut self) -> anyhow::Result<()> {
        if !self.is_chunked {
            let all = self.received.split();
            self.text.extend_from_slice(&all);
            return Ok(());
        }
        while !self.received.is_empty() {
            if self.left == 0 {
                // The end of the chunk before.
                let start = if self.received.starts_with(b"\r\n") { 2 } else { 0 };
                let Some(end) = self.received[start..].windows(2).position(|pair| pair == b"\r\n") else {
                    return Ok(());
                };
                let digits = std::str::from_utf8(&self.received[start..start + end])?;
                self.left = usize::from_str_radix(digits, 16).context("the events do not come in chunks")?;
                ensure!(self.left > 0, "the server ended the stream");
                self.received.advance(start + end + 2);
            }
            let piece = self.received.split_to(self.left.min(self.received.len()));
            self.left -= piece.len();
            self.text.extend_from_slice(&piece);
        }
        Ok(())
    }
}

impl Event {
    fn read(text: &[u8]) -> Self {
        let mut event = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            match line.split_once(':') {
                Some(("event", name)) => event.name = name.trim().to_owned(),
                Some(("data", data)) => event.data.push_str(data.trim()),
                _ => {}
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_put_together_however_they_come() {
        const EVENTS: &str =
            ": hello\n\nevent: INIT\ndata: {\"rank\":3}\n\nretry: 5\n\nevent: KEEPALIVE\ndata:\n\n";
        for (chunks, piece) in [(1, 1), (7, 3), (1_000, 1_000), (0, 5)] {
            let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
            if chunks == 0 {
                answer.extend_from_slice(format!("\r\n{EVENTS}").as_bytes());
            } else {
                answer.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in EVENTS.as_bytes().chunks(chunks) {
                    answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
            }
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let authority = listener.local_addr().unwrap().to_string();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                for piece in answer.chunks(piece) {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut stream = Stream::open(&authority, "/x", "t").await.unwrap();
            let first = stream.next().await.unwrap();
            assert_eq!((first.name.as_str(), first.data.as_str()), ("INIT", "{\"rank\":3}"));
            assert_eq!(stream.next().await.unwrap().name, "KEEPALIVE");
            assert!(stream.next().await.is_err(), "the server has gone");
        }
    }
}

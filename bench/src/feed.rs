//! What a viewer is sent, read with as little of the processor as a client can do with: thousands share the cores with
//! the server.
//!
//! With the library that [`crate::ws`] uses, a frame costs a third more of it. A server's frames are not masked, and this
//! one's hold one message each, so that little is left to do.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Buf, BytesMut};
use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::frames::Frame;

mod events;
mod socket;

/// A frame of the feed at a thousand changes a second is smaller.
const READ: usize = 2_048;
/// Nobody is sent more at once.
const MESSAGE_MAX: usize = 16 << 20;
const HEAD_MAX: usize = 8_192;
const HEADERS_MAX: usize = 32;
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How frames come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Over a WebSocket, in the binary form.
    #[default]
    Ws,
    /// As server-sent events; only the positions are read.
    Sse,
}

pub struct Feed {
    stream: TcpStream,
    /// What was received and not used yet.
    buffer: BytesMut,
    kind: Kind,
    option: u64,
    /// Bytes at the front of the buffer that the last message took.
    used: usize,
}

/// One message at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    what: What,
    /// Where its content is.
    content: Range<usize>,
    /// All its bytes.
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A frame of the feed.
    Frame,
    /// Must be answered with the same.
    Ping,
    /// Says nothing about seats.
    Other,
}

impl Feed {
    /// `authority` is `HOST:PORT`. The first frame is the whole map.
    ///
    /// # Errors
    /// Nobody listens there, or there is no such option.
    pub async fn open(authority: &str, option: u64, kind: Kind) -> anyhow::Result<Self> {
        let opening = async {
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            let mut feed = Self { stream, buffer: BytesMut::new(), kind, option, used: 0 };
            feed.ask(authority).await?;
            anyhow::Ok(feed)
        };
        timeout(OPEN_TIMEOUT, opening)
            .await
            .with_context(|| format!("{authority} did not open a feed within {OPEN_TIMEOUT:?}"))?
            .with_context(|| format!("cannot open a feed of {authority}"))
    }

    /// The next frame, and what it cost on the wire.
    ///
    /// # Errors
    /// The server closed the feed, or sent what is none.
    pub async fn next(&mut self) -> anyhow::Result<(Frame<'_>, u64)> {
        let content = loop {
            self.buffer.advance(std::mem::take(&mut self.used));
            let Some(Cut { what, content, length }) = self.cut()? else {
                self.read().await?;
                continue;
            };
            self.used = length;
            match what {
                What::Frame => break content,
                What::Ping => {
                    let pong = socket::masked(socket::PONG, &self.buffer[content]);
                    self.stream.write_all(&pong).await?;
                }
                What::Other => {}
            }
        };
        let content = &self.buffer[content];
        let frame = match self.kind {
            Kind::Ws => socket::frame(content, self.option)?,
            Kind::Sse => events::frame(content)?,
        };
        Ok((frame, self.used as u64))
    }

    /// The map was large, and what follows is small.
    pub fn shrink(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.used));
        let mut buffer = BytesMut::with_capacity(READ.max(self.buffer.len()));
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
    }

    async fn ask(&mut self, authority: &str) -> anyhow::Result<()> {
        let request = match self.kind {
            Kind::Ws => socket::opening(authority),
            Kind::Sse => events::opening(authority, self.option),
        };
        self.stream.write_all(request.as_bytes()).await?;
        let (status, length) = loop {
            match head(&self.buffer)? {
                Some(head) => break head,
                None => self.read().await?,
            }
        };
        let expected = if self.kind == Kind::Ws { 101 } else { 200 };
        let told = String::from_utf8_lossy(&self.buffer[length..]);
        ensure!(status == expected, "the server answered {status}: {told:.200}");
        self.buffer.advance(length);
        if self.kind == Kind::Ws {
            let watch = format!(r#"{{"op":"watch","option":{}}}"#, self.option);
            self.stream.write_all(&socket::masked(socket::TEXT, watch.as_bytes())).await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        ensure!(self.buffer.len() < MESSAGE_MAX, "a message of more than {MESSAGE_MAX} bytes");
        self.buffer.reserve(READ);
        let count = self.stream.read_buf(&mut self.buffer).await.context("the server broke the feed")?;
        ensure!(count > 0, "the server closed the feed");
        Ok(())
    }

    fn cut(&self) -> anyhow::Result<Option<Cut>> {
        match self.kind {
            Kind::Ws => socket::cut(&self.buffer),
            Kind::Sse => events::cut(&self.buffer),
        }
    }
}

/// The status of an HTTP answer, and the length of its head.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let status = response.parse(bytes).context("what the server sent is no HTTP")?;
    ensure!(bytes.len() < HEAD_MAX || status.is_complete(), "a head of more than {HEAD_MAX} bytes");
    Ok(match (status, response.code) {
        (httparse::Status::Complete(length), Some(code)) => Some((code, length)),
        _ => None,
    })
}

//! Frames from a TCP stream. tungstenite checks and unmasks what comes in, by RFC 6455; what goes out is framed by
//! [`super::outbox`], because tungstenite would copy every frame for every viewer and keep the room for it.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

use super::outbox::Outbox;
use super::session::Reason;

/// Bytes of a message that are read, in one frame or in several. A list of 64 commands has about 8 KiB.
pub const MESSAGE_BYTES: usize = 64 * 1024;

/// Bytes that are read at once, and kept as room by an idle client: a list of 16 commands has about 1,000.
const READ_BYTES: usize = 1024;

/// What came from the client.
#[derive(Debug)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary,
    Control,
    /// It says goodbye; the answer is in the outbox.
    Close,
    /// It says what no client may; it is to be told why.
    Wrong(Reason),
    /// It is gone.
    Gone,
}

/// Reads frames.
#[derive(Debug)]
pub struct Frames {
    context: WebSocketContext,
    /// What was read together with the request.
    early: Bytes,
}

impl Frames {
    pub fn new(early: Bytes) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        Self { context: WebSocketContext::new(Role::Server, Some(config)), early }
    }

    /// The next frame. Pongs go into the outbox by themselves.
    pub fn poll_next<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
        outbox: &mut Outbox,
    ) -> Poll<Incoming> {
        let mut pipe = Pipe { from, cx, early: &mut self.early, outbox };
        let incoming = match self.context.read(&mut pipe) {
            Ok(Message::Text(text)) => Incoming::Text(text),
            Ok(Message::Binary(_)) => Incoming::Binary,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Incoming::Control,
            Ok(Message::Close(_)) => {
                // Puts the answer into the outbox; there is no more to it.
                let _closing = self.context.flush(&mut pipe);
                Incoming::Close
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
            Err(Error::Capacity(_)) => Incoming::Wrong(Reason::TooLarge),
            Err(Error::Utf8(_)) => Incoming::Wrong(Reason::NotUtf8),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                Incoming::Gone
            }
            Err(Error::Protocol(error)) => {
                tracing::debug!(%error, "a client does not speak WebSocket");
                Incoming::Wrong(Reason::ProtocolError)
            }
            Err(_) => Incoming::Gone,
        };
        Poll::Ready(incoming)
    }
}

/// The stream and the outbox as tungstenite wants them: blocking, and saying so.
struct Pipe<'a, 'b, S> {
    from: &'a mut S,
    cx: &'a mut Context<'b>,
    early: &'a mut Bytes,
    outbox: &'a mut Outbox,
}

impl<S: AsyncRead + Unpin> Read for Pipe<'_, '_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let length = self.early.len().min(into.len());
            self.early.copy_to_slice(&mut into[..length]);
            if self.early.is_empty() {
                *self.early = Bytes::new();
            }
            return Ok(length);
        }
        let mut buffer = ReadBuf::new(into);
        match Pin::new(&mut *self.from).poll_read(self.cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Pipe<'_, '_, S> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.outbox.raw(frames);
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A client's frame, masked.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        if payload.len() < 126 {
            bytes.push(0x80 | u8::try_from(payload.len()).unwrap());
        } else {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
        let mask = [1, 2, 3, 4];
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Everything that comes of these bytes, half of them read together with the request.
    fn read(bytes: &[u8]) -> (Vec<String>, usize) {
        let (early, mut rest) = bytes.split_at(bytes.len() / 2);
        let mut frames = Frames::new(Bytes::copy_from_slice(early));
        let mut outbox = Outbox::default();
        let mut seen = Vec::new();
        loop {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(incoming) = frames.poll_next(&mut cx, &mut rest, &mut outbox) else {
                panic!("a slice never blocks");
            };
            let word = match incoming {
                Incoming::Text(text) => text.to_string(),
                Incoming::Wrong(reason) => reason.name().to_owned(),
                other => format!("{other:?}"),
            };
            seen.push(word);
            if !matches!(seen.last().map(String::as_str), Some("hello" | "Control" | "Binary")) {
                return (seen, outbox.len());
            }
        }
    }

    #[test]
    fn frames_are_read_and_wrong_ones_are_named() {
        let hello = frame(0x81, b"hello");
        let halves = [frame(0x01, b"hel"), frame(0x80, b"lo")].concat();
        let long = frame(0x81, &vec![b'x'; MESSAGE_BYTES + 1]);
        let many = [frame(0x01, &vec![b'x'; MESSAGE_BYTES]), frame(0x80, b"x")].concat();
        let mut unmasked = vec![0x81, 5];
        unmasked.extend_from_slice(b"hello");
        let huge = [0x81, 0xff, 0, 0, 0, 0, 0, 0xa0, 0, 0, 1, 2, 3, 4];
        let rows: [(&[u8], &[&str]); 11] = [
            (&hello, &["hello", "Gone"]),
            (&halves, &["hello", "Gone"]),
            (&[frame(0x82, b"x"), hello.clone()].concat(), &["Binary", "hello", "Gone"]),
            (&[frame(0x8a, b"x"), hello.clone()].concat(), &["Control", "hello", "Gone"]),
            (&frame(0x81, b"\xff\xfe"), &["NOT_UTF8"]),
            (&long, &["TOO_LARGE"]),
            (&many, &["TOO_LARGE"]),
            (&huge, &["TOO_LARGE"]),
            (&unmasked, &["PROTOCOL_ERROR"]),
            (&frame(0xf1, b"x"), &["PROTOCOL_ERROR"]),
            (b"GET / HTTP/1.1\r\n\r\n", &["PROTOCOL_ERROR"]),
        ];
        for (bytes, expected) in rows {
            assert_eq!(read(bytes).0, expected, "{:02x?}", &bytes[..bytes.len().min(12)]);
        }
    }

    #[test]
    fn pings_and_closes_are_answered_through_the_outbox() {
        let (seen, answered) = read(&[frame(0x89, b"abc"), frame(0x81, b"hello")].concat());
        assert_eq!((seen, answered), (vec!["Control".to_owned(), "hello".to_owned(), "Gone".to_owned()], 5));
        let (seen, answered) = read(&frame(0x88, &[3, 0xe8]));
        assert_eq!((seen, answered), (vec!["Close".to_owned()], 4));
    }
}

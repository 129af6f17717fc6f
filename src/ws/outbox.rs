//! What a client has not read yet, already in frames, so that everything of one wake-up goes out in one write.
//!
//! A frame of the feed is the same bytes for every viewer and is shared by all of them; what is only for this
//! client is written into one buffer after another. A server's frames are not masked (RFC 6455 §5.1).

use std::collections::VecDeque;
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// Pieces that one write takes.
const PIECES: usize = 32;

/// Bytes that are copied into one piece before they are written.
const COPIED: usize = 512;

/// Places for chunks that an idle client keeps.
const KEPT_PLACES: usize = 8;

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
const FIN_CLOSE: u8 = 0x88;

/// In the order in which the client gets it.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Frames for this client alone that follow the chunks.
    tail: Vec<u8>,
    /// Bytes in the chunks, also those of the first that were sent.
    queued: usize,
    /// Bytes of the first chunk that were sent.
    sent: usize,
}

#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    Feed { head: Head, payload: Bytes },
}

/// A frame's head: 2, 4 or 10 bytes.
#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: [u8; 10],
    length: u8,
}

impl Head {
    fn new(opcode: u8, payload: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = opcode;
        let length = if let Ok(short @ 0..126) = u8::try_from(payload) {
            bytes[1] = short;
            2
        } else if let Ok(medium) = u16::try_from(payload) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        };
        Self { bytes, length }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Feed { head, payload } => head.as_slice().len() + payload.len(),
        }
    }

    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Own(bytes) => [bytes, &[]],
            Self::Feed { head, payload } => [head.as_slice(), payload],
        }
    }
}

impl Outbox {
    /// A text frame with what `write` writes.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // Most answers are longer than 125 bytes and shorter than 64 KiB: their head has 4.
        let start = self.tail.len();
        self.tail.extend_from_slice(&[0; 4]);
        write(&mut self.tail);
        let head = Head::new(FIN_TEXT, self.tail.len() - start - 4);
        self.tail.splice(start..start + 4, head.as_slice().iter().copied());
    }

    /// A frame of the feed.
    pub fn feed(&mut self, payload: Bytes, is_binary: bool) {
        self.seal();
        let opcode = if is_binary { FIN_BINARY } else { FIN_TEXT };
        self.push(Chunk::Feed { head: Head::new(opcode, payload.len()), payload });
    }

    /// Bytes that are frames already.
    pub fn raw(&mut self, frames: &[u8]) {
        self.tail.extend_from_slice(frames);
    }

    /// A close frame: nothing comes after it.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.tail.extend_from_slice(Head::new(FIN_CLOSE, 2 + reason.len()).as_slice());
        self.tail.extend_from_slice(&code.to_be_bytes());
        self.tail.extend_from_slice(reason.as_bytes());
    }

    /// Bytes that the client has not read, as far as this side knows.
    pub fn len(&self) -> usize {
        self.queued - self.sent + self.tail.len()
    }

    /// Forgets the frames of the feed, but for one that was begun.
    pub fn drop_feed(&mut self) {
        let begun = usize::from(self.sent > 0);
        let mut place = 0;
        self.chunks.retain(|chunk| {
            place += 1;
            place <= begun || matches!(chunk, Chunk::Own(_))
        });
        self.queued = self.chunks.iter().map(Chunk::len).sum();
    }

    /// Writes until all is written; `Ready(false)` never, `Pending` when the client must read first. `moved` learns
    /// whether anything was written.
    pub fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        moved: &mut bool,
    ) -> Poll<Result<()>> {
        self.seal();
        while !self.chunks.is_empty() {
            if self.len() <= COPIED {
                // A vector of two costs more than the copy of both.
                let written = ready!(self.poll_write_copy(cx, to))?;
                *moved |= written > 0;
                self.advance(written);
                continue;
            }
            let mut slices = [IoSlice::new(&[]); PIECES];
            let pieces = self.gather(&mut slices);
            let to = Pin::new(&mut *to);
            let written = if pieces == 1 {
                ready!(to.poll_write(cx, &slices[0]))?
            } else {
                ready!(to.poll_write_vectored(cx, &slices[..pieces]))?
            };
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            *moved = true;
            self.advance(written);
        }
        if self.chunks.capacity() > KEPT_PLACES {
            self.chunks = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all there is from one piece.
    fn poll_write_copy<W: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<usize>> {
        let mut copy = [0; COPIED];
        let (mut skip, mut length) = (self.sent, 0);
        for part in self.chunks.iter().flat_map(Chunk::parts) {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let rest = &part[skipped..];
            copy[length..length + rest.len()].copy_from_slice(rest);
            length += rest.len();
        }
        match ready!(Pin::new(to).poll_write(cx, &copy[..length]))? {
            0 => Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut skip = self.sent;
        let mut pieces = 0;
        for part in self.chunks.iter().flat_map(Chunk::parts) {
            let skipped = skip.min(part.len());
            skip -= skipped;
            if skipped == part.len() {
                continue;
            }
            if pieces == PIECES {
                break;
            }
            slices[pieces] = IoSlice::new(&part[skipped..]);
            pieces += 1;
        }
        pieces
    }

    fn advance(&mut self, written: usize) {
        self.sent += written;
        while let Some(first) = self.chunks.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            self.queued -= first.len();
            self.chunks.pop_front();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.push(Chunk::Own(tail));
        }
    }

    fn push(&mut self, chunk: Chunk) {
        self.queued += chunk.len();
        self.chunks.push_back(chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes at a time, and so many in all before it blocks.
    struct Narrow {
        taken: Vec<u8>,
        step: usize,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            let length = bytes.len().min(self.step).min(self.room);
            if length == 0 {
                return Poll::Pending;
            }
            self.room -= length;
            self.taken.extend_from_slice(&bytes[..length]);
            Poll::Ready(Ok(length))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            self.poll_write(cx, &slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn flush(outbox: &mut Outbox, to: &mut Narrow) -> bool {
        outbox.poll_flush(&mut Context::from_waker(Waker::noop()), to, &mut false).is_ready()
    }

    fn payload(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    #[test]
    fn heads_are_as_short_as_they_can_be() {
        let rows: [(usize, &[u8]); 6] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (100_000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0x86, 0xa0]),
        ];
        for (length, head) in rows {
            assert_eq!(Head::new(FIN_TEXT, length).as_slice(), head);
            let mut outbox = Outbox::default();
            outbox.text(|text| text.extend_from_slice(b"before"));
            outbox.text(|text| text.extend_from_slice(&payload(length)));
            assert_eq!(outbox.tail[8..8 + head.len()], *head);
            assert_eq!(outbox.len(), 8 + head.len() + length);
        }
    }

    #[test]
    fn everything_arrives_in_its_order_however_it_is_cut() {
        let mut expected = None;
        for step in [1, 3, 7, 1_000_000] {
            let mut outbox = Outbox::default();
            for round in 0..40_usize {
                outbox.text(|text| text.extend_from_slice(format!("answer {round}").as_bytes()));
                outbox.feed(payload(round * 10), round % 2 == 0);
            }
            outbox.raw(&[0x8a, 0]);
            outbox.close(1001, "bye");
            let mut to = Narrow { taken: Vec::new(), step, room: 500 };
            assert!(!flush(&mut outbox, &mut to), "there is no room for all");
            to.room = usize::MAX;
            assert!(flush(&mut outbox, &mut to));
            assert_eq!(outbox.len(), 0);
            assert!(to.taken.ends_with(&[0x8a, 0, 0x88, 5, 3, 0xe9, b'b', b'y', b'e']));
            assert_eq!(expected.get_or_insert(to.taken.clone()), &to.taken, "{step} at a time");
        }
    }

    #[test]
    fn a_dropped_backlog_keeps_answers_and_the_frame_that_was_begun() {
        let mut outbox = Outbox::default();
        outbox.feed(payload(100), false);
        outbox.text(|text| text.extend_from_slice(b"answer"));
        outbox.feed(payload(1_000), false);
        let mut to = Narrow { taken: Vec::new(), step: 10, room: 10 };
        assert!(!flush(&mut outbox, &mut to));
        outbox.drop_feed();
        assert_eq!(outbox.len(), 102 - 10 + 8);
        to.room = usize::MAX;
        assert!(flush(&mut outbox, &mut to));
        assert_eq!(to.taken.len(), 102 + 8);
        assert!(to.taken.ends_with(b"\x81\x06answer"));
    }
}

//! What viewers are sent, as it goes over the wire: `docs/protocol.md` §2 to §4.
//!
//! A frame is the same for all its viewers, so each of its forms is encoded when the first of them asks and
//! handed to the others as it is.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::{OptionId, SeatNo, SeatState};

use super::Position;
use super::snapshot::{COMPACT_HEAD, Snapshot};

/// Why writing cannot fail.
const STRING: &str = "a String takes every character";

/// Bytes of the option before a binary message, where one socket watches many.
const OPTION_HEAD: usize = 4;
/// Bytes of the longest head of changes: version, kind, old epoch, old seq, epoch, seq, count.
const CHANGES_HEAD: usize = 38;

/// Brings viewers from one position, or from nothing, to another.
#[derive(Debug)]
pub struct Frame {
    option: OptionId,
    to: Position,
    content: Content,
    text: OnceLock<Bytes>,
    binary: OnceLock<Bytes>,
    sse: OnceLock<Bytes>,
}

#[derive(Debug)]
enum Content {
    Snapshot(Arc<Snapshot>),
    /// Of one epoch where that of `from` is that of `to`, else from a former epoch into the current one.
    Changes {
        from: Position,
        set: Box<[Packed]>,
    },
}

/// A seat's new state: `seat << 2 | state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed(u32);

impl Packed {
    pub const fn new(seat: u32, state: SeatState) -> Self {
        Self(seat << 2 | state as u32)
    }

    const fn seat(self) -> SeatNo {
        SeatNo(self.0 >> 2)
    }

    const fn state(self) -> u32 {
        self.0 & 3
    }
}

impl Frame {
    pub(super) fn snapshot(snapshot: Arc<Snapshot>) -> Self {
        Self::new(snapshot.option, snapshot.position(), Content::Snapshot(snapshot))
    }

    pub(super) fn changes(option: OptionId, from: Position, to: Position, set: Vec<Packed>) -> Self {
        Self::new(option, to, Content::Changes { from, set: set.into() })
    }

    fn new(option: OptionId, to: Position, content: Content) -> Self {
        Self { option, to, content, text: OnceLock::new(), binary: OnceLock::new(), sse: OnceLock::new() }
    }

    #[must_use]
    pub const fn option(&self) -> OptionId {
        self.option
    }

    /// What a viewer that applied it has.
    #[must_use]
    pub const fn to(&self) -> Position {
        self.to
    }

    /// What a viewer must have to apply it; `None` for a snapshot, which needs nothing.
    #[must_use]
    pub const fn from(&self) -> Option<Position> {
        match self.content {
            Content::Snapshot(_) => None,
            Content::Changes { from, .. } => Some(from),
        }
    }

    /// Its kind, the `ev` of JSON and the `event` of SSE: `snapshot`, `changes` or `continues`.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match &self.content {
            Content::Snapshot(_) => "snapshot",
            Content::Changes { from, .. } if from.epoch == self.to.epoch => "changes",
            Content::Changes { .. } => "continues",
        }
    }

    /// One line of JSON, e.g. `{"ev":"changes","option":7,"from":"3.1040","to":"3.1042","set":[[3,1]]}`.
    #[must_use]
    pub fn text(&self) -> Bytes {
        self.text.get_or_init(|| self.encode_text().into()).clone()
    }

    /// A message of `hotseat.bin.1`: the option, then [`Self::compact`].
    #[must_use]
    pub fn binary(&self) -> Bytes {
        self.binary.get_or_init(|| self.encode_binary().into()).clone()
    }

    /// The bytes of `docs/protocol.md` §3, without the option.
    #[must_use]
    pub fn compact(&self) -> Bytes {
        self.binary().slice(OPTION_HEAD..)
    }

    /// A whole server-sent event, with the blank line at its end.
    #[must_use]
    pub fn sse(&self) -> Bytes {
        self.sse.get_or_init(|| self.encode_sse().into()).clone()
    }

    fn encode_text(&self) -> String {
        let (event, option, to) = (self.event(), self.option, self.to);
        match &self.content {
            Content::Snapshot(snapshot) => {
                let mut text = String::with_capacity(96 + snapshot.map.len() * 4 / 3);
                write!(text, "{{\"ev\":\"{event}\",\"option\":{option},\"at\":\"{to}\",\"map\":\"")
                    .expect(STRING);
                STANDARD.encode_string(snapshot.compact(), &mut text);
                text.push_str("\"}");
                text
            }
            Content::Changes { from, set } => {
                let mut text = String::with_capacity(128 + set.len() * 10);
                write!(
                    text,
                    "{{\"ev\":\"{event}\",\"option\":{option},\"from\":\"{from}\",\"to\":\"{to}\",\"set\":["
                )
                .expect(STRING);
                for (at, packed) in set.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(text, "{comma}[{},{}]", packed.seat(), packed.state()).expect(STRING);
                }
                text.push_str("]}");
                text
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "an option has less than 2^30 seats")]
    fn encode_binary(&self) -> Vec<u8> {
        let option = self.option.0.to_le_bytes();
        match &self.content {
            Content::Snapshot(snapshot) => {
                let mut bytes = Vec::with_capacity(OPTION_HEAD + COMPACT_HEAD + snapshot.map.len());
                bytes.extend_from_slice(&option);
                snapshot.write_compact(&mut bytes);
                bytes
            }
            Content::Changes { from, set } => {
                let mut bytes = Vec::with_capacity(OPTION_HEAD + CHANGES_HEAD + 4 * set.len());
                bytes.extend_from_slice(&option);
                let same_epoch = [from.epoch.0, from.seq, self.to.seq];
                let new_epoch = [from.epoch.0, from.seq, self.to.epoch.0, self.to.seq];
                let (kind, positions) = if from.epoch == self.to.epoch {
                    (0x82, same_epoch.as_slice())
                } else {
                    (0x83, new_epoch.as_slice())
                };
                bytes.extend_from_slice(&[1, kind]);
                for number in positions {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                bytes.extend_from_slice(&(set.len() as u32).to_le_bytes());
                for packed in set {
                    bytes.extend_from_slice(&packed.0.to_le_bytes());
                }
                bytes
            }
        }
    }

    fn encode_sse(&self) -> Vec<u8> {
        let text = self.text();
        let mut event = Vec::with_capacity(64 + text.len());
        event.extend_from_slice(format!("event: {}\nid: {}\ndata: ", self.event(), self.to).as_bytes());
        event.extend_from_slice(&text);
        event.extend_from_slice(b"\n\n");
        event
    }
}

#[cfg(test)]
mod tests {
    use engine::Epoch;

    use super::*;

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    fn changes(from: &str, to: &str, seats: &[(u32, SeatState)]) -> Frame {
        let set = seats.iter().map(|(seat, state)| Packed::new(*seat, *state)).collect();
        Frame::changes(OptionId(7), position(from), position(to), set)
    }

    fn utf8(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn frames_read_as_the_protocol_says() {
        let states = [SeatState::Selecting, SeatState::Confirmed, SeatState::Available, SeatState::Hold];
        let snapshot = Snapshot::new(OptionId(7), position("3.1042"), states.into_iter());
        let rows = [
            (
                Frame::snapshot(Arc::new(snapshot)),
                "{\"ev\":\"snapshot\",\"option\":7,\"at\":\"3.1042\",\
                 \"map\":\"AQIDAAAAAAAAABIEAAAAAAAABAAAAI0=\"}",
            ),
            (
                changes("3.1040", "3.1042", &[(3, SeatState::Selecting), (4, SeatState::Available)]),
                "{\"ev\":\"changes\",\"option\":7,\"from\":\"3.1040\",\"to\":\"3.1042\",\
                 \"set\":[[3,1],[4,0]]}",
            ),
            (
                changes("3.1050", "4.1", &[]),
                "{\"ev\":\"continues\",\"option\":7,\"from\":\"3.1050\",\"to\":\"4.1\",\"set\":[]}",
            ),
        ];
        for (frame, text) in rows {
            assert_eq!(utf8(&frame.text()), text);
            let event = format!("event: {}\nid: {}\ndata: {text}\n\n", frame.event(), frame.to());
            assert_eq!(utf8(&frame.sse()), event);
            assert_eq!(frame.text().as_ptr(), frame.text().as_ptr(), "encoded once");
        }
    }

    #[test]
    fn binary_frames_are_laid_out_as_the_protocol_says() {
        let frame = changes("3.1040", "3.1042", &[(3, SeatState::Selecting), (9, SeatState::Confirmed)]);
        let head = [[3, 0, 0, 0, 0, 0, 0, 0], [0x10, 4, 0, 0, 0, 0, 0, 0], [0x12, 4, 0, 0, 0, 0, 0, 0]];
        let wanted =
            [&[7, 0, 0, 0, 1, 0x82][..], head.as_flattened(), &[2, 0, 0, 0, 13, 0, 0, 0, 39, 0, 0, 0]];
        assert_eq!(frame.binary(), wanted.concat());
        assert_eq!(frame.compact(), wanted.concat()[4..]);

        let frame = changes("3.1040", "4.1", &[(0, SeatState::Hold)]);
        let head = [3, 0x0410, 4, 1_u64].map(u64::to_le_bytes);
        let wanted = [&[7, 0, 0, 0, 1, 0x83][..], head.as_flattened(), &[1, 0, 0, 0, 2, 0, 0, 0]];
        assert_eq!(frame.binary(), wanted.concat());
    }

    #[test]
    fn a_stadium_and_a_thousand_changes_are_small() {
        let at = Position { epoch: Epoch(1), seq: 1_000 };
        let states = (0..100_000).map(|_| SeatState::Available);
        let stadium = Frame::snapshot(Arc::new(Snapshot::new(OptionId(7), at, states)));
        assert_eq!(stadium.compact().len(), 25_022);
        let seats: Vec<_> = (0..1_000).map(|seat| (seat * 97, SeatState::Hold)).collect();
        assert_eq!(changes("1.0", "1.1000", &seats).compact().len(), 4_030);
    }
}

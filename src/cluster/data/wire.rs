//! What nodes say to each other on the data plane: commands, answers and calls in numbers that are pinned.
//!
//! The engine knows no encoding, so every type of it that travels has a twin here. As on the control plane a type that
//! has been released stays as it is, and what is new becomes a new variant at the end.

use bincode::config::{Config, legacy};
use bincode::serde::{decode_from_slice, encode_to_vec};
use bytes::{Buf as _, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub mod gate;

/// The largest message: a shard's soft locks on their way to its next owner. What may be larger goes in parts.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that say how long a message is.
const HEAD: usize = size_of::<u32>();

/// From the node that a client reached to the owner.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// Commands of one shard, to be decided in their order.
    Ask {
        /// Unique on the connection; answers name it.
        id: u64,
        shard: u16,
        /// For how many microseconds somebody waits.
        budget: u64,
        asks: Vec<Ask>,
    },
    /// A question to the gate of a concert.
    Gate {
        /// Among those of [`Self::Ask`].
        id: u64,
        shard: u16,
        concert: u64,
        budget: u64,
        ask: gate::Ask,
    },
}

/// And back.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    Answer {
        id: u64,
        /// Which of the commands.
        place: u32,
        answer: Answer,
    },
    /// None was decided: the shard is elsewhere.
    NotOwner { id: u64, owner: Option<Route> },
    /// What the gate said.
    Gate { id: u64, said: gate::Said },
    /// The gate has died over it: nobody knows what became of it.
    GateLost { id: u64 },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub user: u64,
    /// Whether the caller may see and move everybody's.
    pub any: bool,
    pub key: Option<u128>,
    /// The pass that was shown, and whose signature is good.
    pub pass: Option<u64>,
    pub command: Command,
}

/// Seats as they were named; `len` counts those beyond what a command may name as well.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seats {
    pub seats: Vec<u32>,
    pub len: u8,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Select { option: u32, seats: Seats },
    SelectBest { option: u32, party: u32, section: Option<u16>, category: Option<u8> },
    Release { option: u32, seats: Option<Seats> },
    Hold { option: u32, seats: Seats, reservation: u128 },
    StartPaying { reservation: u128 },
    Confirm { reservation: u128 },
    Cancel { reservation: u128 },
    Refund { reservation: u128 },
    Block { option: u32, seats: Seats, reservation: u128 },
    Unblock { reservation: u128 },
    SetOptionStatus { option: u32, status: u8 },
    SetPolicy { concert: u64, reservations_per_user: Option<u32>, gate: Option<bool> },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub outcome: Outcome,
    pub replayed: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Selected { option: u32, seats: Seats, expires_at: i64, renewed: bool },
    Released { option: u32, seats: Seats },
    Reserved { reservation: Reservation, created: bool },
    Done,
    Refused(Refusal),
    Overloaded,
    LedgerUnavailable,
}

/// By [`engine::Refusal::number`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Those that say nothing more.
    Plain(u8),
    SeatTaken(Vec<(u32, u8)>),
    NotSelected(Seats),
    NoSeatsTogether {
        longest: u32,
    },
    ReservationState(u8),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub id: u128,
    pub kind: u8,
    pub user: u64,
    pub concert: u64,
    pub option: u32,
    pub seats: Seats,
    pub status: u8,
    pub version: u32,
    pub amount: i64,
    pub deadline: i64,
    pub created_at: i64,
    pub changed_at: i64,
    pub payment_started: bool,
}

/// Who has a shard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub epoch: u64,
    pub owner: Owner,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub id: u128,
    pub node: String,
    pub public_url: String,
    pub peer_url: String,
}

/// A question of its own.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub from: Owner,
    pub question: Question,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    Reservation { shard: u16, id: u128 },
    Selection { shard: u16, user: u64, option: u32 },
    Prepare { shard: u16, attempt: Attempt },
    Hold { shard: u16, attempt: Attempt, soft_locks: Vec<SoftLock> },
    HandedOver { shard: u16, attempt: Attempt },
    Resumed { shard: u16, attempt: Attempt },
    Memory { shard: u16 },
    CheckMirror { shard: u16 },
    Resync { shard: u16 },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub epoch: u64,
    pub no: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftLock {
    pub option: u32,
    pub seat: u32,
    pub user: u64,
    pub first_at: i64,
    pub expires_at: i64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    Reservation(Option<Reservation>),
    Selection {
        option: u32,
        seats: Seats,
        expires_at: i64,
    },
    Done,
    NotOwner(Option<Route>),
    Overloaded,
    LedgerUnavailable,
    Refused(String),
    /// Followed by its parts.
    Memory(MemoryHead),
    Mirror {
        options: u32,
        soft_locks: u64,
        differences: Vec<MirrorDifference>,
    },
    MirrorAway(String),
    Compared {
        head: Head,
        differences: Vec<Difference>,
        all: u64,
        by_option: Vec<(u32, u64)>,
    },
    Restored {
        memory: Head,
        ledger: Head,
    },
    Contradiction(String),
}

/// A shard's memory without what may be much.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryHead {
    pub shard: u16,
    pub epoch: u64,
    pub event_seq: u64,
    pub hash: [u8; 32],
    pub digest: u64,
    pub pending: u64,
    /// How many come in the parts.
    pub reservations: u64,
    pub options: u64,
}

/// Some of what a shard remembers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryPart {
    Reservations(Vec<Reservation>),
    /// All seats of one option, a byte each.
    Seats {
        option: u32,
        states: Vec<u8>,
    },
}

/// The end of a shard's chain.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub event_seq: u64,
    pub hash: [u8; 32],
}

/// Who has a seat in memory, and who in the mirror.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorDifference {
    pub option: u32,
    pub seat: u32,
    pub memory: Option<u64>,
    pub mirror: Option<u64>,
}

/// What memory said and what the ledger says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Difference {
    Reservation {
        id: u128,
        memory: Option<Box<Reservation>>,
        ledger: Option<Box<Reservation>>,
    },
    /// Status and version.
    Option {
        option: u32,
        memory: Option<(u8, u32)>,
        ledger: Option<(u8, u32)>,
    },
    Policy {
        concert: u64,
        memory: Option<Policy>,
        ledger: Option<Policy>,
    },
    Seat {
        option: u32,
        seat: u32,
        memory: u8,
        ledger: u8,
    },
    SoftLock {
        option: u32,
        seat: u32,
        user: u64,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub reservations_per_user: u32,
    pub gate: bool,
    pub version: u32,
}

/// Whose selections a node wants to hear of, since it last said so.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    pub come: Vec<u64>,
    pub gone: Vec<u64>,
}

/// What a user has selected in an option now.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mine {
    pub user: u64,
    pub option: u32,
    pub seats: Seats,
    pub expires_at: i64,
}

/// What a node has of an option's feed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub option: u32,
    pub epoch: u64,
    pub seq: u64,
}

/// Bytes that are no message of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no message of the data plane: {0}")]
pub struct NotAMessage(pub String);

fn config() -> impl Config {
    legacy().with_limit::<BYTES_MAX>()
}

/// A message without a head, for a body of its own.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, NotAMessage> {
    encode_to_vec(value, config()).map_err(|error| NotAMessage(error.to_string()))
}

/// Reads all of the bytes as one message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotAMessage> {
    let (value, read) = decode_from_slice(bytes, config()).map_err(|error| NotAMessage(error.to_string()))?;
    if read == bytes.len() { Ok(value) } else { Err(NotAMessage("bytes behind its end".to_owned())) }
}

/// Appends a message with its length in front.
pub fn frame(message: &[u8], to: &mut BytesMut) {
    let length = u32::try_from(message.len()).expect("messages are bounded");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(message);
}

/// Appends a value as a message with its length in front; nothing, where it cannot be written.
pub fn put<T: Serialize>(value: &T, to: &mut BytesMut) -> Result<(), NotAMessage> {
    frame(&encode(value)?, to);
    Ok(())
}

/// Cuts a stream of bytes into the messages that were framed.
#[derive(Debug, Default)]
pub struct Frames(BytesMut);

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message that is complete.
    ///
    /// # Errors
    /// It would be longer than any message.
    pub fn next(&mut self) -> Result<Option<Bytes>, NotAMessage> {
        let Some(head) = self.0.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > BYTES_MAX {
            return Err(NotAMessage(format!("{length} bytes, of at most {BYTES_MAX}")));
        }
        if self.0.len() < HEAD + length {
            return Ok(None);
        }
        self.0.advance(HEAD);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_of_a_stream_as_they_went_in() {
        let mut stream = BytesMut::new();
        let messages: [&[u8]; 3] = [b"one", b"", &[7; 1_000]];
        for message in messages {
            frame(message, &mut stream);
        }
        for step in [1, 2, 3, 500, stream.len()] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for chunk in stream.chunks(step) {
                frames.push(chunk);
                while let Some(message) = frames.next().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages, "in chunks of {step}");
        }
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(frames.next().is_err());
    }
}

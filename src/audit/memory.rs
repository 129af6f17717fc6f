//! A shard's memory, as a running server tells it (`GET /admin/v1/audit/memory?shard=N`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{ChainHead, OptionId, ReservationId, SeatState, ShardId};
use serde::Deserialize;

/// What is compared of a shard's memory. It must be taken *before* the ledger's snapshot, so that the
/// snapshot has every event that memory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMemory {
    pub shard: ShardId,
    /// Memory is the ledger up to this event, plus soft locks and what is pending.
    pub head: ChainHead,
    pub reservations: BTreeMap<ReservationId, Remembered>,
    /// The public state of every seat, in seat order.
    pub options: BTreeMap<OptionId, Vec<SeatState>>,
}

/// A reservation in memory, as far as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    pub kind: String,
    pub user_id: u64,
    pub option_id: u32,
    /// Ascending.
    pub seats: Vec<u32>,
    pub status: String,
    pub version: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    shard: u16,
    event_seq: u64,
    hash: String,
    reservations: Vec<ReservationBody>,
    options: Vec<OptionBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReservationBody {
    reservation_id: String,
    #[serde(flatten)]
    remembered: Remembered,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptionBody {
    option_id: u32,
    seat_count: usize,
    map: String,
}

impl ShardMemory {
    /// Reads a server's answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut reservations = BTreeMap::new();
        for ReservationBody { reservation_id, remembered } in body.reservations {
            let id = uuid::Uuid::parse_str(&reservation_id).map_err(|error| error.to_string())?;
            reservations.insert(ReservationId(id.as_u128()), remembered);
        }
        let mut options = BTreeMap::new();
        for OptionBody { option_id, seat_count, map } in body.options {
            let map = STANDARD.decode(map).map_err(|error| format!("option {option_id}: {error}"))?;
            if map.len() != seat_count.div_ceil(4) {
                return Err(format!("option {option_id}: {} bytes for {seat_count} seats", map.len()));
            }
            let state = |seat: usize| SeatState::from_bits(map[seat / 4] >> (2 * (seat % 4)));
            options.insert(OptionId(option_id), (0..seat_count).map(state).collect());
        }
        let hash = unhex(&body.hash).ok_or_else(|| format!("{:?} is no hash", body.hash))?;
        let head = ChainHead { event_seq: body.event_seq, hash };
        Ok(Self { shard: ShardId(body.shard), head, reservations, options })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != 32 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

//! What nodes say to each other of gates.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Join { user: u64 },
    Status { user: u64 },
    Leave { user: u64 },
    Heartbeats(Vec<u64>),
    Set { policy: Policy, by: u64 },
    Beacon { round: u64, value: Option<[u8; 32]> },
    Info,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    Standing {
        standing: Standing,
        durable: bool,
    },
    /// What there was to leave.
    Left {
        left: u8,
        durable: bool,
    },
    Heard,
    Set {
        changed: bool,
        row: Row,
    },
    /// Why a policy was refused.
    Refused(u8),
    NoSuchRound,
    Info {
        row: Option<Row>,
        load: Load,
        durable: bool,
    },
    Overloaded,
    LedgerUnavailable,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    Waiting {
        turn: u32,
        ahead: Option<u32>,
        /// Low and high, in microseconds.
        eta: Option<(i64, i64)>,
    },
    Active(Pass),
    Free,
    Rejected,
    Absent,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    pub id: u64,
    pub expires_at: i64,
    pub ends_at: i64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub state: u8,
    pub mode: u8,
    pub per_second: Option<u32>,
    pub max_active: Option<u32>,
    pub opens_at: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub concert: u64,
    pub version: u64,
    pub policy: Policy,
    pub changed_at: i64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub waiting: u64,
    pub passes: u64,
    pub admitted: u64,
    pub unmirrored: u64,
}

/// The concerts of whose gates a node wants to hear, since it last said so. Whose gate is in both begins anew.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    pub come: Vec<u64>,
    pub gone: Vec<u64>,
}

/// What a gate tells everybody who looks.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub concert: u64,
    pub news: News,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum News {
    View(Line),
    Tick(Line),
    Admitted { user: u64, pass: Pass, durable: bool },
    Ended { user: u64, pass: u64, why: u8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// As the engine writes it.
    pub tick: Bytes,
    /// Of each block that the tick names, one after the other, little-endian: `u16 n | n × u16 turn of the block` for up
    /// to 255 turns, ascending; and `u16 0xffff | 64 × u64` for more.
    pub bitmaps: Bytes,
    /// Turns per second, their variance, and how many seconds were counted.
    pub pace: Option<(f64, f64, u32)>,
    pub has_ranks: bool,
}

//! What nodes say to each other on the control plane.
//!
//! A node of the last version must understand this one. The bytes carry no names, so a type that has been released
//! stays as it is: what is new becomes a new variant at the end of its enum, and `tests` keeps the bytes.

use serde::{Deserialize, Serialize};

/// The oldest and the newest protocol that this build speaks.
pub const PROTOCOL: (u16, u16) = (1, 1);

/// Who a node is. The first thing that it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of the ledger.
    pub cluster_id: u128,
    pub protocol_min: u16,
    pub protocol_max: u16,
    /// `node.name`.
    pub node: String,
    /// Random per process start: the owner in leases.
    pub id: u128,
    /// Where clients reach it.
    pub public_url: String,
    /// `HOST:PORT` where peers reach it.
    pub peer_url: String,
    /// `HOST:PORT` where peers can knock at its listener for clients; empty where only its own machine can.
    pub public_door: String,
    /// The same of its listener for operators.
    pub ops_door: String,
    /// The version of the program, for people.
    pub build: String,
}

impl Hello {
    /// What this build says of a node with no door but its peer port. Without a `peer_url` the address that is listened
    /// on becomes it.
    #[must_use]
    pub fn new(cluster_id: u128, node: &str, id: u128, public_url: &str, peer_url: &str) -> Self {
        Self {
            cluster_id,
            protocol_min: PROTOCOL.0,
            protocol_max: PROTOCOL.1,
            node: node.to_owned(),
            id,
            public_url: public_url.to_owned(),
            peer_url: peer_url.to_owned(),
            public_door: String::new(),
            ops_door: String::new(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// How a node is, each second and whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Rises with every change: answers and news overtake each other.
    pub version: u64,
    /// Whether it gives its shards away and takes none.
    pub draining: bool,
    /// For how many milliseconds it has not reached the ledger; `None` while it does.
    pub ledger_away: Option<u64>,
    /// The shards it serves with their epochs, ascending.
    pub shards: Vec<(u16, u64)>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The id in the sender's [`Hello`].
    pub from: u128,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Answered with `Welcome` or `Refused`.
    Hello(Hello, Beat),
    /// Answered with `Beat` when asked.
    Beat(Beat),
    /// Answered with `Reply`, `Busy` or `Stranger`.
    Request(ControlRequest),
    /// Told, never answered.
    Hint(ControlHint),
    /// The sender has given back what it owned and ends. Answered with `Noted`.
    Farewell,
}

/// What an asked peer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Welcome(Hello, Beat),
    /// The peer wants nothing to do with the asker, and why, for people.
    Refused(Hello, String),
    Beat(Beat),
    Reply(ControlReply),
    /// Too much is asked at once; nothing was done.
    Busy,
    /// The asker has not been welcomed; nothing was done.
    Stranger,
    Noted,
    /// The bytes made no sense, and why; nothing was done.
    Unreadable(String),
}

/// What one node asks another to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Move a shard that you own to another node. Answered with the move.
    MoveShard {
        shard: u16,
        /// The other node's id.
        to: u128,
        /// What the move is called from now on.
        id: u128,
    },
    /// Move every shard that you own somewhere else, and take none. Answered with the moves that this takes.
    Drain,
    /// Which moves do you know of?
    MoveStatus,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// It will not be done, and why.
    Refused(Refusal),
    /// Those that have not ended first: what does not fit into a message is left out at the end.
    Moves(Vec<ShardMove>),
}

/// Why a shard is not moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Whoever was asked does not serve that shard.
    NotHere(u16),
    /// No node of that name or id is known there.
    NodeUnknown(String),
    NodeSilent(String),
    NodeDraining(String),
    /// The shard is on its way to the node of that name.
    Moving(u16, String),
    /// No other node takes shards.
    Nowhere,
}

/// A shard on its way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMove {
    pub id: u128,
    pub shard: u16,
    /// Their names.
    pub from: String,
    pub to: String,
    pub stage: Stage,
    /// In ledger time, in microseconds: when it came to that stage.
    pub since: i64,
    /// In microseconds, until it has ended.
    pub eta: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// For its turn.
    Waiting,
    Preparing,
    Moving,
    Done,
    /// And why, for people.
    Failed(String),
}

/// Something that a node had better know. It may be lost, and it may be old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlHint {
    RouteChanged(Route),
}

/// Who serves a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub shard: u16,
    pub epoch: u64,
    /// Its id.
    pub owner: u128,
    pub node: String,
    pub public_url: String,
    pub peer_url: String,
}

//! What an audit found.

use std::fmt::{self, Display, Formatter};

use engine::{ChainHead, OptionId, ReservationId, SeatNo, ShardId, UserId};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Events are missing, doubled or rewritten.
    Chain { shard: ShardId, event_seq: u64, what: String },
    /// An event that no rule allows after the events before it.
    Event { shard: ShardId, event_seq: u64, what: String },
    /// A seat given to a second reservation while the first still had it.
    SoldTwice {
        shard: ShardId,
        event_seq: u64,
        option: OptionId,
        seat: SeatNo,
        first: ReservationId,
        second: ReservationId,
    },
    /// A row of the ledger's tables of state is not what the events make of it. `None`: there is no row.
    Ledger { row: String, events: Option<String>, stored: Option<String> },
    /// A server's memory is not what the events make of it.
    Memory { shard: ShardId, what: String, events: Option<String>, memory: Option<String> },
    /// The mirror's copy of a soft lock is not what a server's memory says, for longer than its lag.
    Mirror { option: OptionId, seat: SeatNo, memory: Option<UserId>, mirror: Option<UserId> },
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_nothing = |said: &Option<String>| said.clone().unwrap_or_else(|| "nothing".to_owned());
        match self {
            Self::Chain { shard, event_seq, what } => write!(f, "chain    {shard}/{event_seq}: {what}"),
            Self::Event { shard, event_seq, what } => write!(f, "event    {shard}/{event_seq}: {what}"),
            Self::SoldTwice { shard, event_seq, option, seat, first, second } => write!(
                f,
                "event    {shard}/{event_seq}: seat {seat} of option {option} is sold to {second} while \
                 {first} has it"
            ),
            Self::Ledger { row, events, stored } => {
                write!(
                    f,
                    "ledger   {row}: events say {}; the row says {}",
                    or_nothing(events),
                    or_nothing(stored)
                )
            }
            Self::Memory { shard, what, events, memory } => write!(
                f,
                "memory   shard {shard}, {what}: events say {}; memory says {}",
                or_nothing(events),
                or_nothing(memory)
            ),
            Self::Mirror { option, seat, memory, mirror } => {
                let who = |user: &Option<UserId>| {
                    user.map_or_else(|| "nobody".to_owned(), |user| format!("user {user}"))
                };
                write!(
                    f,
                    "mirror   seat {seat} of option {option}: {} selects it in memory, {} in the mirror",
                    who(memory),
                    who(mirror)
                )
            }
        }
    }
}

/// Findings that are kept and printed; more are only counted.
const KEPT: usize = 1_000;

/// The outcome of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The newest event of every shard, as audited. Keep them: they commit to everything before.
    pub heads: Vec<(ShardId, ChainHead)>,
    pub events: u64,
    pub reservations: u64,
    /// Seats that belong to somebody.
    pub seats_taken: u64,
    /// Shards whose memory was compared.
    pub memories: usize,
    /// Soft locks of memory that were compared with the mirror; `None` where it was not.
    pub soft_locks: Option<usize>,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// All of them.
    pub finding_count: u64,
}

impl Report {
    /// Whether events, rows and memory agree.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.finding_count == 0
    }

    /// Takes in what a comparison of memory and mirror found, over so many soft locks.
    pub fn add_mirror(&mut self, soft_locks: usize, findings: Vec<Finding>) {
        self.soft_locks = Some(soft_locks);
        findings.into_iter().for_each(|finding| self.found(finding));
    }

    pub(super) fn found(&mut self, finding: Finding) {
        self.finding_count += 1;
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let unlisted = self.finding_count - self.findings.len() as u64;
        if unlisted > 0 {
            writeln!(f, "… and {unlisted} more")?;
        }
        writeln!(
            f,
            "{} events in {} shards, {} reservations, {} seats taken",
            self.events,
            self.heads.len(),
            self.reservations,
            self.seats_taken
        )?;
        match self.memories {
            0 => writeln!(f, "memory was not compared")?,
            1 => writeln!(f, "memory was compared in 1 shard")?,
            many => writeln!(f, "memory was compared in {many} shards")?,
        }
        match self.soft_locks {
            None => writeln!(f, "the mirror was not compared")?,
            Some(1) => writeln!(f, "the mirror was compared with 1 soft lock in memory")?,
            Some(many) => writeln!(f, "the mirror was compared with {many} soft locks in memory")?,
        }
        match self.finding_count {
            0 => write!(f, "no differences"),
            1 => write!(f, "1 DIFFERENCE"),
            many => write!(f, "{many} DIFFERENCES"),
        }
    }
}

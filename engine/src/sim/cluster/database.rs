//! The one ledger of all shards: lease rows, and behind each the shard's own rows and events.
//!
//! An append keeps its lease row locked from the check of the fence to its commit. Whatever changes the
//! row's owner waits for that, as the real statements do, and is judged when it gets the lock.

use std::collections::VecDeque;

use super::node::Incarnation;
use super::options::Canary;
use crate::entry::{ChainHead, Entry, Restored};
use crate::handoff;
use crate::ids::{EntryNo, Epoch, ShardId};
use crate::lease::{self, Terms};
use crate::settings::Settings;
use crate::sim::ledger::{self, Ledger};
use crate::sim::options as shard;
use crate::time::{Span, Time};

/// What a node asks the ledger.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Renew these, tell all rows and the time.
    Beat(Vec<(ShardId, Epoch)>),
    /// Take a free or expired shard. `sent_at`: by the node's idea of the ledger's time.
    Acquire {
        shard: ShardId,
        sent_at: Time,
    },
    /// Raise the epoch of a shard that is the node's already.
    AcquireAgain {
        shard: ShardId,
        mine: Epoch,
    },
    Load {
        shard: ShardId,
    },
    HandOver {
        shard: ShardId,
        epoch: Epoch,
        to: Incarnation,
    },
    TakeBack {
        shard: ShardId,
        epoch: Epoch,
    },
    ReadRow {
        shard: ShardId,
    },
    /// Renew a lease that a hand-over may have given to the node.
    RenewOne {
        shard: ShardId,
        epoch: Epoch,
    },
    Append {
        shard: ShardId,
        epoch: Epoch,
        entries: Vec<Entry>,
    },
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Said {
    Beat {
        still: Vec<ShardId>,
        rows: Vec<Seen>,
        time: Time,
    },
    Acquired(ShardId, Option<Epoch>),
    Loaded(ShardId, Box<Restored>),
    HandedOver(ShardId, handoff::Answer),
    TookBack(ShardId, handoff::Answer),
    Row(ShardId, Epoch, Option<Incarnation>),
    RenewedOne(ShardId, handoff::Answer),
    /// The entries are there up to `upto`, and the one after it was refused, or none.
    Appended {
        shard: ShardId,
        epoch: Epoch,
        upto: Option<(EntryNo, ChainHead)>,
        refused: Option<EntryNo>,
    },
    Fenced(ShardId, Epoch),
}

/// A lease row as a node reads it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub owner: Option<Incarnation>,
    pub expired: bool,
    pub past: lease::Row,
}

/// A question with whoever waits for its answer.
#[derive(Clone, Debug)]
pub struct Statement {
    pub from: Incarnation,
    pub no: u64,
    pub ask: Ask,
}

/// What becomes of a statement that arrived.
pub enum Verdict {
    Answer(Said),
    /// It has the lock, and commits in a while.
    Commits,
    /// It waits for the lock.
    Waits,
}

#[derive(Default)]
struct Row {
    epoch: Epoch,
    owner: Option<Incarnation>,
    expires_at: i64,
    locked: bool,
    waiting: VecDeque<Statement>,
}

/// The ledger.
pub struct Database {
    terms: Terms,
    settings: Settings,
    canary: Option<Canary>,
    rows: Vec<Row>,
    pub ledgers: Vec<Ledger>,
}

impl Database {
    #[must_use]
    pub fn new(shards: u16, terms: Terms, settings: Settings, canary: Option<Canary>) -> Self {
        let fenceless = canary == Some(Canary::FenceNotChecked);
        let ledger = || {
            let mut ledger = Ledger::default();
            ledger.canary = fenceless.then_some(shard::Canary::LedgerDoesNotFence);
            ledger
        };
        Self {
            terms,
            settings,
            canary,
            rows: (0..shards).map(|_| Row::default()).collect(),
            ledgers: (0..shards).map(|_| ledger()).collect(),
        }
    }

    /// Who has the shard, and in which epoch.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> (Epoch, Option<Incarnation>) {
        let row = &self.rows[usize::from(shard.0)];
        (row.epoch, row.owner)
    }

    /// Whether the lease of the shard has run out: then only the absence of everybody protects its owner.
    #[must_use]
    pub fn is_expired(&self, shard: ShardId, now: i64) -> bool {
        self.rows[usize::from(shard.0)].expires_at <= now
    }

    /// A statement arrives at `now`, or gets the lock it waited for.
    pub fn ask(&mut self, now: i64, statement: &Statement) -> Verdict {
        let from = statement.from;
        let shard = match &statement.ask {
            Ask::Beat(held) => return Verdict::Answer(self.beat(now, from, held)),
            Ask::Load { shard } => {
                let ledger = &self.ledgers[usize::from(shard.0)];
                let restored = ledger.load(Time(now), &self.settings);
                return Verdict::Answer(Said::Loaded(*shard, Box::new(restored)));
            }
            Ask::ReadRow { shard } => {
                let (epoch, owner) = self.owner(*shard);
                return Verdict::Answer(Said::Row(*shard, epoch, owner));
            }
            Ask::Append { shard, .. }
            | Ask::Acquire { shard, .. }
            | Ask::AcquireAgain { shard, .. }
            | Ask::HandOver { shard, .. }
            | Ask::TakeBack { shard, .. }
            | Ask::RenewOne { shard, .. } => *shard,
        };
        let row = &mut self.rows[usize::from(shard.0)];
        if row.locked && self.canary != Some(Canary::AcquireDoesNotWait) {
            row.waiting.push_back(statement.clone());
            return Verdict::Waits;
        }
        if let Ask::Append { epoch, .. } = statement.ask {
            let fenced = row.epoch != epoch || row.owner != Some(from);
            if fenced && self.canary != Some(Canary::FenceNotChecked) {
                return Verdict::Answer(Said::Fenced(shard, epoch));
            }
            row.locked = true;
            return Verdict::Commits;
        }
        Verdict::Answer(self.change(now, from, &statement.ask))
    }

    fn beat(&mut self, now: i64, from: Incarnation, held: &[(ShardId, Epoch)]) -> Said {
        let mut still = Vec::new();
        for (shard, epoch) in held {
            let row = &mut self.rows[usize::from(shard.0)];
            if (row.epoch, row.owner) == (*epoch, Some(from)) {
                row.expires_at = now + self.terms.ttl.0;
                still.push(*shard);
            }
        }
        let seen = |(shard, row): (u16, &Row)| Seen {
            shard: ShardId(shard),
            epoch: row.epoch,
            owner: row.owner,
            expired: row.expires_at <= now,
            past: if row.epoch == Epoch(0) { lease::Row::NeverOwned } else { lease::Row::Owned },
        };
        Said::Beat { still, rows: (0..).zip(&self.rows).map(seen).collect(), time: Time(now) }
    }

    /// A statement that changes a lease row under a condition.
    fn change(&mut self, now: i64, from: Incarnation, ask: &Ask) -> Said {
        match *ask {
            Ask::Acquire { shard, sent_at } => {
                let in_time = Time(now) < sent_at + Span::from_secs(1);
                let row = &self.rows[usize::from(shard.0)];
                let free = row.owner.is_none() || row.expires_at <= now;
                Said::Acquired(shard, (in_time && free).then(|| self.give(now, shard, from)))
            }
            Ask::AcquireAgain { shard, mine } => {
                let matches = self.owner(shard) == (mine, Some(from));
                Said::Acquired(shard, matches.then(|| self.give(now, shard, from)))
            }
            Ask::HandOver { shard, epoch, to } => {
                let answer = self.give_if(now, shard, epoch, from, to);
                Said::HandedOver(shard, answer)
            }
            Ask::TakeBack { shard, epoch } => {
                Said::TookBack(shard, self.give_if(now, shard, epoch, from, from))
            }
            Ask::RenewOne { shard, epoch } => {
                Said::RenewedOne(shard, self.renew_one(now, shard, epoch, from))
            }
            Ask::Beat(_) | Ask::Load { .. } | Ask::ReadRow { .. } | Ask::Append { .. } => {
                unreachable!("answered before")
            }
        }
    }

    fn renew_one(&mut self, now: i64, shard: ShardId, epoch: Epoch, from: Incarnation) -> handoff::Answer {
        let row = &mut self.rows[usize::from(shard.0)];
        if self.canary == Some(Canary::HandOverWithFreeWindow) && row.owner.is_none() {
            self.give(now, shard, from);
            return handoff::Answer::Row;
        }
        if (row.epoch, row.owner) != (epoch, Some(from)) {
            return handoff::Answer::NoRow;
        }
        row.expires_at = now + self.terms.ttl.0;
        handoff::Answer::Row
    }

    fn give_if(
        &mut self,
        now: i64,
        shard: ShardId,
        epoch: Epoch,
        from: Incarnation,
        to: Incarnation,
    ) -> handoff::Answer {
        if self.owner(shard) != (epoch, Some(from)) {
            return handoff::Answer::NoRow;
        }
        if self.canary == Some(Canary::HandOverWithFreeWindow) && from != to {
            self.rows[usize::from(shard.0)].owner = None;
            return handoff::Answer::Row;
        }
        self.give(now, shard, to);
        handoff::Answer::Row
    }

    /// A new epoch, with this owner. What the one before has in flight is fenced from now on.
    fn give(&mut self, now: i64, shard: ShardId, to: Incarnation) -> Epoch {
        let epoch = self.ledgers[usize::from(shard.0)].acquire();
        let row = &mut self.rows[usize::from(shard.0)];
        row.epoch = epoch;
        row.owner = Some(to);
        row.expires_at = now + self.terms.ttl.0;
        epoch
    }

    /// An append commits: `refuse` of its entries is refused, as a fault. Then whoever waits gets the lock.
    ///
    /// # Errors
    /// The ledger has another owner by now, or the entries contradict the rows: somebody has a bug.
    pub fn commit(
        &mut self,
        statement: &Statement,
        refuse: Option<usize>,
    ) -> Result<(Said, VecDeque<Statement>), String> {
        let Ask::Append { shard, epoch, entries } = &statement.ask else {
            unreachable!("only appends keep a lock")
        };
        let row = &mut self.rows[usize::from(shard.0)];
        row.locked = false;
        let waiting = std::mem::take(&mut row.waiting);
        if (row.epoch, row.owner) != (*epoch, Some(statement.from)) {
            return Err(format!(
                "{:?} writes to shard {shard} in epoch {epoch}, which is {:?}'s in epoch {}",
                statement.from, row.owner, row.epoch
            ));
        }
        let ledger = &mut self.ledgers[usize::from(shard.0)];
        let fresh = ledger.head_of(*epoch, entries.last().map_or(EntryNo(0), |entry| entry.no)).is_none();
        let refuse = refuse.filter(|_| fresh).map(|at| at % entries.len().max(1));
        let taken = refuse.unwrap_or(entries.len());
        match ledger.append(*epoch, &entries[..taken]) {
            ledger::Answer::Applied => {
                let last = entries[..taken].last().map(|entry| entry.no);
                let upto = last.and_then(|no| Some((no, ledger.head_of(*epoch, no)?)));
                let refused = entries.get(taken).map(|entry| entry.no).filter(|_| refuse.is_some());
                Ok((Said::Appended { shard: *shard, epoch: *epoch, upto, refused }, waiting))
            }
            answer => Err(format!("shard {shard}: the ledger does not take what memory allowed: {answer:?}")),
        }
    }
}

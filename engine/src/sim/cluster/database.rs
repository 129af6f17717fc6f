//! The one ledger of all shards: lease rows, and behind each the shard's own rows and events.
//!
//! An append keeps its lease row locked from the check of the fence to its commit. Whatever changes the
//! row's owner waits for that, as the real statements do, and is judged when it gets the lock.
//!
//! It may fail over to a standby, which is another timeline: every session ends, and what was not committed is
//! gone; behind a standby that was not synchronous, the last commits are gone too. A session remembers the
//! timeline that it met, and a statement of an older one only hears of the new.

use std::collections::{BTreeMap, VecDeque};

use super::node::Incarnation;
use super::options::Canary;
use crate::entry::{ChainHead, Entry, Restored};
use crate::handoff::{self, Attempt};
use crate::ids::{EntryNo, Epoch, ShardId};
use crate::lease::{Terms, Timeline};
use crate::settings::Settings;
use crate::sim::ledger::{self, Ledger};
use crate::sim::options as shard;
use crate::time::{Span, Time};

/// What a node asks the ledger.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Renew these, tell all rows and the time.
    Beat(Vec<(ShardId, Epoch)>),
    /// Take a free or expired shard, or one that is the node's by an epoch that is over. `sent_at`: by the node's
    /// idea of the ledger's time. `anew`: because of that.
    Acquire {
        shard: ShardId,
        sent_at: Time,
        anew: bool,
    },
    /// Take a shard from a process that is dead: where the row is just this, and no session of it is left.
    TakeFromDead {
        shard: ShardId,
        epoch: Epoch,
        owner: Incarnation,
        sent_at: Time,
    },
    /// Give the shard back.
    Release {
        shard: ShardId,
        epoch: Epoch,
    },
    /// Raise the epoch of a shard that is the node's already.
    AcquireAgain {
        shard: ShardId,
        mine: Epoch,
    },
    /// Everything of the shard; what is past the horizon at `at` may miss. `arrival`: for a move to here.
    Load {
        shard: ShardId,
        at: Time,
        arrival: Option<Attempt>,
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
    Released,
    /// The statement did nothing: the session had ended, and the new one meets another timeline.
    FailedOver(Timeline),
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
}

/// A question with whoever waits for its answer.
#[derive(Clone, Debug)]
pub struct Statement {
    pub from: Incarnation,
    pub no: u64,
    /// Of the session.
    pub timeline: Timeline,
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

#[derive(Clone, Default)]
struct Row {
    epoch: Epoch,
    owner: Option<Incarnation>,
    expires_at: i64,
    /// The epoch before the newest fail-over.
    before: Epoch,
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
    pub timeline: Timeline,
    /// Until when the ledger has sessions of each process.
    sessions: BTreeMap<Incarnation, i64>,
    /// What a standby that hears nothing any more has.
    standby: Option<(Vec<Row>, Vec<Ledger>)>,
    /// To whom each epoch was given, on whatever timeline.
    given: BTreeMap<(ShardId, Epoch), Incarnation>,
    /// An epoch was given twice.
    pub broken: Option<String>,
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
            timeline: Timeline(1),
            sessions: BTreeMap::new(),
            standby: None,
            given: BTreeMap::new(),
            broken: None,
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
        if statement.timeline != self.timeline && self.canary != Some(Canary::FailOverUnnoticed) {
            return Verdict::Answer(Said::FailedOver(self.timeline));
        }
        self.sessions.entry(from).or_insert(i64::MAX);
        let shard = match &statement.ask {
            Ask::Beat(held) => return Verdict::Answer(self.beat(now, from, held)),
            Ask::Load { shard, at, .. } => {
                let ledger = &self.ledgers[usize::from(shard.0)];
                let restored = ledger.load(*at, &self.settings);
                return Verdict::Answer(Said::Loaded(*shard, Box::new(restored)));
            }
            Ask::ReadRow { shard } => {
                let (epoch, owner) = self.owner(*shard);
                return Verdict::Answer(Said::Row(*shard, epoch, owner));
            }
            Ask::Append { shard, .. }
            | Ask::Acquire { shard, .. }
            | Ask::AcquireAgain { shard, .. }
            | Ask::TakeFromDead { shard, .. }
            | Ask::Release { shard, .. }
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
            if !self.is_mine(shard, epoch, from) && self.canary != Some(Canary::FenceNotChecked) {
                return Verdict::Answer(Said::Fenced(shard, epoch));
            }
            self.rows[usize::from(shard.0)].locked = true;
            return Verdict::Commits;
        }
        Verdict::Answer(self.change(now, from, &statement.ask))
    }

    /// Whether the row is the process's in that epoch, and the epoch is one of this timeline.
    fn is_mine(&self, shard: ShardId, epoch: Epoch, from: Incarnation) -> bool {
        self.owner(shard) == (epoch, Some(from)) && !self.is_over(shard, epoch)
    }

    fn is_over(&self, shard: ShardId, epoch: Epoch) -> bool {
        match self.canary {
            Some(Canary::FailOverUnnoticed) => false,
            Some(Canary::EpochsGivenAgain) => epoch <= self.rows[usize::from(shard.0)].before,
            _ => self.timeline.is_over(epoch),
        }
    }

    fn beat(&mut self, now: i64, from: Incarnation, held: &[(ShardId, Epoch)]) -> Said {
        let mut still = Vec::new();
        for (shard, epoch) in held {
            if self.is_mine(*shard, *epoch, from) {
                self.rows[usize::from(shard.0)].expires_at = now + self.terms.ttl.0;
                still.push(*shard);
            }
        }
        let seen = |(shard, row): (u16, &Row)| Seen {
            shard: ShardId(shard),
            epoch: row.epoch,
            owner: row.owner,
            expired: row.expires_at <= now,
        };
        Said::Beat { still, rows: (0..).zip(&self.rows).map(seen).collect(), time: Time(now) }
    }

    /// A statement that changes a lease row under a condition.
    fn change(&mut self, now: i64, from: Incarnation, ask: &Ask) -> Said {
        match *ask {
            Ask::Acquire { shard, sent_at, .. } => {
                let in_time = Time(now) < sent_at + Span::from_secs(1);
                let row = &self.rows[usize::from(shard.0)];
                let is_over = row.owner == Some(from) && self.is_over(shard, row.epoch);
                let free = row.owner.is_none() || row.expires_at <= now || is_over;
                Said::Acquired(shard, (in_time && free).then(|| self.take(now, shard, from)))
            }
            Ask::TakeFromDead { shard, epoch, owner, sent_at } => {
                let in_time = Time(now) < sent_at + Span::from_secs(1);
                let is_as_seen =
                    self.owner(shard) == (epoch, Some(owner)) || self.canary == Some(Canary::SeenNotCompared);
                let is_gone =
                    !self.has_session(owner, now) || self.canary == Some(Canary::SessionsNotCounted);
                let takes = in_time && is_as_seen && is_gone;
                Said::Acquired(shard, takes.then(|| self.take(now, shard, from)))
            }
            Ask::Release { shard, epoch } => {
                if self.owner(shard) == (epoch, Some(from)) {
                    self.rows[usize::from(shard.0)].owner = None;
                }
                Said::Released
            }
            Ask::AcquireAgain { shard, mine } => {
                Said::Acquired(shard, self.is_mine(shard, mine, from).then(|| self.give(now, shard, from)))
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
        let row = &self.rows[usize::from(shard.0)];
        if self.canary == Some(Canary::HandOverWithFreeWindow) && row.owner.is_none() {
            self.give(now, shard, from);
            return handoff::Answer::Row;
        }
        if !self.is_mine(shard, epoch, from) {
            return handoff::Answer::NoRow;
        }
        self.rows[usize::from(shard.0)].expires_at = now + self.terms.ttl.0;
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
        if !self.is_mine(shard, epoch, from) {
            return handoff::Answer::NoRow;
        }
        if self.canary == Some(Canary::HandOverWithFreeWindow) && from != to {
            self.rows[usize::from(shard.0)].owner = None;
            return handoff::Answer::Row;
        }
        self.give(now, shard, to);
        handoff::Answer::Row
    }

    /// A new owner, in an epoch of this timeline.
    fn take(&mut self, now: i64, shard: ShardId, to: Incarnation) -> Epoch {
        let again = self.canary == Some(Canary::EpochsGivenAgain);
        self.give_above(now, shard, to, if again { Epoch(0) } else { self.timeline.floor() })
    }

    fn give(&mut self, now: i64, shard: ShardId, to: Incarnation) -> Epoch {
        self.give_above(now, shard, to, Epoch(0))
    }

    /// A new epoch, with this owner. What the one before has in flight is fenced from now on.
    fn give_above(&mut self, now: i64, shard: ShardId, to: Incarnation, floor: Epoch) -> Epoch {
        let epoch = self.ledgers[usize::from(shard.0)].acquire_above(floor);
        if let Some(other) = self.given.insert((shard, epoch), to).filter(|other| *other != to) {
            self.broken =
                Some(format!("epoch {epoch} of shard {shard} was {other:?}'s, and is {to:?}'s now"));
        }
        let row = &mut self.rows[usize::from(shard.0)];
        row.epoch = epoch;
        row.owner = Some(to);
        row.expires_at = now + self.terms.ttl.0;
        epoch
    }

    /// Whether the ledger has a session of the process.
    fn has_session(&self, owner: Incarnation, now: i64) -> bool {
        self.sessions.get(&owner).is_some_and(|until| now < *until)
    }

    /// The process is gone, and at `at` the ledger knows.
    pub fn sessions_end(&mut self, owner: Incarnation, at: i64) {
        self.sessions.insert(owner, at);
    }

    /// The sessions of a process that lives are reset. It has new ones as soon as it gets through.
    pub fn sessions_reset(&mut self, owner: Incarnation) {
        self.sessions.remove(&owner);
    }

    /// From now on the standby hears nothing.
    pub fn falls_behind(&mut self) {
        self.standby = Some((self.rows.clone(), self.ledgers.clone()));
    }

    /// The standby takes over. Whether it lacks something that was committed.
    pub fn fail_over(&mut self) -> bool {
        self.timeline.0 += 1;
        // The living make new ones.
        self.sessions.retain(|_, until| *until != i64::MAX);
        let before: Vec<_> = self.tops();
        if let Some((rows, ledgers)) = self.standby.take() {
            (self.rows, self.ledgers) = (rows, ledgers);
        }
        for row in &mut self.rows {
            row.locked = false;
            row.waiting.clear();
            row.before = row.epoch;
        }
        before != self.tops()
    }

    /// How far each shard is: its lease and its newest event.
    fn tops(&self) -> Vec<(Epoch, Option<Incarnation>, u64)> {
        let rows = self.rows.iter().zip(&self.ledgers);
        rows.map(|(row, ledger)| (row.epoch, row.owner, ledger.head.event_seq)).collect()
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

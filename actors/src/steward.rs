//! Looks after which shards this node should have: reads the leases, takes what is free or a dead node's and this
//! node's by the even share, and gives away what is too much.
//!
//! Every node computes the same from the same leases and members, and where they see different things the ledger
//! decides: at worst a shard is wished by two, and one of them gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::placement;
use engine::route::{Learned, Routes};
use engine::{Epoch, ShardId, Time};
use ractor::ActorRef;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::leases::Leases;
use crate::lock::lock;
use crate::moves::Moves;
use crate::peers::{Member, Peers, Standing};
use crate::ports::{LeaseRow, Ledger, LedgerError, Owner};
use crate::restore::Claim;
use crate::supervisor::Message;

/// How often the leases are read while nothing calls for it.
const LOOK: Duration = Duration::from_millis(500);

/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who has which shard, as far as was read, and what was heard from others since. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hints(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    known: Mutex<Routes<Arc<Owner>>>,
    news: Mutex<Vec<(ShardId, Epoch, Owner)>>,
    wake: Notify,
}

impl Hints {
    /// Somebody says who has the shard, or that it is not who was believed to.
    pub fn tell(&self, shard: ShardId, owner: Option<(Epoch, Owner)>) {
        lock(&self.0.news).extend(owner.map(|(epoch, owner)| (shard, epoch, owner)));
        self.0.wake.notify_one();
    }

    /// This node has given the shard away.
    pub fn gave(&self, shard: ShardId, epoch: Epoch, to: Arc<Owner>) {
        lock(&self.0.known).heard(shard, epoch, to);
    }

    /// Whom to ask about a shard; it may be this node.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Option<(Epoch, Arc<Owner>)> {
        lock(&self.0.known).owner(shard).map(|(epoch, owner)| (epoch, owner.clone()))
    }
}

/// See the module. One for the whole process.
pub struct Steward {
    pub me: Owner,
    pub ledger: Arc<dyn Ledger>,
    pub peers: Arc<dyn Peers>,
    pub leases: Leases,
    pub supervisor: ActorRef<Message>,
    pub moves: Moves,
    pub hints: Hints,
    pub shards: u16,
    /// How long a lease lives without renewal.
    pub ttl: Duration,
    pub rebalance: Rebalance,
}

/// How shards are spread over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// How long the cluster must be as it is before shards are moved to even it out, and how long after that again.
    pub interval: Duration,
    /// Shards of this node that move at the same time.
    pub at_once: u16,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), at_once: 4 }
    }
}

/// What the steward remembers between two readings.
#[derive(Default)]
struct Memory {
    /// Since when shards that others should take are nobody's.
    orphans: BTreeMap<ShardId, Instant>,
    /// Which nodes may have shards, and since when it is these.
    takers: Vec<String>,
    /// What this node has, so that a shard which was moved here rests before it may be moved on.
    held: BTreeSet<ShardId>,
    same_since: Option<Instant>,
}

impl Steward {
    pub async fn run(self) {
        let mut members = self.peers.members();
        let mut memory = Memory::default();
        loop {
            if let Err(error) = self.look(&mut members, &mut memory).await {
                tracing::debug!(%error, "the leases were not read");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.hints.0.wake.notified() => {}
                () = self.moves.ended() => {}
                // Without others nothing changes; the sender lives as long as the peers.
                Ok(()) = members.changed() => {}
            }
        }
    }

    async fn look(
        &self,
        members: &mut watch::Receiver<Option<Arc<[Member]>>>,
        memory: &mut Memory,
    ) -> Result<(), LedgerError> {
        for (shard, epoch, owner) in std::mem::take(&mut *lock(&self.hints.0.news)) {
            self.learn(shard, |known| known.heard(shard, epoch, Arc::new(owner)));
        }
        let read = timeout(PATIENCE, self.ledger.leases()).await;
        let (now, rows) =
            read.unwrap_or_else(|_| Err(LedgerError::Unavailable(format!("no answer in {PATIENCE:?}"))))?;
        // Until the others have been looked for, this node would take what is theirs.
        let Some(members) = members.borrow_and_update().clone() else { return Ok(()) };
        let by_shard: BTreeMap<ShardId, &LeaseRow> = rows.iter().map(|row| (row.shard, row)).collect();
        let row = |shard| by_shard.get(&ShardId(shard)).copied();
        let seen: Vec<Seen<'_>> = (0..self.shards).map(|shard| self.see(row(shard), now, &members)).collect();
        self.learn_all(&seen);
        let takers = self.takers(&members);
        memory.note(&takers, self.leases.held().into_iter().map(|(shard, _)| shard).collect());
        self.take(&seen, &takers, memory);
        self.give(&seen, &takers, memory);
        Ok(())
    }

    fn see<'a>(&self, row: Option<&'a LeaseRow>, now: Time, members: &[Member]) -> Seen<'a> {
        let Some(row) = row else { return Seen::Never };
        if row.is_released {
            return Seen::Free(row);
        }
        let is = |standing| {
            members.iter().any(|member| member.owner.id == row.owner.id && member.standing == standing)
        };
        if row.expires_at <= now && row.owner.id != self.me.id {
            let owner_is_up = is(Standing::Up);
            return Seen::Expired { row, owner_is_up };
        }
        if is(Standing::Dead) { Seen::Dead(row) } else { Seen::Owned(row) }
    }

    fn learn_all(&self, seen: &[Seen<'_>]) {
        for (shard, seen) in (0..).map(ShardId).zip(seen) {
            self.learn(shard, |known| match seen {
                Seen::Never => Learned::Known,
                Seen::Owned(row) | Seen::Expired { row, owner_is_up: true } => {
                    known.read(shard, row.epoch, Arc::new(row.owner.clone()))
                }
                Seen::Free(row) | Seen::Expired { row, owner_is_up: false } | Seen::Dead(row) => {
                    known.ended(shard, row.epoch)
                }
            });
        }
    }

    fn learn(&self, shard: ShardId, learn: impl FnOnce(&mut Routes<Arc<Owner>>) -> Learned) {
        if learn(&mut lock(&self.hints.0.known)) == Learned::News {
            // The supervisor outlives this task.
            let _lives = self.supervisor.send_message(Message::Rerouted(shard));
        }
    }

    /// The names of the nodes that may have shards.
    fn takers(&self, members: &[Member]) -> Vec<String> {
        let others = members.iter().filter(|member| member.takes_shards());
        let mut takers: Vec<String> = others.map(|member| member.owner.node.clone()).collect();
        if !self.moves.is_draining() {
            takers.push(self.me.node.clone());
        }
        takers.sort_unstable();
        takers.dedup();
        takers
    }

    /// Takes what is nobody's, and this node's by the even share or for long nobody's at all.
    fn take(&self, seen: &[Seen<'_>], takers: &[String], memory: &mut Memory) {
        let names: Vec<&str> = takers.iter().map(String::as_str).collect();
        if !names.contains(&self.me.node.as_str()) {
            return;
        }
        let owners: Vec<Option<&str>> = seen.iter().map(Seen::owner).collect();
        let adopted = placement::adopt(&owners, &names, &self.me.node);
        let held = self.leases.held();
        for (shard, seen) in (0..).map(ShardId).zip(seen) {
            let claim = match seen {
                Seen::Owned(row) => {
                    // It was given to this node, or an acquire whose answer was lost.
                    if row.owner.id != self.me.id || held.contains(&(shard, row.epoch)) {
                        memory.orphans.remove(&shard);
                    } else if memory.is_old_orphan(shard, LOOK) {
                        self.claim(shard, Claim::Mine(row.epoch));
                    }
                    continue;
                }
                Seen::Never | Seen::Free(_) => Claim::Free,
                Seen::Expired { .. } | Seen::Dead(_) if !self.leases.may_take() => continue,
                Seen::Expired { .. } => Claim::Free,
                Seen::Dead(row) => Claim::FromDead(row.epoch, row.owner.id),
            };
            if adopted.contains(&shard) || memory.is_old_orphan(shard, self.ttl) {
                self.claim(shard, claim);
            }
        }
    }

    fn claim(&self, shard: ShardId, claim: Claim) {
        let _lives = self.supervisor.send_message(Message::Take(shard, claim));
    }

    /// Gives away what is too much: everything while this node drains, and otherwise what evens the cluster out
    /// once it has been the same for a while.
    fn give(&self, seen: &[Seen<'_>], takers: &[String], memory: &mut Memory) {
        let is_draining = self.moves.is_draining();
        if memory.same_since.is_some_and(|since| self.moves.has_failed_since(since)) {
            // Whatever it was, it is not tried again and again.
            memory.same_since = Some(Instant::now());
        }
        let rests = memory.same_since.is_none_or(|since| since.elapsed() < self.rebalance.interval);
        if !is_draining && rests {
            return;
        }
        let names: Vec<&str> = takers.iter().map(String::as_str).collect();
        let owners: Vec<Option<&str>> = seen.iter().map(Seen::owner).collect();
        let moving = self.moves.moving();
        let is_next = |wish: &placement::Move| wish.from == self.me.node && !moving.contains(&wish.shard);
        let mine = placement::plan(&owners, &names).into_iter().filter(is_next);
        let room = usize::from(self.rebalance.at_once).saturating_sub(moving.len());
        for wish in mine.take(room) {
            if let Err(error) = self.moves.begin(wish.shard, &wish.to) {
                tracing::debug!(%error, "a shard that should move does not");
            }
        }
    }
}

/// A shard's lease, judged.
enum Seen<'a> {
    Never,
    Free(&'a LeaseRow),
    /// Its owner may be up: when the ledger comes back, it renews a moment later than others read, and clicks have
    /// gone on there.
    Expired {
        row: &'a LeaseRow,
        owner_is_up: bool,
    },
    Dead(&'a LeaseRow),
    Owned(&'a LeaseRow),
}

impl Seen<'_> {
    /// The name of the node that has it.
    fn owner(&self) -> Option<&str> {
        match self {
            Seen::Owned(row) => Some(&row.owner.node),
            Seen::Never | Seen::Free(_) | Seen::Expired { .. } | Seen::Dead(_) => None,
        }
    }
}

impl Memory {
    fn note(&mut self, takers: &[String], held: BTreeSet<ShardId>) {
        let has_more = !held.is_subset(&self.held);
        self.held = held;
        if self.takers != takers || has_more || self.same_since.is_none() {
            self.takers = takers.to_vec();
            self.same_since = Some(Instant::now());
        }
    }

    /// Whether the shard has been waiting for so long.
    fn is_old_orphan(&mut self, shard: ShardId, patience: Duration) -> bool {
        self.orphans.entry(shard).or_insert_with(Instant::now).elapsed() >= patience
    }
}

//! What must be true of a cluster whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Incarnation, Place};
use super::world::World;
use crate::effect::{Effects, Input};
use crate::entry::ChainHead;
use crate::handoff::Attempt;
use crate::ids::{Epoch, ReplyTo, ReservationId, ShardId, UserId};
use crate::outcome::{Granted, Outcome};
use crate::placement;
use crate::shard::Shard;
use crate::sim::auditor::{Auditor, Verdict};
use crate::sim::ledger::Ledger;
use crate::time::Time;

/// What the clients of the whole cluster have seen.
#[derive(Default)]
pub struct Audit {
    /// In which order commands were sent.
    sent: BTreeMap<(ShardId, ReplyTo), usize>,
    /// The newest command of each session that any node has decided.
    decided: BTreeMap<(ShardId, UserId), (usize, ReplyTo)>,
    /// Commands whose client was told that nobody knows what became of them.
    given_up: BTreeSet<(ShardId, ReplyTo)>,
    /// The newest version of each reservation that a client was told of.
    told: BTreeMap<(ShardId, ReservationId), u32>,
    /// Heads that somebody kept before a fail-over, and whether their events are lost.
    kept: Vec<(ShardId, ChainHead, bool)>,
    /// Shards as they were when they left, to be compared with what arrives.
    left: BTreeMap<(ShardId, Attempt), Shard>,
}

impl Audit {
    /// A client sends a command on its session.
    pub fn sends(&mut self, shard: ShardId, reply: ReplyTo) {
        let count = self.sent.len() + 1;
        self.sent.insert((shard, reply), count);
    }

    /// A client is told that nobody knows what becomes of its command.
    pub fn give_up(&mut self, shard: ShardId, reply: ReplyTo) {
        self.given_up.insert((shard, reply));
    }

    /// A client was answered. Behind a fail-over it may be told what is lost by then.
    pub fn told(&mut self, shard: ShardId, outcome: &Outcome, ledger: &Ledger) {
        if let Outcome::Granted(Granted::Reserved { reservation, .. }) = outcome {
            let is_there = has(ledger, reservation.id, reservation.version);
            if !is_there && self.has_lost(shard) {
                return;
            }
            let version = self.told.entry((shard, reservation.id)).or_default();
            *version = reservation.version.max(*version);
        }
    }

    /// The ledger of a shard goes on behind its standby's last event, which may be older than `head`.
    pub fn failed_over(&mut self, shard: ShardId, head: ChainHead, ledger: &Ledger) {
        self.kept.push((shard, head, false));
        for (_, head, lost) in self.kept.iter_mut().filter(|(of, ..)| *of == shard) {
            *lost |= head.event_seq > ledger.head.event_seq;
        }
        if self.has_lost(shard) {
            self.told.retain(|(of, id), version| *of != shard || has(ledger, *id, *version));
        }
    }

    fn has_lost(&self, shard: ShardId) -> bool {
        self.kept.iter().any(|(of, _, lost)| *of == shard && *lost)
    }

    /// A shard is about to move.
    pub fn leaves(&mut self, attempt: Attempt, shard: &Shard) {
        self.left.insert((shard.id(), attempt), shard.clone());
    }

    /// Somebody decides a session's command: none that came after it was decided before, unless this one's
    /// client has given it up.
    fn decides(&mut self, shard: ShardId, user: UserId, reply: ReplyTo) -> Verdict {
        if self.given_up.contains(&(shard, reply)) {
            return Ok(());
        }
        let Some(sent) = self.sent.get(&(shard, reply)) else {
            return Err(format!("shard {shard}: command {reply} was never sent"));
        };
        let newest = self.decided.entry((shard, user)).or_default();
        if newest.0 >= *sent {
            let newest = newest.1;
            return Err(format!("shard {shard}: user {user}'s command {reply} is decided after {newest}"));
        }
        *newest = (*sent, reply);
        Ok(())
    }
}

/// Whether the ledger has a version of a reservation, or a later one.
fn has(ledger: &Ledger, id: ReservationId, version: u32) -> bool {
    ledger.reservations.get(&id).is_some_and(|row| row.version >= version)
}

impl World<'_> {
    /// The rule of leases: whoever decides a command is the owner at that very moment of true time.
    pub(super) fn check_decides(
        &mut self,
        me: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        command: Option<(UserId, ReplyTo)>,
    ) -> Verdict {
        let (current, owner) = self.database.owner(shard);
        let is_forgotten =
            self.now < self.lossy_until && self.nodes[me.node].timeline < self.database.timeline;
        if is_forgotten {
            self.coverage.count("cluster", "DECIDED BEFORE IT KNEW");
        } else if (current, owner) != (epoch, Some(me)) {
            return Err(format!(
                "{me:?} decides for shard {shard} in epoch {epoch}, which is {owner:?}'s in epoch {current}"
            ));
        }
        command.map_or(Ok(()), |(user, reply)| self.audit.decides(shard, user, reply))
    }

    /// Whether the ledger says that the shard is the node's, and the node knows which ledger says so.
    pub(super) fn is_current(&self, me: Incarnation, shard: ShardId, epoch: Epoch) -> bool {
        let knows = self.nodes[me.node].timeline == self.database.timeline;
        knows && self.database.owner(shard) == (epoch, Some(me))
    }

    /// The shard that came by a move is the one that left, and stands where the ledger stands.
    pub(super) fn check_moved(&mut self, attempt: Attempt, arrived: &Shard) -> Verdict {
        let id = arrived.id();
        let left = self.audit.left.remove(&(id, attempt));
        let mut left = left.ok_or_else(|| format!("shard {id} arrives and never left"))?;
        let mut arrived = arrived.clone();
        let now = left.now().max(arrived.now());
        // Both forget what is over at the same moment.
        for shard in [&mut left, &mut arrived] {
            shard.step(now, Input::Tick, &mut Effects::new());
        }
        let head = self.database.ledgers[usize::from(id.0)].head;
        let is_same = (left.digest(), left.carry()) == (arrived.digest(), arrived.carry());
        if is_same && arrived.head() == head {
            return Ok(());
        }
        let state = |shard: &Shard| {
            (shard.head().event_seq, shard.carry(), shard.reservations().cloned().collect::<Vec<_>>())
        };
        Err(format!(
            "shard {id} changes while it moves, the ledger at {}\n  left:    {:?}\n  arrived: {:?}",
            head.event_seq,
            state(&left),
            state(&arrived)
        ))
    }

    /// Everybody lives and the wires are whole: one owner each, evenly spread, and the routes lead there.
    pub(super) fn check_settled(&mut self) -> Verdict {
        let names: Vec<String> = (0..self.options.nodes).map(|node| format!("node-{node}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut owners = Vec::new();
        for shard in (0..self.options.shards).map(ShardId) {
            let (epoch, owner) = self.database.owner(shard);
            let up = |node: &&super::node::Node| matches!(node.places.get(&shard), Some(Place::Up(actor)) if actor.departure.is_none());
            let serving: Vec<_> = self.nodes.iter().filter(up).map(|node| node.me).collect();
            if serving.iter().map(|me| Some(*me)).ne([owner]) {
                return Err(format!("shard {shard} is {owner:?}'s, and served by {serving:?}"));
            }
            for node in &self.nodes {
                let route = node.routes.owner(shard).map(|(epoch, owner)| (epoch, *owner));
                if route != owner.map(|owner| (epoch, owner.node)) {
                    return Err(format!("{:?} believes {route:?} of shard {shard}", node.me));
                }
            }
            owners.push(owner.map(|owner| names[owner.node]));
        }
        let moves = placement::plan(&owners, &names);
        if !moves.is_empty() {
            return Err(format!("the shards are not spread: {owners:?} wants {moves:?}"));
        }
        Ok(())
    }

    pub(super) fn check_rest(&mut self) -> Verdict {
        self.check_settled()?;
        for ((shard, user), session) in &self.sessions {
            if !session.is_idle() {
                return Err(format!("shard {shard}: user {user} is never answered: {session:?}"));
            }
        }
        for shard in (0..self.options.shards).map(ShardId) {
            self.check_shard_rest(shard)?;
        }
        for ((shard, id), version) in &self.audit.told {
            let ledger = &self.database.ledgers[usize::from(shard.0)];
            if !has(ledger, *id, *version) {
                let row = ledger.reservations.get(id);
                return Err(format!("a client was told version {version} of {id}, the ledger has {row:?}"));
            }
        }
        for (shard, head, lost) in &self.audit.kept {
            if self.database.ledgers[usize::from(shard.0)].holds(*head) == *lost {
                return Err(format!(
                    "shard {shard}: event {} is lost: {lost}, and the chain hides it",
                    head.event_seq
                ));
            }
        }
        Ok(())
    }

    fn check_shard_rest(&mut self, shard: ShardId) -> Verdict {
        let ledger = &self.database.ledgers[usize::from(shard.0)];
        Auditor::check_ledger(ledger)?;
        let Some(owner) = self.database.owner(shard).1 else { return Err("no owner".to_owned()) };
        let Some(actor) = self.nodes[owner.node].actor(shard) else { return Err("no actor".to_owned()) };
        let load = actor.shard.load();
        let rest = [load.soft_locks, load.holds, load.pending, load.answered_keys, actor.waiting.len()];
        if rest != [0; 5] || !actor.writer.is_idle() || !actor.pipe.is_drained() {
            return Err(format!("shard {shard} never comes to rest: {load:?}"));
        }
        for (id, row) in &self.database.ledgers[usize::from(shard.0)].reservations {
            if !row.is_ended() && actor.shard.reservation(*id) != Some(row) {
                return Err(format!("the ledger has {row:?}, memory {:?}", actor.shard.reservation(*id)));
            }
        }
        let locks = self.mirrors[usize::from(shard.0)].live(Time(self.now));
        if locks.is_empty() { Ok(()) } else { Err(format!("the mirror still has {locks:?}")) }
    }
}

//! What must be true of a cluster whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Incarnation, Place};
use super::world::World;
use crate::effect::Effects;
use crate::effect::Input;
use crate::ids::{Epoch, ReplyTo, ReservationId, ShardId, UserId};
use crate::outcome::{Granted, Outcome};
use crate::placement;
use crate::shard::Shard;
use crate::sim::auditor::{Auditor, Verdict};
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

    /// A client was answered.
    pub fn told(&mut self, shard: ShardId, outcome: &Outcome) {
        if let Outcome::Granted(Granted::Reserved { reservation, .. }) = outcome {
            let version = self.told.entry((shard, reservation.id)).or_default();
            *version = reservation.version.max(*version);
        }
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
        if (current, owner) != (epoch, Some(me)) {
            return Err(format!(
                "{me:?} decides for shard {shard} in epoch {epoch}, which is {owner:?}'s in epoch {current}"
            ));
        }
        command.map_or(Ok(()), |(user, reply)| self.audit.decides(shard, user, reply))
    }

    /// A state that came by a move is what a restore from the ledger would give.
    pub(super) fn check_moved(&self, shard: ShardId, moved: &Shard, now: Time) -> Verdict {
        let mut restored = self.database.ledgers[usize::from(shard.0)].load(now, &self.options.settings);
        restored.soft_locks = moved.options().flat_map(|view| moved.soft_locks(view.option)).collect();
        let mut again = Shard::new(shard, moved.epoch(), self.options.settings);
        again.restore(now, restored).map_err(|error| format!("shard {shard}: {error}"))?;
        // Both forget what is past the horizon of the same moment.
        let mut copy = Shard::new(shard, moved.epoch(), self.options.settings);
        let state = moved.copy().ok_or("a shard that has just arrived is not quiet")?;
        copy.restore(now, state).map_err(|error| format!("shard {shard}: {error}"))?;
        for shard in [&mut again, &mut copy] {
            shard.step(now, Input::Tick, &mut Effects::new());
        }
        if again.digest() == copy.digest() {
            return Ok(());
        }
        let rows = |shard: &Shard| shard.reservations().cloned().collect::<Vec<_>>();
        Err(format!(
            "shard {shard}: what was moved is not what the ledger has\n  moved:  {:?}\n  ledger: {:?}",
            rows(&copy),
            rows(&again)
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
            let row = self.database.ledgers[usize::from(shard.0)].reservations.get(id);
            if row.is_none_or(|row| row.version < *version) {
                return Err(format!("a client was told version {version} of {id}, the ledger has {row:?}"));
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
        let locks = self.mirrors[usize::from(shard.0)].live(actor.shard_now);
        if locks.is_empty() { Ok(()) } else { Err(format!("the mirror still has {locks:?}")) }
    }
}

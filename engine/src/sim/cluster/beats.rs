//! Heartbeats: leases are renewed, the ledger's clock is sampled, rows become routes, and whoever is on
//! good terms with the ledger takes what nobody has and gives away what it has too much of.

use super::database::{Ask, Said, Seen};
use super::event::{Event, Message};
use super::node::{Incarnation, Place};
use super::options::Canary;
use super::world::World;
use crate::handoff::{Arrived, Heard, Notice};
use crate::ids::{Epoch, ShardId};
use crate::lease::{Report, Row};
use crate::placement;
use crate::sim::auditor::Verdict;
use crate::time::{Moment, Span, Time};

/// A node that was not heard of for so long is not wished any shards.
const SILENT_AFTER: Span = Span::from_secs(4);

/// An acquire that has no answer after this long can no longer happen: the ledger refuses statements that
/// come a second late.
const ACQUIRE_OVER: Span = Span::from_secs(3);

impl World<'_> {
    pub(super) fn beat(&mut self, me: Incarnation) {
        self.tell_all(me, &Message::Hello);
        let held = self.nodes[me.node].leases.held();
        let no = self.ask(me, Ask::Beat(held));
        self.nodes[me.node].beat = Some(no);
    }

    pub(super) fn said(&mut self, me: Incarnation, no: u64, said: Said) -> Verdict {
        let Some((sent, ask)) = self.nodes[me.node].asked.remove(&no) else { return Ok(()) };
        match (said, ask) {
            (Said::Beat { still, rows, time }, Ask::Beat(asked)) => {
                // An answer that comes after nobody waited for it is no heartbeat.
                if self.nodes[me.node].beat.take_if(|beat| *beat == no).is_some() {
                    self.beaten(me, sent, &asked, &still, time)?;
                    self.keep_house(me, &rows)?;
                }
                Ok(())
            }
            (Said::Acquired(shard, epoch), ask) => {
                let newest = self.nodes[me.node].newest_acquire.get(&shard) == Some(&no);
                if newest { self.acquired(me, sent, shard, epoch, &ask) } else { Ok(()) }
            }
            (Said::Loaded(shard, restored), _) => self.loaded(me, shard, *restored),
            (Said::HandedOver(shard, answer), Ask::HandOver { epoch, .. }) => {
                self.departs(me, shard, epoch, Heard::HandedOver(answer))
            }
            (Said::TookBack(shard, answer), Ask::TakeBack { epoch, .. }) => {
                self.departs(me, shard, epoch, Heard::TookBack(answer))
            }
            (Said::Row(shard, epoch, owner), _) => self.row_read(me, shard, epoch, owner),
            (Said::RenewedOne(shard, answer), Ask::RenewOne { epoch, .. }) => {
                self.renewed_one(me, sent, shard, epoch, answer)
            }
            (Said::Appended { shard, epoch, upto, refused }, _) => {
                self.appended(me, shard, epoch, upto, refused)
            }
            (Said::Fenced(shard, epoch), _) => self.fenced(me, shard, epoch),
            (said, ask) => unreachable!("{said:?} does not answer {ask:?}"),
        }
    }

    /// Nobody has answered in time. The answer may still come.
    pub(super) fn timed_out(&mut self, me: Incarnation, no: u64) -> Verdict {
        let Some((_, ask)) = self.nodes[me.node].asked.get(&no).cloned() else { return Ok(()) };
        match ask {
            Ask::Beat(_) => {
                self.nodes[me.node].beat = None;
                self.not_beaten(me);
            }
            Ask::AcquireAgain { shard, .. } => self.raise(me, shard),
            Ask::Load { shard } => self.load(me, shard),
            Ask::Append { shard, epoch, .. } => self.write_again(me, shard, epoch),
            // The machines ask again by themselves, and an acquire is asked again by the next heartbeat.
            Ask::Acquire { .. }
            | Ask::HandOver { .. }
            | Ask::TakeBack { .. }
            | Ask::ReadRow { .. }
            | Ask::RenewOne { .. } => {}
        }
        Ok(())
    }

    fn beaten(
        &mut self,
        me: Incarnation,
        sent: Moment,
        asked: &[(ShardId, Epoch)],
        still: &[ShardId],
        time: Time,
    ) -> Verdict {
        let terms = self.options.terms;
        let counted_from_the_answer = self.is(Canary::DeadlineFromTheAnswer);
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.clock.sample(sent, now, time);
        node.heartbeats.answered(now, &terms);
        let back = node.reach.answered().is_some();
        let from = if counted_from_the_answer { now + terms.margin } else { sent };
        let renewed = node.leases.renewed(from, asked, still);
        self.go_on(me);
        if back {
            self.tell_all(me, &Message::TheLedger { asked: None, away: false });
        }
        for (shard, epoch) in renewed.lost {
            self.coverage.count("cluster", "LEASE LOST");
            self.lost(me, shard, epoch)?;
        }
        self.schedule_moment(me, sent + terms.renew, Event::Beat(me));
        Ok(())
    }

    fn not_beaten(&mut self, me: Incarnation) {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.heartbeats.failed();
        node.reach.failed(now);
        self.tell_all(me, &Message::HowIsTheLedger(now));
        if self.is(Canary::SilenceIsAway) {
            for peer in 0..self.options.nodes - 1 {
                self.nodes[me.node].reach.told(peer, Report::Away(now));
            }
        }
        self.go_on(me);
        let pause = Span(self.options.terms.renew.0 / 10);
        self.schedule_moment(me, now + pause, Event::Beat(me));
    }

    pub(super) fn ledger_asked(&mut self, me: Incarnation, from: Incarnation, asked: Moment) {
        let away = self.nodes[me.node].reach.away_since().is_some();
        self.tell(me, from.node, Message::TheLedger { asked: Some(asked), away });
    }

    pub(super) fn ledger_told(
        &mut self,
        me: Incarnation,
        from: Incarnation,
        asked: Option<Moment>,
        away: bool,
    ) {
        let report = match asked {
            Some(asked) if away => Report::Away(asked),
            _ => Report::Reaches,
        };
        let node = &mut self.nodes[me.node];
        let peer = node.peer(from.node);
        node.reach.told(peer, report);
        self.go_on(me);
    }

    /// Leases go on, or do not, by what is known of the ledger now.
    fn go_on(&mut self, me: Incarnation) {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.leases.go_on(now, &node.reach);
    }

    /// What the rows say: who is where, what nobody has, what should move.
    fn keep_house(&mut self, me: Incarnation, rows: &[Seen]) -> Verdict {
        for row in rows {
            if let Some(owner) = row.owner.filter(|_| !row.expired) {
                self.learn(me, row.shard, row.epoch, owner.node)?;
            }
            let orphan = row.owner == Some(me) && !self.knows_of(me, row.shard);
            if orphan {
                self.coverage.count("cluster", "ORPHAN");
                self.ask_for_shard(me, row.shard, Ask::AcquireAgain { shard: row.shard, mine: row.epoch });
            }
        }
        let names: Vec<String> = (0..self.options.nodes).map(|node| format!("node-{node}")).collect();
        let owner = |row: &Seen| row.owner.filter(|_| !row.expired).map(|owner| names[owner.node].as_str());
        let owners: Vec<Option<&str>> = rows.iter().map(owner).collect();
        let live: Vec<&str> = self.live(me).into_iter().map(|node| names[node].as_str()).collect();
        for shard in placement::adopt(&owners, &live, &names[me.node]) {
            self.acquire(me, shard, rows[usize::from(shard.0)].past)?;
        }
        let busy = self.nodes[me.node]
            .places
            .values()
            .any(|place| matches!(place, Place::Up(actor) if actor.departure.is_some()));
        let wished = placement::plan(&owners, &live);
        let mine = wished.into_iter().find(|wish| wish.from == names[me.node]);
        if let Some(wish) = mine.filter(|_| !busy) {
            let target = names.iter().position(|name| *name == wish.to).unwrap_or(me.node);
            self.begin_move(me, wish.shard, target)?;
        }
        Ok(())
    }

    pub(super) fn learn(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch, owner: usize) -> Verdict {
        let learned = self.nodes[me.node].routes.learn(shard, epoch, owner);
        // With the canary a hand-over is a release, and the row's epoch stays.
        learned.map(|_| ()).map_err(|bug| bug.to_string())
    }

    /// Whether the node has the shard, or is about to.
    fn knows_of(&mut self, me: Incarnation, shard: ShardId) -> bool {
        self.forget_acquires(me);
        let node = &self.nodes[me.node];
        let landing = node.landings.get(&shard);
        let holds = landing.is_some_and(|landing| matches!(landing.arrival.arrived(), Arrived::Holding(_)));
        node.places.contains_key(&shard) || node.acquiring.contains_key(&shard) || holds
    }

    pub(super) fn forget_acquires(&mut self, me: Incarnation) {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.acquiring.retain(|_, sent| now.since(*sent) < ACQUIRE_OVER);
    }

    fn live(&self, me: Incarnation) -> Vec<usize> {
        let node = &self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let heard = |other: &usize| node.heard[*other].is_some_and(|at| now.since(at) < SILENT_AFTER);
        (0..self.nodes.len()).filter(|other| *other == me.node || heard(other)).collect()
    }

    fn acquire(&mut self, me: Incarnation, shard: ShardId, past: Row) -> Verdict {
        let at_once = self.is(Canary::AcquireAtOnce);
        let node = &self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let may = at_once || node.heartbeats.may_acquire(past, now, &self.options.terms);
        if !may || self.knows_of(me, shard) && !self.is(Canary::StaleStateServed) {
            return Ok(());
        }
        self.acquire_now(me, shard)
    }

    fn acquire_now(&mut self, me: Incarnation, shard: ShardId) -> Verdict {
        let now = self.nodes[me.node].clock.moment(self.now);
        if !self.is(Canary::StaleStateServed)
            && let Some(mut landing) = self.nodes[me.node].landings.remove(&shard)
        {
            landing.arrival.hear(now, Notice::Acquiring, &mut Vec::new());
            self.not_mine(me, shard, landing.parked)?;
        }
        let sent_at = self.nodes[me.node].clock.time(self.now);
        self.ask_for_shard(me, shard, Ask::Acquire { shard, sent_at });
        Ok(())
    }

    /// An acquire. The answer to an older one is ignored from now on: this one may have raised its epoch.
    pub(super) fn ask_for_shard(&mut self, me: Incarnation, shard: ShardId, ask: Ask) {
        let no = self.ask(me, ask);
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.acquiring.insert(shard, now);
        node.newest_acquire.insert(shard, no);
    }
}

//! Heartbeats: leases are renewed, the ledger's clock is sampled, rows become routes, and whoever is on
//! good terms with the ledger takes what nobody has and gives away what it has too much of.

use std::collections::BTreeSet;

use super::database::{Ask, Said, Seen};
use super::event::{Event, Message};
use super::node::{Incarnation, Place};
use super::options::Canary;
use super::world::World;
use crate::handoff::{Arrived, Heard, Notice};
use crate::ids::{Epoch, ShardId};
use crate::lease::{PeerSession, Report};
use crate::placement;
use crate::sim::auditor::Verdict;
use crate::time::{Moment, Span, Time};

/// A node that was not heard of for so long is not wished any shards.
const SILENT_AFTER: Span = Span::from_secs(4);

/// An acquire that has no answer after this long can no longer happen: the ledger refuses statements that
/// come a second late.
const ACQUIRE_OVER: Span = Span::from_secs(3);

/// A shard's lease, judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// Never owned, or given back.
    Free,
    Expired,
    Dead(Incarnation),
    Owned(Incarnation),
}

impl World<'_> {
    pub(super) fn beat(&mut self, me: Incarnation) {
        let draining = self.nodes[me.node].draining;
        self.tell_all(me, &Message::Hello { draining });
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
            (Said::Loaded(shard, restored), Ask::Load { arrival: Some(attempt), .. }) => {
                self.held(me, shard, attempt, *restored)
            }
            (Said::Loaded(shard, restored), _) => self.loaded(me, shard, *restored),
            (Said::Released, _) => Ok(()),
            (Said::FailedOver(timeline), _) => self.failed_over(me, timeline),
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
            Ask::Load { shard, arrival: None, .. } => self.load(me, shard),
            // An arrival that cannot be read is given up.
            Ask::Load { shard, arrival: Some(_), .. } => {
                if let Some(from) = self.nodes[me.node].landings.get(&shard).map(|landing| landing.from) {
                    return self.lands(me, from, shard, Notice::Acquiring);
                }
            }
            Ask::Append { shard, epoch, .. } => self.write_again(me, shard, epoch),
            // The machines ask again by themselves, and an acquire is asked again by the next heartbeat.
            Ask::Acquire { .. }
            | Ask::TakeFromDead { .. }
            | Ask::Release { .. }
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
        let before = std::mem::replace(&mut node.reports[0], Report::Reaches);
        let back = matches!(before, Report::Away(_));
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

    pub(super) fn not_beaten(&mut self, me: Incarnation) {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.heartbeats.failed();
        node.reports[0] = Report::Away(now);
        self.tell_all(me, &Message::HowIsTheLedger(now));
        if self.is(Canary::SilenceIsAway) {
            self.nodes[me.node].reports.fill(Report::Away(now));
        }
        self.go_on(me);
        let pause = Span(self.options.terms.renew.0 / 10);
        self.schedule_moment(me, now + pause, Event::Beat(me));
    }

    pub(super) fn ledger_asked(&mut self, me: Incarnation, from: Incarnation, asked: Moment) {
        let away = matches!(self.nodes[me.node].reports[0], Report::Away(_));
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
        let at = node.report_of(from.node);
        node.reports[at] = match (node.reports[at], report) {
            // Answers may overtake each other.
            (Report::Away(known), Report::Away(told)) => Report::Away(known.max(told)),
            (_, report) => report,
        };
        self.go_on(me);
    }

    /// Leases go on, or do not, by what is known of the ledger now.
    fn go_on(&mut self, me: Incarnation) {
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        node.leases.go_on(now, &node.reports);
    }

    /// What the rows say: who is where, what nobody has, what should move.
    fn keep_house(&mut self, me: Incarnation, rows: &[Seen]) -> Verdict {
        let owners: BTreeSet<Incarnation> = rows.iter().filter_map(|row| row.owner).collect();
        self.look_after(me, owners.into_iter());
        let leases: Vec<Lease> = rows.iter().map(|row| self.judge(me, row)).collect();
        let for_good = self.is(Canary::EndedForGood);
        for (row, lease) in rows.iter().zip(&leases) {
            let routes = &mut self.nodes[me.node].routes;
            match lease {
                Lease::Owned(owner) if for_good => routes.heard(row.shard, row.epoch, owner.node),
                Lease::Owned(owner) => routes.read(row.shard, row.epoch, owner.node),
                Lease::Free | Lease::Expired | Lease::Dead(_) => routes.ended(row.shard, row.epoch),
            };
        }
        if self.nodes[me.node].stopping {
            return Ok(());
        }
        for row in rows.iter().filter(|row| row.owner == Some(me)) {
            if !self.knows_of(me, row.shard) {
                self.claim(me, row);
            }
        }
        let names: Vec<String> = (0..self.options.nodes).map(|node| format!("node-{node}")).collect();
        let owner = |lease: &Lease| match lease {
            Lease::Owned(owner) => Some(names[owner.node].as_str()),
            Lease::Free | Lease::Expired | Lease::Dead(_) => None,
        };
        let owners: Vec<Option<&str>> = leases.iter().map(owner).collect();
        let live: Vec<&str> = self.live(me).into_iter().map(|node| names[node].as_str()).collect();
        let adopted = placement::adopt(&owners, &live, &names[me.node]);
        for (row, lease) in rows.iter().zip(&leases) {
            let is_former = matches!(lease, Lease::Dead(owner) if owner.node == me.node);
            let takes = adopted.contains(&row.shard) || is_former && !self.nodes[me.node].draining;
            if takes && (!self.knows_of(me, row.shard) || self.is(Canary::StaleStateServed)) {
                self.take(me, row, *lease)?;
            }
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

    fn judge(&self, me: Incarnation, row: &Seen) -> Lease {
        let Some(owner) = row.owner else { return Lease::Free };
        let is_former = owner.node == me.node && owner != me;
        if row.expired && owner != me {
            Lease::Expired
        } else if is_former || self.is_dead(me, owner) {
            Lease::Dead(owner)
        } else {
            Lease::Owned(owner)
        }
    }

    /// The shard is this node's, and it does not know of it: an acquire whose answer was lost, or it was given; or
    /// the ledger has failed over since, and what was granted before is over.
    fn claim(&mut self, me: Incarnation, row: &Seen) {
        let node = &mut self.nodes[me.node];
        let is_over = node.timeline.is_over(row.epoch);
        let sent_at = node.clock.time(self.now);
        let (shard, mine) = (row.shard, row.epoch);
        self.coverage.count("cluster", "ORPHAN");
        if is_over {
            self.ask_for_shard(me, shard, Ask::Acquire { shard, sent_at, anew: true });
        } else {
            self.ask_for_shard(me, shard, Ask::AcquireAgain { shard, mine });
        }
    }

    pub(super) fn hears_of(&mut self, me: Incarnation, shard: ShardId, epoch: Epoch, owner: usize) {
        self.nodes[me.node].routes.heard(shard, epoch, owner);
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

    /// Nodes that may have shards.
    fn live(&self, me: Incarnation) -> Vec<usize> {
        let node = &self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let is_open = |other: &usize| {
            let newest = node.sessions.range(..).rev().find(|(process, _)| process.node == *other);
            newest.is_some_and(|(process, session)| {
                *session == PeerSession::Open && !node.leaving.contains(process)
            })
        };
        let heard = |other: &usize| node.heard[*other].is_some_and(|at| now.since(at) < SILENT_AFTER);
        let all = 0..self.nodes.len();
        all.filter(|other| if *other == me.node { !node.draining } else { heard(other) && is_open(other) })
            .collect()
    }

    fn take(&mut self, me: Incarnation, row: &Seen, lease: Lease) -> Verdict {
        let at_once = self.is(Canary::AcquireAtOnce);
        let node = &mut self.nodes[me.node];
        let now = node.clock.moment(self.now);
        let is_former = matches!(lease, Lease::Dead(owner) if owner.node == me.node);
        let may = match lease {
            Lease::Dead(_) if self.options.canary == Some(Canary::DeadAtOnce) => true,
            Lease::Expired | Lease::Dead(_) => node.heartbeats.may_take(now, &self.options.terms),
            Lease::Free | Lease::Owned(_) => true,
        };
        if !may && !is_former && !at_once {
            return Ok(());
        }
        let (shard, epoch) = (row.shard, row.epoch);
        if !self.is(Canary::StaleStateServed)
            && let Some(mut landing) = self.nodes[me.node].landings.remove(&shard)
        {
            landing.arrival.hear(now, Notice::Acquiring, &mut Vec::new());
            self.not_mine(me, shard, landing.parked)?;
        }
        let sent_at = self.nodes[me.node].clock.time(self.now);
        let ask = match lease {
            Lease::Dead(owner) => Ask::TakeFromDead { shard, epoch, owner, sent_at },
            Lease::Free | Lease::Expired | Lease::Owned(_) => Ask::Acquire { shard, sent_at, anew: false },
        };
        self.ask_for_shard(me, shard, ask);
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

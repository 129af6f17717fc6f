//! One seed's cluster: a heap of events in the ledger's time, and everything that happens in it.
//!
//! First clients and faults do as the seed says (safety). Then the faults stop, and everything must come
//! to rest: every shard has one owner, the shards are evenly spread, every command is answered (liveness).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audit::Audit;
use super::clients::Session;
use super::database::{Ask, Database, Said, Statement};
use super::deaths::Lookalike;
use super::event::{Event, Message};
use super::net::{End, Net};
use super::node::{Incarnation, Node};
use super::options::{Canary, Faults, Options};
use crate::handoff::{Heard, Notice};
use crate::ids::{ShardId, UserId};
use crate::sim::agenda::Agenda;
use crate::sim::auditor::Verdict;
use crate::sim::coverage::Coverage;
use crate::sim::mirror::Mirror;
use crate::sim::prng::{Prng, Stream, mix};
use crate::sim::trace::Trace;
use crate::sim::workload::Workload;
use crate::time::Moment;

/// Events after which a cluster that has not come to rest never will.
const EVENTS_AT_MOST: u64 = 400_000;

/// How long after the last fault everything must be at its place.
const SETTLED_AFTER: i64 = 60_000_000;

/// Everything of one seed.
pub struct World<'a> {
    pub(super) options: Options,
    pub(super) trace: &'a mut Trace,
    pub(super) now: i64,
    agenda: Agenda<Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) net: Net,
    pub(super) database: Database,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) workloads: Vec<Workload>,
    pub(super) sessions: BTreeMap<(ShardId, UserId), Session>,
    pub(super) audit: Audit,
    /// Nodes that live and look dead.
    pub(super) lookalikes: BTreeMap<usize, Lookalike>,
    /// Nodes whose machine has gone with the process.
    pub(super) machines_gone: BTreeSet<usize>,
    /// Until when somebody may decide by a lease that a fail-over forgot.
    pub(super) lossy_until: i64,
    pub(super) streams: Streams,
    /// Whether a node may stand still in the middle of this event's step: nothing of the event follows it.
    pub(super) may_pause: bool,
    pub(super) commands_left: u32,
    pub(super) coverage: Coverage,
    pub(super) step_count: u64,
    pub(super) crash_count: u32,
    digest: u64,
}

pub struct Streams {
    pub clients: Prng,
    pub ledger: Prng,
    pub mirror: Prng,
    pub crash: Prng,
    pub moves: Prng,
    pub clock: Prng,
}

impl<'a> World<'a> {
    #[must_use]
    pub fn new(options: Options, trace: &'a mut Trace) -> Self {
        let Options { seed, shards, terms, settings, canary, .. } = options;
        let mut database = Database::new(shards, terms, settings, canary);
        let workloads: Vec<Workload> =
            (0..shards).map(|shard| Workload::new(&options.shard(shard))).collect();
        for (ledger, workload) in database.ledgers.iter_mut().zip(&workloads) {
            for plan in &workload.plans {
                ledger.import(plan.option, Arc::clone(&plan.layout));
            }
        }
        Self {
            net: Net::new(seed),
            mirrors: (0..shards).map(|_| Mirror::default()).collect(),
            database,
            workloads,
            trace,
            now: 1_000_000,
            agenda: Agenda::default(),
            nodes: Vec::new(),
            sessions: BTreeMap::new(),
            audit: Audit::default(),
            lookalikes: BTreeMap::new(),
            machines_gone: BTreeSet::new(),
            lossy_until: 0,
            streams: Streams {
                clients: Prng::new(!seed, Stream::Workload),
                ledger: Prng::new(!seed, Stream::Ledger),
                mirror: Prng::new(!seed, Stream::Mirror),
                crash: Prng::new(!seed, Stream::Crash),
                moves: Prng::new(!seed, Stream::Moves),
                clock: Prng::new(!seed, Stream::Clock),
            },
            may_pause: true,
            commands_left: options.command_count,
            coverage: Coverage::default(),
            step_count: 0,
            crash_count: 0,
            digest: mix(seed),
            options,
        }
    }

    /// Both phases.
    ///
    /// # Errors
    /// The invariant that broke.
    pub fn run(mut self) -> Result<super::Summary, String> {
        for node in 0..self.options.nodes {
            let rate = self.draw_rate();
            let me = Incarnation { node, start: 0 };
            let timeline = self.database.timeline;
            let node = Node::start(me, self.options.nodes, self.options.terms, self.now, rate, timeline);
            self.nodes.push(node);
            let pause = self.streams.clock.between(0, 1_000_000);
            self.schedule(pause, Event::Beat(me));
        }
        self.schedule(3_000_000, Event::Commands);
        self.run_events(|world| world.commands_left > 0)?;
        self.heal();
        let settled = self.now + SETTLED_AFTER;
        self.run_events(|world| world.now < settled)?;
        self.check_settled()?;
        let horizon = self.options.settings.idempotency_horizon.0;
        let rest = self.now + horizon + SETTLED_AFTER;
        self.run_events(|world| world.now < rest)?;
        self.check_rest()?;
        Ok(super::Summary {
            digest: self.digest,
            step_count: self.step_count,
            entry_count: self.database.ledgers.iter().map(|ledger| ledger.head.event_seq).sum(),
            crash_count: self.crash_count,
            coverage: self.coverage,
        })
    }

    fn run_events(&mut self, goes_on: impl Fn(&Self) -> bool) -> Verdict {
        while goes_on(self) {
            let Some((at, event)) = self.agenda.next(EVENTS_AT_MOST)? else { return Ok(()) };
            self.now = self.now.max(at);
            if let Some(event) = self.admit(event) {
                self.happen(event)?;
            }
        }
        Ok(())
    }

    /// Events of the dead do not happen, and those of who stands still happen later.
    fn admit(&mut self, event: Event) -> Option<Event> {
        let node = match (&event, event.of()) {
            (_, Some(me)) => {
                let node = &self.nodes[me.node];
                if !node.up || node.me != me {
                    return None;
                }
                node
            }
            (Event::Deliver { to, .. }, _) => {
                let node = &self.nodes[*to];
                if !node.up {
                    return None;
                }
                node
            }
            _ => return Some(event),
        };
        if node.paused_until > self.now {
            let pause = node.paused_until - self.now;
            self.schedule(pause, event);
            return None;
        }
        Some(event)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        self.may_pause = true;
        match event {
            Event::Commands => self.send_commands(),
            Event::Pump(me, shard, user) => self.pump(me, shard, user),
            Event::Again(shard, request) => {
                self.client_asks(shard, *request);
                Ok(())
            }
            Event::Start(node) => {
                self.start_node(node);
                Ok(())
            }
            Event::Thaw(me) => self.thaw(me),
            event @ (Event::Stop(_)
            | Event::Flushed(..)
            | Event::Exit(_)
            | Event::SessionEnded(..)
            | Event::Knock(..)
            | Event::Knocked(..)
            | Event::FailOver) => {
                self.ends(event);
                Ok(())
            }
            Event::Beat(me) => {
                self.beat(me);
                Ok(())
            }
            Event::TimeOut(me, no) => self.timed_out(me, no),
            Event::HopTimeOut(me, hop) => {
                self.hop_timed_out(me, hop);
                Ok(())
            }
            Event::AcquireAgain(me, shard) => {
                self.raise(me, shard);
                Ok(())
            }
            Event::Wake { me, shard, epoch, planned } => self.wake(me, shard, epoch, planned),
            Event::Alarm(me, shard) => self.alarm(me, shard),
            Event::Warmed(me, shard, attempt) => self.warmed(me, shard, attempt),
            Event::Deliver { from, to, message } => self.deliver(from, self.nodes[to].me, message),
            Event::Ask(statement) => self.ledger_hears(statement),
            Event::Commit(statement) => self.commit(&statement),
            Event::Said { to, no, said } => self.said(to, no, said),
            Event::Mirror { me, shard, parcel } => {
                self.mirror_parcel(me, shard, parcel);
                Ok(())
            }
            Event::MirrorFlush { me, shard, epoch } => {
                self.flush_mirror(me, shard, epoch);
                Ok(())
            }
        }
    }

    /// Processes and ledgers that end, and who hears of it.
    fn ends(&mut self, event: Event) {
        match event {
            Event::Stop(me) => self.stop(me),
            Event::Flushed(me, looks) => self.flushed(me, looks),
            Event::Exit(me) => self.exit(me),
            Event::SessionEnded(me, of) => self.session_ended(me, of),
            Event::Knock(me, of) => self.knocked_at(me, of),
            Event::Knocked(me, of, ports) => self.knocked(me, of, ports),
            Event::FailOver => self.fail_over(),
            _ => unreachable!("nothing ends"),
        }
    }

    pub(super) fn schedule(&mut self, pause: i64, event: Event) {
        self.agenda.plan(self.now.saturating_add(pause.max(0)), event);
    }

    /// When the node's clock shows `moment`.
    pub(super) fn schedule_moment(&mut self, me: Incarnation, moment: Moment, event: Event) {
        let at = self.nodes[me.node].clock.when(moment);
        self.schedule(at - self.now, event);
    }

    /// A datagram: lost, doubled and overtaken as it comes.
    pub(super) fn tell(&mut self, from: Incarnation, to: usize, message: Message) {
        let fates = self.net.fates(End::Node(from.node), End::Node(to), self.now, &self.options.faults);
        for pause in fates {
            self.schedule(pause, Event::Deliver { from, to, message: message.clone() });
        }
    }

    pub(super) fn tell_all(&mut self, from: Incarnation, message: &Message) {
        for to in (0..self.nodes.len()).filter(|to| *to != from.node) {
            self.tell(from, to, message.clone());
        }
    }

    /// A client's command or its answer, on a stream: it comes once or never.
    pub(super) fn stream(&mut self, from: Incarnation, to: usize, message: Message) {
        let fate = self.net.fate(End::Node(from.node), End::Node(to), self.now, &self.options.faults);
        if let Some(pause) = fate {
            self.schedule(pause, Event::Deliver { from, to, message });
        }
    }

    /// A question to the ledger. Its number.
    pub(super) fn ask(&mut self, me: Incarnation, ask: Ask) -> u64 {
        let node = &mut self.nodes[me.node];
        let no = node.fresh_no();
        let sent = node.clock.moment(self.now);
        let timeline = node.timeline;
        node.asked.insert(no, (sent, ask.clone()));
        let fate = self.net.fate(End::Node(me.node), End::Ledger, self.now, &self.options.faults);
        if let Some(pause) = fate {
            self.schedule(pause, Event::Ask(Statement { from: me, no, timeline, ask }));
        }
        self.schedule_moment(me, sent + super::PATIENCE, Event::TimeOut(me, no));
        no
    }

    fn ledger_hears(&mut self, statement: Statement) -> Verdict {
        match self.database.ask(self.now, &statement) {
            super::database::Verdict::Answer(said) => self.answer(&statement, said),
            super::database::Verdict::Waits => {}
            super::database::Verdict::Commits => {
                let takes = self.streams.ledger.between(0, self.options.faults.commit);
                let timeline = self.database.timeline;
                self.schedule(takes, Event::Commit(Statement { timeline, ..statement }));
            }
        }
        self.database.broken.take().map_or(Ok(()), Err)
    }

    fn commit(&mut self, statement: &Statement) -> Verdict {
        if statement.timeline != self.database.timeline {
            return Ok(()); // The primary died with it.
        }
        let refuse = self.streams.ledger.chance(self.options.faults.refused);
        let refuse = refuse.then(|| usize::try_from(self.streams.ledger.below(8)).unwrap_or(0));
        let (said, waiting) = self.database.commit(statement, refuse)?;
        self.answer(statement, said);
        for statement in waiting {
            self.ledger_hears(statement)?;
        }
        Ok(())
    }

    fn answer(&mut self, statement: &Statement, said: Said) {
        let Statement { from, no, .. } = *statement;
        let fate = self.net.fate(End::Ledger, End::Node(from.node), self.now, &self.options.faults);
        if let Some(pause) = fate {
            self.schedule(pause, Event::Said { to: from, no, said });
        }
    }

    fn deliver(&mut self, from: Incarnation, me: Incarnation, message: Message) -> Verdict {
        self.hears(me, from);
        match message {
            Message::Hello { draining } => {
                if draining {
                    self.nodes[me.node].leaving.insert(from);
                }
            }
            Message::HowIsTheLedger(asked) => self.ledger_asked(me, from, asked),
            Message::TheLedger { asked, away } => self.ledger_told(me, from, asked, away),
            Message::Route(shard, epoch, owner) => self.hears_of(me, shard, epoch, owner),
            Message::Warm(shard, attempt) => self.asked_to_warm(me, from, shard, attempt),
            Message::Ready(shard, attempt) => self.target_says(me, from, shard, attempt, Heard::Ready)?,
            Message::Holding(shard, attempt) => self.target_says(me, from, shard, attempt, Heard::Holding)?,
            Message::Declined(shard, attempt) => {
                self.target_says(me, from, shard, attempt, Heard::Declined)?
            }
            Message::State(shard, attempt, carried) => self.hold(me, from, shard, attempt, carried)?,
            Message::HandedOver(shard, attempt) => {
                self.lands(me, from, shard, Notice::HandedOver(attempt))?
            }
            Message::Resumed(shard, attempt) => self.lands(me, from, shard, Notice::Resumed(attempt))?,
            Message::Forward { hop, shard, requests } => self.forwarded(me, from, hop, shard, requests)?,
            Message::Reply { hop, reply, outcome } => self.hop_answered(me, hop, reply, &outcome),
            Message::NotOwner { hop, replies, route } => self.hop_refused(me, hop, &replies, route)?,
        }
        Ok(())
    }

    /// No more faults; whoever does not know what became of a request asks again.
    fn heal(&mut self) {
        self.trace.line(|| format!("-- {} the faults stop", self.now));
        self.options.faults = Faults { drift: self.options.faults.drift, ..Faults::none() };
        self.net.heal();
        self.lookalikes.clear();
        for shard in 0..self.options.shards {
            let workload = &mut self.workloads[usize::from(shard)];
            let again: Vec<_> =
                workload.unresolved.clone().iter().map(|first| workload.again(first)).collect();
            for request in again {
                let pause = 30_000_000 + self.streams.clients.between(0, 5_000_000);
                self.schedule(pause, Event::Again(ShardId(shard), Box::new(request)));
            }
        }
    }

    pub(super) fn is_alive(&self, me: Incarnation) -> bool {
        let node = &self.nodes[me.node];
        node.up && node.me == me
    }

    pub(super) fn is(&self, canary: Canary) -> bool {
        self.options.canary == Some(canary)
    }

    /// Remembers that something happened, for the digest of the run.
    pub(super) fn fold(&mut self, word: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ word);
    }

    pub(super) fn draw_rate(&mut self) -> i64 {
        let drift = self.options.faults.drift;
        1_000 + self.streams.clock.between(-drift, drift)
    }
}

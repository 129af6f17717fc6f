//! One seed's world: a heap of events in simulated time, one shard, and everything around it.
//!
//! First clients and faults do as the seed says (safety). Then the faults stop and everything must
//! come to rest: queues drain, every reply that can come has come, every hold has ended (liveness).

mod mirroring;
mod restart;
mod steps;
mod writing;

use std::collections::BTreeMap;

use super::agenda::Agenda;
use super::auditor::{Auditor, Verdict};
use super::clock::Clock;
use super::coverage::Coverage;
use super::ledger::Ledger;
use super::mirror::Mirror;
use super::options::{Canary, Faults, Options};
use super::pipe::{Parcel, Pipe};
use super::prng::{Prng, Stream, mix};
use super::shadow::Shadow;
use super::trace::Trace;
use super::workload::Workload;
use super::writer::{Message, Writer};
use crate::command::Request;
use crate::effect::{Effects, Input};
use crate::entry::Restored;
use crate::ids::{Epoch, ReplyTo};
use crate::shard::Shard;
use crate::time::Time;

/// Events after which a world that has not come to rest never will.
const EVENTS_AT_MOST: u64 = 50_000;

/// Everything of one seed.
pub struct World<'a> {
    options: Options,
    trace: &'a mut Trace,
    now: i64,
    agenda: Agenda<Event>,
    clock: Clock,
    shard: Option<Shard>,
    shadow: Shadow,
    auditor: Auditor,
    /// The latest time the shard was given.
    shard_now: Time,
    effects: Effects,
    ledger: Ledger,
    writer: Writer,
    mirror: Mirror,
    pipe: Pipe,
    workload: Workload,
    /// Requests given to this incarnation of the shard and not answered.
    waiting: BTreeMap<ReplyTo, Request>,
    commands_left: u32,
    crash_count: u32,
    wake_at: Option<i64>,
    streams: Streams,
    step_count: u64,
    digest: u64,
    coverage: Coverage,
}

struct Streams {
    workload: Prng,
    ledger: Prng,
    mirror: Prng,
    crash: Prng,
    audit: Prng,
}

enum Event {
    Commands,
    Request(Box<Request>),
    Wake { planned: i64 },
    Ledger(Message),
    Mirror(Parcel),
    MirrorFlush(Epoch),
    Restart,
}

/// What a clean run comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Of all replies, entries and changes in order, and of the state at the end.
    pub digest: u64,
    pub step_count: u64,
    pub entry_count: u64,
    pub crash_count: u32,
    pub coverage: Coverage,
}

impl<'a> World<'a> {
    #[must_use]
    pub fn new(options: Options, trace: &'a mut Trace) -> Self {
        let seed = options.seed;
        let workload = Workload::new(&options);
        let mut ledger = Ledger::default();
        ledger.canary = options.canary;
        for plan in &workload.plans {
            ledger.import(plan.option, std::sync::Arc::clone(&plan.layout));
        }
        Self {
            shadow: Shadow::restore(options.settings, Time(0), &Restored::default()),
            commands_left: options.command_count,
            clock: Clock::new(seed, options.grain),
            options,
            trace,
            now: 0,
            agenda: Agenda::default(),
            shard: None,
            auditor: Auditor::default(),
            shard_now: Time(0),
            effects: Effects::new(),
            ledger,
            writer: Writer::new(Epoch(0)),
            mirror: Mirror::default(),
            pipe: Pipe::new(Epoch(0)),
            workload,
            waiting: BTreeMap::new(),
            crash_count: 0,
            wake_at: None,
            streams: Streams {
                workload: Prng::new(!seed, Stream::Workload),
                ledger: Prng::new(seed, Stream::Ledger),
                mirror: Prng::new(seed, Stream::Mirror),
                crash: Prng::new(seed, Stream::Crash),
                audit: Prng::new(seed, Stream::Audit),
            },
            step_count: 0,
            digest: mix(seed),
            coverage: Coverage::default(),
        }
    }

    /// Both phases.
    ///
    /// # Errors
    /// The invariant that broke.
    pub fn run(mut self) -> Result<Summary, String> {
        self.live()
    }

    /// The same, for its ledger's tape.
    ///
    /// # Errors
    /// The invariant that broke.
    pub fn run_taped(mut self) -> Result<Ledger, String> {
        self.ledger.tape = Some(Vec::new());
        self.live()?;
        Ok(self.ledger)
    }

    fn live(&mut self) -> Result<Summary, String> {
        self.restart()?;
        self.schedule(0, Event::Commands);
        self.run_events(|world| world.commands_left > 0)?;
        self.heal();
        self.run_events(|_| true)?;
        self.check_rest()?;
        let head = self.ledger.head;
        self.fold(self.shard.as_ref().map_or(0, Shard::digest));
        Ok(Summary {
            digest: self.digest,
            step_count: self.step_count,
            entry_count: head.event_seq,
            crash_count: self.crash_count,
            coverage: std::mem::take(&mut self.coverage),
        })
    }

    fn run_events(&mut self, goes_on: impl Fn(&Self) -> bool) -> Verdict {
        while goes_on(self) {
            let Some((at, event)) = self.agenda.next(EVENTS_AT_MOST)? else { return Ok(()) };
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Commands => self.send_commands(),
            Event::Request(request) => self.ask(*request),
            Event::Wake { planned } => self.wake(planned),
            Event::Ledger(message) => self.ledger_message(message),
            Event::Mirror(parcel) => self.mirror_parcel(parcel),
            Event::MirrorFlush(epoch) => self.flush_mirror(epoch),
            Event::Restart => self.restart(),
        }
    }

    fn schedule(&mut self, pause: i64, event: Event) {
        self.agenda.plan(self.now.saturating_add(pause), event);
    }

    fn send_commands(&mut self) -> Verdict {
        if self.commands_left == 0 {
            return Ok(());
        }
        self.commands_left -= 1;
        self.clock.disturb(self.now, &self.options.faults);
        if self.streams.mirror.chance(self.options.faults.mirror_crash) {
            self.crash_mirror();
        }
        for request in self.workload.ask() {
            self.ask(request)?;
        }
        let pause = self.streams.workload.between(0, 2 * self.options.pace);
        self.schedule(pause, Event::Commands);
        Ok(())
    }

    fn ask(&mut self, request: Request) -> Verdict {
        if self.shard.is_none() {
            self.workload.lost(&request);
            return Ok(());
        }
        self.waiting.insert(request.reply, request.clone());
        self.step(Input::Command(request))
    }

    /// A tick; unless an earlier one has been planned since, or the shard is another.
    fn wake(&mut self, planned: i64) -> Verdict {
        if self.wake_at != Some(planned) {
            return Ok(());
        }
        self.wake_at = None;
        if self.options.canary == Some(Canary::TickLost) {
            return Ok(());
        }
        self.step(Input::Tick)
    }

    /// No more faults; whoever does not know what became of a request asks again.
    fn heal(&mut self) {
        self.trace.line(|| "-- the faults stop".to_owned());
        self.options.faults = Faults { crashes_at_most: self.crash_count, ..Faults::none() };
        self.clock.heal();
        for first in self.workload.unresolved.clone() {
            let request = self.workload.again(&first);
            let pause = self.streams.workload.between(0, 10_000_000);
            self.schedule(pause, Event::Request(Box::new(request)));
        }
    }

    fn check_rest(&mut self) -> Verdict {
        self.now += self.options.settings.idempotency_horizon.0 + 1;
        self.step(Input::Tick)?;
        let Some(shard) = &self.shard else { return Err("no shard in the end".to_owned()) };
        let load = shard.load();
        let rest = [load.soft_locks, load.holds, load.pending, load.answered_keys, self.waiting.len()];
        if rest != [0; 5] {
            return Err(format!("never comes to rest: {load:?}, waiting {:?}", self.waiting));
        }
        if shard.next_wake().is_some() {
            return Err(format!("wakes at {:?} for nothing", shard.next_wake()));
        }
        if !self.writer.is_idle() || !self.pipe.is_drained() {
            return Err("the writer or the mirror never drains".to_owned());
        }
        Auditor::check_ledger(&self.ledger)?;
        self.check_quiescence()
    }

    /// Remembers that something happened, for the digest of the run.
    fn fold(&mut self, word: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ word);
    }
}

//! One seed's world: events in simulated time, one gate, and everything around it.
//!
//! First crowd, operator and faults do as the seed says. Then the faults stop, nobody comes any more, and everything
//! must come to rest.

use std::collections::BTreeMap;

use super::auditor::{Auditor, Verdict};
use super::draws::Published;
use super::mirror::{Batch, Mirror, Pipe};
use super::options::{Canary, Faults, Options};
use super::twin::Twin;
use super::workload::Workload;
use crate::gate::{Draw, Gate, Input, Mode, Policy, Snapshot, State, Tick, Viewer};
use crate::ids::{ConcertId, Epoch, OpNo, PassId, ReplyTo, Turn, UserId};
use crate::sim::agenda::Agenda;
use crate::sim::clock::Clock;
use crate::sim::coverage::Coverage;
use crate::sim::options as shard;
use crate::sim::prng::{Prng, Stream, mix};
use crate::sim::trace::Trace;
use crate::sim::world::Summary;
use crate::time::{Span, Time};

mod mirroring;
mod steps;

/// Events after which a world that has not come to rest never will.
const EVENTS_AT_MOST: u64 = 50_000;

/// Everything of one seed.
pub struct World<'a> {
    options: Options,
    trace: &'a mut Trace,
    now: i64,
    agenda: Agenda<Event>,
    clock: Clock,
    gate: Option<Gate>,
    twin: Twin,
    auditor: Auditor,
    /// The latest time the gate was given.
    gate_now: Time,
    /// The ledger's.
    policy: Policy,
    epoch: Epoch,
    mirror: Mirror,
    pipe: Pipe,
    /// How often the mirror went away: what concerns an earlier time is void.
    outages: u32,
    /// Batches are numbered; those below are lost.
    batches: u64,
    lost_below: u64,
    published: Option<Published>,
    workload: Workload,
    actions_left: u32,
    /// Questions given to this incarnation of the gate and not answered.
    waiting: BTreeMap<ReplyTo, UserId>,
    /// What each user was last told.
    passes: BTreeMap<UserId, PassId>,
    viewers: BTreeMap<UserId, (Turn, Viewer)>,
    tick: Tick,
    wake_at: Option<i64>,
    streams: Streams,
    step_count: u64,
    op_count: u64,
    crash_count: u32,
    digest: u64,
    coverage: Coverage,
}

struct Streams {
    mirror: Prng,
    crash: Prng,
    audit: Prng,
}

enum Event {
    Act,
    Wake { planned: i64 },
    Flush { epoch: Epoch },
    Arrives { no: u64, batch: Batch },
    Answer { epoch: Epoch, upto: OpNo, back: bool, outages: u32 },
    Rebuild { epoch: Epoch, outages: u32 },
    Order { epoch: Epoch, first: Turn, upto: Turn, order: Box<[Turn]> },
    Restart,
}

impl<'a> World<'a> {
    #[must_use]
    pub fn new(options: Options, trace: &'a mut Trace) -> Self {
        let seed = mix(options.seed ^ 0x6761_7465);
        let kept = Snapshot { next: options.first, ..Snapshot::default() };
        Self {
            trace,
            now: 0,
            agenda: Agenda::default(),
            clock: Clock::new(seed, options.grain),
            gate: None,
            twin: Twin::restore(Epoch(0), options.settings, Time(0), Policy::default(), &kept),
            auditor: Auditor::default(),
            gate_now: Time(0),
            policy: Policy::default(),
            epoch: Epoch(0),
            mirror: Mirror { epoch: Epoch(0), kept },
            pipe: Pipe::default(),
            outages: 0,
            batches: 0,
            lost_below: 0,
            published: None,
            workload: Workload::new(&options),
            actions_left: options.action_count,
            waiting: BTreeMap::new(),
            passes: BTreeMap::new(),
            viewers: BTreeMap::new(),
            tick: Tick::default(),
            wake_at: None,
            streams: Streams {
                mirror: Prng::new(seed, Stream::Mirror),
                crash: Prng::new(seed, Stream::Crash),
                audit: Prng::new(seed, Stream::Audit),
            },
            step_count: 0,
            op_count: 0,
            crash_count: 0,
            digest: mix(seed),
            coverage: Coverage::default(),
            options,
        }
    }

    /// Both phases.
    ///
    /// # Errors
    /// The invariant that broke.
    pub fn run(mut self) -> Result<Summary, String> {
        self.restart()?;
        let to = self.workload.reply();
        let policy = self.workload.policy(self.gate_now);
        self.step(Input::SetPolicy { policy, to })?;
        self.schedule(0, Event::Act);
        self.run_events(|world| world.actions_left > 0)?;
        self.heal()?;
        self.run_events(|_| true)?;
        self.check_rest()?;
        self.fold(self.gate.as_ref().map_or(0, Gate::digest));
        Ok(Summary {
            digest: self.digest,
            step_count: self.step_count,
            entry_count: self.op_count,
            crash_count: self.crash_count,
            coverage: self.coverage,
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
            Event::Act => self.act(),
            Event::Wake { planned } => self.wake(planned),
            Event::Flush { epoch } => {
                self.flush(epoch);
                Ok(())
            }
            Event::Arrives { no, batch } => {
                self.arrives(no, &batch);
                Ok(())
            }
            Event::Answer { epoch, upto, back, outages } => self.answer(epoch, upto, back, outages),
            Event::Rebuild { epoch, outages } => {
                self.rebuild(epoch, outages);
                Ok(())
            }
            Event::Order { epoch, first, upto, order } if epoch == self.epoch => {
                self.bring(first, upto, order)
            }
            Event::Order { .. } => Ok(()),
            Event::Restart => self.restart(),
        }
    }

    fn schedule(&mut self, pause: i64, event: Event) {
        self.agenda.plan(self.now.saturating_add(pause), event);
    }

    fn act(&mut self) -> Verdict {
        if self.actions_left == 0 {
            return Ok(());
        }
        self.actions_left -= 1;
        self.clock.disturb(self.now, &self.options.clock);
        let passes = std::mem::take(&mut self.passes);
        let input = self.workload.next(self.gate_now, |user| passes.get(&user).copied());
        self.passes = passes;
        self.step(input)?;
        let faults = self.options.faults;
        if self.streams.mirror.chance(faults.mirror_away) {
            self.mirror_away()?;
        }
        if self.streams.mirror.chance(faults.shell_confused) {
            self.step(Input::Mirrored { upto: OpNo(1_000_000) })?;
        }
        if self.streams.mirror.chance(faults.false_order) {
            let order = self.false_order();
            let (first, upto) = match self.twin.draw {
                Draw::Frozen { first, upto } => (first, upto),
                Draw::Due | Draw::Done => (Turn(0), Turn(1)),
            };
            self.bring(first, upto, order)?;
        }
        if self.streams.audit.chance(300) {
            self.cut()?;
        }
        let pause = self.workload.pause(self.options.pace);
        self.schedule(pause, Event::Act);
        Ok(())
    }

    /// A tick; unless an earlier one has been planned since, or the gate is another.
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

    fn bring(&mut self, first: Turn, upto: Turn, order: Box<[Turn]>) -> Verdict {
        let to = self.workload.reply();
        self.step(Input::Drawn { first, upto, order, to })
    }

    /// Almost the entrants: one who came later, one doubled, one invented.
    fn false_order(&mut self) -> Box<[Turn]> {
        let mut order: Vec<Turn> = self.twin.entrants().into_iter().map(|(turn, _)| turn).collect();
        match self.streams.mirror.below(3) {
            0 => order.push(self.twin.next()),
            1 => order.extend(order.first().copied()),
            _ => order.push(Turn(1_000_000)),
        }
        order.into()
    }

    /// Another owner goes on from what the mirror has and the ledger says.
    fn restart(&mut self) -> Verdict {
        self.epoch.0 += 1;
        self.mirror.epoch = self.epoch;
        self.gate_now = self.gate_now.max(self.clock.read(self.now, &self.options.clock));
        let Options { mut settings, canary, .. } = self.options;
        let early = if canary == Some(Canary::RestoreAdmitsAtOnce) { Span::from_secs(1) } else { Span(0) };
        settings.pass_ttl = Span(settings.pass_ttl.0 + early.0);
        let now = (self.gate_now - early).max(Time(0));
        let kept = self.mirror.kept.clone();
        self.trace.line(|| format!("{now} -- epoch {} restores {kept:?}", self.epoch));
        self.auditor.restored(&kept, &self.policy, now)?;
        let mut gate = Gate::new(ConcertId(1), self.epoch, settings);
        gate.restore(now, self.policy, &kept);
        self.twin = Twin::restore(self.epoch, settings, now, self.policy, &kept);
        if !kept.waiting.is_empty() {
            self.coverage.count("world", "LINE RESTORED");
        }
        if !kept.passes.is_empty() {
            self.coverage.count("world", "PASSES RESTORED");
        }
        self.gate = Some(gate);
        self.step(Input::Tick)
    }

    /// Nobody hears from this incarnation again; another will follow.
    fn end_incarnation(&mut self) {
        self.gate = None;
        self.pipe = Pipe { arrives: self.pipe.arrives, ..Pipe::default() };
        self.waiting.clear();
        self.viewers.clear();
        self.wake_at = None;
        let most = *self.streams.crash.pick(&[50_000, 2_000_000]).expect("not empty");
        let pause = self.streams.crash.between(0, most);
        self.schedule(pause, Event::Restart);
    }

    /// No more faults, and nobody comes any more. The operator opens what is not open.
    fn heal(&mut self) -> Verdict {
        self.trace.line(|| "-- the faults stop".to_owned());
        self.options.faults = Faults::none();
        self.options.clock = shard::Faults::none();
        self.clock.heal();
        if self.gate.is_none() {
            self.run_events(|world| world.gate.is_none())?;
        }
        let to = self.workload.reply();
        let bounded = self.policy.per_second.is_some() || self.policy.max_active.is_some();
        let per_second = if bounded { self.policy.per_second } else { Some(3) };
        let opens_at = self.policy.opens_at.filter(|_| self.policy.mode == Mode::PresaleDraw);
        let policy = Policy { state: State::Open, per_second, opens_at, ..self.policy };
        self.step(Input::SetPolicy { policy, to })
    }

    fn check_rest(&mut self) -> Verdict {
        Auditor::check_answered(&self.waiting)?;
        let Some(gate) = &self.gate else { return Err("no gate in the end".to_owned()) };
        let load = gate.load();
        let rest = (load.waiting, load.passes, load.unmirrored);
        if rest != (0, 0, 0) || gate.next_wake().is_some() {
            return Err(format!("never comes to rest: {load:?}, wakes at {:?}", gate.next_wake()));
        }
        if !gate.view().counts.is_empty() {
            return Err(format!("nobody waits, and somebody is ahead: {:?}", gate.view()));
        }
        Ok(())
    }

    /// Remembers that something happened, for the digest of the run.
    fn fold(&mut self, word: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ word);
    }
}

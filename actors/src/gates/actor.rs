//! A gate's actor: receive → step → perform the effects, with no `.await` in between. It decides nothing about who may
//! enter.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::gate::draw::Seed;
use engine::gate::{Effect, Effects, Gate, Input, MirrorOp, Reason, Settings, Standing, Tick};
use engine::{OpNo, PassId, ReplyTo, Turn, Unavailable, UserId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ask::{GateAsk, GateSaid};
use super::changes::{Change, Changes, ROOM};
use super::copying::{Copying, Everything, Heard};
use super::draws::{BeaconChain, Draws, DrawsOptions, Ordered};
use super::hub::Board;
use super::live::LivePasses;
use super::news::{Line, News};
use super::ports::{Admitted, Fence, GateLedger, GateMirror, GateRow};
use crate::clock::LedgerClock;
use crate::inbox::Inbox;
use crate::leases::Lease;
use crate::observe::GateGauges;
use crate::permits::Permit;
use crate::wake::Wake;

use self::replies::Replies;
use self::setting::Setting;

mod asked;
mod notes;
mod replies;
mod setting;

pub use self::setting::{TellShard, agree};

/// How soon a gate whose lease ran out looks again whether it may go on.
const LEASE_RECHECK: Duration = Duration::from_millis(100);

/// Everything a gate's mailbox may hold.
pub enum Message {
    /// There are questions in the inbox.
    Asks,
    /// A deadline is due.
    Tick,
    /// A tick of the line ends: everybody is told what changed.
    Cut,
    /// The pass was used.
    Used { user: UserId, pass: PassId },
    /// Its user has bought.
    Bought { user: UserId, pass: PassId },
    /// News of the mirror's copy.
    Copied(Heard),
    /// Hand over everything there is, and up to which operation that is.
    HandOver(oneshot::Sender<Everything>),
    /// The ledger and the shard have the row.
    Set(Setting),
    /// The order of a draw.
    Ordered { first: Turn, upto: Turn, order: Vec<Turn> },
    /// Tell what was admitted to the history.
    Note,
    /// The history has it, or has not.
    Noted(Admitted, bool),
    /// A drill.
    Crash,
}

/// For this process only: a gate is asked through [`super::Gates`], never by a peer.
impl ractor::Message for Message {}

/// A question under its permit.
#[derive(Debug)]
pub struct Asked {
    pub ask: GateAsk,
    pub deadline: Instant,
    pub reply: Reply,
    /// Returns with the answer, or when the actor dies.
    pub permit: Permit,
}

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<GateSaid, Unavailable>>;

/// Why an actor stops. The shard is restored under a new epoch, and the gate with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error("gate and mirror disagree: {0:?}")]
    Engine(Reason),
    /// The shard is on its way to another owner, or there.
    #[error("the mirror knows a newer epoch")]
    Fenced,
}

/// The actor. All it has is in its state.
pub struct GateActor;

/// What a restored gate is started with.
pub struct Start {
    pub gate: Box<Gate>,
    pub row: Option<GateRow>,
    pub settings: Settings,
    pub fence: Fence,
    /// Where a take-over left the mirror's copy; nothing, and why, where it must be written anew.
    pub copied: Result<OpNo, String>,
    pub inbox: Arc<Inbox<Asked>>,
    pub lease: Lease,
    pub clock: LedgerClock,
    pub board: Arc<Board>,
    pub mirror: Arc<dyn GateMirror>,
    pub ledger: Arc<dyn GateLedger>,
    pub shard: Arc<dyn TellShard>,
    pub gauges: Arc<GateGauges>,
    /// Whose rounds decide draws.
    pub beacon: Option<BeaconChain>,
    /// 32 bytes that nobody can guess.
    pub random: fn() -> Seed,
    /// How often everybody is told.
    pub tick: Duration,
    /// Answered with the passes, as soon as they are there.
    pub live: oneshot::Sender<Arc<LivePasses>>,
    /// Set before it stops because somebody else has the mirror's copy.
    pub is_fenced: Arc<AtomicBool>,
}

/// A gate that serves.
pub struct Serving {
    gate: Box<Gate>,
    row: Option<GateRow>,
    fence: Fence,
    inbox: Arc<Inbox<Asked>>,
    lease: Lease,
    clock: LedgerClock,
    board: Arc<Board>,
    ledger: Arc<dyn GateLedger>,
    shard: Arc<dyn TellShard>,
    gauges: Arc<GateGauges>,
    live: Arc<LivePasses>,
    me: ActorRef<Message>,
    changes: Changes,
    /// The newest operation that the mirror was told of.
    newest: OpNo,
    /// Why nothing is copied.
    away: Option<String>,
    effects: Effects,
    replies: Replies,
    wake: Wake,
    /// What came while the lease had run out, and changes who is inside.
    postponed: VecDeque<Message>,
    setting: setting::UnderWay,
    notes: notes::Notes,
    draws: Draws,
    is_fenced: Arc<AtomicBool>,
    /// Whether viewers must begin anew at the next tick.
    is_anew: bool,
    /// What was taken from the inbox; empty between turns.
    asked: Vec<Asked>,
}

impl Actor for GateActor {
    type Msg = Message;
    type State = Serving;
    type Arguments = Start;

    async fn pre_start(&self, me: ActorRef<Message>, start: Start) -> Result<Serving, ActorProcessingErr> {
        let mut serving = Serving::new(me, start);
        let now = Instant::now();
        serving.step(now, Input::Tick)?;
        // Behind what the first step has frozen anew, which is no draw of its own.
        serving.tell_draws();
        serving.rearm(now);
        Ok(serving)
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        serving: &mut Serving,
    ) -> Result<(), ActorProcessingErr> {
        let received = serving.receive(message);
        if received == Err(Halt::Fenced) {
            serving.is_fenced.store(true, Ordering::Release);
        }
        Ok(received?)
    }
}

impl Serving {
    fn new(me: ActorRef<Message>, start: Start) -> Self {
        let Start { gate, row, settings, fence, copied, inbox, lease, clock, board, .. } = start;
        let live = Arc::new(LivePasses::new(me.clone(), &settings));
        for (user, pass) in gate.passes() {
            live.tell(gate.now(), user, pass);
        }
        // Whoever brings the gate up waits for it.
        let _waits = start.live.send(live.clone());
        let mut changes = Changes::default();
        let concert = gate.concert();
        let copying = Copying {
            port: start.mirror,
            clock: clock.clone(),
            concert,
            epoch: fence.epoch,
            actor: me.clone(),
        };
        let away = copied.as_ref().err().cloned();
        live.set_mirrored(away.is_none());
        tokio::spawn(copying.run(copied.map(|at| (at, changes.anew(ROOM)))));
        tokio::spawn(every(start.tick, me.clone(), || Message::Cut));
        tokio::spawn(every(notes::EVERY, me.clone(), || Message::Note));
        board.serve(true);
        let notes = notes::Notes::new(gate.now());
        let draws = Draws::start(DrawsOptions {
            ledger: start.ledger.clone(),
            clock: clock.clone(),
            concert,
            fence,
            beacon: start.beacon,
            random: start.random,
            ordered: tell_order(me.clone()),
        });
        let mut serving = Self {
            wake: Wake::new(me.clone(), || Message::Tick),
            gate,
            row,
            fence,
            inbox,
            lease,
            clock,
            board,
            ledger: start.ledger,
            shard: start.shard,
            gauges: start.gauges,
            live,
            me,
            changes,
            newest: OpNo(0),
            away,
            effects: Effects::new(),
            replies: Replies::default(),
            postponed: VecDeque::new(),
            setting: setting::UnderWay::default(),
            notes,
            draws,
            is_fenced: start.is_fenced,
            is_anew: true,
            asked: Vec::new(),
        };
        serving.cut();
        serving.agree_with_shard();
        serving
    }

    fn receive(&mut self, message: Message) -> Result<(), Halt> {
        let now = Instant::now();
        match message {
            Message::Asks => self.ask_inbox(now)?,
            Message::Tick => {
                self.wake.fired();
                self.replies.expire(now);
                if self.lease.allows(now) {
                    self.catch_up(now)?;
                    self.step(now, Input::Tick)?;
                }
            }
            Message::Cut => self.cut(),
            // A gate that goes on under another epoch begins every TTL anew.
            Message::Used { .. } if !self.lease.allows(now) => {}
            Message::Used { user, pass } => {
                self.step(now, Input::Activity { user, pass })?;
                if let Standing::Active(pass) = self.gate.standing(user) {
                    self.live.renew(self.gate.now(), user, pass);
                }
            }
            // Whoever may own the gate by now must not be joined by admissions of this one.
            Message::Bought { .. } | Message::Copied(_) | Message::Set(_) | Message::Ordered { .. } => {
                self.postponed.push_back(message);
                if self.lease.allows(now) {
                    self.catch_up(now)?;
                }
            }
            Message::HandOver(reply) => {
                let (upto, snapshot, changes) = (self.newest, self.gate.snapshot(), self.changes.anew(ROOM));
                let _waits = reply.send(Everything { upto, snapshot, changes });
            }
            Message::Note => self.note(),
            Message::Noted(admitted, is_noted) => self.notes.noted(admitted, is_noted),
            Message::Crash => panic!("a crash was asked for"),
        }
        self.rearm(now);
        Ok(())
    }

    /// Hears what was postponed.
    fn catch_up(&mut self, now: Instant) -> Result<(), Halt> {
        while let Some(message) = self.postponed.pop_front() {
            match message {
                Message::Copied(heard) => self.hear(now, heard)?,
                Message::Bought { user, pass } => self.step(now, Input::GiveBack { user, pass })?,
                Message::Set(setting) => self.set(now, setting)?,
                Message::Ordered { first, upto, order } => {
                    // Nobody waits for the answer.
                    let to = ReplyTo(0);
                    self.step(now, Input::Drawn { first, upto, order: order.into(), to })?;
                }
                _ => unreachable!("nothing else is postponed"),
            }
        }
        Ok(())
    }

    /// News of the mirror's copy.
    fn hear(&mut self, now: Instant, heard: Heard) -> Result<(), Halt> {
        let concert = self.gate.concert();
        match heard {
            Heard::Mirrored(upto) => self.step(now, Input::Mirrored { upto }),
            Heard::Away(why) => {
                tracing::warn!(%concert, why, "the gate goes on; a crash would lose what is new");
                self.away = Some(why);
                self.live.set_mirrored(false);
                self.step(now, Input::MirrorAway)
            }
            Heard::Back(upto) => {
                tracing::info!(%concert, "the gate is mirrored");
                self.away = None;
                self.live.set_mirrored(true);
                self.step(now, Input::MirrorBack { upto })
            }
            Heard::Fenced => Err(Halt::Fenced),
        }
    }

    fn step(&mut self, now: Instant, input: Input) -> Result<(), Halt> {
        self.gate.step(self.clock.at(now), input, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        let mut halt = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { to, answer, durable } => self.answer(to, answer, durable),
                Effect::Mirror { no, op } => self.tell_mirror(no, op),
                Effect::Admitted { user, pass, waited, durable } => {
                    self.live.tell(self.gate.now(), user, pass);
                    self.gauges.admitted(waited);
                    self.board.publish(News::Admitted { user, pass, durable });
                }
                Effect::PassEnded { user, pass, why } => {
                    self.live.end(user, pass);
                    self.board.publish(News::Ended { user, pass, why });
                }
                Effect::Frozen { first, upto } => {
                    self.draws.frozen(first, upto, self.gate.entrants().collect());
                }
                Effect::Drawn | Effect::Rejected => self.begin_anew(),
                Effect::Halt(reason) => halt = Some(Halt::Engine(reason)),
            }
        }
        self.effects = effects;
        if self.is_anew {
            self.cut();
        }
        halt.map_or(Ok(()), Err)
    }

    /// Another line, or another policy: viewers begin anew.
    fn begin_anew(&mut self) {
        self.is_anew = true;
        self.tell_draws();
    }

    fn tell_draws(&self) {
        self.draws.policy_set(self.gate.policy().mode, self.gate.draw());
    }

    fn tell_mirror(&mut self, no: OpNo, op: MirrorOp) {
        self.newest = no;
        self.changes.push(|| match op {
            MirrorOp::Rebuild => Change::Rebuild(no, Box::new(self.gate.snapshot())),
            op => Change::Op(no, op),
        });
    }

    /// Ends a tick: everybody hears what changed.
    fn cut(&mut self) {
        let is_anew = std::mem::take(&mut self.is_anew);
        let mut tick = Tick::default();
        let has_news = self.gate.cut(&mut tick);
        if is_anew {
            tick = self.gate.view();
        } else if !has_news {
            return;
        }
        let bitmaps = tick.counts.iter().map(|count| self.gate.bitmap(count.block())).collect();
        let (pace, has_ranks) = (self.gate.pace(), self.gate.shows_ranks());
        let line = Line { tick, bitmaps, pace, has_ranks };
        self.board.publish(if is_anew { News::View(line) } else { News::Tick(line) });
    }

    /// Asks for the next tick and shows the scrape where the gate stands.
    fn rearm(&mut self, now: Instant) {
        self.gauges.show(self.gate.load());
        let due = if self.postponed.is_empty() {
            let overdue = self.replies.next_deadline().map(|deadline| self.clock.at(deadline));
            self.gate.next_wake().into_iter().chain(overdue).min()
        } else {
            Some(self.gate.now())
        };
        let Some(due) = due.filter(|due| self.wake.is_needed(*due)) else { return };
        let mut at = now + Duration::from(due.since(self.clock.at(now)));
        if !self.lease.allows(now) {
            at = at.max(now + LEASE_RECHECK);
        }
        self.wake.arm(due, at);
    }
}

/// Brings the order of a draw to the gate, for as long as there is one.
fn tell_order(actor: ActorRef<Message>) -> Ordered {
    Box::new(move |first, upto, order| {
        let _lives = actor.send_message(Message::Ordered { first, upto, order });
    })
}

/// Sends a message again and again, for as long as there is somebody.
async fn every(pause: Duration, actor: ActorRef<Message>, message: fn() -> Message) {
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if actor.send_message(message()).is_err() {
            return;
        }
    }
}

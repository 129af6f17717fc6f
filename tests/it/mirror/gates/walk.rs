//! An engine's gate and its mirror: what a take-over reads is what the gate would have kept.

use std::sync::Arc;

use actors::gates::ports::{GateBatch, GateMirror};
use actors::ports::MirrorAnswer;
use engine::gate::{Draw, Effect, Effects, Gate, Input, MirrorOp, Mode, Policy, Settings, State};
use engine::{ConcertId, Epoch, OpNo, PassId, ReplyTo, Span, Time, Turn, UserId};

use super::{Copy, NOW};

/// A few hundred things that happen to a few people, with some owners in turn.
pub async fn run(open: impl Fn() -> Arc<dyn GateMirror>, seed: u64) {
    let concert = Copy::fresh(&open()).concert;
    let mut walk = Walk::new(open(), concert, seed).await;
    for _ in 0..6 {
        for _ in 0..120 {
            walk.step().await;
        }
        walk.next_owner(open()).await;
    }
    assert!(walk.seen.joins > 20 && walk.seen.admissions > 5, "seed {seed} does little: {:?}", walk.seen);
}

#[derive(Debug, Default)]
struct Seen {
    joins: u32,
    admissions: u32,
}

struct Walk {
    mirror: Arc<dyn GateMirror>,
    concert: ConcertId,
    seed: u64,
    random: u64,
    now: Time,
    epoch: u64,
    gate: Gate,
    policy: Policy,
    effects: Effects,
    /// Where the mirror stands, and what it has not been told.
    op: u64,
    newest: u64,
    changes: Vec<MirrorOp>,
    seen: Seen,
}

impl Walk {
    async fn new(mirror: Arc<dyn GateMirror>, concert: ConcertId, seed: u64) -> Self {
        let policy = Policy {
            state: State::Open,
            mode: if seed.is_multiple_of(2) { Mode::PresaleDraw } else { Mode::Fifo },
            per_second: Some(3),
            max_active: Some(6),
            opens_at: Some(NOW + Span::from_secs(30)),
        };
        let mut gate = Gate::new(concert, Epoch(1), Settings::default());
        gate.restore(NOW, policy, &mirror.take_over(concert, Epoch(1), NOW).await.unwrap());
        Self {
            mirror,
            concert,
            seed,
            random: seed,
            now: NOW,
            epoch: 1,
            gate,
            policy,
            effects: Effects::new(),
            op: 0,
            newest: 0,
            changes: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    async fn step(&mut self) {
        // Now and then everybody has been away for long, or the longest age of a pass is over.
        let longest =
            [300, 300, 300, 300, 300, 300, 120_000, 2_000_000][usize::try_from(self.below(8)).unwrap()];
        self.now = self.now + Span(1_000 * self.below(longest).cast_signed());
        let (user, to) = (UserId(1 + self.below(40)), ReplyTo(0));
        let pass = self.gate.snapshot().passes.into_iter().find(|pass| pass.user == user);
        let pass = pass.map_or(PassId(1), |pass| pass.id);
        let input = match self.below(10) {
            0..=3 => Input::Join { user, to },
            4 => Input::Leave { user, to },
            5 => Input::GiveBack { user, pass },
            6 => Input::Heartbeat { user },
            7 => Input::Activity { user, pass },
            8 if self.below(12) == 0 => {
                let states = [State::Open, State::Open, State::Paused, State::Closed];
                let state = states[usize::try_from(self.below(4)).unwrap()];
                let policy = Policy { state, ..self.policy };
                if self.gate.check_policy(&policy).is_ok() {
                    self.policy = policy;
                }
                Input::SetPolicy { policy: self.policy, to }
            }
            _ => Input::Tick,
        };
        self.perform(input).await;
        if self.below(4) == 0 {
            self.send().await;
        }
    }

    /// Steps, and does what the gate says.
    async fn perform(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.gate.step(self.now, input, &mut self.effects);
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Mirror { no, op: MirrorOp::Rebuild } => self.rebuild(no).await,
                    Effect::Mirror { no, op } => {
                        self.seen.joins += u32::from(matches!(op, MirrorOp::Join { .. }));
                        self.newest = no.0;
                        self.changes.push(op);
                    }
                    Effect::Frozen { first, upto } => {
                        let mut order: Vec<Turn> = self.gate.entrants().map(|(turn, _)| turn).collect();
                        order.reverse();
                        let order = order.into_boxed_slice();
                        inputs.push(Input::Drawn { first, upto, order, to: ReplyTo(0) });
                    }
                    Effect::Admitted { .. } => self.seen.admissions += 1,
                    Effect::Halt(reason) => panic!("seed {}: {reason:?}", self.seed),
                    _ => {}
                }
            }
        }
    }

    /// Everything as it is now: what follows of this step is in it already, and is done again.
    async fn rebuild(&mut self, no: OpNo) {
        self.changes.clear();
        (self.op, self.newest) = (no.0, no.0);
        let (epoch, kept) = (Epoch(self.epoch), self.gate.snapshot());
        let answer = self.mirror.rebuild(self.concert, epoch, no.0, self.now, &kept).await.unwrap();
        assert_eq!(answer, MirrorAnswer::Applied, "seed {}", self.seed);
    }

    /// What waits, as one batch; and the same again from time to time.
    async fn send(&mut self) {
        let batch = GateBatch {
            concert: self.concert,
            epoch: Epoch(self.epoch),
            previous: self.op,
            op: self.newest,
            now: self.now,
            changes: std::mem::take(&mut self.changes),
        };
        for _ in 0..=self.below(2) {
            let answer = self.mirror.apply(&batch).await.unwrap();
            assert_eq!(answer, MirrorAnswer::Applied, "seed {}: {batch:?}", self.seed);
        }
        self.op = self.newest;
        Box::pin(self.perform(Input::Mirrored { upto: OpNo(self.op) })).await;
    }

    /// The gate dies, and another goes on from what the mirror has.
    async fn next_owner(&mut self, mirror: Arc<dyn GateMirror>) {
        self.perform(Input::Tick).await;
        while self.op < self.newest {
            self.send().await;
        }
        self.epoch += 1;
        self.mirror = mirror;
        let kept = self.mirror.take_over(self.concert, Epoch(self.epoch), self.now).await.unwrap();
        assert_eq!(kept, self.gate.snapshot(), "seed {}, epoch {}", self.seed, self.epoch);
        self.gate = Gate::new(self.concert, Epoch(self.epoch), Settings::default());
        let left_out = self.gate.restore(self.now, self.policy, &kept);
        assert_eq!(left_out, 0, "seed {}", self.seed);
        if !matches!(kept.draw, Draw::Frozen { .. }) {
            assert_eq!(self.gate.snapshot(), kept, "seed {}", self.seed);
        }
        (self.op, self.newest) = (0, 0);
    }
}

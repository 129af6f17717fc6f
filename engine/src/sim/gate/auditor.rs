//! The auditor: what must be true whatever happens, as an outsider sees it.
//!
//! It does not know the rules. It remembers what people were told, across crashes, and holds the gate to it; and it
//! compares the gate with the twin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::twin::Twin;
use crate::gate::{Answer, Effect, Gate, MirrorOp, Policy, Snapshot, Standing, State};
use crate::ids::{PassId, ReplyTo, Turn, UserId};
use crate::time::{Span, Time};

/// A broken invariant, in a sentence.
pub type Verdict = Result<(), String>;

const SECOND: Span = Span::from_secs(1);

#[derive(Default)]
pub struct Auditor {
    /// The rank that people were last shown, counted from 0.
    shown: BTreeMap<UserId, (Turn, u32)>,
    /// Passes that were told and have not ended.
    live: BTreeMap<UserId, (PassId, Time)>,
    /// Turns whose admission was told.
    admitted: BTreeSet<Turn>,
    /// Admissions of the last second with the rate that each was decided under, by decision and by telling.
    decided_at: VecDeque<(Time, u32)>,
    told_at: VecDeque<(Time, u32)>,
    /// The rates of those that are decided and not told.
    untold: BTreeMap<PassId, u32>,
    /// Something was told that is not in the mirror yet: a crash may take it back.
    pub lossy: bool,
}

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}

impl Auditor {
    /// The gate did what the twin said, no more and no less.
    pub fn check_effects(effects: &[Effect], predicted: &[Effect]) -> Verdict {
        let (gate, twin) = (sorted(effects), sorted(predicted));
        ensure!(gate == twin, "effects differ\n  gate: {gate:?}\n  twin: {twin:?}");
        let admitted = |effects: &[Effect]| {
            let admitted = effects.iter().filter(|effect| matches!(effect, Effect::Admitted { .. }));
            admitted.map(|effect| format!("{effect:?}")).collect::<Vec<_>>()
        };
        let same = admitted(effects) == admitted(predicted);
        ensure!(same, "admitted in another order\n  gate: {effects:?}\n  twin: {predicted:?}");
        Ok(())
    }

    /// The gate stands where the twin stands.
    pub fn check_state(gate: &Gate, twin: &Twin, users: u64) -> Verdict {
        if twin.halted {
            return Ok(());
        }
        for user in (1..=users).map(UserId) {
            let (gate, twin) = (without_eta(gate.standing(user)), twin.standing(user));
            ensure!(gate == twin, "user {user}: gate {gate:?}, twin {twin:?}");
        }
        let Snapshot { waiting, passes, draw, .. } = gate.snapshot();
        let passes: Vec<_> = passes.iter().map(|kept| (kept.user, kept.id)).collect();
        ensure!(waiting == twin.line(), "who waits differs: gate {waiting:?}, twin {:?}", twin.line());
        ensure!(passes == twin.passes(), "passes differ: gate {passes:?}, twin {:?}", twin.passes());
        ensure!((draw, gate.policy()) == (twin.draw, &twin.policy), "draw or policy differ");
        if let Some(wake) = gate.next_wake() {
            ensure!(wake > twin.now, "would spin: wakes at {wake}, and it is {}", twin.now);
        }
        Ok(())
    }

    /// What people see of a step that the gate took at `now`.
    pub fn watch(&mut self, effect: &Effect, now: Time, policy: &Policy) -> Verdict {
        match effect {
            Effect::Admitted { user, pass, durable, .. } => {
                self.lossy |= !durable;
                let turn = Turn(low(pass.id.0));
                ensure!(!self.live.contains_key(user), "user {user} is admitted, and has a pass already");
                ensure!(self.admitted.insert(turn), "turn {turn} is admitted twice");
                self.live.insert(*user, (pass.id, pass.ends_at));
                self.shown.remove(user);
                let rate = self.untold.remove(&pass.id).unwrap_or(0);
                within_rate("told", &mut self.told_at, now, rate)
            }
            Effect::PassEnded { user, .. } => {
                self.live.remove(user);
                self.shown.remove(user);
                Ok(())
            }
            Effect::Mirror { op: MirrorOp::Admit { pass, .. }, .. } => {
                let rate = policy.per_second.unwrap_or(u32::MAX);
                self.untold.insert(*pass, rate);
                within_rate("decided", &mut self.decided_at, now, rate)
            }
            Effect::Mirror { op: MirrorOp::Remove { user, .. }, .. } => {
                self.shown.remove(user);
                Ok(())
            }
            Effect::Drawn | Effect::Rejected => {
                self.shown.clear();
                Ok(())
            }
            Effect::Mirror { .. } | Effect::Frozen { .. } | Effect::Reply { .. } | Effect::Halt(_) => Ok(()),
        }
    }

    /// Somebody was told how it stands.
    pub fn reply(&mut self, user: UserId, answer: &Answer, durable: bool) -> Verdict {
        self.lossy |= !durable;
        match answer {
            Answer::Standing(Standing::Waiting { turn, ahead: Some(ahead), .. }) => {
                self.rank(user, *turn, *ahead)?;
                self.shown.insert(user, (*turn, *ahead));
            }
            Answer::Standing(Standing::Active(pass)) => {
                let known = self.live.get(&user).map(|(id, _)| *id) == Some(pass.id);
                ensure!(known, "user {user} is told pass {:?} that it never got", pass.id);
            }
            _ => {}
        }
        Ok(())
    }

    fn rank(&self, user: UserId, turn: Turn, ahead: u32) -> Verdict {
        if let Some((shown, rank)) = self.shown.get(&user) {
            ensure!(turn == *shown, "user {user}: turn {shown} became {turn}");
            ensure!(ahead <= *rank, "user {user}: {rank} were ahead, now {ahead} are");
        }
        Ok(())
    }

    /// Nobody's rank rises, step by step; passes that were told are there, and no more than may be.
    pub fn check_promises(&mut self, gate: &Gate, now: Time) -> Verdict {
        let shown: Vec<UserId> = self.shown.keys().copied().collect();
        for user in shown {
            match gate.standing(user) {
                Standing::Waiting { turn, ahead: Some(ahead), .. } => {
                    self.rank(user, turn, ahead)?;
                    self.shown.insert(user, (turn, ahead));
                }
                // An admission that is on its way.
                Standing::Active(_) | Standing::Free | Standing::Rejected => {}
                other => return Err(format!("user {user} waited, and now: {other:?}")),
            }
        }
        for (user, (pass, _)) in self.live.iter().filter(|(_, (_, ends_at))| *ends_at > now) {
            ensure!(gate.is_live(now, *pass, *user), "user {user} was told a pass that does not work");
        }
        Ok(())
    }

    /// Whoever gets into the sale stays below the ceiling, unless it was lowered meanwhile.
    pub fn check_ceiling(gate: &Gate, effects: &[Effect]) -> Verdict {
        let admits = |effect: &Effect| matches!(effect, Effect::Mirror { op: MirrorOp::Admit { .. }, .. });
        let passes = gate.load().passes;
        let most = gate.policy().ceiling() as usize;
        ensure!(!effects.iter().any(admits) || passes <= most, "{passes} passes of {most}");
        Ok(())
    }

    /// Another owner goes on from what the mirror kept.
    pub fn restored(&mut self, kept: &Snapshot, policy: &Policy, now: Time) -> Verdict {
        if std::mem::take(&mut self.lossy) {
            self.shown.clear();
            self.admitted.clear();
            self.live.clear();
        }
        for (user, (pass, ends_at)) in &self.live {
            let there = kept.passes.iter().any(|kept| (kept.user, kept.id) == (*user, *pass));
            ensure!(there || *ends_at <= now, "the pass of user {user} did not survive");
        }
        for (user, (turn, _)) in &self.shown {
            let there = kept.waiting.contains(&(*turn, *user))
                || kept.passes.iter().any(|kept| (kept.user, kept.turn) == (*user, *turn));
            ensure!(there || policy.state == State::Closed, "turn {turn} of user {user} did not survive");
        }
        // What ended or was decided just before may have come back, or become true.
        self.live = kept.passes.iter().map(|kept| (kept.user, (kept.id, kept.ends_at))).collect();
        let closed = policy.state == State::Closed;
        self.shown.retain(|user, _| !closed && kept.waiting.iter().any(|(_, other)| other == user));
        self.admitted.extend(kept.passes.iter().map(|kept| kept.turn));
        Ok(())
    }

    /// Nobody hears from the old owner any more.
    pub fn check_answered(waiting: &BTreeMap<ReplyTo, UserId>) -> Verdict {
        ensure!(waiting.is_empty(), "never answered: {waiting:?}");
        Ok(())
    }
}

/// No second sees more than the highest rate that its admissions were decided under, whoever owned the gate.
fn within_rate(what: &str, times: &mut VecDeque<(Time, u32)>, now: Time, rate: u32) -> Verdict {
    times.push_back((now, rate));
    while times.front().is_some_and(|(at, _)| *at + SECOND <= now) {
        times.pop_front();
    }
    let most = times.iter().map(|(_, rate)| *rate).max().unwrap_or(0);
    ensure!(times.len() <= most as usize, "{} admissions {what} within a second, of {most}", times.len());
    Ok(())
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

pub fn without_eta(standing: Standing) -> Standing {
    match standing {
        Standing::Waiting { turn, ahead, .. } => Standing::Waiting { turn, ahead, eta: None },
        other => other,
    }
}

/// In which order things of one step are told is nobody's business, nor what is estimated.
fn sorted(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match effect {
        Effect::Mirror { op, .. } => format!("{op:?}"),
        Effect::Reply { to, answer: Answer::Standing(standing), durable } => {
            format!("reply {to}: {:?}, durable {durable}", without_eta(*standing))
        }
        other => format!("{other:?}"),
    };
    let mut words: Vec<String> = effects.iter().map(word).collect();
    words.sort_unstable();
    words
}

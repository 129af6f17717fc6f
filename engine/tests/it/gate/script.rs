//! The gate's rules as text: one line a step, what is asked on the left of `=>`, what comes out on the right.
//!
//! ```text
//! policy open rate=1       => set
//! u1 join                  => WAITING 0; u1 in until 301
//! +300                     => u1 out EXPIRED
//! ```
//! Times are seconds and begin at 1. The mirror takes everything at once, except between `hold` and `ack`, or `away`
//! and `back`; a `!` marks what it does not know. `crash` restores what it last had. `draw u2 u1` brings an order.

use std::fmt::Write as _;

use engine::gate::{
    Answer, Effect, Effects, Gate, Input, MirrorOp, Mode, Policy, Settings, Snapshot, Standing, State,
};
use engine::{ConcertId, Epoch, OpNo, PassId, ReplyTo, Span, Time, Turn, UserId};

/// Runs a script and compares every line; on a difference it shows the script as it really went.
#[track_caller]
pub fn check(script: &str) {
    let mut world = World::new();
    let (mut went, mut same) = (String::new(), true);
    for line in script.trim().lines().map(str::trim) {
        if line.is_empty() || line.starts_with("//") {
            let _ = writeln!(went, "{line}");
            continue;
        }
        let (asked, expected) = line.split_once("=>").unwrap_or((line, ""));
        world.said.clear();
        world.line(asked.trim());
        let actual = world.said.join("; ");
        same &= actual == expected.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(went, "{:<24} => {actual}", asked.trim());
    }
    assert!(same, "expected:\n{script}\nwent:\n{went}");
}

struct World {
    gate: Gate,
    epoch: Epoch,
    now: Time,
    policy: Policy,
    held: bool,
    newest: OpNo,
    /// As of the newest operation the mirror has.
    kept: Snapshot,
    frozen: (Turn, Turn),
    entrants: Vec<(Turn, UserId)>,
    said: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self {
            gate: Gate::new(ConcertId(1), Epoch(1), Settings::default()),
            epoch: Epoch(1),
            now: Time(1_000_000),
            policy: Policy::default(),
            held: false,
            newest: OpNo(0),
            kept: Snapshot::default(),
            frozen: (Turn(0), Turn(0)),
            entrants: Vec::new(),
            said: Vec::new(),
        }
    }

    fn line(&mut self, asked: &str) {
        let words: Vec<&str> = asked.split_whitespace().collect();
        match words[..] {
            ["policy", state, ref rest @ ..] => self.set_policy(state, rest),
            ["hold"] => self.held = true,
            ["ack"] => {
                self.held = false;
                self.ack();
            }
            ["away"] => {
                self.held = true;
                self.step(Input::MirrorAway);
            }
            ["back"] => {
                self.held = false;
                self.kept = self.gate.snapshot();
                self.step(Input::MirrorBack { upto: self.newest });
            }
            ["crash"] => self.crash(),
            ["draw", ref users @ ..] => {
                let turn = |word: &&str| {
                    let user = user(word);
                    self.entrants.iter().find(|(_, other)| *other == user).map_or(Turn(99), |(turn, _)| *turn)
                };
                let order = users.iter().map(turn).collect();
                let (first, upto) = self.frozen;
                self.step(Input::Drawn { first, upto, order, to: ReplyTo(1) });
            }
            [who, what] => self.user(user(who), what),
            [wait] => self.wait(wait.parse().expect("+seconds")),
            _ => panic!("`{asked}` is not a line"),
        }
    }

    fn set_policy(&mut self, state: &str, rest: &[&str]) {
        let states = [State::Open, State::Paused, State::Off, State::Closed];
        let state = states.into_iter().find(|known| known.name() == state).expect("a state");
        let mut policy = Policy { state, ..Policy::default() };
        for word in rest {
            match word.split_once('=').expect("key=value") {
                ("rate", rate) => policy.per_second = Some(rate.parse().unwrap()),
                ("ceiling", ceiling) => policy.max_active = Some(ceiling.parse().unwrap()),
                ("at", seconds) => policy.opens_at = Some(Time(seconds.parse::<i64>().unwrap() * 1_000_000)),
                ("mode", mode) => {
                    let modes = [Mode::Fifo, Mode::PresaleDraw];
                    policy.mode = modes.into_iter().find(|known| known.name() == mode).expect("a mode");
                }
                other => panic!("{other:?} is no part of a policy"),
            }
        }
        self.step(Input::SetPolicy { policy, to: ReplyTo(1) });
        self.policy = *self.gate.policy();
    }

    fn user(&mut self, user: UserId, what: &str) {
        let to = ReplyTo(user.0);
        let pass = match self.gate.standing(user) {
            Standing::Active(pass) => pass.id,
            _ => PassId(77),
        };
        self.step(match what {
            "join" => Input::Join { user, to },
            "status" => Input::Status { user, to },
            "beat" => Input::Heartbeat { user },
            "leave" => Input::Leave { user, to },
            "buy" => Input::GiveBack { user, pass },
            "use" => Input::Activity { user, pass },
            _ => panic!("users do not {what}"),
        });
    }

    fn wait(&mut self, seconds: f64) {
        let until = self.now + Span((seconds * 1e6) as i64);
        while let Some(wake) = self.gate.next_wake().filter(|wake| *wake <= until) {
            assert!(wake > self.now || self.said.len() < 100, "wakes at {wake} again and again");
            self.now = wake;
            self.step(Input::Tick);
        }
        self.now = until;
        self.step(Input::Tick);
    }

    fn crash(&mut self) {
        self.epoch.0 += 1;
        self.held = false;
        self.newest = OpNo(0);
        self.gate = Gate::new(ConcertId(1), self.epoch, Settings::default());
        self.gate.restore(self.now, self.policy, &self.kept);
        let digest = self.gate.digest();
        self.step(Input::Tick);
        let quiet = self.newest == OpNo(0);
        assert!(!quiet || digest == self.gate.digest(), "nothing is decided in the first second");
    }

    fn step(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.gate.step(self.now, input, &mut effects);
        for effect in &effects {
            self.show(effect);
        }
        if !self.held {
            self.ack();
        }
    }

    /// The mirror has everything, and whatever that brings.
    fn ack(&mut self) {
        while self.gate.load().unmirrored > 0 {
            self.kept = self.gate.snapshot();
            let mut effects = Effects::new();
            self.gate.step(self.now, Input::Mirrored { upto: self.newest }, &mut effects);
            for effect in &effects {
                self.show(effect);
            }
        }
    }

    fn show(&mut self, effect: &Effect) {
        let said = match effect {
            Effect::Mirror { no, op } => {
                self.newest = *no;
                match op {
                    MirrorOp::Remove { user, .. } => format!("u{user} removed"),
                    _ => return,
                }
            }
            Effect::Reply { answer, durable, .. } => mark(shown(answer), *durable),
            Effect::Admitted { user, pass, durable, .. } => {
                mark(format!("u{user} in until {}", seconds(pass.expires_at)), *durable)
            }
            Effect::PassEnded { user, why, .. } => format!("u{user} out {}", why.name()),
            Effect::Frozen { first, upto } => {
                self.frozen = (*first, *upto);
                self.entrants = self.gate.entrants().collect();
                format!("frozen {}", self.entrants.len())
            }
            Effect::Drawn => "drawn".to_owned(),
            Effect::Rejected => "rejected".to_owned(),
            Effect::Halt(reason) => format!("halt {reason:?}"),
        };
        self.said.push(said);
    }
}

fn user(word: &str) -> UserId {
    UserId(word.trim_start_matches('u').parse().expect("u1, u2, …"))
}

fn seconds(time: Time) -> f64 {
    time.0 as f64 / 1e6
}

fn mark(said: String, durable: bool) -> String {
    if durable { said } else { said + "!" }
}

fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Standing(Standing::Waiting { ahead: Some(ahead), .. }) => format!("WAITING {ahead}"),
        Answer::Standing(Standing::Waiting { ahead: None, .. }) => "WAITING ?".to_owned(),
        Answer::Standing(Standing::Active(pass)) => format!("ACTIVE until {}", seconds(pass.expires_at)),
        Answer::Standing(Standing::Free) => "FREE".to_owned(),
        Answer::Standing(standing) => standing.name().to_owned(),
        Answer::Left(left) => format!("left {left:?}"),
        Answer::PolicySet { changed } => if *changed { "set" } else { "same" }.to_owned(),
        Answer::PolicyRefused(fault) => format!("no {}", fault.code()),
        Answer::DrawTaken => "taken".to_owned(),
        Answer::DrawRefused(fault) => format!("no {fault:?}"),
        Answer::Overloaded => "OVERLOADED".to_owned(),
    }
}

//! One who comes to a gate: some bytes, and what can be said of the answers they get.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::order::Within;
use super::wire::Standing;
use crate::history::Nanos;

/// Who is not heard of for so long may lose their place.
const GRACE: Nanos = 60_000_000_000;
/// Clocks of one machine, and an answer on its way.
const SLACK: Duration = Duration::from_secs(1);
/// An instant that has not come.
pub const NEVER: Within = Within { from: Nanos::MAX, to: Nanos::MAX };

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Has no answer to a join yet.
    #[default]
    Coming,
    Waiting,
    /// Has a pass.
    Inside,
    /// Said goodbye, or was turned away.
    Gone,
    /// Went away without a word.
    Silent,
}

/// How somebody grows tired of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Patient,
    /// Says goodbye then.
    Leaves(Nanos),
    /// Is not heard of any more after it.
    FallsSilent(Nanos),
}

/// What must not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// More were ahead than before.
    pub rose: u32,
    /// Another pass beside one that is alive.
    pub doubled: u32,
    /// Another turn, or none for somebody who is there.
    pub lost_place: u32,
    /// A pass that was alive, and was neither given back nor run out.
    pub lost_pass: u32,
}

#[derive(Clone, Debug)]
pub struct User {
    /// Kept, since a server may remember tokens that it has checked.
    pub token: Arc<str>,
    pub state: State,
    pub habit: Habit,
    pub watches: bool,
    /// When they were due to ask for the first time.
    pub came: Nanos,
    /// From the first request that may have been heard to the answer that accepted it.
    pub joined: Within,
    pub turn: Option<u64>,
    /// When the last request was sent that was answered with WAITING: not admitted before.
    pub waited: Nanos,
    /// When it was known.
    pub admitted: Nanos,
    /// From the goodbye to its answer.
    pub left: Within,
    pub ahead: Option<u64>,
    /// The first that was told.
    pub estimate: Option<(Within, f32, f32)>,
    pass: Option<Held>,
    heard_of: Nanos,
    /// Was not heard of for so long, though it waited, that others may have passed.
    pub was_away: bool,
    pub faults: Faults,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    pass: u64,
    expires_at: Option<jiff::Timestamp>,
}

impl User {
    pub fn new(token: Arc<str>) -> Self {
        Self {
            token,
            state: State::Coming,
            habit: Habit::Patient,
            watches: false,
            came: 0,
            joined: NEVER,
            turn: None,
            waited: 0,
            admitted: Nanos::MAX,
            left: NEVER,
            ahead: None,
            estimate: None,
            pass: None,
            heard_of: 0,
            was_away: false,
            faults: Faults::default(),
        }
    }

    /// When they were let in: after the last that said WAITING, before the first that said ACTIVE.
    pub fn admission(&self) -> Option<Within> {
        let from = self.waited.max(self.joined.from);
        (self.admitted != Nanos::MAX).then_some(Within { from, to: self.admitted })
    }

    /// When they left the line, as far as anybody knows.
    pub fn gone(&self) -> Within {
        Within { from: self.waited, to: self.admitted.min(self.left.to) }
    }

    /// Whether they got in line.
    pub fn has_joined(&self) -> bool {
        self.joined.to != Nanos::MAX
    }

    /// A request to join goes out: it may be heard from now on.
    pub fn asks(&mut self, sent: Nanos) {
        self.joined.from = self.joined.from.min(sent);
    }

    /// What came of a request, or of a stream that was asked for then; `is_stream` says what a request said already.
    pub fn hears(&mut self, said: &Standing, at: Within, is_stream: bool) {
        // A stream is heard of while it lasts.
        let heard = if is_stream { at.to } else { at.from };
        let away = self.state == State::Waiting && heard.saturating_sub(self.heard_of) >= GRACE;
        self.was_away |= away;
        self.heard_of = self.heard_of.max(heard);
        if self.state == State::Coming {
            self.joined.to = at.to;
        }
        match said.status.as_str() {
            "ACTIVE" => self.enters(said, at),
            "WAITING" if self.state == State::Inside => self.loses_pass(),
            "WAITING" => self.waits(said, at, is_stream),
            "NONE" => match self.state {
                // Whoever has left is told so.
                State::Waiting if !away => {
                    self.faults.lost_place += 1;
                    self.state = State::Gone;
                }
                State::Waiting => self.state = State::Gone,
                State::Inside => self.loses_pass(),
                State::Coming | State::Gone | State::Silent => {}
            },
            // Rejected: nobody comes in any more.
            _ => self.state = State::Gone,
        }
    }

    fn enters(&mut self, said: &Standing, at: Within) {
        let hash = |pass: &String| {
            let mut hasher = DefaultHasher::new();
            pass.hash(&mut hasher);
            hasher.finish()
        };
        let expires_at = said.pass_expires_at.as_ref().and_then(|at| at.parse().ok());
        let pass = said.pass.as_ref().map(hash).map(|pass| Held { pass, expires_at });
        let other = self.pass.zip(pass).is_some_and(|(had, has)| had.pass != has.pass && had.is_alive());
        self.faults.doubled += u32::from(other);
        self.pass = pass.or(self.pass);
        self.admitted = self.admitted.min(at.to);
        self.state = State::Inside;
    }

    fn waits(&mut self, said: &Standing, at: Within, is_stream: bool) {
        self.state = State::Waiting;
        self.waited = self.waited.max(at.from);
        let changed = self.turn.zip(said.turn).is_some_and(|(had, has)| had != has);
        self.faults.lost_place += u32::from(changed);
        self.turn = said.turn.or(self.turn);
        let ahead = said.ahead();
        self.faults.rose += u32::from(self.ahead.zip(ahead).is_some_and(|(had, has)| has > had));
        self.ahead = ahead.or(self.ahead);
        if let (None, Some((low, high))) = (self.estimate, said.eta_seconds) {
            // An event comes at once, but to a stream that was opened long ago.
            let told = if is_stream { Within { from: at.to, to: at.to } } else { at };
            #[expect(clippy::cast_possible_truncation, reason = "seconds for people")]
            let range = (low as f32, high.map_or(f32::INFINITY, |high| high as f32));
            self.estimate = Some((told, range.0, range.1));
        }
    }

    fn loses_pass(&mut self) {
        self.faults.lost_pass += u32::from(self.pass.is_some_and(|held| held.is_alive()));
        self.state = State::Gone;
    }
}

impl Held {
    fn is_alive(&self) -> bool {
        self.expires_at.is_some_and(|at| at > jiff::Timestamp::now() + SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Standing {
        serde_json::from_str(text).unwrap()
    }

    fn waiting(turn: u64, ahead: u64) -> Standing {
        said(&format!(r#"{{"status":"WAITING","turn":{turn},"ahead":{ahead},"etaSeconds":[1,2]}}"#))
    }

    fn active(pass: &str) -> Standing {
        said(&format!(r#"{{"status":"ACTIVE","pass":"{pass}","passExpiresAt":"2999-01-01T00:00:00Z"}}"#))
    }

    /// Hears one after the other, at 0, 10 s, 20 s, …; the last waits so many seconds more.
    fn after(answers: &[Standing], pause: u64) -> User {
        let mut user = User::new("".into());
        user.asks(0);
        for (number, answer) in (0u64..).zip(answers) {
            let late = if number + 1 == answers.len() as u64 { pause } else { 0 };
            let sent = (number * 10 + late) * 1_000_000_000;
            user.hears(answer, Within { from: sent, to: sent + 5 }, false);
        }
        user
    }

    #[test]
    fn what_must_not_happen_is_found() {
        let faults = |rose, doubled, lost_place, lost_pass| Faults { rose, doubled, lost_place, lost_pass };
        let none = said(r#"{"status":"NONE"}"#);
        let expired = said(r#"{"status":"ACTIVE","pass":"a","passExpiresAt":"1999-01-01T00:00:00Z"}"#);
        for (answers, pause, expected) in [
            (
                vec![waiting(5, 3), waiting(5, 3), waiting(5, 0), active("a"), active("a")],
                0,
                faults(0, 0, 0, 0),
            ),
            (vec![waiting(5, 3), waiting(5, 4)], 0, faults(1, 0, 0, 0)),
            (vec![waiting(5, 3), waiting(6, 3)], 0, faults(0, 0, 1, 0)),
            (vec![waiting(5, 3), none.clone()], 0, faults(0, 0, 1, 0)),
            // Was away for too long.
            (vec![waiting(5, 3), none.clone()], 60, faults(0, 0, 0, 0)),
            (vec![active("a"), active("b")], 0, faults(0, 1, 0, 0)),
            (vec![expired.clone(), active("b")], 0, faults(0, 0, 0, 0)),
            (vec![active("a"), none.clone()], 0, faults(0, 0, 0, 1)),
            (vec![active("a"), waiting(9, 9)], 0, faults(0, 0, 0, 1)),
            (vec![expired, none], 0, faults(0, 0, 0, 0)),
        ] {
            assert_eq!(after(&answers, pause).faults, expected, "{answers:?}");
        }
    }

    #[test]
    fn an_admission_lies_between_two_answers() {
        let user = after(&[waiting(5, 3), waiting(5, 1), active("a"), active("a")], 0);
        let second = 1_000_000_000;
        assert_eq!(user.joined, Within { from: 0, to: 5 });
        assert_eq!(user.admission(), Some(Within { from: 10 * second, to: 20 * second + 5 }));
        assert_eq!(user.estimate, Some((Within { from: 0, to: 5 }, 1.0, 2.0)), "the first one");
        assert_eq!(after(&[waiting(5, 3)], 0).admission(), None);
    }
}

//! The new owner's half of a move.
//!
//! **Whether the shard is this node's it learns from the ledger alone**, by renewing the lease that it
//! would have: a row means that the hand-over is done, and the lease counts from before the question as
//! ever. No row means "not yet" or "never", so it asks again until it loses patience. What the old owner
//! says only makes it ask sooner.
//!
//! **A held state is good for exactly one way of getting the shard.** If this node came by epoch e + 1 in
//! another way, an acquire of an expired lease, the old owner may have decided many things since the copy
//! was made. So a node that wants to acquire the shard drops the state first ([`Notice::Acquiring`]), and a
//! node that has an acquire on its way, whose answer it does not know, declines the move.
//!
//! **An old owner that dies says nothing more**, and somebody else may take the shard from it. Once the ledger names
//! another owner in a later epoch ([`Notice::Elsewhere`]) the hand-over can no longer happen, and commands
//! must not wait here for it.

use super::{Answer, Attempt, Patience};
use crate::ids::Epoch;
use crate::time::{Moment, Span};

/// Takes one shard in. `S` is the state that is moved.
#[derive(Debug)]
pub struct Arrival<S> {
    attempt: Attempt,
    arrived: Arrived<S>,
    /// How often the ledger is asked.
    ask: Span,
    asked: Moment,
    deadline: Moment,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived<S> {
    /// What does not depend on the state is fetched: plans, adjacency, connections.
    Warming,
    /// Warm; the state is still to come.
    Waiting,
    /// The state of epoch e is here, and belongs to nobody else's eyes.
    Holding(S),
    /// It was handed out: this node has the shard.
    Serving,
    Dropped(Dropped),
}

/// Why nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The move took too long.
    TooLate,
    /// The old owner goes on itself.
    Resumed,
    /// This node will get the shard in another way, and then from the ledger.
    Acquired,
    /// Another node got it.
    Elsewhere,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<S> {
    Warm,
    /// The state of this attempt, complete.
    State(Attempt, S),
    /// The old owner says that the ledger has the hand-over.
    HandedOver(Attempt),
    /// The old owner says that it goes on.
    Resumed(Attempt),
    /// The answer to [`Step::Renew`].
    Renewed(Answer),
    /// This node is about to acquire the shard.
    Acquiring,
    /// The ledger says that another node has it, in this epoch.
    Elsewhere(Epoch),
}

/// What the shell does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<S> {
    /// Fetch what does not depend on the state.
    Warm,
    /// Tell the old owner that this node is warm.
    TellReady,
    /// Tell the old owner that the state is here.
    TellHolding,
    /// Renew the lease of this epoch, which this node may or may not have.
    Renew(Epoch),
    /// The shard is this node's in this epoch, as the renewal says: serve from this state.
    Serve(Epoch, S),
    /// Nothing comes of it: tell the old owner, which may be waiting.
    TellDeclined,
}

impl<S> Arrival<S> {
    /// The old owner asks this node to get ready. `ask`: how often the ledger is asked while the state is
    /// held.
    pub fn begin(
        attempt: Attempt,
        patience: Patience,
        ask: Span,
        now: Moment,
        steps: &mut Vec<Step<S>>,
    ) -> Self {
        steps.push(Step::Warm);
        let deadline = now + patience.hold;
        Self { attempt, arrived: Arrived::Warming, ask, asked: now, deadline }
    }

    /// Messages of later attempts begin anew; those of earlier ones are late.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    #[must_use]
    pub const fn arrived(&self) -> &Arrived<S> {
        &self.arrived
    }

    /// When [`Self::tick`] is due; `None` when nothing more comes of it.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        match self.arrived {
            Arrived::Warming | Arrived::Waiting => Some(self.deadline),
            Arrived::Holding(_) => Some(self.deadline.min(self.asked + self.ask)),
            Arrived::Serving | Arrived::Dropped(_) => None,
        }
    }

    /// Something is known now. What does not belong to the attempt or to the phase is late, and ignored.
    pub fn hear(&mut self, now: Moment, notice: Notice<S>, steps: &mut Vec<Step<S>>) {
        let next = Epoch(self.attempt.epoch.0 + 1);
        match (&self.arrived, notice) {
            (Arrived::Serving | Arrived::Dropped(_), _) => {}
            (Arrived::Warming, Notice::Warm) => {
                self.arrived = Arrived::Waiting;
                steps.push(Step::TellReady);
            }
            (Arrived::Warming | Arrived::Waiting, Notice::State(attempt, state))
                if attempt == self.attempt =>
            {
                self.arrived = Arrived::Holding(state);
                self.asked = now;
                steps.push(Step::TellHolding);
            }
            (Arrived::Holding(_), Notice::HandedOver(attempt)) if attempt == self.attempt => {
                self.asked = now;
                steps.push(Step::Renew(next));
            }
            (Arrived::Holding(_), Notice::Renewed(Answer::Row)) => {
                if let Arrived::Holding(state) = std::mem::replace(&mut self.arrived, Arrived::Serving) {
                    steps.push(Step::Serve(next, state));
                }
            }
            (_, Notice::Resumed(attempt)) if attempt == self.attempt => {
                self.arrived = Arrived::Dropped(Dropped::Resumed);
            }
            (_, Notice::Acquiring) => self.drop_state(Dropped::Acquired, steps),
            (_, Notice::Elsewhere(epoch)) if epoch > self.attempt.epoch => {
                self.drop_state(Dropped::Elsewhere, steps);
            }
            _ => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment, steps: &mut Vec<Step<S>>) {
        let Some(due) = self.next_wake().filter(|due| now >= *due) else { return };
        if due >= self.deadline {
            self.drop_state(Dropped::TooLate, steps);
        } else {
            self.asked = now;
            steps.push(Step::Renew(Epoch(self.attempt.epoch.0 + 1)));
        }
    }

    fn drop_state(&mut self, why: Dropped, steps: &mut Vec<Step<S>>) {
        self.arrived = Arrived::Dropped(why);
        steps.push(Step::TellDeclined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: Attempt = Attempt { epoch: Epoch(7), no: 2 };
    const EARLIER: Attempt = Attempt { no: 1, ..ATTEMPT };
    const ASK: Span = Span::from_millis(100);

    fn arrival(notices: &[Notice<u8>]) -> (Arrival<u8>, Vec<Step<u8>>) {
        let mut steps = Vec::new();
        let mut arrival = Arrival::begin(ATTEMPT, Patience::default(), ASK, Moment(0), &mut steps);
        for notice in notices {
            arrival.hear(Moment(0), notice.clone(), &mut steps);
        }
        (arrival, steps)
    }

    fn check(what: &str, notices: &[Notice<u8>], arrived: &Arrived<u8>, expected: &[Step<u8>]) {
        let (arrival, steps) = arrival(notices);
        assert_eq!((arrival.arrived(), &steps[0]), (arrived, &Step::Warm), "{what}");
        assert_eq!(&steps[1..], expected, "{what}");
    }

    #[test]
    fn it_serves_what_it_holds_when_the_ledger_says_so() {
        use Notice::{Acquiring, Elsewhere, HandedOver, Renewed, Resumed, State, Warm};
        let (state, next) = (State(ATTEMPT, 5), Epoch(8));
        let (ready, holding) = (Step::TellReady, Step::TellHolding);
        check("warm", &[Warm], &Arrived::Waiting, std::slice::from_ref(&ready));
        let held = [Warm, state.clone()];
        check("holding", &held, &Arrived::Holding(5), &[ready.clone(), holding.clone()]);
        let served = [Warm, state.clone(), HandedOver(ATTEMPT), Renewed(Answer::Row), Renewed(Answer::Row)];
        let steps = [ready.clone(), holding.clone(), Step::Renew(next), Step::Serve(next, 5)];
        check("served once", &served, &Arrived::Serving, &steps);
        let not_yet = [Warm, state.clone(), Renewed(Answer::NoRow), Renewed(Answer::Unknown)];
        check("not yet", &not_yet, &Arrived::Holding(5), &[ready.clone(), holding.clone()]);
        check(
            "nothing to serve",
            &[Warm, Renewed(Answer::Row)],
            &Arrived::Waiting,
            std::slice::from_ref(&ready),
        );
        let late = [Warm, State(EARLIER, 4), HandedOver(EARLIER), Resumed(EARLIER)];
        check("an earlier attempt's", &late, &Arrived::Waiting, std::slice::from_ref(&ready));
        let resumed = [Warm, state.clone(), Resumed(ATTEMPT), Renewed(Answer::Row)];
        let dropped = Arrived::Dropped(Dropped::Resumed);
        check("resumed", &resumed, &dropped, &[ready.clone(), holding.clone()]);
        let acquired = [Warm, state.clone(), Acquiring, Renewed(Answer::Row)];
        let dropped = Arrived::Dropped(Dropped::Acquired);
        let declined = [ready, holding, Step::TellDeclined];
        check("acquired", &acquired, &dropped, &declined);
        let old = [Warm, state.clone(), Elsewhere(ATTEMPT.epoch)];
        check("still the old owner's", &old, &Arrived::Holding(5), &declined[..2]);
        let taken = [Warm, state, Elsewhere(next), Renewed(Answer::Row)];
        check("taken from the old owner", &taken, &Arrived::Dropped(Dropped::Elsewhere), &declined);
    }

    #[test]
    fn it_asks_the_ledger_until_it_loses_patience() {
        let (mut arrival, mut steps) = arrival(&[Notice::Warm, Notice::State(ATTEMPT, 5)]);
        steps.clear();
        let mut asked = 0;
        while let Some(due) = arrival.next_wake() {
            arrival.tick(Moment(due.0 - 1), &mut steps);
            assert_eq!(steps, [], "not yet due");
            arrival.tick(due, &mut steps);
            match steps.pop() {
                Some(Step::Renew(Epoch(8))) => asked += 1,
                step => assert_eq!(step, Some(Step::TellDeclined)),
            }
        }
        assert_eq!(arrival.arrived(), &Arrived::Dropped(Dropped::TooLate));
        assert_eq!(asked, 299, "every 100 ms of 30 s");
        assert_eq!(arrival.attempt(), ATTEMPT);
    }
}

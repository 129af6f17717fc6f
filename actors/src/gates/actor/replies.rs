//! Who waits for which answer of a gate, and for how long.

use std::collections::VecDeque;

use engine::{ReplyTo, Unavailable};
use tokio::time::Instant;

use super::Reply;
use crate::gates::ask::GateSaid;
use crate::permits::Permit;

/// A number is its slot's place in the low half, and how often the slot was given out in the high one: none is given
/// twice, because an answer that comes after its deadline must not reach somebody else, and none is 0.
#[derive(Debug, Default)]
pub struct Replies {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// In the order in which they came.
    deadlines: VecDeque<(Instant, ReplyTo)>,
}

#[derive(Debug)]
struct Slot {
    /// The last that was given out for it.
    to: ReplyTo,
    /// `None`: nobody waits any more.
    reply: Option<Reply>,
    /// Returns with the gate's answer, and not before: what a gate owes is bounded by it.
    permit: Option<Permit>,
}

const ROUND: u64 = 1 << 32;

impl Replies {
    pub fn insert(&mut self, deadline: Instant, reply: Reply, permit: Permit) -> ReplyTo {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { to: ReplyTo(self.slots.len() as u64), reply: None, permit: None });
            self.slots.len() - 1
        });
        let to = ReplyTo(self.slots[place].to.0 + ROUND);
        self.slots[place] = Slot { to, reply: Some(reply), permit: Some(permit) };
        self.deadlines.push_back((deadline, to));
        to
    }

    /// Answers whoever still waits.
    pub fn answer(&mut self, to: ReplyTo, said: Result<GateSaid, Unavailable>) {
        let Some((place, slot)) = self.owed(to) else { return };
        drop(slot.permit.take());
        if let Some(reply) = slot.reply.take() {
            // A client that went away misses its answer, and may ask again.
            let _waits = reply.send(said);
        }
        self.free.push(place);
        self.forget_answered();
    }

    /// Tells those whose time is over that nobody knows. One behind somebody with more patience waits as long.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, to)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if let Some(reply) = self.owed(to).and_then(|(_, slot)| slot.reply.take()) {
                let _waits = reply.send(Err(Unavailable::Overloaded));
            }
        }
        self.forget_answered();
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    fn owed(&mut self, to: ReplyTo) -> Option<(usize, &mut Slot)> {
        let place = usize::try_from(to.0 % ROUND).ok()?;
        let slot = self.slots.get_mut(place)?;
        (slot.to == to && slot.permit.is_some()).then_some((place, slot))
    }

    fn forget_answered(&mut self) {
        while let Some((_, to)) = self.deadlines.front().copied()
            && self.owed(to).is_none()
        {
            self.deadlines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::sync::oneshot::Receiver;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::permits::Pool;

    struct Bench {
        begun: Instant,
        pool: Arc<Pool>,
        replies: Replies,
    }

    type Heard = Receiver<Result<GateSaid, Unavailable>>;

    impl Bench {
        fn new() -> Self {
            Self { begun: Instant::now(), pool: Pool::new(8), replies: Replies::default() }
        }

        fn at(&self, second: u64) -> Instant {
            self.begun + Duration::from_secs(second)
        }

        fn ask(&mut self, patience: u64) -> (ReplyTo, Heard) {
            let (reply, heard) = oneshot::channel();
            let deadline = self.at(patience);
            (self.replies.insert(deadline, reply, self.pool.take().unwrap()), heard)
        }
    }

    #[test]
    fn an_answer_reaches_whom_it_is_for_and_once() {
        let mut bench = Bench::new();
        let ((a, mut heard_a), (b, mut heard_b)) = (bench.ask(1), bench.ask(1));
        bench.replies.answer(b, Ok(GateSaid::Heard));
        assert_eq!(heard_b.try_recv(), Ok(Ok(GateSaid::Heard)));
        let (c, mut heard_c) = bench.ask(3);
        // Twice, to nobody, and to one who is still to come.
        for to in [b, ReplyTo(0), ReplyTo(a.0 + ROUND), ReplyTo(c.0 + ROUND), ReplyTo(u64::MAX)] {
            bench.replies.answer(to, Ok(GateSaid::NoSuchRound));
        }
        assert_eq!(heard_a.try_recv(), Err(TryRecvError::Empty));
        assert_eq!((heard_c.try_recv(), bench.pool.used()), (Err(TryRecvError::Empty), 2));
        bench.replies.answer(a, Ok(GateSaid::Heard));
        bench.replies.answer(c, Ok(GateSaid::Heard));
        assert_eq!(
            (heard_a.try_recv(), heard_c.try_recv()),
            (Ok(Ok(GateSaid::Heard)), Ok(Ok(GateSaid::Heard)))
        );
        assert_eq!((bench.replies.next_deadline(), bench.pool.used()), (None, 0));
    }

    #[test]
    fn who_has_waited_long_enough_hears_so_and_is_owed_until_the_gate_answers() {
        let mut bench = Bench::new();
        let ((a, mut heard_a), (_, mut heard_b)) = (bench.ask(1), bench.ask(3));
        assert_eq!(bench.replies.next_deadline(), Some(bench.at(1)));
        bench.replies.expire(bench.at(1));
        assert_eq!(heard_a.try_recv(), Ok(Err(Unavailable::Overloaded)));
        assert_eq!((heard_b.try_recv(), bench.pool.used()), (Err(TryRecvError::Empty), 2));
        assert_eq!(bench.replies.next_deadline(), Some(bench.at(3)));
        let (c, mut heard_c) = bench.ask(4);
        bench.replies.answer(a, Ok(GateSaid::Heard));
        assert_eq!((heard_c.try_recv(), bench.pool.used()), (Err(TryRecvError::Empty), 2));
        assert_ne!(bench.ask(4).0, a, "its slot is given out again, its number is not");
        bench.replies.answer(c, Ok(GateSaid::Heard));
        assert_eq!(heard_c.try_recv(), Ok(Ok(GateSaid::Heard)));
        assert_eq!((heard_b.try_recv(), bench.pool.used()), (Err(TryRecvError::Empty), 2));
    }
}

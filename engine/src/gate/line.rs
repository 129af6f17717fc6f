//! The line: who waits in which turn, who is still there, and how many are ahead of whom.
//!
//! Turns lie in blocks of 4,096. A block has its waiters' records and a bit per turn for each of three
//! questions: whether its user *waits*; whether they are *present*, or have been away for too long when
//! last looked at; and whether the turn is *ahead* of those behind it, which it stays until the mirror
//! knows that it is not, lest a crash push everybody back. Two trees of counts over the blocks answer
//! how many are ahead, and where the next one present is, in logarithmic time. A block that nobody is in any
//! more is freed.

use super::bitmap::Bitmap;
use super::counts::Counts;
use super::users::Users;
use crate::deadlines::Deadlines;
use crate::ids::{Turn, UserId};
use crate::index::mix;
use crate::limits::TURNS_PER_BLOCK;
use crate::time::{Span, Time};

const SECOND: i64 = Span::from_secs(1).0;

/// Who has a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiter {
    pub user: UserId,
    /// When they joined; `None` of those who joined before a restore.
    pub joined: Option<JoinTime>,
    seen: Time,
}

/// A time that is not zero, so that an unknown one takes no room of its own.
pub type JoinTime = std::num::NonZero<i64>;

impl Waiter {
    /// Somebody of whom only this is known.
    pub const fn restored(user: UserId, seen: Time) -> Self {
        Self { user, joined: None, seen }
    }
}

#[derive(Debug)]
struct Block {
    waiters: Box<[Waiter]>,
    waiting: Bitmap,
    present: Bitmap,
    ahead: Bitmap,
    ahead_count: u32,
    /// When to look for waiters who stayed away too long; none does earlier.
    removal_at: Time,
    /// Since the last tick.
    changed: bool,
}

#[derive(Debug, Default)]
pub struct Line {
    /// The next turn to be given out.
    next: u32,
    blocks: Vec<Option<Box<Block>>>,
    /// The last block that was freed: the next one is never far.
    spare: Option<Box<Block>>,
    by_user: Users,
    ahead: Counts,
    present: Counts,
    removals: Deadlines,
    /// Everybody who waits counts as seen at this time, or later.
    heartbeats_from: Time,
    changed: Vec<u32>,
}

impl Line {
    pub const fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Nobody waits, and no turn is ahead of anybody.
    pub fn is_empty(&self) -> bool {
        self.ahead.total() == 0
    }

    pub const fn next(&self) -> Turn {
        Turn(self.next)
    }

    /// Turns below are spent, whoever had them.
    pub fn skip_to(&mut self, next: Turn) {
        self.next = self.next.max(next.0);
    }

    /// The turn in which a user waits.
    pub fn find(&self, user: UserId) -> Option<Turn> {
        self.by_user.find(mix(user.0), |turn| self.user_in(turn) == user)
    }

    /// At the end of the line. The user does not wait yet.
    pub fn join(&mut self, user: UserId, now: Time, ghost_ttl: Span) -> Turn {
        let turn = Turn(self.next);
        self.place(turn, Waiter { user, joined: JoinTime::new(now.0), seen: now }, ghost_ttl);
        turn
    }

    /// In a turn that nobody has. The user does not wait yet.
    pub fn place(&mut self, turn: Turn, waiter: Waiter, ghost_ttl: Span) {
        let (number, bit) = split(turn.0);
        let due = removal_due(waiter.seen.max(self.heartbeats_from), ghost_ttl);
        let block = self.block(number);
        block.waiters[bit as usize] = waiter;
        block.waiting.set(bit);
        block.present.set(bit);
        block.ahead.set(bit);
        block.ahead_count += 1;
        let sooner = due < block.removal_at;
        block.removal_at = block.removal_at.min(due);
        self.ahead.add(number, 1);
        self.present.add(number, 1);
        self.mark(number);
        if sooner {
            self.removals.set(handle(number), due);
        }
        self.by_user.insert(mix(waiter.user.0), turn);
        self.next = self.next.max(turn.0 + 1);
    }

    /// The user waits no longer; the turn stays ahead of those behind until it is [passed](Self::pass).
    pub fn take(&mut self, turn: Turn) -> Waiter {
        let (number, bit) = split(turn.0);
        let taken = *self.waiter(turn);
        self.by_user.remove(mix(taken.user.0), turn);
        let block = self.block(number);
        block.waiting.clear(bit);
        if block.present.clear(bit) {
            self.present.subtract(number, 1);
        }
        taken
    }

    /// The turn is not ahead of anybody any more.
    pub fn pass(&mut self, turn: Turn) {
        let (number, bit) = split(turn.0);
        let Some(block) = self.blocks.get_mut(number).and_then(Option::as_mut) else { return };
        if !block.ahead.clear(bit) {
            return;
        }
        block.ahead_count -= 1;
        let spent = block.ahead_count == 0 && split(self.next).0 > number;
        self.ahead.subtract(number, 1);
        self.mark(number);
        if spent {
            self.removals.clear(handle(number));
            self.spare = self.blocks[number].take();
        }
    }

    /// How many turns are ahead of this one.
    pub fn ahead_of(&self, turn: Turn) -> u32 {
        let (number, bit) = split(turn.0);
        let block = self.blocks.get(number).and_then(Option::as_ref);
        self.ahead.before(number) + block.map_or(0, |block| block.ahead.count_before(bit))
    }

    /// Whether this user waits in this turn.
    pub fn has(&self, turn: Turn, user: UserId) -> bool {
        let (number, bit) = split(turn.0);
        let block = self.blocks.get(number).and_then(Option::as_ref);
        block.is_some_and(|block| block.waiting.has(bit) && block.waiters[bit as usize].user == user)
    }

    /// Whoever waits in this turn is still there.
    pub fn heartbeat(&mut self, turn: Turn, now: Time) {
        let (number, bit) = split(turn.0);
        let Some(block) = self.blocks.get_mut(number).and_then(Option::as_mut) else { return };
        if !block.waiting.has(bit) {
            return;
        }
        block.waiters[bit as usize].seen = now;
        if block.present.set(bit) {
            self.present.add(number, 1);
        }
    }

    /// As if everybody had been heard of just now.
    pub fn restart_heartbeats(&mut self, now: Time) {
        self.heartbeats_from = self.heartbeats_from.max(now);
        for (number, block) in self.blocks.iter_mut().enumerate() {
            let Some(block) = block else { continue };
            let absent: u32 = block.waiting.0.iter().zip(&block.present.0).map(ones_missing).sum();
            block.present = block.waiting;
            self.present.add(number, absent);
        }
    }

    /// The first in line who has been heard of within `grace`. Whoever is passed over on the way is not
    /// looked at again before a heartbeat, so a crowd of absent people costs each of them once.
    pub fn next_present(&mut self, now: Time, grace: Span) -> Option<Turn> {
        loop {
            let number = self.present.first()?;
            let block = self.blocks[number].as_mut().expect("a block with waiters is there");
            let (mut absent, mut from) = (0, 0);
            let mut found = None;
            while let Some(bit) = block.present.next(from) {
                let seen = block.waiters[bit as usize].seen.max(self.heartbeats_from);
                if now.since(seen) < grace {
                    found = Some(Turn(handle(number) * TURNS_PER_BLOCK + bit));
                    break;
                }
                block.present.clear(bit);
                absent += 1;
                from = bit;
            }
            self.present.subtract(number, absent);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Whether anybody may be present.
    pub fn has_present(&self) -> bool {
        self.present.total() > 0
    }

    /// When to look for waiters who stayed away too long.
    pub fn next_removal(&self) -> Option<Time> {
        self.removals.next()
    }

    /// Adds the waiters of one block who stayed away for `ghost_ttl` to `into`; `false` when no block is due. The
    /// caller [takes](Self::take) them.
    pub fn absent_too_long(&mut self, now: Time, ghost_ttl: Span, into: &mut Vec<Turn>) -> bool {
        let Some(number) = self.removals.pop(now) else { return false };
        let block = self.blocks[number as usize].as_mut().expect("a block with a deadline is there");
        let mut next = Time::NEVER;
        for bit in block.waiting.iter() {
            let due = removal_due(block.waiters[bit as usize].seen.max(self.heartbeats_from), ghost_ttl);
            if due <= now {
                into.push(Turn(number * TURNS_PER_BLOCK + bit));
            } else {
                next = next.min(due);
            }
        }
        block.removal_at = next;
        if next < Time::NEVER {
            self.removals.set(number, next);
        }
        true
    }

    /// Everybody who waits, by turn.
    pub fn waiters(&self) -> impl Iterator<Item = (Turn, &Waiter)> + '_ {
        self.blocks.iter().enumerate().filter_map(|(number, block)| Some((number, block.as_ref()?))).flat_map(
            |(number, block)| {
                block.waiting.iter().map(move |bit| {
                    (Turn(handle(number) * TURNS_PER_BLOCK + bit), &block.waiters[bit as usize])
                })
            },
        )
    }

    /// The blocks that changed since the last call, and how many turns of each are ahead.
    pub fn take_changed(&mut self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let blocks = &mut self.blocks;
        self.changed.sort_unstable();
        self.changed.dedup();
        self.changed.drain(..).map(move |number| {
            let block = blocks[number as usize].as_mut();
            (
                number,
                block.map_or(0, |block| {
                    block.changed = false;
                    block.ahead_count
                }),
            )
        })
    }

    /// Blocks with anything ahead, and how much.
    pub fn blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let counts = self.blocks.iter().map(|block| block.as_ref().map_or(0, |block| block.ahead_count));
        (0..).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Which turns of a block are ahead.
    pub fn bitmap(&self, number: u32) -> Bitmap {
        let block = self.blocks.get(number as usize).and_then(Option::as_ref);
        block.map_or_else(Bitmap::default, |block| block.ahead)
    }

    /// Everybody leaves; turns go on being counted where they were. Viewers are told of every block.
    pub fn dissolve(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.extend(self.blocks().map(|(number, _)| number));
        let blocks = (0..self.blocks.len()).map(|_| None).collect();
        let heartbeats_from = self.heartbeats_from;
        *self = Self { next: self.next, blocks, changed, heartbeats_from, ..Self::default() };
    }

    /// Whoever waits in the first turn of a pair has the second instead; whoever is in no pair leaves. Everybody
    /// counts as seen at `now`.
    pub fn rearrange(&mut self, now: Time, ghost_ttl: Span, moves: impl Iterator<Item = (Turn, Turn)>) {
        let numbers: Vec<u32> = self.blocks().map(|(number, _)| number).collect();
        let blocks: Vec<_> = self.blocks.iter_mut().map(Option::take).collect();
        self.changed.extend(numbers);
        self.dissolve();
        self.heartbeats_from = self.heartbeats_from.max(now);
        for (from, to) in moves {
            let (number, bit) = split(from.0);
            let block = blocks.get(number).and_then(Option::as_ref);
            if let Some(block) = block.filter(|block| block.waiting.has(bit)) {
                self.place(to, block.waiters[bit as usize], ghost_ttl);
            }
        }
    }

    fn block(&mut self, number: usize) -> &mut Block {
        if number >= self.blocks.len() {
            self.blocks.resize_with(number + 1, || None);
        }
        let spare = &mut self.spare;
        self.blocks[number].get_or_insert_with(|| spare.take().map_or_else(Block::new, Block::anew))
    }

    fn waiter(&self, turn: Turn) -> &Waiter {
        let (number, bit) = split(turn.0);
        &self.blocks[number].as_ref().expect("whoever waits is in a block").waiters[bit as usize]
    }

    fn user_in(&self, turn: Turn) -> UserId {
        self.waiter(turn).user
    }

    fn mark(&mut self, number: usize) {
        let block = self.block(number);
        if !std::mem::replace(&mut block.changed, true) {
            self.changed.push(handle(number));
        }
    }
}

impl Block {
    fn new() -> Box<Self> {
        Box::new(Self {
            waiters: vec![Waiter::default(); TURNS_PER_BLOCK as usize].into_boxed_slice(),
            waiting: Bitmap::default(),
            present: Bitmap::default(),
            ahead: Bitmap::default(),
            ahead_count: 0,
            removal_at: Time::NEVER,
            changed: false,
        })
    }

    /// For other turns. The records are written as the turns are given out.
    fn anew(mut block: Box<Self>) -> Box<Self> {
        block.removal_at = Time::NEVER;
        block.changed = false;
        block
    }
}

const fn split(turn: u32) -> (usize, u32) {
    ((turn / TURNS_PER_BLOCK) as usize, turn % TURNS_PER_BLOCK)
}

#[expect(clippy::cast_possible_truncation, reason = "fewer blocks than turns, which are u32")]
const fn handle(number: usize) -> u32 {
    number as u32
}

/// The first whole second at which somebody last seen then has been away for `ghost_ttl`. Whole seconds, so that
/// a block is looked at once a second at most, however its waiters' times differ.
const fn removal_due(seen: Time, ghost_ttl: Span) -> Time {
    let due = seen.0.saturating_add(ghost_ttl.0);
    let over = due.rem_euclid(SECOND);
    Time(if over == 0 { due } else { due.saturating_add(SECOND - over) })
}

fn ones_missing((all, some): (&u64, &u64)) -> u32 {
    (all & !some).count_ones()
}

//! The world's ledger writer: entries in order, one batch in flight, byte-identical retries of what
//! was never answered, and everything that can happen to a message on its way.

use std::collections::VecDeque;

use super::ledger::{Answer, Ledger};
use super::options::Faults;
use super::prng::Prng;
use crate::entry::{ChainHead, Entry};
use crate::ids::{EntryNo, Epoch};

/// A message between the writer and the ledger.
#[derive(Clone, Debug)]
pub enum Message {
    /// Entries arrive. `answered`: whether the writer will hear of it.
    Batch { epoch: Epoch, entries: Vec<Entry>, answered: bool },
    /// The ledger has entries up to `upto`, and refused the one after it or nothing.
    Answer { epoch: Epoch, upto: Option<(EntryNo, ChainHead)>, refused: Option<EntryNo> },
    /// The writer has waited long enough for its attempt.
    TimeOut { epoch: Epoch, attempt: u64 },
}

/// Messages with the pause before each arrives.
pub type Sent = Vec<(i64, Message)>;

/// The writer of one incarnation of the shard.
pub struct Writer {
    pub epoch: Epoch,
    queue: VecDeque<Entry>,
    in_flight: Vec<Entry>,
    attempt: u64,
    stopped: bool,
}

impl Writer {
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, queue: VecDeque::new(), in_flight: Vec::new(), attempt: 0, stopped: false }
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    pub fn push(&mut self, entry: Entry) {
        self.queue.push_back(entry);
    }

    /// Sends the next batch if none is in flight.
    pub fn send(&mut self, prng: &mut Prng, faults: &Faults, sent: &mut Sent) {
        if self.stopped || !self.in_flight.is_empty() || self.queue.is_empty() {
            return;
        }
        let count = self.queue.len().min(1 + usize::try_from(prng.below(8)).unwrap_or_default());
        self.in_flight = self.queue.drain(..count).collect();
        self.transmit(prng, faults, sent);
    }

    fn transmit(&mut self, prng: &mut Prng, faults: &Faults, sent: &mut Sent) {
        self.attempt += 1;
        let mut latency = prng.between(0, faults.ledger_latency);
        if prng.chance(faults.ledger_stall) {
            latency *= 100;
        }
        let (epoch, entries) = (self.epoch, self.in_flight.clone());
        if !prng.chance(faults.ledger_lost) {
            sent.push((latency, Message::Batch { epoch, entries, answered: true }));
            return;
        }
        // Lost on the way there, on the way back, or only much later than anybody waits.
        let arrives = prng.between(0, 2);
        if arrives > 0 {
            let late = if arrives == 2 { latency * 10 } else { latency };
            sent.push((late, Message::Batch { epoch, entries, answered: false }));
        }
        let attempt = self.attempt;
        sent.push((latency + 2 * faults.ledger_latency, Message::TimeOut { epoch, attempt }));
    }

    /// The attempt that is under way, for [`Self::timed_out`].
    #[must_use]
    pub const fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Whether this entry is in flight: an answer about another one is old news.
    #[must_use]
    pub fn waits_for(&self, no: EntryNo) -> bool {
        self.in_flight.iter().any(|entry| entry.no == no)
    }

    /// Nobody answered: the same entries again.
    pub fn timed_out(&mut self, attempt: u64, prng: &mut Prng, faults: &Faults, sent: &mut Sent) {
        if attempt == self.attempt && !self.in_flight.is_empty() {
            self.transmit(prng, faults, sent);
        }
    }

    /// The batch is decided. After a refusal nothing of this incarnation is written any more.
    pub fn answered(&mut self, refused: bool) {
        self.in_flight.clear();
        if refused {
            self.queue.clear();
            self.stopped = true;
        }
    }

    /// The actor died and the process lives: what is queued may still be written, until it is fenced.
    #[must_use]
    pub fn orphaned(&mut self) -> Option<Message> {
        let mut entries = std::mem::take(&mut self.in_flight);
        entries.extend(self.queue.drain(..));
        let epoch = self.epoch;
        (!entries.is_empty()).then_some(Message::Batch { epoch, entries, answered: false })
    }
}

/// The ledger receives a batch.
///
/// # Errors
/// An entry contradicts the rows though no refusal was drawn: the shard is wrong.
pub fn receive(
    ledger: &mut Ledger,
    epoch: Epoch,
    entries: &[Entry],
    answered: bool,
    prng: &mut Prng,
    faults: &Faults,
) -> Result<Option<Message>, String> {
    let fresh = ledger.head_of(epoch, entries.last().map_or(EntryNo(0), |entry| entry.no)).is_none();
    let refuse = answered && fresh && epoch == ledger.epoch && prng.chance(faults.ledger_refused);
    let taken =
        if refuse { usize::try_from(prng.below(entries.len() as u64)).unwrap_or(0) } else { entries.len() };
    match ledger.append(epoch, &entries[..taken]) {
        Answer::Refused(why) => Err(format!("the ledger refuses what memory allowed: {why}")),
        Answer::Fenced => Ok(None),
        Answer::Applied => {
            // A late copy may have written more than is taken now.
            let last = entries[..taken].last().map(|entry| entry.no);
            let upto = last.and_then(|no| Some((no, ledger.head_of(epoch, no)?)));
            let refused = entries.get(taken).map(|entry| entry.no).filter(|_| refuse);
            Ok(answered.then_some(Message::Answer { epoch, upto, refused }))
        }
    }
}

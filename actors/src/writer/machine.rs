//! What the writer decides, without a task, a clock or a ledger: entries and answers in, batches and
//! verdicts out.
//!
//! Entries wait in a line per shard. A *cut* seals the heads of the lines into a batch. While it is in
//! flight the lines fill up again: that is all there is to group commit. A batch that did not come
//! out definitely well turns into *pieces*, which hold sealed rows and are written again as they are,
//! in the order of their rows. A shard that has a piece gets no cut, so at most one batch of a
//! shard is ever under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine::{ChainHead, Entry, EntryNo, Epoch, ShardId};
use tokio::time::Instant;

use crate::ports::{AppendError, Batch, ShardAnswer};
use crate::row::EventRow;
use crate::writer::seal;

/// Entries in one batch.
pub const BATCH_ENTRIES: usize = 512;
/// Bytes in one batch.
pub const BATCH_BYTES: usize = 1 << 20;

/// A row is far smaller than its share, also in an adapter's own encoding, which may take eight times
/// the canonical bytes (JSON with hex takes four). So the cap on entries keeps the cap on bytes.
const _: () = assert!(BATCH_ENTRIES * (seal::ENCODED_MAX + 64) * 8 <= BATCH_BYTES);

/// A batch of one shard that the ledger rolled back is cut no smaller than this: once the ledger has
/// recovered, ever smaller commits would only take longer.
const HALVING_FLOOR: usize = 16;

const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_LAST: Duration = Duration::from_secs(2);

/// What a shard is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub news: News,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Every entry up to `upto` is durable.
    Applied { upto: EntryNo, head: ChainHead },
    /// The ledger will never take this entry. Those after it were dropped.
    Refused { entry: EntryNo },
    /// The shard has another owner or a newer epoch.
    Fenced,
    /// The ledger holds another event in that place of the chain.
    OtherHash,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Machine {
    lines: BTreeMap<ShardId, Line>,
    /// Sealed rows that must be written again, oldest first.
    pieces: VecDeque<Piece>,
    flight: Option<Piece>,
    /// The last cut began with this shard; the next begins after it, so that no shard is always first.
    last_served: ShardId,
    /// Unknown answers since the last definite one.
    failures: u32,
    /// Nothing is sent before, because the ledger did not answer.
    pause: Option<Instant>,
}

/// A shard's entries in order, and the end of its chain as far as it is sealed.
#[derive(Debug)]
struct Line {
    epoch: Epoch,
    /// The event before entry 1 of this epoch.
    base: u64,
    sealed: ChainHead,
    queue: VecDeque<Box<Entry>>,
    /// Told to halt: takes nothing more until it is opened under a newer epoch.
    halted: bool,
}

#[derive(Clone, Debug)]
struct Piece {
    batch: Arc<Batch>,
    attempts: u32,
    not_before: Option<Instant>,
}

impl Machine {
    /// A shard was restored: from now on it writes under `epoch`, behind `head`. Whatever queues under
    /// a lower epoch is dropped; what is in flight comes out fenced or counts for nobody.
    pub fn open(&mut self, shard: ShardId, epoch: Epoch, head: ChainHead) {
        if self.lines.get(&shard).is_some_and(|line| line.epoch >= epoch) {
            return;
        }
        let line = Line { epoch, base: head.event_seq, sealed: head, queue: VecDeque::new(), halted: false };
        self.lines.insert(shard, line);
        self.drop_dead_rows();
    }

    /// Queues an entry. A verdict at once means that it will never be written.
    pub fn push(&mut self, shard: ShardId, epoch: Epoch, entry: Box<Entry>) -> Option<Verdict> {
        match self.lines.get_mut(&shard) {
            Some(line) if line.epoch == epoch => {
                if !line.halted {
                    line.queue.push_back(entry);
                }
                None
            }
            _ => Some(Verdict { shard, epoch, news: News::Fenced }),
        }
    }

    /// Entries that are not durable yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        let queued: usize = self.lines.values().map(|line| line.queue.len()).sum();
        let sealed: usize = self.pieces.iter().chain(&self.flight).map(|piece| piece.batch.rows.len()).sum();
        queued + sealed
    }

    /// The batch to send now. It is in flight until [`Self::answered`].
    pub fn next(&mut self, now: Instant) -> Option<Arc<Batch>> {
        if self.flight.is_some() || self.pause.is_some_and(|pause| now < pause) {
            return None;
        }
        let piece = match self.first_ready_piece(now) {
            Some(place) => self.pieces.remove(place)?,
            None => Piece { batch: Arc::new(self.cut()?), attempts: 0, not_before: None },
        };
        let batch = piece.batch.clone();
        self.flight = Some(piece);
        Some(batch)
    }

    /// When [`Self::next`] is worth asking again although nothing has happened; `None` while a batch is
    /// in flight or nothing waits.
    #[must_use]
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        if self.flight.is_some() || self.backlog() == 0 {
            return None;
        }
        let pieces = self.unblocked().map(|(_, piece)| piece.not_before.unwrap_or(now));
        let queued = self.lines.iter().any(|(shard, line)| !line.queue.is_empty() && !self.has_piece(*shard));
        let earliest = pieces.chain(queued.then_some(now)).min()?;
        Some(self.pause.map_or(earliest, |pause| pause.max(earliest)))
    }

    /// The ledger's answer to the batch in flight.
    pub fn answered(
        &mut self,
        now: Instant,
        answer: Result<Vec<(ShardId, ShardAnswer)>, AppendError>,
        verdicts: &mut Vec<Verdict>,
    ) {
        let Some(piece) = self.flight.take() else { return };
        if !matches!(answer, Err(AppendError::Unknown { .. })) {
            self.failures = 0;
            self.pause = None;
        }
        match answer {
            Ok(answers) => self.written(&piece, &answers, verdicts),
            Err(AppendError::Unknown { rolled_back, .. }) => self.unknown(now, piece, rolled_back),
            Err(AppendError::Refused(_)) => self.blame(piece, Blame::Entry, verdicts),
            Err(AppendError::OtherHash(_)) => self.blame(piece, Blame::Shard, verdicts),
        }
        self.drop_dead_rows();
    }

    fn written(&mut self, piece: &Piece, answers: &[(ShardId, ShardAnswer)], verdicts: &mut Vec<Verdict>) {
        for &(shard, epoch) in &piece.batch.fences {
            let answer = answers.iter().find(|(named, _)| *named == shard).map(|(_, answer)| *answer);
            let Some(line) = self.lines.get_mut(&shard).filter(|line| line.is_live(epoch)) else { continue };
            match answer {
                Some(ShardAnswer::Applied | ShardAnswer::Duplicate) => {
                    let last = piece.batch.rows.iter().rfind(|row| row.shard == shard);
                    let Some(last) = last else { continue };
                    let head = ChainHead { event_seq: last.event_seq, hash: last.hash };
                    let upto = line.entry_no(last);
                    verdicts.push(Verdict { shard, epoch, news: News::Applied { upto, head } });
                }
                Some(ShardAnswer::Fenced) => {
                    line.halt();
                    verdicts.push(Verdict { shard, epoch, news: News::Fenced });
                }
                // An answer that leaves a shard out says nothing about it.
                None => self.pieces.push_front(piece.only(|row| row.shard == shard)),
            }
        }
    }

    /// Nobody knows: the same rows again, later. Cut only what was surely rolled back.
    fn unknown(&mut self, now: Instant, mut piece: Piece, rolled_back: bool) {
        self.pause = Some(now + back_off(self.failures));
        self.failures += 1;
        piece.not_before = Some(now + back_off(piece.attempts));
        piece.attempts += 1;
        let shards = piece.batch.fences.len();
        let rows = piece.batch.rows.len();
        if rolled_back && piece.attempts > 1 && (shards > 1 || rows > HALVING_FLOOR) {
            let middle = if shards > 1 {
                let (shard, _) = piece.batch.fences[shards / 2];
                piece.batch.rows.partition_point(|row| row.shard < shard)
            } else {
                rows / 2
            };
            self.requeue(piece.split_at(middle));
        } else {
            self.pieces.push_front(piece);
        }
    }

    /// Nothing of the batch was written, and some entry or some shard of it is why. Finds out which.
    fn blame(&mut self, piece: Piece, blame: Blame, verdicts: &mut Vec<Verdict>) {
        let Some(piece) = self.living(&piece) else { return };
        if let [(shard, epoch)] = piece.batch.fences[..] {
            let rows = &piece.batch.rows;
            if blame == Blame::Entry && rows.len() > 1 {
                self.requeue(piece.split_at(rows.len() / 2));
                return;
            }
            let Some(line) = self.lines.get_mut(&shard) else { return };
            let news = match blame {
                Blame::Entry => News::Refused { entry: line.entry_no(&rows[0]) },
                Blame::Shard => News::OtherHash,
            };
            line.halt();
            verdicts.push(Verdict { shard, epoch, news });
        } else {
            for (shard, _) in piece.batch.fences.iter().rev() {
                self.pieces.push_front(piece.only(|row| row.shard == *shard));
            }
        }
    }

    fn requeue(&mut self, (first, second): (Piece, Piece)) {
        self.pieces.push_front(second);
        self.pieces.push_front(first);
    }

    /// Seals the heads of the lines into a batch: a fair share for each shard, then what fits.
    fn cut(&mut self) -> Option<Batch> {
        let busy: Vec<ShardId> = self.pieces.iter().flat_map(Piece::shards).collect();
        let waiting = |(shard, line): &(&ShardId, &Line)| !line.queue.is_empty() && !busy.contains(shard);
        let (before, after): (Vec<_>, Vec<_>) =
            self.lines.iter().filter(waiting).partition(|(shard, _)| **shard <= self.last_served);
        let mut shares: Vec<(ShardId, usize, usize)> =
            after.into_iter().chain(before).map(|(shard, line)| (*shard, line.queue.len(), 0)).collect();
        shares.truncate(BATCH_ENTRIES);
        self.last_served = shares.first()?.0;

        let fair = BATCH_ENTRIES / shares.len();
        let mut room = BATCH_ENTRIES;
        for bound in [fair, BATCH_ENTRIES] {
            for (_, queued, taken) in &mut shares {
                let more = (*queued).min(bound).saturating_sub(*taken).min(room);
                *taken += more;
                room -= more;
            }
        }
        shares.sort_unstable_by_key(|(shard, ..)| *shard);

        let mut batch = Batch {
            fences: Vec::with_capacity(shares.len()),
            rows: Vec::with_capacity(BATCH_ENTRIES - room),
        };
        for (shard, _, taken) in shares {
            let line = self.lines.get_mut(&shard).expect("shares name lines");
            batch.fences.push((shard, line.epoch));
            for entry in line.queue.drain(..taken) {
                let mut row = EventRow::unsealed(shard, line.epoch, &entry);
                line.sealed = seal::seal(&mut row, line.sealed);
                batch.rows.push(row);
            }
        }
        Some(batch)
    }

    fn first_ready_piece(&self, now: Instant) -> Option<usize> {
        let ready = |piece: &Piece| piece.not_before.is_none_or(|at| at <= now);
        self.unblocked().find(|(_, piece)| ready(piece)).map(|(place, _)| place)
    }

    /// The pieces without rows of a shard that has rows in an older piece.
    fn unblocked(&self) -> impl Iterator<Item = (usize, &Piece)> {
        let mut older: Vec<ShardId> = Vec::new();
        self.pieces.iter().enumerate().filter(move |(_, piece)| {
            let free = piece.shards().all(|shard| !older.contains(&shard));
            older.extend(piece.shards());
            free
        })
    }

    fn has_piece(&self, shard: ShardId) -> bool {
        self.pieces.iter().any(|piece| piece.shards().any(|named| named == shard))
    }

    /// The rows of a piece whose writers still live; `None` when there are none.
    fn living(&self, piece: &Piece) -> Option<Piece> {
        let lives =
            |fence: &(ShardId, Epoch)| self.lines.get(&fence.0).is_some_and(|line| line.is_live(fence.1));
        if piece.batch.fences.iter().all(lives) {
            return Some(piece.clone());
        }
        let living = piece.only(|row| lives(&(row.shard, row.epoch)));
        (!living.batch.rows.is_empty()).then_some(living)
    }

    fn drop_dead_rows(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        self.pieces =
            std::mem::take(&mut self.pieces).iter().filter_map(|piece| self.living(piece)).collect();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    Entry,
    Shard,
}

impl Line {
    fn is_live(&self, epoch: Epoch) -> bool {
        self.epoch == epoch && !self.halted
    }

    fn halt(&mut self) {
        self.halted = true;
        self.queue.clear();
    }

    /// Entries of an epoch are numbered from 1 without gaps, and so are its events from `base`.
    fn entry_no(&self, row: &EventRow) -> EntryNo {
        EntryNo(row.event_seq - self.base)
    }
}

impl Piece {
    fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.batch.fences.iter().map(|(shard, _)| *shard)
    }

    fn with_rows(&self, rows: Vec<EventRow>) -> Self {
        let mut fences: Vec<(ShardId, Epoch)> = rows.iter().map(|row| (row.shard, row.epoch)).collect();
        fences.dedup();
        Self { batch: Arc::new(Batch { fences, rows }), attempts: self.attempts, not_before: self.not_before }
    }

    fn only(&self, keep: impl Fn(&EventRow) -> bool) -> Self {
        self.with_rows(self.batch.rows.iter().filter(|row| keep(row)).cloned().collect())
    }

    fn split_at(&self, middle: usize) -> (Self, Self) {
        let (first, second) = self.batch.rows.split_at(middle);
        (self.with_rows(first.to_vec()), self.with_rows(second.to_vec()))
    }
}

fn back_off(attempts: u32) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << attempts.min(10)).min(BACK_OFF_LAST)
}

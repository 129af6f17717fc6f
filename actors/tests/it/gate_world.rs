//! A ledger and a mirror for gates, in memory: what outlives the nodes of a test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::gates::ports::{
    Admitted, DrawRow, DrawStage, Fence, GateBatch, GateLedger, GateMirror, GateRow, History, HistoryRow,
    Written,
};
use actors::ports::{LedgerError, MirrorAnswer, MirrorError};
use async_trait::async_trait;
use engine::gate::{KeptPass, MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, ShardId, Time, UserId};

use super::ledger::{Tables, lock};

/// What the ledger has of gates. Fences by the leases of the other tables.
pub struct GateTables {
    pub leases: Arc<Mutex<Tables>>,
    pub owner: u64,
    pub rows: Arc<Mutex<Rows>>,
    pub is_away: Arc<AtomicBool>,
}

#[derive(Default)]
pub struct Rows {
    pub gates: BTreeMap<ConcertId, GateRow>,
    pub history: Vec<(ConcertId, History)>,
    pub draws: BTreeMap<ConcertId, DrawRow>,
}

impl GateTables {
    fn is_fenced(&self, fence: Fence) -> bool {
        !lock(&self.leases).fence(self.owner, fence.shard, fence.epoch)
    }
}

#[async_trait]
impl GateLedger for GateTables {
    async fn gates(&self, shard: ShardId) -> Result<Vec<GateRow>, LedgerError> {
        let rows = self.rows.lock().unwrap();
        // As `world::selling` has it: concert 1 in shard 0, 2 in 1.
        let here = |row: &&GateRow| row.concert.0 == u64::from(shard.0) + 1;
        Ok(rows.gates.values().filter(here).copied().collect())
    }

    async fn gate(&self, concert: ConcertId) -> Result<Option<GateRow>, LedgerError> {
        Ok(self.rows.lock().unwrap().gates.get(&concert).copied())
    }

    async fn set_gate(&self, fence: Fence, row: &GateRow, by: UserId) -> Result<Written, LedgerError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(LedgerError::Unavailable("away".to_owned()));
        }
        if self.is_fenced(fence) {
            return Ok(Written::Fenced);
        }
        let mut rows = self.rows.lock().unwrap();
        if rows.gates.get(&row.concert) == Some(row) {
            return Ok(Written::Done);
        }
        if rows.gates.get(&row.concert).map_or(0, |there| there.version) + 1 != row.version {
            return Ok(Written::Conflict);
        }
        rows.gates.insert(row.concert, *row);
        rows.history.push((row.concert, History::Set { row: *row, by }));
        Ok(Written::Done)
    }

    async fn note_admitted(
        &self,
        fence: Fence,
        concert: ConcertId,
        admitted: Admitted,
    ) -> Result<Written, LedgerError> {
        if self.is_fenced(fence) {
            return Ok(Written::Fenced);
        }
        self.rows.lock().unwrap().history.push((concert, History::Admitted(admitted)));
        Ok(Written::Done)
    }

    async fn gate_history(
        &self,
        concert: ConcertId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<HistoryRow>, LedgerError> {
        let rows = self.rows.lock().unwrap();
        let mine = rows.history.iter().filter(|(of, _)| *of == concert);
        let numbered = (1..).zip(mine).map(|(no, (_, what))| HistoryRow { no, what: *what });
        let mut rows: Vec<HistoryRow> = numbered.collect();
        rows.reverse();
        rows.retain(|row| before.is_none_or(|before| row.no < before));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn draw(&self, concert: ConcertId, _: Option<u32>) -> Result<Option<DrawRow>, LedgerError> {
        Ok(self.rows.lock().unwrap().draws.get(&concert).cloned())
    }

    async fn draw_stage(&self, concert: ConcertId) -> Result<Option<(u32, DrawStage)>, LedgerError> {
        Ok(self.draw(concert, None).await?.map(|row| (row.no, row.stage())))
    }

    async fn save_draw(&self, fence: Fence, draw: &DrawRow) -> Result<Written, LedgerError> {
        if self.is_fenced(fence) {
            return Ok(Written::Fenced);
        }
        self.rows.lock().unwrap().draws.insert(draw.concert, draw.clone());
        Ok(Written::Done)
    }
}

/// A mirror that can be away or silent, or forget.
#[derive(Default)]
pub struct TestGateMirror {
    copies: Mutex<BTreeMap<ConcertId, Copy>>,
    pub is_away: AtomicBool,
    /// How long a line takes to be read.
    pub reads_in: Mutex<Duration>,
    /// Whether a batch makes it panic, as a bug would.
    pub is_broken: AtomicBool,
    /// How long a batch takes to be answered.
    pub answers_in: Mutex<Duration>,
}

#[derive(Default)]
struct Copy {
    at: (Epoch, u64),
    kept: Snapshot,
}

impl TestGateMirror {
    pub fn kept(&self, concert: ConcertId) -> Snapshot {
        self.copies.lock().unwrap().get(&concert).map(|copy| copy.kept.clone()).unwrap_or_default()
    }

    /// Somebody else owns the copy.
    pub fn fence(&self, concert: ConcertId) {
        self.copies.lock().unwrap().get_mut(&concert).expect("a copy").at.0 = Epoch(1 << 60);
    }

    pub fn wipe(&self) {
        self.copies.lock().unwrap().clear();
    }

    fn is_there(&self) -> Result<(), MirrorError> {
        if self.is_away.load(Ordering::Relaxed) { Err(MirrorError("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl GateMirror for TestGateMirror {
    async fn apply(&self, batch: &GateBatch) -> Result<MirrorAnswer, MirrorError> {
        self.is_there()?;
        assert!(!self.is_broken.load(Ordering::Relaxed), "the mirror is broken");
        let answers_in = *self.answers_in.lock().unwrap();
        tokio::time::sleep(answers_in).await;
        let mut copies = self.copies.lock().unwrap();
        let Some(copy) = copies.get_mut(&batch.concert) else { return Ok(MirrorAnswer::Gap) };
        if copy.at.0 > batch.epoch {
            return Ok(MirrorAnswer::Fenced);
        }
        if copy.at >= (batch.epoch, batch.op) {
            return Ok(MirrorAnswer::Applied);
        }
        if copy.at != (batch.epoch, batch.previous) {
            return Ok(MirrorAnswer::Gap);
        }
        batch.changes.iter().for_each(|change| apply(&mut copy.kept, change));
        copy.at = (batch.epoch, batch.op);
        Ok(MirrorAnswer::Applied)
    }

    async fn rebuild(
        &self,
        concert: ConcertId,
        epoch: Epoch,
        op: u64,
        _: Time,
        snapshot: &Snapshot,
    ) -> Result<MirrorAnswer, MirrorError> {
        self.is_there()?;
        let mut copies = self.copies.lock().unwrap();
        let copy = copies.entry(concert).or_default();
        if copy.at.0 > epoch {
            return Ok(MirrorAnswer::Fenced);
        }
        *copy = Copy { at: (epoch, op), kept: snapshot.clone() };
        Ok(MirrorAnswer::Applied)
    }

    async fn take_over(&self, concert: ConcertId, epoch: Epoch, _: Time) -> Result<Snapshot, MirrorError> {
        self.is_there()?;
        let reads_in = *self.reads_in.lock().unwrap();
        tokio::time::sleep(reads_in).await;
        let mut copies = self.copies.lock().unwrap();
        let copy = copies.entry(concert).or_default();
        copy.at = copy.at.max((epoch, 0));
        Ok(copy.kept.clone())
    }

    async fn ping(&self) -> Result<(), MirrorError> {
        self.is_there()
    }
}

fn apply(kept: &mut Snapshot, op: &MirrorOp) {
    match *op {
        MirrorOp::Join { user, turn } => {
            kept.waiting.push((turn, user));
            kept.next.0 = kept.next.0.max(turn.0 + 1);
        }
        MirrorOp::Remove { turn, .. } => kept.waiting.retain(|(other, _)| *other != turn),
        MirrorOp::Admit { user, turn, pass, ends_at } => {
            kept.waiting.retain(|(other, _)| *other != turn);
            kept.passes.push(KeptPass { user, turn, id: pass, ends_at });
        }
        MirrorOp::End { user, pass } => {
            kept.passes.retain(|other| (other.user, other.id) != (user, pass));
        }
        MirrorOp::Draw(draw) => kept.draw = draw,
        MirrorOp::Rebuild => unreachable!("copied as a whole"),
    }
}

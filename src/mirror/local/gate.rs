//! The copies of gates in the process, and in files beside the ledger.
//!
//! With files, whatever touches one is done on a thread for blocking work, but for what [`Pen`] allows: to append.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use actors::gates::ports::{GateBatch, GateMirror};
use actors::ports::{MirrorAnswer, MirrorError};
use async_trait::async_trait;
use dashmap::DashMap;
use engine::gate::{Draw, KeptPass, MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, Time, Turn, UserId};
use tokio::task::spawn_blocking;

use super::LocalMirror;
use super::log::Log;
use super::pen::Pen;
use crate::lock::lock;

#[derive(Debug, Default)]
pub(super) struct Gates {
    /// `None`: in memory only.
    dir: Option<PathBuf>,
    pen: Pen,
    gates: DashMap<ConcertId, Arc<Mutex<LocalGate>>>,
}

/// One gate's copy, in memory and in its file.
#[derive(Debug, Default)]
struct LocalGate {
    /// `None`: nobody has mirrored it.
    copy: Option<GateCopy>,
    /// `None`: it has none yet, or the one that it has does not end in a whole record.
    log: Option<Log>,
    /// Whether its file has been looked for.
    looked: bool,
}

/// What a gate has told, standing at (epoch, op).
#[derive(Clone, Debug)]
pub(super) struct GateCopy {
    pub epoch: Epoch,
    pub op: u64,
    pub next: Turn,
    pub draw: Draw,
    waiting: BTreeMap<Turn, UserId>,
    /// Those that end are ended by their gate. One that died ends nothing, but its successor reads only what lives.
    passes: BTreeMap<UserId, KeptPass>,
}

impl GateCopy {
    pub fn at(epoch: Epoch, op: u64) -> Self {
        let Snapshot { next, draw, .. } = Snapshot::default();
        Self { epoch, op, next, draw, waiting: BTreeMap::new(), passes: BTreeMap::new() }
    }

    fn of(epoch: Epoch, op: u64, snapshot: &Snapshot) -> Self {
        Self {
            next: snapshot.next,
            draw: snapshot.draw,
            waiting: snapshot.waiting.iter().copied().collect(),
            passes: snapshot.passes.iter().map(|pass| (pass.user, *pass)).collect(),
            ..Self::at(epoch, op)
        }
    }

    pub fn change(&mut self, change: &MirrorOp) {
        match *change {
            MirrorOp::Join { user, turn } => {
                self.waiting.insert(turn, user);
                self.gave_out(turn);
            }
            MirrorOp::Remove { user, turn } => self.leaves(user, turn),
            MirrorOp::Admit { user, turn, pass, ends_at } => {
                self.leaves(user, turn);
                self.passes.insert(user, KeptPass { user, turn, id: pass, ends_at });
                self.gave_out(turn);
            }
            MirrorOp::End { user, pass } => {
                if self.passes.get(&user).is_some_and(|kept| kept.id == pass) {
                    self.passes.remove(&user);
                }
            }
            MirrorOp::Draw(draw) => self.draw = draw,
            // Comes as a rebuild, and never in a batch.
            MirrorOp::Rebuild => {}
        }
    }

    fn gave_out(&mut self, turn: Turn) {
        self.next = self.next.max(Turn(turn.0 + 1));
    }

    fn leaves(&mut self, user: UserId, turn: Turn) {
        if self.waiting.get(&turn) == Some(&user) {
            self.waiting.remove(&turn);
        }
    }

    /// The changes that make it from nothing, but for the next turn.
    pub fn changes(&self) -> impl Iterator<Item = MirrorOp> + '_ {
        let admitted = self.passes.values().map(|pass| {
            let KeptPass { user, turn, id, ends_at } = *pass;
            MirrorOp::Admit { user, turn, pass: id, ends_at }
        });
        let waiting = self.waiting.iter().map(|(turn, user)| MirrorOp::Join { user: *user, turn: *turn });
        [MirrorOp::Draw(self.draw)].into_iter().chain(admitted).chain(waiting)
    }

    fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            next: self.next,
            draw: self.draw,
            waiting: self.waiting.iter().map(|(turn, user)| (*turn, *user)).collect(),
            passes: self.passes.values().filter(|pass| pass.ends_at > now).copied().collect(),
        }
    }
}

impl LocalGate {
    /// Reads the file, once. One that is damaged stays an error until somebody takes it away.
    fn look(&mut self, path: &Path, concert: ConcertId) -> Result<(), MirrorError> {
        if !self.looked {
            if let Some((log, copy)) = Log::open(path, concert).map_err(|error| wrong(path, &error))? {
                (self.log, self.copy) = (Some(log), Some(copy));
            }
            self.looked = true;
        }
        Ok(())
    }

    fn apply(&mut self, batch: &GateBatch, path: Option<&Path>) -> Result<MirrorAnswer, MirrorError> {
        let Some(copy) = &mut self.copy else { return Ok(MirrorAnswer::Gap) };
        if let Some(answer) = super::known((copy.epoch, copy.op), batch.epoch, batch.previous, batch.op) {
            return Ok(answer);
        }
        if let Some(path) = path {
            let log = match &mut self.log {
                Some(log) => log,
                none => {
                    let made = Log::create(path, batch.concert, copy);
                    none.insert(made.map_err(|error| wrong(path, &error))?)
                }
            };
            if log.is_long() {
                match Log::create(path, batch.concert, copy) {
                    Ok(fresh) => *log = fresh,
                    // Nothing is lost: the old one goes on.
                    Err(error) => {
                        log.grow();
                        tracing::warn!(path = %path.display(), %error, "a gate's file could not be folded");
                    }
                }
            }
            if let Err(error) = log.append(batch) {
                if log.cut().is_err() {
                    self.log = None;
                }
                return Err(wrong(path, &error));
            }
        }
        batch.changes.iter().for_each(|change| copy.change(change));
        copy.op = batch.op;
        Ok(MirrorAnswer::Applied)
    }

    /// Whether the next batch is one short write.
    fn only_appends(&self) -> bool {
        self.looked && self.log.as_ref().is_some_and(|log| !log.is_long())
    }

    fn rebuild(
        &mut self,
        concert: ConcertId,
        fresh: GateCopy,
        path: Option<&Path>,
    ) -> Result<MirrorAnswer, MirrorError> {
        if let Some(copy) = &self.copy {
            if copy.epoch > fresh.epoch {
                return Ok(MirrorAnswer::Fenced);
            }
            // A rebuild that is there already, or was overtaken, is late and not wrong: nothing to do. At op 0 stands what a
            // take-over found, which is not what its owner has made of it.
            if copy.epoch == fresh.epoch && (copy.op > fresh.op || (copy.op == fresh.op && fresh.op > 0)) {
                return Ok(MirrorAnswer::Applied);
            }
        }
        if let Some(path) = path {
            self.log = Some(Log::create(path, concert, &fresh).map_err(|error| wrong(path, &error))?);
        }
        self.copy = Some(fresh);
        Ok(MirrorAnswer::Applied)
    }

    /// Writes nothing: the fence is in memory, whatever wrote the file before is dead, and a full disk must not keep
    /// anybody from their place.
    fn take_over(&mut self, concert: ConcertId, epoch: Epoch, now: Time) -> Result<Snapshot, MirrorError> {
        let copy = self.copy.get_or_insert_with(|| GateCopy::at(epoch, 0));
        if copy.epoch > epoch {
            let owner = copy.epoch;
            return Err(MirrorError(format!(
                "the gate of concert {concert} belongs to epoch {owner} by now"
            )));
        }
        (copy.epoch, copy.op) = (epoch, 0);
        Ok(copy.snapshot(now))
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> MirrorError {
    MirrorError(format!("{}: {error}", path.display()))
}

fn path_in(dir: &Path, concert: ConcertId) -> PathBuf {
    dir.join(format!("{concert}.log"))
}

impl Gates {
    pub fn in_dir(dir: PathBuf) -> Self {
        Self { dir: Some(dir), ..Self::default() }
    }

    /// Appends a batch at once, if that is allowed and all there is to do.
    fn append_now(&self, batch: &GateBatch) -> Option<Result<MirrorAnswer, MirrorError>> {
        let dir = self.dir.as_ref()?;
        let gate = self.gates.get(&batch.concert)?.clone();
        // Whoever has it may be waiting for the disk.
        let mut gate = gate.try_lock().ok().filter(|gate| gate.only_appends())?;
        let writing = self.pen.take()?;
        let applied = gate.apply(batch, Some(&path_in(dir, batch.concert)));
        writing.end();
        Some(applied)
    }

    /// Does something with a gate's copy, and with its file where there are files.
    async fn with<T: Send + 'static>(
        &self,
        concert: ConcertId,
        work: impl FnOnce(&mut LocalGate, Option<&Path>) -> Result<T, MirrorError> + Send + 'static,
    ) -> Result<T, MirrorError> {
        let gate = self.gates.entry(concert).or_default().clone();
        let Some(dir) = &self.dir else {
            return work(&mut lock(&gate), None);
        };
        let path = path_in(dir, concert);
        let done = spawn_blocking(move || {
            let mut gate = lock(&gate);
            gate.look(&path, concert)?;
            work(&mut gate, Some(&path))
        });
        done.await.unwrap_or_else(|error| Err(MirrorError(format!("the gate of concert {concert}: {error}"))))
    }
}

#[async_trait]
impl GateMirror for LocalMirror {
    async fn apply(&self, batch: &GateBatch) -> Result<MirrorAnswer, MirrorError> {
        if let Some(applied) = self.gates.append_now(batch) {
            return applied;
        }
        let batch = batch.clone();
        self.gates.with(batch.concert, move |gate, path| gate.apply(&batch, path)).await
    }

    async fn rebuild(
        &self,
        concert: ConcertId,
        epoch: Epoch,
        op: u64,
        _: Time,
        snapshot: &Snapshot,
    ) -> Result<MirrorAnswer, MirrorError> {
        let fresh = GateCopy::of(epoch, op, snapshot);
        self.gates.with(concert, move |gate, path| gate.rebuild(concert, fresh, path)).await
    }

    async fn take_over(&self, concert: ConcertId, epoch: Epoch, now: Time) -> Result<Snapshot, MirrorError> {
        self.gates.with(concert, move |gate, _| gate.take_over(concert, epoch, now)).await
    }

    async fn ping(&self) -> Result<(), MirrorError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const CONCERT: ConcertId = ConcertId(7);

    fn batch(op: u64, joins: u32) -> GateBatch {
        let join = |turn| MirrorOp::Join { user: UserId(u64::from(turn) + 1), turn: Turn(turn) };
        let changes = (0..joins).map(join).collect();
        GateBatch { concert: CONCERT, epoch: Epoch(1), previous: op - 1, op, now: Time(0), changes }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_what_is_one_short_write_is_written_at_once() {
        let dir = TempDir::new().unwrap();
        let mirror = LocalMirror::in_dir(dir.path().join("gates"));
        let at_once = |batch| mirror.gates.append_now(&batch).map(Result::unwrap);
        let some_time = async |batch| GateMirror::apply(&mirror, &batch).await.unwrap();
        assert_eq!(at_once(batch(1, 1)), None, "nobody has looked for a file");
        mirror.take_over(CONCERT, Epoch(1), Time(0)).await.unwrap();
        assert_eq!(at_once(batch(1, 1)), None, "there is none yet");
        assert_eq!(some_time(batch(1, 1)).await, MirrorAnswer::Applied);
        let mut op = 2;
        while at_once(batch(op, 400)).is_some() {
            op += 1;
            // A write that took long gives everybody a rest.
            mirror.gates.pen.forgive();
        }
        assert!((50..1_000).contains(&op), "{op} batches make a file long");
        assert_eq!(some_time(batch(op, 1)).await, MirrorAnswer::Applied);
        mirror.gates.pen.forgive();
        assert_eq!(at_once(batch(op + 1, 1)), Some(MirrorAnswer::Applied), "it was folded");
        let gate = mirror.gates.gates.get(&CONCERT).unwrap().clone();
        let _kept = gate.lock().unwrap();
        assert_eq!(at_once(batch(op + 2, 1)), None, "somebody has it");
    }
}

//! The copies of gates in the process, and in files beside the ledger.
//!
//! With files, whatever touches one is done on a thread for blocking work. A batch is a few kilobytes for the kernel's
//! cache, which takes microseconds; but a disk that is slow or full of other writes makes `write` wait for as long as it
//! likes, and the runtime's threads must not wait with it. The hop costs some ten microseconds a batch, whatever its size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use actors::gates::ports::{GateBatch, GateMirror};
use actors::ports::{MirrorAnswer, MirrorError};
use async_trait::async_trait;
use dashmap::DashMap;
use engine::gate::{Draw, KeptPass, MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, Time, Turn, UserId};
use tokio::task::spawn_blocking;

use super::LocalMirror;
use super::log::Log;

#[derive(Debug, Default)]
pub(super) struct Gates {
    /// `None`: in memory only.
    dir: Option<PathBuf>,
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
            if let Err(error) = log.append(batch) {
                if log.cut().is_err() {
                    self.log = None;
                }
                return Err(wrong(path, &error));
            }
        }
        batch.changes.iter().for_each(|change| copy.change(change));
        copy.op = batch.op;
        if let (Some(path), Some(log)) = (path, &mut self.log)
            && log.is_long()
        {
            match Log::create(path, batch.concert, copy) {
                Ok(fresh) => *log = fresh,
                // The batch is in the old one.
                Err(error) => {
                    log.grow();
                    tracing::warn!(path = %path.display(), %error, "a gate's file could not be folded");
                }
            }
        }
        Ok(MirrorAnswer::Applied)
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

impl Gates {
    pub fn in_dir(dir: PathBuf) -> Self {
        Self { dir: Some(dir), gates: DashMap::default() }
    }

    /// Does something with a gate's copy, and with its file where there are files.
    async fn with<T: Send + 'static>(
        &self,
        concert: ConcertId,
        work: impl FnOnce(&mut LocalGate, Option<&Path>) -> Result<T, MirrorError> + Send + 'static,
    ) -> Result<T, MirrorError> {
        let gate = self.gates.entry(concert).or_default().clone();
        let Some(dir) = &self.dir else {
            return work(&mut gate.lock().unwrap_or_else(PoisonError::into_inner), None);
        };
        let path = dir.join(format!("{concert}.log"));
        let done = spawn_blocking(move || {
            let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.look(&path, concert)?;
            work(&mut gate, Some(&path))
        });
        done.await.unwrap_or_else(|error| Err(MirrorError(format!("the gate of concert {concert}: {error}"))))
    }
}

#[async_trait]
impl GateMirror for LocalMirror {
    async fn apply(&self, batch: &GateBatch) -> Result<MirrorAnswer, MirrorError> {
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

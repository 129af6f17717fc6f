//! Draws that were asked for, worked out once for all who ask: a crowd of entrants comes in the same second, and reading,
//! hashing and encoding a million of them takes seconds.
//!
//! Anybody may ask, without a token. So what costs something has bounds: a concert without a draw costs a short answer, one
//! draw is worked out at a time, and no more than [`DRAWS`] are kept or waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::gates::draws;
use actors::gates::ports::{DrawRow, DrawStage, GateLedger};
use axum::body::Bytes;
use axum::http::HeaderValue;
use dashmap::DashMap;
use engine::gate::draw::{Digest, Tree};
use engine::{ConcertId, Unavailable, UserId};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{stage_name, view};
use crate::http::error::Problem;
use crate::lock::lock;

/// Draws that are kept, the ones asked for last: some 150 MB each where a million take part.
const DRAWS: usize = 8;

/// How old it may be what a concert is said to have.
const FRESH: Duration = Duration::from_secs(1);

/// How long somebody waits for a draw to be worked out. Whoever asks again later finds it.
const PATIENCE: Duration = Duration::from_secs(10);

const NONE: Problem = Problem::NoDraw("The concert has no draw, or its seed is not committed to yet.");
const NO_SUCH: Problem = Problem::NoDraw("The concert has had no draw of that number.");
const BUSY: Problem =
    Problem::Undecided(Unavailable::Overloaded, "Draws are being worked out; come again for this one.");

/// The draws of this node's cache.
pub(in crate::http) struct KeptDraws {
    /// What concerts have, those without a draw too: a few bytes for each in the catalogue.
    heads: DashMap<ConcertId, Arc<Head>>,
    /// By concert and number. A slot that somebody waits for is not given up.
    slots: Mutex<VecDeque<((ConcertId, u32), Slot)>>,
    /// To work one out.
    work: Arc<Semaphore>,
}

/// The number and the stage of a concert's newest draw, and when they were read.
type Head = tokio::sync::Mutex<Option<(Instant, Option<(u32, DrawStage)>)>>;

/// One draw's place. Whoever works it out has the lock, and the others wait for the same answer.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Kept>>>>;

/// A draw, and what its answers are made of.
pub(super) struct Kept {
    pub row: DrawRow,
    pub etag: HeaderValue,
    pub record: Bytes,
    leaves: Vec<Digest>,
    tree: Tree,
    /// Indexes of the entrants, by user.
    by_user: Vec<u32>,
    /// By index, from 0; empty before the draw.
    places: Vec<u32>,
}

impl Default for KeptDraws {
    fn default() -> Self {
        Self { heads: DashMap::new(), slots: Mutex::default(), work: Arc::new(Semaphore::new(1)) }
    }
}

impl KeptDraws {
    /// A draw of a concert, by its number; the newest where none is given.
    ///
    /// # Errors
    /// `NO_DRAW`, `OVERLOADED` (too much is being worked out), `LEDGER_UNAVAILABLE`.
    pub(super) async fn of(
        &self,
        concert: ConcertId,
        no: Option<u32>,
        ledger: &Arc<dyn GateLedger>,
    ) -> Result<Arc<Kept>, Problem> {
        let deadline = Instant::now() + PATIENCE;
        let newest = timeout_at(deadline, self.newest(concert, ledger.as_ref())).await.map_err(|_| BUSY)?;
        let (newest, stage) = newest?.ok_or(NONE)?;
        let no = no.unwrap_or(newest);
        if no == 0 || no > newest {
            return Err(NO_SUCH);
        }
        let slot = self.slot((concert, no)).ok_or(BUSY)?;
        let place = timeout_at(deadline, slot.lock_owned()).await.map_err(|_| BUSY)?;
        // Nothing follows on a draw that another one has followed on.
        if let Some(kept) = place.as_ref().filter(|kept| no < newest || kept.row.stage() >= stage) {
            return Ok(kept.clone());
        }
        // A task of its own: a client that goes away does not make the next one begin anew.
        let worked_out = tokio::spawn(work_out(place, (concert, no), ledger.clone(), self.work.clone()));
        let worked_out = timeout_at(deadline, worked_out).await.map_err(|_| BUSY)?;
        worked_out.map_err(|error| Problem::Internal(format!("a draw was not worked out: {error}")))?
    }

    async fn newest(
        &self,
        concert: ConcertId,
        ledger: &dyn GateLedger,
    ) -> Result<Option<(u32, DrawStage)>, Problem> {
        let head = self.heads.entry(concert).or_default().clone();
        let mut head = head.lock().await;
        if let Some((at, newest)) = *head
            && at.elapsed() < FRESH
        {
            return Ok(newest);
        }
        let newest = match (ledger.draw_stage(concert).await, *head) {
            (Ok(newest), _) => newest,
            // What was published stays true.
            (Err(error), Some((_, Some(newest)))) => {
                tracing::warn!(concert = concert.0, %error, "a draw is told as it was known");
                Some(newest)
            }
            (Err(error), _) => return Err(error.into()),
        };
        *head = Some((Instant::now(), newest));
        Ok(newest)
    }

    /// `None`: somebody waits for each of those that there may be.
    fn slot(&self, draw: (ConcertId, u32)) -> Option<Slot> {
        let mut slots = lock(&self.slots);
        let known = slots.iter().position(|(other, _)| *other == draw);
        let slot = match known.and_then(|place| slots.remove(place)) {
            Some((_, slot)) => slot,
            None => {
                if slots.len() == DRAWS {
                    let idle = slots.iter().position(|(_, slot)| Arc::strong_count(slot) == 1)?;
                    slots.remove(idle);
                }
                Slot::default()
            }
        };
        slots.push_back((draw, slot.clone()));
        Some(slot)
    }
}

async fn work_out(
    mut place: OwnedMutexGuard<Option<Arc<Kept>>>,
    (concert, no): (ConcertId, u32),
    ledger: Arc<dyn GateLedger>,
    work: Arc<Semaphore>,
) -> Result<Arc<Kept>, Problem> {
    let _one_at_a_time = work.acquire().await.map_err(|_| BUSY)?;
    let row = match (ledger.draw(concert, Some(no)).await, place.as_ref()) {
        (Ok(row), _) => row.ok_or(NO_SUCH)?,
        (Err(error), Some(known)) => {
            tracing::warn!(concert = concert.0, %error, "a draw is told as it was known");
            return Ok(known.clone());
        }
        (Err(error), None) => return Err(error.into()),
    };
    let kept = tokio::task::spawn_blocking(move || Kept::new(row)).await;
    let kept = kept.map_err(|error| Problem::Internal(format!("a draw was not worked out: {error}")))?;
    Ok(place.insert(Arc::new(kept)).clone())
}

#[expect(clippy::cast_possible_truncation, reason = "turns are 32 bits, and nobody has two")]
impl Kept {
    fn new(row: DrawRow) -> Self {
        let entrants = row.frozen.as_ref().map_or(&[][..], |frozen| &frozen.entrants);
        let leaves = draws::leaves(&row, entrants);
        let order = draws::indexes(&row).unwrap_or_default();
        let mut places = vec![0; order.len()];
        for (place, index) in (0..).zip(&order) {
            places[*index as usize] = place;
        }
        let mut by_user: Vec<u32> = (0..entrants.len() as u32).collect();
        by_user.sort_unstable_by_key(|index| entrants[*index as usize].1);
        let record = serde_json::to_vec(&view(&row, &leaves, &order)).expect("strings and numbers serialize");
        let etag = HeaderValue::from_str(&format!("\"{}.{}\"", row.no, stage_name(&row)))
            .expect("numbers and letters are visible ASCII");
        Self {
            etag,
            record: record.into(),
            tree: Tree::new(draws::sha256, leaves.clone()),
            leaves,
            by_user,
            places,
            row,
        }
    }

    /// An entrant's index, and its proof.
    pub(super) fn find(&self, user: UserId) -> Option<(u32, Vec<Digest>)> {
        let entrants = &self.row.frozen.as_ref()?.entrants;
        let found = self.by_user.binary_search_by_key(&user, |index| entrants[*index as usize].1).ok()?;
        let index = self.by_user[found];
        Some((index, self.tree.proof(index as usize)?))
    }

    pub(super) fn leaf(&self, index: u32) -> Digest {
        self.leaves[index as usize]
    }

    /// From 1.
    pub(super) fn place(&self, index: u32) -> Option<u32> {
        self.places.get(index as usize).map(|place| place + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_that_somebody_waits_for_keeps_its_place() {
        let kept = KeptDraws::default();
        let take = |concert| kept.slot((ConcertId(concert), 1));
        let mut held: Vec<Slot> = (0..8).map(|concert| take(concert).unwrap()).collect();
        assert!(take(8).is_none(), "all are waited for");
        assert!(Arc::ptr_eq(&take(3).unwrap(), &held[3]), "whoever asks for the same one waits along");
        assert!(kept.slot((ConcertId(3), 2)).is_none(), "another draw of the concert is another one");
        drop(held.remove(5));
        let fresh = take(8).unwrap();
        assert!(take(5).is_none(), "the only idle one made room");
        assert!(
            held.iter()
                .zip([0, 1, 2, 3, 4, 6, 7])
                .all(|(slot, concert)| { Arc::ptr_eq(&take(concert).unwrap(), slot) })
        );
        drop((held, fresh));
        take(9).unwrap();
        assert_eq!(kept.slots.lock().unwrap().len(), 8);
    }

    #[tokio::test]
    async fn a_draw_that_is_worked_out_keeps_its_place_without_a_client() {
        let kept = KeptDraws::default();
        let guard = kept.slot((ConcertId(1), 1)).unwrap().lock_owned().await;
        for concert in 2..50 {
            kept.slot((ConcertId(concert), 1)).unwrap();
        }
        assert!(kept.slot((ConcertId(1), 1)).unwrap().try_lock().is_err(), "it would be worked out again");
        drop(guard);
    }
}

//! What the crowd does.

use std::time::Duration;

use anyhow::anyhow;

use crate::history::What;
use crate::run::Journal;
use crate::session::{Broken, Reply, Session};
use crate::wire::Problem;

pub mod fanout;
pub mod mixed;
pub mod queue;
pub mod rush;
pub mod toggle;

/// A selected seat is its user's for so long, for certain: a little less than the least that servers are set to.
pub const SOFT_LOCK: Duration = Duration::from_secs(20);
/// The same of a hold.
pub const HOLD: Duration = Duration::from_secs(200);
/// And of what is paid for.
pub const FOR_EVER: Duration = Duration::MAX;
/// A connection that had no answer for so long gives up: the server is gone, and does not come back.
const GONE: Duration = Duration::from_secs(5);
/// Whoever has a seat before the run.
const NOBODY: u64 = 0;

/// Seats that somebody has before the run: who is refused one of them is not refused falsely. For one worker, before it
/// asks for an arrival.
///
/// # Errors
/// No answer.
pub async fn note_taken(session: &mut Session, journal: &Journal) -> Result<(), Broken> {
    let Reply { sent, said, .. } = session.look().await?;
    let map = said.map_err(|problem| unexpected("look", &problem))?;
    journal.note(&map.taken(), NOBODY, sent, None, What::Unknown);
    Ok(())
}

/// A refusal that no user of ours can do anything about.
pub fn unexpected(what: &str, problem: &Problem) -> Broken {
    Broken::Failed(anyhow!("{what} was refused: {}: {}", problem.code, problem.detail))
}

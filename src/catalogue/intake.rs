//! Brings what is imported into the sale: refreshes the directory, and asks the owner shard of every
//! option without a status to add it, until it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actors::handle::{Ask, Handle};
use engine::command::{Authority, Caller, Command};
use engine::{OptionId, Outcome, UserId};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Catalogue;
use super::directory::{Directory, OptionEntry};

/// How often the catalogue is read when nobody asks: another process may have imported something.
const POLL: Duration = Duration::from_secs(1);

/// How long a shard may take to add an option.
const PATIENCE: Duration = Duration::from_secs(10);

/// An option that was not added is tried again after this long, then twice as long, up to the maximum.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// After a refusal only a new version of the server can change the answer.
const BACK_OFF_REFUSED: Duration = Duration::from_secs(60);

/// Options asked for at once; they share ledger commits.
const AT_ONCE: usize = 64;

/// See the module. One for the whole process.
pub struct Intake {
    directory: Arc<Directory>,
    catalogue: Arc<dyn Catalogue>,
    handle: Handle,
    wake: Notify,
}

/// When an option is tried again.
struct Retry {
    at: Instant,
    back_off: Duration,
}

impl Intake {
    #[must_use]
    pub fn new(directory: Arc<Directory>, catalogue: Arc<dyn Catalogue>, handle: Handle) -> Self {
        Self { directory, catalogue, handle, wake: Notify::new() }
    }

    /// Looks now instead of at the next poll: something was imported.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// How many options wait for their shard to add them.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.directory.pending()
    }

    /// Works until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let mut retries = HashMap::new();
        let mut readable = true;
        loop {
            let poll = Instant::now() + POLL;
            readable = self.refresh(readable).await;
            if self.add_pending(&mut retries).await {
                readable = self.refresh(readable).await;
            }
            let next = retries.values().map(|retry: &Retry| retry.at).fold(poll, Instant::min);
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Says once that the catalogue cannot be read, and once that it can be again.
    async fn refresh(&self, was_readable: bool) -> bool {
        match self.directory.refresh(self.catalogue.as_ref()).await {
            Ok(()) => {
                if !was_readable {
                    tracing::info!("the catalogue can be read again");
                }
                true
            }
            Err(error) => {
                if was_readable {
                    tracing::warn!(%error, "the catalogue cannot be read; new options wait");
                }
                false
            }
        }
    }

    /// Asks for every option that waits and is due. True when a shard added one.
    async fn add_pending(&self, retries: &mut HashMap<OptionId, Retry>) -> bool {
        let pending = self.directory.pending_options();
        retries.retain(|option, _| pending.iter().any(|entry| entry.option == *option));
        let now = Instant::now();
        // Each node brings in what its own shards sell.
        let mine = self.handle.serving();
        let is_due = |entry: &Arc<OptionEntry>| {
            mine.contains(&entry.shard) && retries.get(&entry.option).is_none_or(|retry| retry.at <= now)
        };
        let due = pending.into_iter().filter(is_due);
        let mut due = due.collect::<Vec<_>>().into_iter();
        let mut asked = JoinSet::new();
        let mut added = false;
        loop {
            while asked.len() < AT_ONCE
                && let Some(entry) = due.next()
            {
                asked.spawn(add(self.handle.clone(), entry));
            }
            match asked.join_next().await {
                Some(Ok((entry, outcome))) => added |= settle(&entry, outcome, retries),
                Some(Err(error)) => tracing::error!(%error, "asking for an option failed"),
                None => return added,
            }
        }
    }
}

async fn add(handle: Handle, entry: Arc<OptionEntry>) -> (Arc<OptionEntry>, Outcome) {
    let ask = Ask {
        caller: Caller { user: UserId(0), authority: Authority::Any },
        key: None,
        pass: None,
        command: Command::AddOption {
            option: entry.option,
            concert: entry.concert,
            layout: Arc::clone(&entry.plan.layout),
        },
    };
    let answer = handle.ask(entry.shard, ask, Instant::now() + PATIENCE).await;
    (entry, answer.outcome)
}

/// Logs what became of an option, and says when it is tried again. True when it was added.
fn settle(entry: &OptionEntry, outcome: Outcome, retries: &mut HashMap<OptionId, Retry>) -> bool {
    let (option, concert, shard) = (entry.option.0, entry.concert.0, entry.shard.0);
    let back_off = match outcome {
        Outcome::Granted(_) => {
            retries.remove(&entry.option);
            tracing::info!(option, concert, shard, seats = entry.seat_count(), "an option is on sale");
            return true;
        }
        Outcome::Refused(refusal) => {
            let code = refusal.code();
            tracing::error!(option, concert, shard, code, "the shard refuses the option");
            BACK_OFF_REFUSED
        }
        Outcome::Unavailable(unavailable) => {
            let before = retries.get(&entry.option).map(|retry| retry.back_off);
            let back_off = before.map_or(BACK_OFF, |before| (2 * before).min(BACK_OFF_MAX));
            if back_off == BACK_OFF_MAX {
                let code = unavailable.code();
                tracing::warn!(option, concert, shard, code, "the shard cannot add the option yet");
            } else {
                tracing::debug!(option, concert, shard, "the shard cannot add the option yet");
            }
            back_off
        }
    };
    retries.insert(entry.option, Retry { at: Instant::now() + back_off, back_off });
    false
}

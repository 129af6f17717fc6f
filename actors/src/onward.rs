//! Commands that waited out a move, on their way to the new owner: in the order in which they came, each answered
//! to whoever waits for it here.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Outcome, ShardId, Unavailable};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::batch::{Batch, Part};
use crate::handle::{Answer, Ask};
use crate::peers::{Forward, Peers, Reply};
use crate::ports::Owner;
use crate::shard::Asked;

/// One command or several, with whoever waits and the permits.
#[derive(Debug)]
pub enum Parked {
    One(Asked),
    Several(Batch),
}

impl Parked {
    /// Nobody has decided it and nobody will.
    pub fn refuse(self) {
        match self {
            Self::One(asked) => {
                let outcome = Outcome::Unavailable(Unavailable::Overloaded);
                let _waits = asked.reply.send(Answer { outcome, replayed: false });
            }
            Self::Several(batch) => {
                for part in batch.parts {
                    if let Some(owed) = part.later {
                        let _waits = owed.reply.send(Answer::unavailable(Unavailable::Overloaded));
                    }
                }
                let _waits = batch.clicks.send(Vec::new());
            }
        }
    }
}

/// Begins to pass on what is sent to it, for as long as there is a sender.
pub fn start(shard: ShardId, to: Arc<Owner>, peers: Arc<dyn Peers>) -> mpsc::UnboundedSender<Parked> {
    let (onward, mut parked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(one) = parked.recv().await {
            let (asks, deadline) = asks_of(&one);
            // What is sent first arrives first; the answers come as they come.
            let replies = peers.ask(&to, Forward { shard, asks, deadline });
            tokio::spawn(answer(one, replies));
        }
    });
    onward
}

fn asks_of(parked: &Parked) -> (Vec<Ask>, Instant) {
    match parked {
        Parked::One(asked) => (vec![asked.ask.clone()], asked.deadline),
        Parked::Several(batch) => (batch.parts.iter().map(|part| part.ask.clone()).collect(), batch.deadline),
    }
}

async fn answer(parked: Parked, mut replies: mpsc::UnboundedReceiver<Reply>) {
    match parked {
        Parked::One(asked) => {
            let answer = match replies.recv().await {
                Some(Reply::Answer(_, answer)) => answer,
                Some(Reply::NotOwner(_) | Reply::NotSent) => Answer::unavailable(Unavailable::Overloaded),
                None if asked.ask.command.reaches_ledger() => Answer::unavailable(Unavailable::Ledger),
                None => Answer::unavailable(Unavailable::Overloaded),
            };
            let _waits = asked.reply.send(answer);
        }
        Parked::Several(batch) => answer_several(batch, replies).await,
    }
}

async fn answer_several(batch: Batch, mut replies: mpsc::UnboundedReceiver<Reply>) {
    let mut clicks_awaited = batch.parts.iter().filter(|part| part.later.is_none()).count();
    let mut clicks = Some(batch.clicks);
    let mut decided = Vec::new();
    // Commands are numbered as they were sent, and by their places as they are answered.
    let mut waiting: BTreeMap<usize, Part> = batch.parts.into_iter().enumerate().collect();
    while let Some(Reply::Answer(no, answer)) = replies.recv().await {
        let Some(part) = waiting.remove(&no) else { continue };
        match part.later {
            Some(owed) => drop(owed.reply.send(answer)),
            None => {
                decided.push((part.place, answer));
                clicks_awaited -= 1;
            }
        }
        if clicks_awaited == 0
            && let Some(clicks) = clicks.take()
        {
            drop(clicks.send(std::mem::take(&mut decided)));
        }
    }
    for part in waiting.into_values() {
        if let Some(owed) = part.later {
            drop(owed.reply.send(Answer::unavailable(Unavailable::Ledger)));
        }
    }
    if let Some(clicks) = clicks.take() {
        drop(clicks.send(decided));
    }
}

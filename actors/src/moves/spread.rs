//! Shards of the whole cluster that one node has been asked to spread: it has their owners begin one move after the
//! other, so that no more than so many are under way at the same time, whoever began them.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::{ShardId, Span, Time};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{MoveId, MoveInfo, MoveState, Moves, newest_of_each};
use crate::lock::lock;
use crate::peers::{Request, RequestError, Standing};
use crate::ports::Owner;

/// How often the owners are asked how far they are.
const LOOK: Duration = Duration::from_millis(100);

/// How long an owner may take to say that it has begun, or how far it is.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a move may be under way of which its owner tells nothing.
const UNTOLD: Duration = Duration::from_secs(30);

/// A shard that shall change hands.
#[derive(Clone, Debug)]
pub struct Step {
    pub shard: ShardId,
    pub from: Owner,
    pub to: Owner,
}

/// So many shards are being spread already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spreading(pub usize);

/// What was asked for last.
#[derive(Debug, Default)]
pub(super) struct Spread {
    at_once: usize,
    steps: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    step: Step,
    id: MoveId,
    state: MoveState,
    /// As the owner tells it, once it does: whoever is asked tells the same.
    since: Time,
    /// What the owner calls it, when it had begun it before it was asked.
    theirs: MoveId,
    /// When the owner was asked.
    asked: Option<Instant>,
    /// What the owner says is left.
    left: Option<Span>,
}

impl Moves {
    /// Begins to spread shards; the moves that this takes. They go on by themselves.
    ///
    /// # Errors
    /// This node is at it already.
    pub fn spread(&self, steps: Vec<Step>, at_once: u16) -> Result<Vec<MoveInfo>, Spreading> {
        let mut spread = lock(&self.0.spread);
        let left = spread.steps.iter().filter(|one| !one.state.has_ended()).count();
        if left > 0 {
            return Err(Spreading(left));
        }
        let since = self.0.clock.now();
        let asked = |step| {
            let id = self.next_id();
            Asked { step, id, state: MoveState::Waiting, since, theirs: id, asked: None, left: None }
        };
        *spread = Spread { at_once: at_once.into(), steps: steps.into_iter().map(asked).collect() };
        drop(spread);
        let moves = self.told_of_spread();
        tokio::spawn(self.clone().see_to_it());
        Ok(moves)
    }

    /// What is known of every move in the cluster, from all nodes that are up.
    pub async fn everybodys(&self) -> Vec<MoveInfo> {
        let mut all = self.owners_word().await;
        all.extend(self.told_of_spread());
        newest_of_each(all)
    }

    /// The same without what this node spreads, of which the owners know more.
    async fn owners_word(&self) -> Vec<MoveInfo> {
        let mut asked = JoinSet::new();
        for owner in self.nodes_up() {
            let moves = self.clone();
            asked.spawn(async move {
                let told = moves.ask(&owner, Request::Moves).await;
                told.inspect_err(|error| tracing::warn!(%error, "a node does not tell its moves"))
            });
        }
        let mut all = self.told_of_mine();
        while let Some(told) = asked.join_next().await {
            all.extend(told.into_iter().flatten().flatten());
        }
        newest_of_each(all)
    }

    /// Asks a node, this one or another, for its part of what an operator wants.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn ask(&self, node: &Owner, request: Request) -> Result<Vec<MoveInfo>, RequestError> {
        if node.id == self.0.me.id {
            return self.answer(request).map_err(RequestError::Declined);
        }
        self.0.peers.request(node, request, Instant::now() + ANSWER).await
    }

    pub(super) fn told_of_spread(&self) -> Vec<MoveInfo> {
        let spread = lock(&self.0.spread);
        let (pace, now) = (lock(&self.0.pace), self.0.clock.now());
        let mut before = spread.steps.iter().filter(|one| one.state.is_under_way()).count();
        let info = |one: &Asked| {
            let left = match one.state {
                MoveState::Waiting => {
                    before += 1;
                    pace.left(before - 1, spread.at_once, Duration::ZERO).map(Span::from)
                }
                MoveState::Preparing | MoveState::Moving => {
                    one.left.or_else(|| pace.left(0, 1, now.since(one.since).into()).map(Span::from))
                }
                MoveState::Planned | MoveState::Done | MoveState::Failed(_) => None,
            };
            MoveInfo {
                id: Some(one.id),
                shard: one.step.shard,
                from: one.step.from.node.clone(),
                to: one.step.to.node.clone(),
                state: one.state.clone(),
                since: one.since,
                eta: left,
            }
        };
        spread.steps.iter().map(info).collect()
    }

    fn nodes_up(&self) -> Vec<Owner> {
        self.others(|member| member.standing == Standing::Up)
    }

    async fn see_to_it(self) {
        loop {
            let known = self.owners_word().await;
            self.learn(&known);
            let under_way = known.iter().filter(|one| one.state.is_under_way()).count();
            for (id, step) in self.next_steps(under_way) {
                let Step { shard, from, to } = step;
                let begun = self.ask(&from, Request::Move { id, shard, to: to.id }).await;
                self.note(id, begun);
            }
            if lock(&self.0.spread).steps.iter().all(|one| one.state.has_ended()) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Those whose turn has come.
    fn next_steps(&self, under_way: usize) -> Vec<(MoveId, Step)> {
        let spread = lock(&self.0.spread);
        let waiting = spread.steps.iter().filter(|one| one.state == MoveState::Waiting);
        let room = spread.at_once.saturating_sub(under_way);
        waiting.take(room).map(|one| (one.id, one.step.clone())).collect()
    }

    /// What came of asking an owner.
    fn note(&self, id: MoveId, begun: Result<Vec<MoveInfo>, RequestError>) {
        let mut spread = lock(&self.0.spread);
        let Some(one) = spread.steps.iter_mut().find(|one| one.id == id) else { return };
        one.asked = Some(Instant::now());
        let state = match begun {
            Ok(begun) => {
                one.theirs = begun.first().and_then(|begun| begun.id).unwrap_or(id);
                MoveState::Moving
            }
            // It may have begun: its list tells.
            Err(RequestError::Unsure { .. }) => MoveState::Moving,
            Err(error) => {
                tracing::warn!(shard = %one.step.shard, %error, "a shard is not moved");
                MoveState::Failed(error.to_string())
            }
        };
        (one.state, one.since) = (state, self.0.clock.now());
    }

    fn learn(&self, known: &[MoveInfo]) {
        let up: BTreeSet<u128> = self.nodes_up().iter().map(|owner| owner.id).collect();
        let mut spread = lock(&self.0.spread);
        for one in spread.steps.iter_mut().filter(|one| one.state.is_under_way()) {
            let from = &one.step.from;
            let told = known.iter().find(|told| told.id == Some(one.theirs) && told.from == from.node);
            let age = one.asked.map(|asked| asked.elapsed()).unwrap_or_default();
            let is_gone = from.id != self.0.me.id && !up.contains(&from.id);
            match told {
                Some(told) => {
                    // This node's own moves have been noted where they ended.
                    if told.state == MoveState::Done && from.id != self.0.me.id {
                        lock(&self.0.pace).note(age);
                    }
                    one.left = told.eta;
                    (one.state, one.since) = (told.state.clone(), told.since);
                }
                None if is_gone || age > UNTOLD => {
                    let why = format!("{} does not say what became of it: see who has the shard", from.node);
                    (one.state, one.since) = (MoveState::Failed(why), self.0.clock.now());
                }
                None => {}
            }
        }
    }
}

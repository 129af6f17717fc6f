//! What operators want of another node, between the actors' words and those of the control plane.

use actors::moves::{MoveError, MoveId, MoveInfo, MoveState, Moves};
use actors::peers::{Request, RequestError};
use engine::{ShardId, Span, Time};

use super::PeerError;
use super::codec::BYTES_MAX;
use super::wire::{ControlReply, ControlRequest, Refusal, ShardMove, Stage};

/// Bytes of a reply that its moves may take; the rest is for what is around them.
const MOVES_BYTES: usize = BYTES_MAX - 1_024;

/// Bytes of a move beside its texts.
const MOVE_BYTES: usize = 96;

/// Has this node do what a peer asks.
#[must_use]
pub fn answer(moves: &Moves, request: ControlRequest) -> ControlReply {
    let request = match request {
        ControlRequest::MoveShard { shard, to, id } => {
            Request::Move { id: MoveId(id), shard: ShardId(shard), to }
        }
        ControlRequest::Drain => Request::Drain,
        ControlRequest::MoveStatus => Request::Moves,
    };
    match moves.answer(request) {
        Ok(told) => ControlReply::Moves(fitting(told)),
        Err(error) => ControlReply::Refused(refusal_out(error)),
    }
}

pub(super) fn request_out(request: Request) -> ControlRequest {
    match request {
        Request::Move { id, shard, to } => ControlRequest::MoveShard { shard: shard.0, to, id: id.0 },
        Request::Drain => ControlRequest::Drain,
        Request::Moves => ControlRequest::MoveStatus,
    }
}

/// What came of asking `node`.
pub(super) fn reply_in(
    node: &str,
    reply: Result<ControlReply, PeerError>,
) -> Result<Vec<MoveInfo>, RequestError> {
    match reply {
        Ok(ControlReply::Moves(moves)) => Ok(moves.into_iter().map(move_in).collect()),
        Ok(ControlReply::Refused(refusal)) => Err(RequestError::Declined(refusal_in(refusal))),
        Err(error) => {
            let (node, why) = (node.to_owned(), error.to_string());
            Err(match error {
                PeerError::Away | PeerError::Busy | PeerError::Stranger => {
                    RequestError::NotAsked { node, why }
                }
                PeerError::TimedOut | PeerError::Lost | PeerError::Unreadable(_) => {
                    RequestError::Unsure { node, why }
                }
            })
        }
    }
}

/// As many as one message takes, those first that have not ended.
fn fitting(mut told: Vec<MoveInfo>) -> Vec<ShardMove> {
    told.sort_by_key(|one| one.state.has_ended());
    let mut bytes = 0;
    let fits = |one: &ShardMove| {
        let why = if let Stage::Failed(why) = &one.stage { why.len() } else { 0 };
        bytes += MOVE_BYTES + one.from.len() + one.to.len() + why;
        bytes <= MOVES_BYTES
    };
    told.into_iter().filter_map(move_out).take_while(fits).collect()
}

/// `None`: what is only planned is nobody's business.
fn move_out(info: MoveInfo) -> Option<ShardMove> {
    let stage = match info.state {
        MoveState::Planned => return None,
        MoveState::Waiting => Stage::Waiting,
        MoveState::Preparing => Stage::Preparing,
        MoveState::Moving => Stage::Moving,
        MoveState::Done => Stage::Done,
        MoveState::Failed(why) => Stage::Failed(why),
    };
    let (id, eta) = (info.id?.0, info.eta.map(|eta| eta.0));
    let (shard, from, to, since) = (info.shard.0, info.from, info.to, info.since.0);
    Some(ShardMove { id, shard, from, to, stage, since, eta })
}

fn move_in(told: ShardMove) -> MoveInfo {
    let ShardMove { id, shard, from, to, stage, since, eta } = told;
    let state = match stage {
        Stage::Waiting => MoveState::Waiting,
        Stage::Preparing => MoveState::Preparing,
        Stage::Moving => MoveState::Moving,
        Stage::Done => MoveState::Done,
        Stage::Failed(why) => MoveState::Failed(why),
    };
    let (id, shard) = (Some(MoveId(id)), ShardId(shard));
    MoveInfo { id, shard, from, to, state, since: Time(since), eta: eta.map(Span) }
}

fn refusal_out(error: MoveError) -> Refusal {
    match error {
        MoveError::NotHere(shard) => Refusal::NotHere(shard.0),
        MoveError::NodeUnknown(node) => Refusal::NodeUnknown(node),
        MoveError::NodeSilent(node) => Refusal::NodeSilent(node),
        MoveError::NodeDraining(node) => Refusal::NodeDraining(node),
        MoveError::Moving(shard, to) => Refusal::Moving(shard.0, to),
        MoveError::Nowhere => Refusal::Nowhere,
    }
}

fn refusal_in(refusal: Refusal) -> MoveError {
    match refusal {
        Refusal::NotHere(shard) => MoveError::NotHere(ShardId(shard)),
        Refusal::NodeUnknown(node) => MoveError::NodeUnknown(node),
        Refusal::NodeSilent(node) => MoveError::NodeSilent(node),
        Refusal::NodeDraining(node) => MoveError::NodeDraining(node),
        Refusal::Moving(shard, to) => MoveError::Moving(ShardId(shard), to),
        Refusal::Nowhere => MoveError::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::super::wire::Answer;
    use super::*;

    fn told(id: u128, state: MoveState) -> MoveInfo {
        let (from, to) = ("a".repeat(64), "b".repeat(64));
        let (id, shard) = (Some(MoveId(id)), ShardId(17));
        MoveInfo { id, shard, from, to, state, since: Time(5), eta: Some(Span(7)) }
    }

    #[test]
    fn every_move_and_refusal_travels() {
        let failed = MoveState::Failed("the ledger did not answer".to_owned());
        for state in [MoveState::Waiting, MoveState::Preparing, MoveState::Moving, MoveState::Done, failed] {
            let moves = vec![told(9, state)];
            let reply = Ok(ControlReply::Moves(fitting(moves.clone())));
            assert_eq!(reply_in("a", reply), Ok(moves));
        }
        let node = || "a".to_owned();
        for error in [
            MoveError::NotHere(ShardId(3)),
            MoveError::NodeUnknown(node()),
            MoveError::NodeSilent(node()),
            MoveError::NodeDraining(node()),
            MoveError::Moving(ShardId(3), node()),
            MoveError::Nowhere,
        ] {
            let reply = Ok(ControlReply::Refused(refusal_out(error.clone())));
            assert_eq!(reply_in("a", reply), Err(RequestError::Declined(error)));
        }
    }

    #[test]
    fn all_moves_of_whoever_had_every_shard_fit() {
        let moves = fitting((0..4_096).map(|id| told(id, MoveState::Moving)).collect());
        assert_eq!(moves.len(), 4_096);
        let answer = Answer::Reply(ControlReply::Moves(moves));
        assert_eq!(codec::decode(&codec::encode(&answer).unwrap()), Ok(answer));
    }

    #[test]
    fn whoever_knows_too_many_moves_tells_those_that_have_not_ended() {
        let ended = (0..8_000).map(|id| told(id, MoveState::Failed("x".repeat(60))));
        let moves = fitting(ended.chain([told(8_000, MoveState::Moving)]).collect());
        assert!(moves.len() < 4_000, "{}", moves.len());
        assert_eq!((moves[0].id, &moves[0].stage), (8_000, &Stage::Moving));
        let answer = Answer::Reply(ControlReply::Moves(moves));
        assert_eq!(codec::decode(&codec::encode(&answer).unwrap()), Ok(answer));
    }
}

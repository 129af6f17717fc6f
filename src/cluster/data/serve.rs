//! The owner's end of the data plane.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use actors::Handle;
use actors::feed::Position;
use actors::gates::{GateForward, GateReply};
use actors::peers::{Forward, Reply, Returned};
use bytes::{Bytes, BytesMut};
use engine::{ConcertId, Epoch, OptionId, ShardId};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{Chunks, Messages};
use super::wire::{self, Down, NotAMessage, Seen, Up};
use super::{convert, gates, memory, mine};
use crate::cluster::DataService;

pub(super) const LANE: &str = "/peer/v1/lane";
pub(super) const FEED: &str = "/peer/v1/feed";
pub(super) const CALL: &str = "/peer/v1/call";
pub(super) const MINE: &str = "/peer/v1/mine";
pub(super) const GATE_LANE: &str = "/peer/v1/gate-lane";
pub(super) const GATE_NEWS: &str = "/peer/v1/gate-news";

/// Answers that are written together at most.
const TOGETHER: usize = 1_024;

/// Frames of one feed that wait for its peer.
const FRAMES: usize = 64;

/// What peers ask of this node.
pub fn service(handle: Handle) -> impl DataService<Chunks> {
    tower::service_fn(move |request: Request<Incoming>| {
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(answer(handle, request).await) }
    })
}

async fn answer(handle: Handle, request: Request<Incoming>) -> Response<Chunks> {
    let (head, body) = request.into_parts();
    match head.uri.path() {
        LANE | GATE_LANE => lane(handle, body),
        MINE => Response::new(mine::tell(&handle, body)),
        GATE_NEWS => Response::new(gates::tell(&handle, body)),
        FEED => match whole(body).await {
            Ok(seen) => feed(handle, seen),
            Err(error) => refused(&error),
        },
        CALL => match whole(body).await {
            Ok(call) => answer_call(&handle, call).await,
            Err(error) => refused(&error),
        },
        _ => {
            let mut response = Response::new(Chunks::whole(Vec::new()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

/// A body that is one message.
async fn whole<T: DeserializeOwned>(body: Incoming) -> Result<T, NotAMessage> {
    let read = Limited::new(body, wire::BYTES_MAX).collect().await;
    wire::decode(&read.map_err(|error| NotAMessage(error.to_string()))?.to_bytes())
}

fn refused(error: &NotAMessage) -> Response<Chunks> {
    let mut response = Response::new(Chunks::whole(error.to_string().into_bytes()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn lane(handle: Handle, asked: Incoming) -> Response<Chunks> {
    let (chunks, body) = Chunks::channel();
    let (said, says) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        if let Err(error) = read(&handle, asked, &said).await {
            tracing::warn!(%error, "a peer's lane ends");
        }
    });
    tokio::spawn(write(says, chunks));
    Response::new(body)
}

/// Puts commands to their shards and questions to their gates until the peer has no more.
async fn read(
    handle: &Handle,
    asked: Incoming,
    said: &mpsc::UnboundedSender<Down>,
) -> Result<(), NotAMessage> {
    let unknown = |unknown: convert::Unknown| NotAMessage(unknown.to_string());
    let until = |budget| Instant::now() + Duration::from_micros(budget);
    let mut messages = Messages::of(asked);
    while let Some(message) = messages.next().await? {
        match wire::decode(&message)? {
            Up::Ask { id, shard, budget, asks } => {
                let asks = asks.into_iter().map(convert::ask_in).collect::<Result<Vec<_>, _>>();
                let asks = asks.map_err(unknown)?;
                let (shard, deadline) = (ShardId(shard), until(budget));
                let said = said.clone();
                handle.decide_for(Forward { shard, asks, deadline }, move |reply| {
                    // The peer may be gone.
                    let _waits = said.send(down(id, reply));
                });
            }
            Up::Gate { id, shard, concert, budget, ask } => {
                let ask = convert::gate::ask_in(ask).map_err(unknown)?;
                let (shard, concert, deadline) = (ShardId(shard), ConcertId(concert), until(budget));
                let waiter = GateWaiter { id, said: Some(said.clone()) };
                handle.gates().decide_for(GateForward { shard, concert, ask, deadline }, move |reply| {
                    waiter.hear(reply);
                });
            }
        }
    }
    Ok(())
}

/// A peer that waits for what a gate says. Where the gate dies over the question it is told so: a number that is never
/// answered would count as under way for as long as the lane lives.
struct GateWaiter {
    id: u64,
    said: Option<mpsc::UnboundedSender<Down>>,
}

impl GateWaiter {
    fn hear(mut self, reply: GateReply) {
        let id = self.id;
        let down = match reply {
            GateReply::Said(said) => Down::Gate { id, said: convert::gate::said_out(&said) },
            GateReply::NotOwner(owner) => Down::NotOwner { id, owner: convert::route_out(&owner) },
            GateReply::NotSent => Down::NotOwner { id, owner: None },
        };
        self.say(down);
    }

    fn say(&mut self, down: Down) {
        if let Some(said) = self.said.take() {
            // The peer may be gone.
            let _waits = said.send(down);
        }
    }
}

impl Drop for GateWaiter {
    fn drop(&mut self) {
        self.say(Down::GateLost { id: self.id });
    }
}

fn down(id: u64, reply: Reply) -> Down {
    match reply {
        Reply::Answer(place, answer) => {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            Down::Answer { id, place, answer: convert::answer_out(&answer) }
        }
        Reply::NotOwner(owner) => Down::NotOwner { id, owner: convert::route_out(&owner) },
        Reply::NotSent => Down::NotOwner { id, owner: None },
    }
}

/// What has gathered while the last answers went out goes together.
async fn write(mut says: mpsc::UnboundedReceiver<Down>, chunks: mpsc::Sender<Bytes>) {
    let mut gathered = Vec::new();
    while says.recv_many(&mut gathered, TOGETHER).await > 0 {
        let mut bytes = BytesMut::new();
        for down in gathered.drain(..) {
            if let Err(error) = wire::put(&down, &mut bytes) {
                tracing::error!(%error, "an answer to a peer could not be written");
            }
        }
        if chunks.send(bytes.freeze()).await.is_err() {
            return;
        }
    }
}

async fn answer_call(handle: &Handle, call: wire::Call) -> Response<Chunks> {
    let question = convert::call_in(&call.question);
    let returned = match handle.answer_call(&convert::owner_in(call.from), question).await {
        Ok(Returned::Memory(memory)) => return Response::new(memory::send(memory)),
        returned => convert::returned_out(returned),
    };
    let mut bytes = BytesMut::new();
    match wire::put(&returned, &mut bytes) {
        Ok(()) => Response::new(Chunks::whole(bytes.freeze())),
        Err(error) => refused(&error),
    }
}

/// Every option that this node serves, from where the peer has it; also those that it will serve.
fn feed(handle: Handle, seen: Vec<Seen>) -> Response<Chunks> {
    let seen = seen.into_iter().map(|seen| {
        let Seen { option, epoch, seq } = seen;
        (OptionId(option), Position { epoch: Epoch(epoch), seq })
    });
    let (chunks, body) = Chunks::channel();
    tokio::spawn(tell(handle, seen.collect(), chunks));
    Response::new(body)
}

async fn tell(handle: Handle, mut seen: BTreeMap<OptionId, Position>, chunks: mpsc::Sender<Bytes>) {
    let mut opened = handle.opened();
    let (frames, mut cut) = mpsc::channel(FRAMES);
    let mut told = BTreeMap::new();
    let mut watches = JoinSet::new();
    loop {
        opened.mark_unchanged();
        for option in handle.served() {
            told.entry(option).or_insert_with(|| {
                let since = seen.remove(&option);
                watches.spawn(watch(handle.clone(), option, since, frames.clone())).id()
            });
        }
        let mut bytes = BytesMut::new();
        tokio::select! {
            Some(frame) = cut.recv() => {
                wire::frame(&frame, &mut bytes);
                while let Ok(frame) = cut.try_recv() {
                    wire::frame(&frame, &mut bytes);
                }
                if chunks.send(bytes.freeze()).await.is_err() {
                    return;
                }
            }
            Some(ended) = watches.join_next_with_id() => {
                let id = match &ended {
                    Ok((id, ())) => *id,
                    Err(error) => error.id(),
                };
                told.retain(|_, watching| *watching != id);
            }
            // The hub lives as long as the handle.
            Ok(()) = opened.changed() => {}
            () = chunks.closed() => return,
        }
    }
}

/// One option, for as long as it is served here.
async fn watch(handle: Handle, option: OptionId, since: Option<Position>, frames: mpsc::Sender<Bytes>) {
    let Some(mut watch) = handle.watch(option, since) else { return };
    while let Some(frame) = watch.next().await {
        // The frame of a new epoch says that another node serves it now, which tells its peers itself.
        if !handle.serves(option) || frames.send(frame.binary()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use actors::gates::GateSaid;

    use super::*;

    #[test]
    fn a_question_to_a_gate_is_answered_once_or_told_to_be_lost() {
        let (said, mut says) = mpsc::unbounded_channel();
        let waiter = |id| GateWaiter { id, said: Some(said.clone()) };
        drop(waiter(1));
        waiter(2).hear(GateReply::Said(Ok(GateSaid::Heard)));
        waiter(3).hear(GateReply::NotSent);
        drop(said);
        let heard: Vec<_> = std::iter::from_fn(|| says.blocking_recv()).collect();
        let expected = [
            Down::GateLost { id: 1 },
            Down::Gate { id: 2, said: wire::gate::Said::Heard },
            Down::NotOwner { id: 3, owner: None },
        ];
        assert_eq!(heard, expected);
    }
}

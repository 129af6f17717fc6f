//! Lanes to a peer that is told what to say.

use std::convert::Infallible;

use actors::gates::{GateAsk, GateSaid};
use actors::handle::{Answer, Ask};
use engine::gate::Standing;
use engine::{Authority, Caller, Command, ConcertId, OptionId, Outcome, ShardId, Unavailable, UserId};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::super::connection::Messages;
use super::super::serve::{GATE_LANE, LANE};
use super::super::wire::gate;
use super::*;

/// What a peer does with a message.
enum Does {
    Say(Down),
    Nothing,
    /// Reads no further on that lane.
    Sleep,
    End,
}

/// A peer that has these lanes. Where it listens.
async fn peer(paths: &'static [&'static str], does: fn(Up) -> Does) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let (head, body) = request.into_parts();
                let (chunks, answers) = Chunks::channel();
                let mut response = Response::new(answers);
                if paths.contains(&head.uri.path()) {
                    tokio::spawn(serve(body, chunks, does));
                } else {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                Ok::<_, Infallible>(response)
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn serve(body: Incoming, chunks: mpsc::Sender<Bytes>, does: fn(Up) -> Does) {
    let mut messages = Messages::of(body);
    while let Ok(Some(message)) = messages.next().await {
        match does(wire::decode(&message).unwrap()) {
            Does::Say(down) => {
                let mut bytes = BytesMut::new();
                wire::put(&down, &mut bytes).unwrap();
                chunks.send(bytes.freeze()).await.unwrap();
            }
            Does::Nothing => {}
            Does::Sleep => std::future::pending().await,
            Does::End => return,
        }
    }
}

fn question(ask: GateAsk) -> GateForward {
    let deadline = Instant::now() + Duration::from_secs(10);
    GateForward { shard: ShardId(3), concert: ConcertId(4), ask, deadline }
}

fn join(user: u64) -> GateForward {
    question(GateAsk::Join(UserId(user)))
}

fn click() -> Forward {
    let caller = Caller { user: UserId(7), authority: Authority::Own };
    let command = Command::Release { option: OptionId(1), seats: None };
    let asks = vec![Ask { caller, key: None, pass: None, command }];
    Forward { shard: ShardId(3), asks, deadline: Instant::now() + Duration::from_secs(10) }
}

fn answer(id: u64) -> Does {
    let answer = wire::Answer { outcome: wire::Outcome::Done, replayed: false };
    Does::Say(Down::Answer { id, place: 0, answer })
}

async fn clicked(lanes: &Lanes) -> Option<Reply> {
    let mut answers = lanes.ask(click());
    tokio::time::timeout(Duration::from_secs(5), answers.recv()).await.expect("nobody answered")
}

/// What came of a question; `None`: nobody knows.
async fn replied(answer: oneshot::Receiver<GateReply>) -> Option<GateReply> {
    tokio::time::timeout(Duration::from_secs(5), answer).await.expect("nobody replied").ok()
}

fn done() -> Option<Reply> {
    let outcome = Outcome::Granted(engine::Granted::Done);
    Some(Reply::Answer(0, Answer { outcome, replayed: false }))
}

/// Until it holds; a lane's task is another.
async fn until(holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < patience, "it never came to that");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_gate_is_asked_and_answers() {
    let peer = peer(&[GATE_LANE], |up| {
        let Up::Gate { id, shard: 3, concert: 4, budget, ask } = up else { panic!("{up:?}") };
        assert!((1_000_000..=10_000_000).contains(&budget), "{budget}");
        Does::Say(match ask {
            gate::Ask::Join { user: 1 } => Down::Gate {
                id,
                said: gate::Said::Standing { standing: gate::Standing::Free, durable: true },
            },
            gate::Ask::Join { user: 2 } => Down::NotOwner { id, owner: None },
            gate::Ask::Join { user: 3 } => Down::Gate { id, said: gate::Said::Overloaded },
            _ => Down::GateLost { id },
        })
    });
    let lanes = Lanes::new(&peer.await, None);
    let asked = [1, 2, 3, 4].map(|user| lanes.ask_gate(join(user)));
    let [free, moved, overloaded, lost] = asked;
    let said = GateSaid::Standing { standing: Standing::Free, durable: true };
    assert_eq!(replied(free).await, Some(GateReply::Said(Ok(said))));
    assert_eq!(replied(moved).await, Some(GateReply::NotOwner(None)));
    assert_eq!(replied(overloaded).await, Some(GateReply::Said(Err(Unavailable::Overloaded))));
    assert_eq!(replied(lost).await, None);
    until(|| lanes.gates.under_way.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_flood_of_joins_is_bounded_and_leaves_clicks_alone() {
    let peer = peer(&[LANE, GATE_LANE], |up| match up {
        Up::Ask { id, .. } => answer(id),
        Up::Gate { .. } => Does::Nothing,
    });
    let lanes = Lanes::new(&peer.await, None);
    let mut waiting: Vec<_> = (0..GATE_QUESTIONS as u64).map(|user| lanes.ask_gate(join(user))).collect();
    assert_eq!(replied(lanes.ask_gate(join(0))).await, Some(GateReply::NotSent), "one too many");
    assert_eq!(clicked(&lanes).await, done());
    assert!(waiting.iter_mut().all(|answer| answer.try_recv() == Err(oneshot::error::TryRecvError::Empty)));
}

/// What does not fit into the windows of one stream leaves the other open.
#[tokio::test]
async fn an_owner_that_reads_no_questions_decides_commands() {
    let peer = peer(&[LANE, GATE_LANE], |up| match up {
        Up::Ask { id, .. } => answer(id),
        Up::Gate { .. } => Does::Sleep,
    });
    let lanes = Lanes::new(&peer.await, None);
    let many: Vec<_> = (0..500_000).map(UserId).collect();
    let waiting: Vec<_> =
        (0..4).map(|_| lanes.ask_gate(question(GateAsk::Heartbeats(many.clone())))).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..100 {
        assert_eq!(clicked(&lanes).await, done());
    }
    drop(waiting);
}

/// A node from before gates.
#[tokio::test]
async fn an_owner_without_gates_is_not_asked_and_decides_commands() {
    let peer = peer(&[LANE], |up| match up {
        Up::Ask { id, .. } => answer(id),
        Up::Gate { .. } => panic!("it knows no gates"),
    });
    let lanes = Lanes::new(&peer.await, None);
    assert_eq!(replied(lanes.ask_gate(join(1))).await, Some(GateReply::NotSent));
    assert_eq!(clicked(&lanes).await, done());
    assert_eq!(replied(lanes.ask_gate(join(1))).await, Some(GateReply::NotSent));
}

#[tokio::test]
async fn nobody_knows_what_became_of_a_question_whose_lane_broke() {
    let peer = peer(&[GATE_LANE], |up| match up {
        Up::Gate { ask: gate::Ask::Join { user: 1 }, .. } => Does::Nothing,
        Up::Gate { ask: gate::Ask::Join { .. }, .. } => Does::End,
        Up::Gate { id, .. } => Does::Say(Down::Gate { id, said: gate::Said::Heard }),
        Up::Ask { .. } => panic!("on a gate's lane"),
    });
    let lanes = Lanes::new(&peer.await, None);
    let [first, second] = [1, 2].map(|user| lanes.ask_gate(join(user)));
    assert_eq!((replied(first).await, replied(second).await), (None, None));
    until(|| lanes.gates.under_way.load(Ordering::Relaxed) == 0).await;
    // And it is opened again.
    let heard = replied(lanes.ask_gate(question(GateAsk::Heartbeats(Vec::new())))).await;
    assert_eq!(heard, Some(GateReply::Said(Ok(GateSaid::Heard))));
}

/// What was there before has the bytes that it had.
#[test]
fn new_messages_stand_at_the_end() {
    let number = |bytes: Result<Vec<u8>, NotAMessage>| bytes.unwrap()[0];
    let ask = gate::Ask::Info;
    assert_eq!(number(wire::encode(&Up::Ask { id: 0, shard: 0, budget: 0, asks: Vec::new() })), 0);
    assert_eq!(number(wire::encode(&Up::Gate { id: 0, shard: 0, concert: 0, budget: 0, ask })), 1);
    assert_eq!(number(wire::encode(&Down::NotOwner { id: 0, owner: None })), 1);
    assert_eq!(number(wire::encode(&Down::Gate { id: 0, said: gate::Said::Heard })), 2);
    assert_eq!(number(wire::encode(&Down::GateLost { id: 0 })), 3);
}

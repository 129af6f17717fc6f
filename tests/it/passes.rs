//! What a gate keeps shut: every route, however it is spelled, and every message of a socket, without a pass that is good.

use std::time::{Duration, Instant};

use actors::handle::Ask;
use engine::gate::Pass;
use engine::option::PolicyChange;
use engine::{Authority, Caller, Command, ConcertId, Epoch, Granted, Outcome, PassId, Span, Turn, UserId};
use hotseat::pass::{PassKey, Passes};
use serde_json::{Value, json};

use crate::api::world::{Client, Reply, World, passes};
use crate::ws::client::{Ws, hold, release, select, watch};

mod buying;
mod doors;
mod looking;

const CONCERT: u64 = 1;
const USER: u64 = 7;
const SEATS: &str = "/api/v1/options/1/seats";

/// A server whose only concert has its gate on, and knows it.
async fn gated() -> World {
    let world = World::start().await;
    switch(&world, true).await;
    world
}

async fn switch(world: &World, on: bool) {
    let change = PolicyChange { gate: Some(on), reservations_per_user: None };
    let ask = Ask {
        caller: Caller { user: UserId(1_002), authority: Authority::Any },
        key: None,
        pass: None,
        command: Command::SetPolicy { concert: ConcertId(CONCERT), change },
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let answer = world.handle().ask(world.shard_of(1), ask, deadline).await;
    assert_eq!(answer.outcome, Outcome::Granted(Granted::Done));
    // Nodes learn it by their poll of the catalogue.
    let give_up = Instant::now() + Duration::from_secs(20);
    while (world.client().get(SEATS).await.status == 403) != on {
        assert!(Instant::now() < give_up, "the directory never knew");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A pass that is signed well, and that no gate has given.
fn signed(world: &World, concert: u64, user: u64, left: Duration) -> String {
    signed_by(&passes(), world, concert, user, i64::try_from(left.as_micros()).unwrap())
}

fn signed_by(passes: &Passes, world: &World, concert: u64, user: u64, left: i64) -> String {
    let ends_at = world.handle().now() + Span(left);
    let pass = Pass { id: PassId::new(Epoch(1), Turn(1)), expires_at: ends_at, ends_at };
    passes.sign(ConcertId(concert), UserId(user), pass).unwrap()
}

const LONG: Duration = Duration::from_secs(600);

/// Every kind of pass that opens nothing to [`USER`], with its name; none first.
fn bad_passes(world: &World) -> Vec<(&'static str, Option<String>)> {
    let good = signed(world, CONCERT, USER, LONG);
    let forged = |place: usize| {
        let other = if good.as_bytes()[place] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &good[..place], &good[place + 1..])
    };
    let strangers = Passes::new(&[PassKey { id: 0, secret: vec![1; 32] }]);
    vec![
        ("none", None),
        ("an empty one", Some(String::new())),
        ("no pass", Some("x".to_owned())),
        ("one with other contents", Some(forged(20))),
        ("one with another signature", Some(forged(60))),
        ("one of another key", Some(signed_by(&strangers, world, CONCERT, USER, 600_000_000))),
        ("another concert's", Some(signed(world, CONCERT + 1, USER, LONG))),
        ("another user's", Some(signed(world, CONCERT, USER + 1, LONG))),
        ("one that is over", Some(signed_by(&passes(), world, CONCERT, USER, -1))),
    ]
}

fn with_pass(client: &Client, pass: Option<&str>) -> Client {
    pass.map_or_else(|| client.clone(), |pass| client.header("Hotseat-Pass", pass))
}

/// Nobody has got a seat.
async fn all_is_free(world: &World) {
    tokio::time::sleep(Duration::from_millis(50)).await;
    let reply = world.admin().get(SEATS).await.expect(200);
    let counts = &reply.body["counts"];
    assert_eq!(counts, &json!({"available": 100, "selecting": 0, "hold": 0, "confirmed": 0}));
}

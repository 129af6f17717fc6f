//! One waiting room for three nodes: whoever is asked, everybody has one place, and keeps it whatever happens to the owner.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use servers::Redis;

use super::{Cluster, apis};
use crate::feed::viewer::Events;
use crate::support::http::request_within;
use crate::support::server::post_within;
use crate::support::{Answer, Server, until};

const JOIN: &str = "/api/v1/waiting-queue/join";
const STATUS: &str = "/api/v1/waiting-queue/status?concertId=1";
const LEAVE: &str = "/api/v1/waiting-queue/leave?concertId=1";
const SUBSCRIBE: &str = "/api/v1/waiting-queue/subscribe?concertId=1";

/// How long somebody who is turned away tries again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three nodes whose lines a mirror keeps, and people with tokens.
struct Room {
    cluster: Cluster,
    servers: Vec<Server>,
    tokens: Vec<String>,
    _redis: Redis,
}

/// Somebody whose join was answered.
#[derive(Clone, Copy, Debug)]
struct Joined {
    /// Among the tokens.
    who: usize,
    turn: u64,
    /// When they first asked, and when they had the answer.
    asked: Instant,
    answered: Instant,
}

impl Room {
    fn open(people: u64) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        let cluster = Cluster::new(&[
            ("HOTSEAT_MIRROR_URL", url.as_str()),
            ("HOTSEAT_GATE_RESTORE_TIMEOUT", "30s"),
            ("HOTSEAT_GATE_JOINS_PER_IP", "10000/s burst 10000"),
            ("HOTSEAT_GATE_JOINS_PER_USER", "1000/s burst 1000"),
            // Shards stay where they are put.
            ("HOTSEAT_REBALANCE_INTERVAL", "1h"),
        ]);
        let servers = cluster.start_all();
        let tokens = (0..people).map(|user| cluster.token(1_000 + user, "USER", &[])).collect();
        Self { cluster, servers, tokens, _redis: redis }
    }

    fn owner(&self) -> usize {
        until(|| self.cluster.owner(&self.servers[0], 1).is_some());
        self.cluster.owner(&self.servers[0], 1).expect("it had one")
    }

    /// Sets the gate through a node.
    #[track_caller]
    fn set(&self, through: usize, gate: &Value) {
        until(|| matches!(self.servers[through].operate("PUT", "gates/1", Some(gate)).status, 200));
    }

    /// How the gate is, as a node says.
    fn info(&self, through: usize) -> Value {
        self.servers[through].operate("GET", "gates/1", None).json()
    }

    fn send(&self, through: usize, method: &str, path: &str, who: usize) -> std::io::Result<Answer> {
        let bearer = format!("Bearer {}", self.tokens[who]);
        let url = format!("{}{path}", self.servers[through].api);
        request_within(Duration::from_secs(10), method, &url, &[("Authorization", &bearer)], None)
    }

    /// How it stands with somebody, asked until a node knows.
    #[track_caller]
    fn status(&self, through: usize, who: usize) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.send(through, "GET", STATUS, who);
            match &answer {
                Ok(known) if known.status == 200 => return known.json(),
                _ => assert!(began.elapsed() < PATIENCE, "nobody knows: {answer:?}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// These come one after the other, each by the next node. Meanwhile something may happen.
    fn join(&self, people: impl IntoIterator<Item = usize>) -> Vec<Joined> {
        let apis = apis(&self.servers);
        people.into_iter().map(|who| joined(&apis, who, &self.tokens[who])).collect()
    }

    /// All of these come, eight at a time, while something happens.
    fn join_while(&self, people: usize, happens: impl FnOnce()) -> Vec<Joined> {
        let (all, apis) = (Mutex::new(Vec::new()), apis(&self.servers));
        thread::scope(|scope| {
            for first in 0..8 {
                let (all, apis) = (&all, &apis);
                scope.spawn(move || {
                    for who in (first..people).step_by(8) {
                        let joined = joined(apis, who, &self.tokens[who]);
                        all.lock().unwrap().push(joined);
                        thread::sleep(Duration::from_millis(30));
                    }
                });
            }
            happens();
        });
        all.into_inner().unwrap()
    }

    /// All are in line where they were told, as many ahead as came before, whichever of these nodes is asked.
    #[track_caller]
    fn all_wait(&self, through: &[usize], line: &[Joined]) {
        for (ahead, joined) in line.iter().enumerate() {
            for node in through {
                let status = self.status(*node, joined.who);
                let expected = (&json!("WAITING"), &json!(joined.turn), &json!(ahead));
                assert_eq!(
                    (&status["status"], &status["turn"], &status["ahead"]),
                    expected,
                    "{joined:?} at node {node}: {status}"
                );
            }
        }
    }

    /// Lets them in one by one, in their turn and nobody else, and each leaves then.
    #[track_caller]
    fn pass_through(&self, through: &[usize], line: &[Joined]) {
        for (no, joined) in line.iter().enumerate() {
            let node = through[no % through.len()];
            until(|| self.status(node, joined.who)["status"] == "ACTIVE");
            if let Some(next) = line.get(no + 1) {
                let waits = self.status(through[(no + 1) % through.len()], next.who);
                assert_eq!((&waits["status"], &waits["rank"]), (&json!("WAITING"), &json!(1)), "{waits}");
            }
            until(|| self.send(node, "DELETE", LEAVE, joined.who).is_ok_and(|left| left.status == 200));
        }
    }

    fn close(self) {
        self.servers.into_iter().for_each(Server::stop);
        self.cluster.audit(0);
    }
}

/// Somebody who asks one node after the other until they are in line.
fn joined(apis: &[String], who: usize, token: &str) -> Joined {
    let (asked, body) = (Instant::now(), json!({"concertId": 1}));
    for node in who.. {
        let api = &apis[node % apis.len()];
        let answer = post_within(Duration::from_secs(10), api, JOIN, token, "-", Some(&body));
        match &answer {
            Ok(known) if known.status == 200 => {
                let status = known.json();
                assert_eq!(status["status"], "WAITING", "{status}");
                assert_eq!(status.get("durable"), None, "the mirror is there: {status}");
                let turn = status["turn"].as_u64().unwrap();
                return Joined { who, turn, asked, answered: Instant::now() };
            }
            _ => assert!(asked.elapsed() < PATIENCE, "{who} is turned away: {answer:?}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
    unreachable!("there is always another node to ask")
}

/// By turn. Nobody has another's, and whoever had an answer before somebody else asked is before them.
#[track_caller]
fn in_order(mut line: Vec<Joined>) -> Vec<Joined> {
    line.sort_by_key(|joined| joined.turn);
    for (no, first) in line.iter().enumerate() {
        for second in &line[no + 1..] {
            assert_ne!(first.turn, second.turn, "{first:?} {second:?}");
            assert!(second.answered > first.asked, "{second:?} had come before {first:?}");
        }
    }
    line
}

#[test]
fn everybody_has_one_place_whoever_is_asked() {
    let room = Room::open(12);
    let owner = room.owner();
    let [second, third] = [(owner + 1) % 3, (owner + 2) % 3];
    room.set(second, &json!({"state": "paused", "maxActive": 1}));
    let line = room.join(0..12);
    let turns: Vec<u64> = line.iter().map(|joined| joined.turn).collect();
    assert!(turns.is_sorted_by(|one, next| one < next), "{turns:?}");
    room.all_wait(&[0, 1, 2], &line);
    // Another tab, at another node.
    let again = room.join([3]);
    assert_eq!(again[0].turn, line[3].turn);
    assert_eq!(room.info(third)["waiting"], 12);

    room.set(third, &json!({"state": "open", "maxActive": 1}));
    room.pass_through(&[0, 1, 2], &line);
    until(|| room.info(second)["waiting"] == 0);
    assert_eq!(room.info(second)["admitted"], 12, "nobody twice");
    room.close();
}

/// The next event of that name; what others say is passed over.
async fn next(events: &mut Events, name: &str) -> Value {
    let found = async {
        loop {
            let event = events.next().await.expect("the stream goes on");
            if event.name == name {
                return serde_json::from_str(&event.data).unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {name}"))
}

/// Until the rank is told that is waited for.
async fn rank(events: &mut Events, wanted: u64) {
    while next(events, "RANK_UPDATE").await["rank"] != wanted {}
}

#[test]
fn who_listens_elsewhere_hears_every_owner() {
    let mut room = Room::open(6);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let owner = room.owner();
    let elsewhere = (owner + 1) % 3;
    room.set(owner, &json!({"state": "open", "maxActive": 1}));
    // The first goes in, so that the others wait.
    assert_eq!(send_join(&room, owner, 0), 200);
    until(|| room.status(owner, 0)["status"] == "ACTIVE");
    let line = room.join(1..6);
    let last = line[4];
    let bearer = format!("Bearer {}", room.tokens[last.who]);
    let api = room.servers[elsewhere].api.clone();
    let headers = [("Authorization", bearer.as_str())];
    let mut events = runtime.block_on(Events::open(&api, SUBSCRIBE, &headers));
    let init = runtime.block_on(next(&mut events, "INIT"));
    assert_eq!((&init["turn"], &init["rank"]), (&json!(last.turn), &json!(5)));
    room.send(owner, "DELETE", LEAVE, line[0].who).unwrap();
    runtime.block_on(rank(&mut events, 4));

    // The shard moves to the third: nobody has to connect again.
    let taker = (owner + 2) % 3;
    let begun = room.cluster.move_to(&room.servers[owner], 1, room.cluster.node(taker).name());
    assert_eq!(begun.status, 202, "{begun:?}");
    until(|| room.cluster.owner(&room.servers[elsewhere], 1) == Some(taker));
    until(|| room.send(owner, "DELETE", LEAVE, line[1].who).is_ok_and(|left| left.status == 200));
    runtime.block_on(rank(&mut events, 3));

    // And it dies.
    room.servers[taker].die();
    let again = || room.send(owner, "DELETE", LEAVE, line[2].who).is_ok_and(|left| left.status == 200);
    until(again);
    runtime.block_on(rank(&mut events, 2));
    for who in [0, line[3].who] {
        until(|| room.status(owner, who)["status"] == "ACTIVE");
        until(|| room.send(elsewhere, "DELETE", LEAVE, who).is_ok_and(|left| left.status == 200));
    }
    let active = runtime.block_on(next(&mut events, "ACTIVE"));
    assert_eq!(active["pass"], room.status(owner, last.who)["pass"]);
    drop(events);
    room.servers.remove(taker);
    room.close();
}

fn send_join(room: &Room, through: usize, who: usize) -> u16 {
    let body = json!({"concertId": 1});
    room.servers[through].post(JOIN, &room.tokens[who], "-", Some(&body)).unwrap().status
}

/// The owner is killed while people come, and its successor while people enter.
#[test]
fn a_line_outlives_its_owners() {
    let mut room = Room::open(64);
    let first = room.owner();
    room.set((first + 1) % 3, &json!({"state": "paused", "maxActive": 1}));
    let line = in_order(room.join_while(64, || {
        thread::sleep(Duration::from_millis(150));
        room.servers[first].signal("KILL");
    }));
    room.servers[first].die();
    let alive: Vec<usize> = (0..3).filter(|no| *no != first).collect();
    room.all_wait(&alive, &line);

    room.set(alive[0], &json!({"state": "open", "maxActive": 1}));
    room.pass_through(&alive, &line[..8]);
    let active = line[8].who;
    until(|| room.status(alive[0], active)["status"] == "ACTIVE");
    room.servers[first] = room.cluster.start(first);
    let second = room.cluster.owner(&room.servers[first], 1).unwrap();
    let left = [0, 1, 2].into_iter().filter(|no| *no != second).collect::<Vec<_>>();
    until(|| room.servers.iter().all(Server::is_ready));
    room.servers[second].die();
    let still = room.status(left[0], active);
    assert_eq!(still["status"], "ACTIVE", "who was let in stays in: {still}");
    for joined in &line[..8] {
        assert_eq!(room.status(left[1], joined.who)["status"], "NONE", "who has left has left");
    }
    room.all_wait(&left, &line[9..]);
    room.pass_through(&left, &line[8..20]);
    room.servers.remove(second);
    room.close();
}

/// The shard goes round while people come.
#[test]
fn a_line_moves_with_its_shard() {
    let room = Room::open(64);
    let owner = room.owner();
    room.set(owner, &json!({"state": "paused", "maxActive": 1}));
    let line = in_order(room.join_while(64, || {
        let mut from = owner;
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(100));
            let to = (from + 1) % 3;
            let begun = room.cluster.move_to(&room.servers[from], 1, room.cluster.node(to).name());
            assert_eq!(begun.status, 202, "{begun:?}");
            until(|| room.servers.iter().all(|server| room.cluster.owner(server, 1) == Some(to)));
            from = to;
        }
    }));
    room.all_wait(&[0, 1, 2], &line);
    assert_eq!(room.info(0)["waiting"], 64);
    room.set(owner, &json!({"state": "open", "maxActive": 1}));
    room.pass_through(&[0, 1, 2], &line[..10]);
    room.close();
}

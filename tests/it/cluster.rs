//! Three nodes on one PostgreSQL: each takes every request, and nothing that happens to one of them costs anybody what
//! was acknowledged. Load comes to all of them meanwhile.

use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use self::nodes::{Cluster, apis, shards, until_even};
use crate::support::server::post;
use crate::support::{Server, until};

mod bad;
mod deaths;
mod gate;
mod links;
mod moves;
mod nodes;
mod ops;
mod pauses;
mod servers;

fn select(server: &Server, token: &str, seat: u32) -> u16 {
    let body = json!({ "seats": [seat] });
    server.post("/api/v1/options/1/selections", token, "-", Some(&body)).unwrap().status
}

/// Buyers go on through a death, a return and a farewell; the audit finds nothing.
#[test]
fn three_nodes_sell_as_one_and_survive_each_other() {
    let cluster = Cluster::new(&[("HOTSEAT_CLUSTER_LEASE_TTL", "10s"), ("HOTSEAT_EDGE_CLICK_TIMEOUT", "2s")]);
    let mut servers = cluster.start_all();

    // Whoever is asked, the answer is the owner's.
    let [token, stranger, other] = [7, 8, 9].map(|user| cluster.token(user, "USER", &[]));
    let mut held = Vec::new();
    for (seat, server) in (0..).zip(&servers) {
        let answer = server.hold(1, &[seat], &token, &format!("key-{seat}"));
        assert_eq!(answer.status, 201, "{}", answer.json());
        held.push(answer.json()["reservationId"].as_str().unwrap().to_owned());
        assert_eq!(select(server, &stranger, seat), 409);
    }
    // And everybody sees it.
    for server in &servers {
        until(|| server.get("/api/v1/options/1/seats").json()["counts"]["hold"] == 3);
    }

    // The owner is killed: nobody waits for its lease.
    let victim = cluster.owner(&servers[0], 1).unwrap();
    let killed = Instant::now();
    servers[victim].die();
    let survivor = &servers[(victim + 1) % 3];
    until(|| select(survivor, &other, 20) == 201);
    let outage = killed.elapsed();
    assert!(outage < Duration::from_secs(10), "a lease would have lasted as long: {outage:?}");
    for (seat, id) in (0..).zip(&held) {
        let body = json!({ "seats": [seat] });
        let again = survivor.post("/api/v1/options/1/holds", &token, &format!("key-{seat}"), Some(&body));
        assert_eq!(again.unwrap().json()["reservationId"], id.as_str(), "what was acknowledged is there");
    }

    // It comes back and gets its share.
    servers[victim] = cluster.start(victim);
    until_even(&servers);

    // The next owner says farewell while buyers go on: not one of them is turned away.
    let leaving = cluster.owner(&servers[victim], 1).unwrap();
    let buyers = clicking(&servers[(leaving + 1) % 3], other);
    std::thread::sleep(Duration::from_millis(500));
    servers.remove(leaving).stop();
    assert!(buyers.join().unwrap() > 20);
    until(|| servers.iter().map(shards).sum::<u64>() == 3);
    servers.into_iter().for_each(Server::stop);
    cluster.audit(0);
}

/// Somebody listens at one of its ports, so that not all of the evidence is there: its leases have to run out.
#[test]
fn a_dead_node_with_an_open_door_is_waited_for() {
    let cluster = Cluster::new(&[("HOTSEAT_CLUSTER_LEASE_TTL", "10s"), ("HOTSEAT_EDGE_CLICK_TIMEOUT", "2s")]);
    let mut servers = cluster.start_all();
    let victim = cluster.owner(&servers[0], 1).unwrap();
    let ops = servers[victim].ops.strip_prefix("http://").unwrap().to_owned();
    servers[victim].die();
    let killed = Instant::now();
    let door = TcpListener::bind(ops).unwrap();
    let token = cluster.token(7, "USER", &[]);
    until(|| select(&servers[(victim + 1) % 3], &token, 20) == 201);
    let outage = killed.elapsed();
    assert!(outage > Duration::from_secs(5), "its leases had more than 8 s left: {outage:?}");
    drop(door);
    servers.remove(victim);
    servers.into_iter().for_each(Server::stop);
    cluster.audit(0);
}

/// Somebody who keeps a seat by clicking again and again for a while, and is never turned away. How often.
fn clicking(server: &Server, token: String) -> JoinHandle<u32> {
    let api = server.api.clone();
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut clicks = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            let path = "/api/v1/options/1/selections";
            let status = post(&api, path, &token, "-", Some(&json!({ "seats": [21] }))).unwrap().status;
            assert!(matches!(status, 200 | 201), "{status} after {clicks} clicks");
            clicks += 1;
        }
        clicks
    })
}

//! The network between the nodes swallows what they say to each other; each reaches the ledger.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use servers::{Proxy, Side};

use super::Cluster;
use crate::support::Server;
use crate::support::server::post_within;

/// Longer than leases last, and than it takes to find a peer silent.
const LONG: Duration = Duration::from_secs(5);

/// No request is let wait any longer than this, with `edge.click_timeout` at 1 s and a machine that is busy.
const PROMPT: Duration = Duration::from_secs(6);

fn each(cluster: &Cluster, fault: impl Fn(&Proxy)) {
    (0..3).filter_map(|no| cluster.node(no).proxy.as_ref()).for_each(fault);
}

/// Clicks and holds that come to the wrong nodes hear soon that nobody decided.
fn turn_away(cluster: &Cluster, foreign: &[(&Server, u32)]) {
    thread::scope(|scope| {
        for (server, option) in foreign {
            scope.spawn(|| turns_away(cluster, server, *option));
        }
    });
}

fn turns_away(cluster: &Cluster, server: &Server, option: u32) {
    let token = cluster.token(1_000, "USER", &[]);
    let body = json!({ "seats": [11_000] });
    for what in ["selections", "holds"] {
        let path = format!("/api/v1/options/{option}/{what}");
        let key = format!("{what}-{option}-{}", server.pid());
        let began = Instant::now();
        let answer =
            post_within(Duration::from_secs(60), &server.api, &path, &token, &key, Some(&body)).unwrap();
        assert!(began.elapsed() < PROMPT, "{what} took {:?}", began.elapsed());
        assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"), "{what}: {answer:?}");
        assert!(answer.has_header("retry-after: 1"), "{what}: {answer:?}");
    }
}

/// The pairs of a node and a concert that another one owns.
fn foreign<'a>(cluster: &Cluster, servers: &'a [Server]) -> Vec<(&'a Server, u32)> {
    let mut pairs = Vec::new();
    for (no, server) in servers.iter().enumerate() {
        for option in 1..=3 {
            if cluster.owner(server, option) != Some(no) {
                pairs.push((server, option));
            }
        }
    }
    pairs
}

#[test]
fn nodes_that_hear_nothing_of_each_other_sell_what_is_theirs() {
    let cluster = Cluster::behind_proxies(&[]);
    let (servers, crowd) = cluster.open();
    let leases = cluster.leases();
    let foreign = foreign(&cluster, &servers);
    each(&cluster, Proxy::hang);
    // Before they know, and when they have known for long.
    thread::sleep(Duration::from_millis(500));
    for option in 1..=3 {
        crowd.until_held_of(option, 5);
    }
    thread::sleep(LONG);
    turn_away(&cluster, &foreign);
    for option in 1..=3 {
        crowd.until_held_of(option, 5);
    }
    // Silence is no death: whoever reaches the ledger keeps what it has.
    assert_eq!(cluster.leases(), leases);
    each(&cluster, Proxy::pass);
    cluster.until_sold_everywhere(&servers);
    assert_eq!(cluster.leases(), leases);
    cluster.close(servers, crowd);
}

/// What is said to one node is lost, and then what that node says to those who asked it. It can ask by itself.
#[test]
fn a_link_that_is_deaf_one_way_and_then_the_other() {
    let cluster = Cluster::behind_proxies(&[]);
    let (servers, crowd) = cluster.open();
    let leases = cluster.leases();
    let deaf = cluster.owner(&servers[0], 1).unwrap();
    let proxy = cluster.node(deaf).proxy.as_ref().unwrap();
    for side in [Side::Client, Side::Server] {
        proxy.mute(side);
        thread::sleep(LONG);
        turn_away(&cluster, &[1, 2].map(|further| (&servers[(deaf + further) % 3], 1)));
        for option in 1..=3 {
            crowd.until_held_of(option, 5);
        }
        assert_eq!(cluster.leases(), leases, "{side:?}");
        proxy.pass();
        cluster.until_sold_everywhere(&servers);
    }
    cluster.close(servers, crowd);
}

//! Operators ask any node: what another one owns is moved, drained, audited and rebuilt all the same.

use std::collections::BTreeSet;

use serde_json::json;

use super::nodes::{Cluster, shards};
use super::{clicking, select};
use crate::support::{Server, request, until};
use crate::ws::client::Ws;

/// Three nodes of which the first has everything: nobody evens that out by himself for a while.
fn uneven() -> (Cluster, [Server; 3]) {
    let cluster = Cluster::new(&[("HOTSEAT_REBALANCE_INTERVAL", "10m"), ("HOTSEAT_CLUSTER_SHARDS", "8")]);
    let servers = [cluster.start(0), cluster.start(1), cluster.start(2)];
    assert_eq!(servers.each_ref().map(shards), [8, 0, 0]);
    (cluster, servers)
}

/// Who has which shard, by shard.
fn owners(server: &Server) -> Vec<String> {
    server.list("shards").iter().map(|shard| shard["node"].as_str().unwrap().to_owned()).collect()
}

fn user(cluster: &Cluster, user: u64) -> String {
    cluster.token(user, "USER", &[])
}

/// One buyer for each option, through a node that need not own it. What they hold.
fn sell(cluster: &Cluster, servers: &[Server; 3]) -> Vec<String> {
    let buy = |(option, server): (u32, &Server)| {
        let held = server.hold(option, &[0, 1], &user(cluster, option.into()), "a");
        assert_eq!(held.status, 201, "{}", held.json());
        held.json()["reservationId"].as_str().unwrap().to_owned()
    };
    (1..).zip(servers).map(buy).collect()
}

/// Where the owner of an option, or of its concert, is reached.
fn owner_of(server: &Server, option: u32) -> String {
    server.get(&format!("/api/v1/route?concertId={option}")).json()["url"].as_str().unwrap().to_owned()
}

/// Whoever answers, it is the owner of what the answer is about that is named.
fn everybody_names_the_owner(cluster: &Cluster, servers: &[Server; 3], option: u32, reservation: &str) {
    let owner = format!("Hotseat-Owner: {}", owner_of(&servers[0], option));
    assert!(servers.iter().any(|server| owner.ends_with(&server.api)), "{owner}");
    let bearer = format!("Bearer {}", user(cluster, option.into()));
    for server in servers {
        let paths = [
            format!("options/{option}/seats?since=0.0"),
            format!("reservations/{reservation}"),
            format!("route?concertId={option}"),
        ];
        for path in paths {
            let url = format!("{}/api/v1/{path}", server.api);
            let answer = request("GET", &url, &[("Authorization", &bearer)], None).unwrap();
            assert!(answer.has_header(&owner), "{path}: not {owner} in {}", answer.head);
        }
    }
}

#[test]
fn shards_are_spread_moved_and_drained_from_any_node() {
    let (cluster, servers) = uneven();
    let buyers = clicking(&servers[2], user(&cluster, 9));

    // The plan first, then the moves: none of the shards is the asked node's own.
    let plan = cluster.run(1, &["shards", "rebalance", "--dry-run"]).success();
    assert!(plan.ends_with("\n5 shards would be moved; without --dry-run they are\n"), "{plan}");
    assert_eq!(servers.each_ref().map(shards), [8, 0, 0], "it was only asked");
    let spread = cluster.run(2, &["shards", "rebalance", "--at-once", "2"]);
    assert!(spread.err.contains("Moving shards: "), "how far it was: {spread:?}");
    let spread = spread.success();
    assert!(spread.ends_with("\n5 of 5 shards moved\n"), "{spread}");
    until(|| servers.iter().all(|server| (2..=3).contains(&shards(server))));
    // Who gave a shard may hear of its end after whoever got it.
    until(|| servers[1].list("moves").iter().filter(|one| one["state"] == "DONE").count() == 5);

    // The first node gives a shard of the second to the third.
    let shard = owners(&servers[0]).iter().position(|owner| owner == "n2").unwrap().to_string();
    let said = cluster.run(0, &["shards", "move", &shard, "--to", "n3"]).success();
    assert_eq!(said, format!("shard {shard} is at n3 now; it was at n2\n"));
    let refused = |to| cluster.run(0, &["shards", "move", &shard, "--to", to]).failure(1);
    assert!(refused("n3").contains(&format!("ALREADY_THERE: \"n3\" has shard {shard}")));
    assert!(refused("n4").contains("There is no node \"n4\": this cluster has n1, n2, n3."));

    // Every node tells the same moves, and how long the next would take.
    let ids = |server: &Server| {
        let ids = server.list("moves").iter().map(|one| one["moveId"].to_string()).collect::<BTreeSet<_>>();
        assert_eq!(ids.len(), 6);
        ids
    };
    assert_eq!(ids(&servers[0]), ids(&servers[1]));
    assert_eq!(ids(&servers[0]), ids(&servers[2]));
    let newest = &servers[1].list("moves")[0];
    let expected = json!(["n2", "n3", "DONE", null]);
    let told = ["from", "to", "state", "why"].map(|key| newest[key].clone());
    assert_eq!(json!(told), expected, "{newest}");

    // A node is drained by another, and buyers notice nothing.
    let said = cluster.run(0, &["nodes", "drain", "n3"]).success();
    assert!(said.ends_with("\nn3 has no shards and takes none: it can be stopped\n"), "{said}");
    until(|| shards(&servers[2]) == 0);
    let said = cluster.run(1, &["shards", "move", "0", "--to", "n3"]).failure(1);
    assert!(said.contains("is draining and takes no shards"), "{said}");
    cluster.run(1, &["nodes", "drain", "n2"]).success();
    until(|| servers.each_ref().map(shards) == [8, 0, 0]);
    let said = cluster.run(2, &["nodes", "drain", "n1"]).failure(1);
    assert!(said.contains("ALONE: No other node takes shards"), "{said}");

    assert!(buyers.join().unwrap() > 20);
    servers.into_iter().for_each(Server::stop);
    cluster.audit(0);
}

#[test]
fn audits_and_resyncs_reach_every_shard_from_any_node() {
    let (cluster, servers) = uneven();
    cluster.run(1, &["shards", "rebalance"]).success();
    let held = sell(&cluster, &servers);
    until(|| select(&servers[1], &user(&cluster, 20), 9) == 201);

    for (option, id) in (1..).zip(&held) {
        everybody_names_the_owner(&cluster, &servers, option, id);
    }

    // An audit beside any node compares every shard's memory and mirror.
    for node in 0..3 {
        let said = cluster.run(node, &["audit"]).success();
        assert!(said.contains("memory was compared in 8 shards"), "{said}");
        assert!(said.contains("the mirror was compared with "), "{said}");
        assert!(said.contains("no differences") && !said.contains("not compared"), "{said}");
    }

    // Somebody writes into the tables: each node would find it, wherever the shard is.
    let tamper = |id: &str| {
        let set = "UPDATE reservations SET status = 3, version = 2";
        cluster.sql(&format!("{set} WHERE reservation_id = '{id}' RETURNING version"))
    };
    assert_eq!(tamper(&held[0]), "2");
    assert_eq!(tamper(&held[1]), "2");
    let all = cluster.run(2, &["resync", "--all"]);
    assert!(all.err.contains("Rebuilding shards: 1 of "), "{all:?}");
    let all = all.success();
    let rows: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
    for (option, differences) in [("1", "3"), ("2", "3"), ("3", "0")] {
        let row = |row: &&Vec<&str>| row.len() == 3 && row[0] == option && row[2] == differences;
        assert!(rows.iter().any(|one| row(&one)), "{option}: {all}");
    }
    assert!(all.contains(" rebuilt: 6 differences; memory is as the ledger is now"), "{all}");

    // One shard, and one option, from a node that does not own it.
    assert_eq!(tamper(&held[2]), "2");
    let view = servers[0].list("shards");
    let url = owner_of(&servers[0], 3);
    let stranger = servers.iter().position(|server| server.api != url).unwrap();
    let said = cluster.run(stranger, &["resync", "--option", "3"]).success();
    let expected = "\n3 differences; memory is as the ledger is now, and the mirror is rebuilt\n";
    assert!(said.ends_with(expected), "{said}");
    let theirs = view.iter().find(|shard| shard["url"] != servers[0].api && shard["concerts"] != 0);
    if let Some(theirs) = theirs {
        let said = cluster.run(0, &["resync", "--shard", &theirs["shard"].to_string()]).success();
        assert!(said.ends_with("\nmemory was as the ledger is; the mirror is rebuilt\n"), "{said}");
    }
    for args in [["resync", "--shard", "8"], ["resync", "--option", "9"]] {
        let said = cluster.run(1, &args).failure(1);
        assert!(said.contains("NOT_FOUND") || said.contains("OPTION_UNKNOWN"), "{said}");
    }

    // What cannot be rebuilt is named, and the others are.
    let option =
        "UPDATE reservation_seats SET seat_no = seat_no + 1000000 WHERE option_id = 1 RETURNING option_id";
    assert_eq!(cluster.sql(option), "1\n1");
    let all = cluster.run(1, &["resync", "--all"]);
    assert_eq!(all.code, Some(1), "{all:?}");
    assert_eq!(all.out.matches(" could not be rebuilt: ").count(), 1, "{all:?}");
    assert!(all.out.contains(" rebuilt: memory was as the ledger is"), "{all:?}");
    assert_eq!(
        select(&servers[0], &user(&cluster, 21), 10),
        201,
        "memory is as it was, and the sale goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_hears_on_any_node_what_is_decided_on_another() {
    let (cluster, servers) = uneven();
    let token = user(&cluster, 7);
    let mut sockets = Vec::new();
    for server in &servers {
        let mut socket = Ws::with_token(server.api.strip_prefix("http://").unwrap(), &token).await;
        socket.ask("p", json!({"op": "ping"})).await;
        sockets.push(socket);
    }
    // The first node decides, and the second is asked.
    let clicks = clicking(&servers[1], token.clone());
    for socket in &mut sockets {
        let mine = socket.event("mine").await;
        assert_eq!((&mine["option"], &mine["seats"]), (&json!(1), &json!([21])));
    }
    clicks.join().unwrap();
    // Then the third decides.
    let shard = servers[0].get("/api/v1/route?concertId=1").json()["shard"].to_string();
    cluster.run(1, &["shards", "move", &shard, "--to", "n3"]).success();
    assert_eq!(owner_of(&servers[0], 1), servers[2].api);
    assert_eq!(select(&servers[1], &token, 22), 201);
    for socket in &mut sockets {
        socket.find(|said| said["ev"] == "mine" && said["seats"] == json!([21, 22])).await;
    }
}

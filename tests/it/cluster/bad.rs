//! Nodes that do not belong together, and moves that cannot be: each is told what to do, and the sale goes on.

use servers::Postgres;

use super::nodes::Cluster;
use crate::support::{Place, Server, hotseat, run_on, until};

#[test]
fn what_cannot_be_is_refused_and_the_cluster_sells_on() {
    let cluster = Cluster::new(&[("HOTSEAT_REBALANCE_INTERVAL", "1h")]);
    let (servers, crowd) = cluster.open();
    let leases = cluster.leases();
    let peers = cluster.peers();

    // A second process of that name.
    let twin = Place::new();
    let said = cluster
        .run_as(1, &twin, &["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
        .failure(2);
    assert!(said.contains("NODE_NAME_IN_USE") && said.contains("\"n2\""), "{said}");

    // A node on another ledger.
    let elsewhere = Postgres::shared().database();
    let stranger = Place::new();
    let environment = [
        ("HOTSEAT_LEDGER_URL", elsewhere.as_str()),
        ("HOTSEAT_NODE_NAME", "stranger"),
        ("HOTSEAT_CLUSTER_LISTEN", &super::nodes::free_address()),
        ("HOTSEAT_CLUSTER_PEERS", &peers),
    ];
    let other = Server::start_with(&stranger.data, &[], &environment);
    let why = "belongs to another cluster (its ledger is another one): give it the ledger.url of this cluster, or take it \
               out of cluster.peers";
    until(|| servers.iter().chain([&other]).all(|server| server.log().contains(why)));
    other.stop();

    // Moves to nobody, and to somebody who takes none.
    let owner = cluster.owner(&servers[0], 1).unwrap();
    let refused = cluster.move_to(&servers[owner], 1, "n9");
    assert_eq!((refused.status, refused.code().as_str()), (404, "NOT_FOUND"));
    let detail = refused.json()["detail"].to_string();
    assert!(detail.contains("here is no node \\\"n9\\\": this cluster has n1, n2, n3"), "{detail}");
    assert_eq!(cluster.leases(), leases);

    let draining = (owner + 1) % 3;
    let name = cluster.node(draining).name();
    let said = cluster.run(draining, &["nodes", "drain", name]).success();
    assert!(said.contains("it can be stopped"), "{said}");
    let owner = cluster.owner(&servers[draining], 1).unwrap();
    until(|| cluster.move_to(&servers[owner], 1, name).code() == "NODE_DRAINING");
    let detail = cluster.move_to(&servers[owner], 1, name).json()["detail"].to_string();
    assert!(detail.contains("is draining and takes no shards: name another node"), "{detail}");

    let silent = (0..3).find(|no| *no != owner && *no != draining).unwrap();
    let name = cluster.node(silent).name();
    servers[silent].signal("STOP");
    until(|| cluster.move_to(&servers[owner], 1, name).code() == "NODE_SILENT");
    servers[silent].signal("CONT");
    cluster.close(servers, crowd);
}

/// The embedded ledger is one node's.
#[test]
fn peers_do_not_share_an_embedded_ledger() {
    let place = Place::new();
    let mut command = hotseat();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"])
        .arg(&place.data);
    let output = command.env("HOTSEAT_CLUSTER_LISTEN", "127.0.0.1:7400").output().unwrap();
    let said = crate::support::Ran::of(output).failure(2);
    assert!(
        said.contains("ledger.url: expected a PostgreSQL that all nodes share, since cluster.listen is set"),
        "{said}"
    );
    assert!(!place.data.exists(), "nothing was made");
    run_on(&place.data, &["check-config"]).success();
}

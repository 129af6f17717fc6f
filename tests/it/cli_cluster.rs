//! `hotseat shards` and `hotseat nodes`, beside a node alone and beside one of a cluster.

use serde_json::json;

use crate::api::cluster::Cluster;
use crate::api::world::World;
use crate::support::{Place, Ran, Server, run_on};

/// A data directory whose server is one of a cluster.
async fn beside_a_cluster() -> (World, Place) {
    let world = Cluster::start().await;
    let place = Place::new();
    std::fs::create_dir_all(&place.data).unwrap();
    std::fs::write(place.data.join("run.json"), world.run_file().to_string()).unwrap();
    (world, place)
}

/// The binary in a thread of its own: the server is in this process.
async fn run_beside(place: &Place, args: &'static [&'static str]) -> Ran {
    let data = place.data.clone();
    tokio::task::spawn_blocking(move || run_on(&data, args)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_and_nodes_are_tables() {
    let (world, place) = beside_a_cluster().await;
    let said = run_beside(&place, &["shards", "list"]).await.success();
    let concerts = world.ops().get("/admin/v1/shards").await.expect(200);
    let [a, b, c, d] = [0, 1, 2, 3].map(|shard| concerts.body["items"][shard]["concerts"].to_string());
    assert_eq!(
        said,
        format!(
            "\
shard  epoch  node        state     lease  concerts  url
    0      3  hotseat-1   SERVING    4.2s         {a}  http://hotseat-1:8080
    1   1204  hotseat-10  MOVING     4.2s         {b}  http://hotseat-10:8080
    2      1  hotseat-1   STARTING   4.2s         {c}  http://hotseat-1:8080
    3      0  -           FREE          -         {d}  -
4 shards: 1 SERVING, 1 STARTING, 1 MOVING, 1 FREE
"
        )
    );
    let said = run_beside(&place, &["nodes", "list"]).await.success();
    assert_eq!(
        said,
        "\
node        state     shards  ledger   url                     peers at
hotseat-1   UP            12  REACHES  http://hotseat-1:8080   https://hotseat-1:7400
hotseat-10  DRAINING       1  AWAY     http://hotseat-10:8080  https://hotseat-10:7400
hotseat-2   SILENT         0  UNKNOWN  http://hotseat-2:8080   -
"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_waited_for() {
    let (world, place) = beside_a_cluster().await;
    let moved = run_beside(&place, &["shards", "move", "17", "--to", "hotseat-2"]).await;
    assert_eq!(moved.err, "", "a bar outside a terminal");
    assert_eq!(moved.success(), "shard 17 is at hotseat-2 now; it was at hotseat-1\n");
    let said = run_beside(&place, &["shards", "move", "13", "--to", "hotseat-2"]).await.failure(1);
    let why = "FAILED: the ledger did not answer in time";
    assert_eq!(said, format!("hotseat: shard 13 was not moved to hotseat-2: {why}\n"));
    let said = run_beside(&place, &["shards", "move", "5", "--to", "draining"]).await.failure(1);
    assert!(
        said.contains("NODE_DRAINING: \"draining\" is draining and takes no shards: name another"),
        "{said}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_shown_and_done() {
    let (world, place) = beside_a_cluster().await;
    let said = run_beside(&place, &["shards", "rebalance", "--dry-run"]).await.success();
    assert_eq!(
        said,
        "\
shard  from       to
    3  hotseat-1  hotseat-2
   12  hotseat-1  hotseat-10
2 shards would be moved; without --dry-run they are
"
    );
    let none = world.ops().get("/admin/v1/moves").await.expect(200);
    assert_eq!(none.body["items"], json!([]), "it was only asked");
    let said = run_beside(&place, &["shards", "rebalance", "--at-once", "2"]).await.success();
    assert_eq!(
        said,
        "\
shard  from       to
    3  hotseat-1  hotseat-2
   12  hotseat-1  hotseat-10
2 shards to move
shard  from       to          outcome
    3  hotseat-1  hotseat-2   DONE
   12  hotseat-1  hotseat-10  DONE
2 of 2 shards moved
"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_or_says_what_it_still_has() {
    let (world, place) = beside_a_cluster().await;
    let said = run_beside(&place, &["nodes", "drain", "hotseat-10"]).await.success();
    assert!(
        said.ends_with("1 of 1 shard moved\nhotseat-10 has no shards and takes none: it can be stopped\n"),
        "{said}"
    );
    let said = run_beside(&place, &["nodes", "drain", "hotseat-3"]).await.success();
    assert_eq!(said, "hotseat-3 has no shards and takes none: it can be stopped\n");
    let ran = run_beside(&place, &["nodes", "drain", "hotseat-1"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "Moving shards: 2 of 2\n"), "{ran:?}");
    assert_eq!(
        ran.out,
        "\
shard  from       to         outcome
    7  hotseat-1  hotseat-2  DONE
   13  hotseat-1  hotseat-2  FAILED: the ledger did not answer in time
1 of 2 shards moved
hotseat-1 still has 1 shard
"
    );
    world.stop().await;
}

#[test]
fn beside_a_node_alone_there_is_nothing_to_move() {
    let place = Place::new();
    let said = run_on(&place.data, &["shards", "list"]).failure(1);
    let none =
        format!("no server runs on {}: name the data directory of a node that runs", place.data.display());
    assert!(said.contains(&none), "{said}");
    place.import_hall(10);
    let server = Server::start(&place.data, &[]);
    let said = run_on(&place.data, &["shards", "list"]).success();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[65]), (66, "64 shards: 64 SERVING"), "{said}");
    assert!(
        lines[1..65].iter().all(|line| line.ends_with(&server.api) && line.contains("hotseat-1")),
        "{said}"
    );
    let said = run_on(&place.data, &["nodes", "list"]).success();
    assert!(said.contains("UP") && said.contains("64  REACHES") && said.lines().count() == 2, "{said}");
    let said = run_on(&place.data, &["shards", "rebalance"]).success();
    assert_eq!(said, "the shards are spread evenly: there is nothing to move\n");
    for args in [&["shards", "move", "17", "--to", "hotseat-2"] as &[&str], &["nodes", "drain", "hotseat-1"]]
    {
        let said = run_on(&place.data, args).failure(1);
        let alone = "refused: ALONE: This node is alone: there is no other node to move a shard to.";
        assert!(said.contains(alone), "{said}");
    }
    server.stop();
}

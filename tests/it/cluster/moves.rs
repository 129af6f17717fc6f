//! `kill -9` in the middle of a move.

use std::thread;
use std::time::Duration;

use super::{Cluster, apis};
use crate::support::{Server, until};

/// How long a move has been under way when somebody dies of it: before anything is parked, while the state is copied,
/// and when the ledger has just been asked.
const DELAYS: [u64; 4] = [0, 12, 30, 80];

enum Dies {
    Giver,
    Taker,
}

fn killed_in_mid_move(dies: &Dies) {
    // The shards stay where they are put.
    let cluster = Cluster::new(&[("HOTSEAT_REBALANCE_INTERVAL", "1h")]);
    let (mut servers, crowd) = cluster.open();
    for delay in DELAYS.map(Duration::from_millis) {
        // Once there and back, so that everybody has had it.
        let from = cluster.owner(&servers[0], 1).unwrap();
        let to = (from + 1) % 3;
        moved(&cluster, &servers, from, to);
        let (from, to) = (to, (to + 1) % 3);
        begin(&cluster, &servers[from], to);
        thread::sleep(delay);
        let victim = match dies {
            Dies::Giver => from,
            Dies::Taker => to,
        };
        servers[victim].die();
        let alive = servers.iter().enumerate().filter(|(no, _)| *no != victim);
        cluster.until_sold_everywhere(alive.map(|(_, server)| server));
        crowd.until_held_of(1, 5);
        servers[victim] = cluster.start(victim);
        crowd.follow(apis(&servers));
        crowd.until_held(10);
    }
    cluster.close(servers, crowd);
}

fn begin(cluster: &Cluster, owner: &Server, to: usize) {
    let begun = cluster.move_to(owner, 1, cluster.node(to).name());
    assert_eq!(begun.status, 202, "{begun:?}");
}

/// Moves the concert, and waits until all know.
fn moved(cluster: &Cluster, servers: &[Server], from: usize, to: usize) {
    // A node that has just come back may not be known yet.
    until(|| {
        let begun = cluster.move_to(&servers[from], 1, cluster.node(to).name());
        begun.status == 202 || begun.code() == "ALREADY_THERE"
    });
    until(|| servers.iter().all(|server| cluster.owner(server, 1) == Some(to)));
}

#[test]
fn whoever_gives_a_shard_is_killed_meanwhile() {
    killed_in_mid_move(&Dies::Giver);
}

#[test]
fn whoever_takes_a_shard_is_killed_meanwhile() {
    killed_in_mid_move(&Dies::Taker);
}

//! `kill -9` of an owner again and again, and of all nodes at once.

use serde_json::json;
use servers::Redis;

use super::{Cluster, apis, select, until_even};
use crate::support::{Server, until};

/// Deaths of an owner.
const ROUNDS: usize = 3;

/// Viewers at the survivors see every change, also of the concert whose owner died.
#[test]
fn an_owner_killed_again_and_again() {
    let cluster = Cluster::new(&[]);
    let (mut servers, crowd) = cluster.open();
    for round in 0..ROUNDS {
        let asked = &servers[round];
        let victim = cluster.owner(asked, 1).unwrap();
        servers[victim].die();
        // All of it is on sale at the others.
        for option in 1..=3 {
            crowd.until_held_of(option, 5);
        }
        servers[victim] = cluster.start(victim);
        crowd.follow(apis(&servers));
        until_even(&servers);
        crowd.until_held(30);
    }
    let snapshots = cluster.close(servers, crowd);
    // Only the dead node's viewer begins anew, once it is back.
    assert!(snapshots <= ROUNDS, "{snapshots} snapshots");
}

#[test]
fn all_nodes_killed_at_once_and_started_again() {
    let cluster = Cluster::new(&[]);
    let (mut servers, crowd) = cluster.open();
    for _ in 0..2 {
        servers.iter().for_each(|server| server.signal("KILL"));
        servers.iter_mut().for_each(Server::die);
        servers = cluster.start_all();
        crowd.follow(apis(&servers));
        for option in 1..=3 {
            crowd.until_held_of(option, 10);
        }
    }
    cluster.close(servers, crowd);
}

/// Who takes over has the soft locks that the mirror had.
#[test]
fn soft_locks_outlive_their_owner() {
    let redis = Redis::start();
    let further = [
        ("HOTSEAT_MIRROR_URL", redis.url()),
        ("HOTSEAT_MIRROR_RESTORE_TIMEOUT", "30s".to_owned()),
        ("HOTSEAT_SELECT_TTL", "2m".to_owned()),
    ];
    let further = further.each_ref().map(|(name, value)| (*name, value.as_str()));
    let cluster = Cluster::new(&further);
    let (mut servers, crowd) = cluster.open();
    let [sitter, stranger] = [1_001, 1_002].map(|user| cluster.token(user, "USER", &[]));
    for round in 0..2_u32 {
        let victim = cluster.owner(&servers[0], 1).unwrap();
        let seat = 11_000 + round;
        assert_eq!(select(&servers[(victim + 1) % 3], &sitter, seat), 201);
        until(|| redis.say(&["ZSCORE", "seats:{1}", &seat.to_string()]).len() > "$-1\r\n".len());
        servers[victim].die();
        let survivor = &servers[(victim + 1) % 3];
        until(|| select(survivor, &stranger, seat) == 409);
        let body = json!({ "seats": [seat] });
        let held = survivor.post("/api/v1/options/1/holds", &sitter, &format!("seat-{seat}"), Some(&body));
        assert_eq!(held.unwrap().status, 201);
        servers[victim] = cluster.start(victim);
        crowd.follow(apis(&servers));
        until_even(&servers);
    }
    cluster.close(servers, crowd);
}

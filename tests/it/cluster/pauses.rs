//! An owner that stands still for longer than its lease lasts, and then goes on as if nothing had been.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::Cluster;
use crate::support::crowd::SEATS;
use crate::support::server::post_within;
use crate::support::{Answer, Server};

/// Requests that lie before the process until it goes on.
const IN_FLIGHT: u32 = 8;

/// Holds of seats that the paused owner has given to their user: they reach it when it goes on.
struct Late {
    selected: Vec<(u32, String)>,
}

impl Late {
    fn select(cluster: &Cluster, server: &Server, first: u32) -> Self {
        let seats = (first..first + IN_FLIGHT).map(|seat| {
            let token = cluster.token(u64::from(seat), "USER", &[]);
            let body = json!({ "seats": [seat] });
            let selected = server.post("/api/v1/options/1/selections", &token, "-", Some(&body)).unwrap();
            assert_eq!(selected.status, 201, "{selected:?}");
            (seat, token)
        });
        Self { selected: seats.collect() }
    }

    /// What they hear in the end. A request is sent, whoever reads it.
    fn hold(self, api: &str) -> Vec<(u32, thread::JoinHandle<std::io::Result<Answer>>)> {
        let holds = self.selected.into_iter().map(|(seat, token)| {
            let api = api.to_owned();
            let held = thread::spawn(move || {
                let body = json!({ "seats": [seat] });
                let key = format!("late-{seat}");
                post_within(
                    Duration::from_secs(60),
                    &api,
                    "/api/v1/options/1/holds",
                    &token,
                    &key,
                    Some(&body),
                )
            });
            (seat, held)
        });
        holds.collect()
    }
}

#[test]
fn an_owner_paused_past_its_lease_writes_nothing_more() {
    let cluster = Cluster::new(&[("HOTSEAT_REBALANCE_INTERVAL", "1h")]);
    let (servers, crowd) = cluster.open();
    for round in 0..2 {
        let paused = cluster.owner(&servers[0], 1).unwrap();
        let owner = &servers[paused];
        let late = Late::select(&cluster, owner, SEATS - 100 + round * IN_FLIGHT);
        let epoch =
            || cluster.sql("SELECT epoch FROM shard_lease NATURAL JOIN concerts WHERE concert_id = 1");
        let before: u64 = epoch().parse().unwrap();

        owner.signal("STOP");
        let late = late.hold(&owner.api);
        // The successor is not kept waiting, and sells.
        let successor = cluster.other_owner(&servers[(paused + 1) % 3], 1, paused);
        crowd.until_held_of(1, 6);
        let after: u64 = epoch().parse().unwrap();
        assert!(after > before);
        let last_of_old = || {
            cluster.sql(&format!(
                "SELECT count(*) FROM reservation_events WHERE concert_id = 1 AND epoch <= {before}"
            ))
        };
        let written = last_of_old();
        assert_ne!(written, "0");

        owner.signal("CONT");
        assert_eq!(cluster.other_owner(owner, 1, paused), successor);
        crowd.until_held_of(1, 6);
        assert_eq!(last_of_old(), written, "rows of the old owner after the take-over");
        for (seat, held) in late {
            let heard = held.join().unwrap().unwrap();
            // The soft locks were in its memory alone. Who hears of a hold has one that was durable before the pause.
            assert!(matches!(heard.status, 201 | 409 | 503), "seat {seat}: {heard:?}");
            let is_there = sold_in(&cluster, before, seat);
            assert!(is_there || heard.status != 201, "seat {seat}: {heard:?}");
        }
        cluster.until_sold_everywhere(&servers);
    }
    cluster.close(servers, crowd);
}

/// Whether an event of the first concert's owner of that epoch has the seat.
fn sold_in(cluster: &Cluster, epoch: u64, seat: u32) -> bool {
    let events = cluster.sql(&format!(
        "SELECT count(*) FROM reservation_events WHERE concert_id = 1 AND epoch = {epoch} AND seats = '\\x{seat:08x}'"
    ));
    events == "1"
}

//! Everything that may break under a sale does, under load, with the real binary. After each: no acknowledged hold is
//! lost, no seat is sold twice, no click was refused while the ledger was away, a viewer has seen every change, and
//! the audit is clean.

use std::cell::Cell;
use std::time::Duration;

use crate::support::crowd::{Crowd, SEATS, Visit};
use crate::support::{Place, Ran, Server, hotseat, run_on, until};

mod clock;
mod disk;
mod ledger;
mod mirror;

/// Leases that run out within a test, clients that are told soon, and buyers who may buy on.
const QUICK: [(&str, &str); 6] = [
    ("HOTSEAT_CLUSTER_SHARDS", "4"),
    ("HOTSEAT_CLUSTER_LEASE_TTL", "2s"),
    ("HOTSEAT_CLUSTER_LEASE_RENEW", "600ms"),
    ("HOTSEAT_CLUSTER_LEASE_MARGIN", "400ms"),
    ("HOTSEAT_LEDGER_ACK_TIMEOUT", "500ms"),
    ("HOTSEAT_SALES_RESERVATIONS_PER_USER", "100000"),
];

/// A server's surroundings: its data directory and its environment, the same at each start.
struct Scene {
    place: Place,
    environment: Vec<(String, String)>,
    /// Processes and fail-overs: after each a viewer may have to begin anew.
    fresh: Cell<usize>,
}

impl Scene {
    fn new(place: Place, further: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = QUICK.iter().chain(further).map(owned).collect();
        Self { place, environment, fresh: Cell::new(0) }
    }

    /// Starts the server, on the sale as it is.
    fn start(&self) -> Server {
        self.is_fresh();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Server::start_with(&self.place.data, &[], &environment)
    }

    /// From here the server may not know what has changed since.
    fn is_fresh(&self) {
        self.fresh.update(|fresh| fresh + 1);
    }

    /// Starts the server with a fresh hall on sale, and lets the crowd come.
    fn open(&self) -> (Server, Crowd) {
        let mut server = self.start();
        self.place.import_hall(SEATS);
        server.until(|server| server.get("/api/v1/options/1/seats").status == 200);
        let crowd = Crowd::come(Visit {
            apis: vec![server.api.clone()],
            options: vec![1],
            token: &|user, role| token(&self.place, user, role),
            // Longer than any fault: whoever is not answered has found nobody.
            patience: Duration::from_secs(30),
            pause: Duration::from_millis(3),
        });
        crowd.until_held(50);
        (server, crowd)
    }

    /// Exit 0, beside the server or without it.
    #[track_caller]
    fn audit(&self) {
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let ran = hotseat().arg("audit").arg("--data").arg(&self.place.data).envs(environment).output();
        let said = Ran::of(ran.unwrap()).success();
        assert!(said.contains("no differences"), "{said}");
    }

    /// Lets the crowd go, and looks at everything.
    #[track_caller]
    fn close(&self, server: Server, crowd: Crowd) {
        crowd.until_held(50);
        self.audit();
        let left = crowd.leave();
        assert!(left.held.len() >= 100);
        // Otherwise the server knows what has changed since.
        assert!(left.snapshots < self.fresh.get(), "{} snapshots", left.snapshots);
        until(|| server.warnings().is_empty());
        self.audit();
        server.stop();
        self.audit();
    }
}

/// Signed with the key of a data directory.
fn token(place: &Place, user: u64, role: &str) -> String {
    let user = user.to_string();
    run_on(&place.data, &["token", "--role", role, "--user", &user]).success().trim().to_owned()
}

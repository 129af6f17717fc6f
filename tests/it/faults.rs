//! Everything that may break under a sale does, under load, with the real binary. After each: no acknowledged hold is
//! lost, no seat is sold twice, no click was refused while the ledger was away, a viewer has seen every change, and
//! the audit is clean.

use std::cell::Cell;

use self::crowd::{Crowd, SEATS};
use crate::support::{Place, Ran, Server, hotseat, request, until};

mod clock;
mod crowd;
mod disk;
mod ledger;
mod mirror;
mod viewer;

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
        let crowd = Crowd::come(&server);
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
        let left = crowd.leave(&server);
        assert!(left.held >= 100);
        // Otherwise the server knows what has changed since.
        assert!(left.snapshots < self.fresh.get(), "{} snapshots", left.snapshots);
        until(|| warnings(&server).is_empty());
        self.audit();
        server.stop();
        self.audit();
    }
}

/// The warnings of a server that is ready.
#[track_caller]
fn warnings(server: &Server) -> String {
    let ready = request("GET", &format!("{}/readyz", server.ops), &[], None).unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
    ready.json()["warnings"].to_string().trim_matches(['[', ']']).to_owned()
}

/// A metric's value.
fn metric(server: &Server, name: &str) -> f64 {
    let page = request("GET", &format!("{}/metrics", server.ops), &[], None).unwrap();
    let page = String::from_utf8(page.body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("hotseat_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

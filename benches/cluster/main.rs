//! Three nodes on one machine, and what goes wrong with clusters: an owner is killed, or falls silent; a stadium moves
//! while it sells; nodes are restarted; the ledger hangs. `cargo bench --bench cluster`, or with the names of some
//! parts behind `--`: outages, moved, rolling, hop, away.
//!
//! Each part has a PostgreSQL, a Redis and three processes of its own, and ends with an audit. Latency counts from the
//! instant at which a click was due.

use self::table::Row;

mod away;
mod buyer;
#[path = "../common/mod.rs"]
mod common;
mod hop;
mod http;
mod load;
mod moved;
mod nodes;
mod outages;
mod rolling;
mod table;

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    println!("machine: {}; servers, databases and clients share it", common::machine());
    let mut rows: Vec<Row> = Vec::new();
    if is_wanted("outages") {
        rows.extend(outages::measure().await);
    }
    if is_wanted("moved") {
        rows.extend(moved::measure().await);
    }
    if is_wanted("rolling") {
        rows.extend(rolling::measure().await);
    }
    if is_wanted("hop") {
        rows.extend(hop::measure().await);
    }
    if is_wanted("away") {
        rows.extend(away::measure().await);
    }
    table::print(&rows);
}

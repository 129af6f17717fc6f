//! Moves of shards, as `shards` and `nodes` begin them and wait for them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::progress::Progress;
use super::server::Server;
use super::table::{self, Column};

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// A move, as `/admin/v1/moves` tells it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Move {
    /// `None`: only planned.
    move_id: Option<String>,
    pub(super) shard: u16,
    pub(super) from: String,
    pub(super) to: String,
    state: String,
    eta_ms: Option<u64>,
    why: Option<String>,
}

/// A list of the admin API.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
}

impl Move {
    pub(super) fn is_done(&self) -> bool {
        self.state == "DONE"
    }

    fn has_ended(&self) -> bool {
        self.is_done() || self.state == "FAILED"
    }

    /// How it ended, and why so.
    pub(super) fn outcome(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {why}", self.state),
            None => self.state.clone(),
        }
    }
}

/// The server of a data directory, which knows the whole cluster.
///
/// # Errors
/// There is none.
pub(super) async fn server(data: &Path) -> anyhow::Result<Server> {
    match Server::find(data).await? {
        Some(server) => Ok(server),
        None => bail!(
            "no server runs on {}: name the data directory of a node that runs with --data",
            data.display()
        ),
    }
}

/// Waits until moves that were begun have ended, and says how each did.
///
/// # Errors
/// The server cannot be asked any more; the moves go on without this.
pub(super) async fn wait(server: &Server, begun: Vec<Move>) -> anyhow::Result<Vec<Move>> {
    let mut moves = begun;
    let mut progress = Progress::new("Moving shards", moves.len() as u64);
    while !moves.iter().all(Move::has_ended) {
        tokio::time::sleep(POLL).await;
        let answer = server.get("/admin/v1/moves").await.context("the moves go on; how far they are")?;
        let page: Page<Move> = serde_json::from_slice(&answer).context("the server's answer")?;
        let mut known: HashMap<String, Move> =
            page.items.into_iter().filter_map(|one| Some((one.move_id.clone()?, one))).collect();
        for one in moves.iter_mut().filter(|one| !one.has_ended()) {
            let id = one.move_id.as_deref().context("the server has begun a move without an id")?;
            *one = known.remove(id).with_context(|| {
                let Move { shard, .. } = one;
                format!("the server has forgotten the move of shard {shard}; see `hotseat shards list`")
            })?;
        }
        let left = moves.iter().filter(|one| !one.has_ended()).filter_map(|one| one.eta_ms).max();
        let ended = moves.iter().filter(|one| one.has_ended()).count();
        progress.show(ended as u64, left.map(Duration::from_millis));
    }
    progress.end();
    Ok(moves)
}

/// Prints moves that are planned.
pub(super) fn print_planned(out: &mut impl Write, moves: &[Move]) -> io::Result<()> {
    let row = |one: &Move| [one.shard.to_string(), one.from.clone(), one.to.clone()];
    let rows: Vec<_> = moves.iter().map(row).collect();
    table::print(out, [Column::Number("shard"), Column::Word("from"), Column::Word("to")], &rows)
}

/// Prints moves that have ended. Whether all are done.
pub(super) fn print_ended(out: &mut impl Write, moves: &[Move]) -> io::Result<bool> {
    let row = |one: &Move| [one.shard.to_string(), one.from.clone(), one.to.clone(), one.outcome()];
    let rows: Vec<_> = moves.iter().map(row).collect();
    let columns =
        [Column::Number("shard"), Column::Word("from"), Column::Word("to"), Column::Word("outcome")];
    table::print(out, columns, &rows)?;
    let done = moves.iter().filter(|one| one.is_done()).count();
    writeln!(out, "{done} of {} moved", shards(moves.len()))?;
    Ok(done == moves.len())
}

pub(super) fn shards(count: usize) -> String {
    if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") }
}

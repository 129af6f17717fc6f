//! `hotseat audit`.

use std::io::Write as _;

use engine::ShardId;

use super::Failure;
use super::args::AuditArgs;
use super::progress::{bar, spinner};
use super::server::{Server, Unanswered};
use crate::app::{Access, open_ledger};
use crate::audit::{self, ShardMemory};
use crate::config::load;
use crate::http::hex;

pub(super) async fn run(args: &AuditArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let ledger = open_ledger(&config, Access::Read).await?;
    // Memory first: the ledger read afterwards has every event that memory has.
    let (memories, notes) = match Server::find(&config.node.data).await? {
        Some(server) => memories(&server, config.cluster.shards).await?,
        None => (Vec::new(), vec!["no server runs on this directory: memory was not compared".to_owned()]),
    };
    let progress = bar("Auditing", 0);
    let mut advance = |at: audit::Progress| {
        progress.set_length(at.total);
        progress.set_position(at.done);
    };
    let report = audit::run(ledger.as_ref(), &memories, &mut advance).await;
    progress.finish_and_clear();
    let report = report?;
    ledger.close().await;

    let mut out = std::io::stdout().lock();
    for (shard, head) in &report.heads {
        writeln!(out, "head     {shard}/{}: {}", head.event_seq, hex(&head.hash))?;
    }
    for note in notes {
        writeln!(out, "{note}")?;
    }
    writeln!(out, "{report}")?;
    if report.is_clean() { Ok(()) } else { Err(Failure::DIFFERS) }
}

/// What the server remembers of each shard, and what could not be asked.
async fn memories(server: &Server, shards: u16) -> anyhow::Result<(Vec<ShardMemory>, Vec<String>)> {
    let progress = spinner("Asking the server for its memory");
    let (mut memories, mut notes) = (Vec::new(), Vec::new());
    for shard in (0..shards).map(ShardId) {
        match server.get(&format!("/admin/v1/audit/memory?shard={shard}")).await {
            Ok(json) => {
                let memory = ShardMemory::from_json(&json)
                    .map_err(|what| anyhow::anyhow!("the server's memory of shard {shard}: {what}"))?;
                memories.push(memory);
            }
            Err(error) if error.is::<Unanswered>() => {
                notes.push(format!("shard {shard}: memory was not compared: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    progress.finish_and_clear();
    Ok((memories, notes))
}

//! `hotseat audit`.

use std::io::Write as _;

use engine::ShardId;

use super::Failure;
use super::args::AuditArgs;
use super::progress::{bar, spinner};
use super::server::{Server, Unanswered};
use crate::app::{Access, open_ledger};
use crate::audit::{self, MirrorCheck, ShardMemory};
use crate::config::load;
use crate::http::hex;

pub(super) async fn run(args: &AuditArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let ledger = open_ledger(&config, Access::Read).await?;
    // Memory first: the ledger read afterwards has every event that memory has.
    let mut mirror = None;
    let (memories, mut notes) = match Server::find(&config.node.data).await? {
        Some(server) => {
            let memories = memories(&server, config.cluster.shards).await?;
            mirror = Some(mirrors(&server, config.cluster.shards).await?);
            memories
        }
        None => (Vec::new(), vec!["no server runs on this directory: memory was not compared".to_owned()]),
    };
    let progress = bar("Auditing", 0);
    let mut advance = |at: audit::Progress| {
        progress.set_length(at.total);
        progress.set_position(at.done);
    };
    let report = audit::run(ledger.as_ref(), &memories, &mut advance).await;
    progress.finish_and_clear();
    let mut report = report?;
    ledger.close().await;
    if let Some((compared, not_compared)) = mirror {
        notes.extend(not_compared);
        if let Some(MirrorCheck { soft_locks, findings, .. }) = compared {
            report.add_mirror(soft_locks, findings);
        }
    }

    let mut out = std::io::stdout().lock();
    for (shard, head) in &report.heads {
        writeln!(out, "head     {shard}/{}: {}", head.event_seq, hex(&head.hash))?;
    }
    for note in notes {
        writeln!(out, "{note}")?;
    }
    writeln!(out, "{report}")?;
    if report.is_clean() { Ok(()) } else { Err(Failure::PRINTED) }
}

/// How the mirror compares with memory, over all shards that could be asked, and why some could not.
async fn mirrors(server: &Server, shards: u16) -> anyhow::Result<(Option<MirrorCheck>, Vec<String>)> {
    let progress = spinner("Asking the server for its mirror");
    let mut whole: Option<MirrorCheck> = None;
    let mut notes = Vec::new();
    for shard in (0..shards).map(ShardId) {
        let note = match server.get(&format!("/admin/v1/audit/mirror?shard={shard}")).await {
            Ok(json) => {
                let check = MirrorCheck::from_json(&json)
                    .map_err(|what| anyhow::anyhow!("the server's mirror of shard {shard}: {what}"))?;
                match (check.not_compared.clone(), &mut whole) {
                    (Some(why), _) => Some(why),
                    (None, Some(whole)) => {
                        whole.soft_locks += check.soft_locks;
                        whole.findings.extend(check.findings);
                        None
                    }
                    (None, whole @ None) => {
                        *whole = Some(check);
                        None
                    }
                }
            }
            Err(error) if error.is::<Unanswered>() => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        notes.extend(note.map(|why| format!("shard {shard}: the mirror was not compared: {why}")));
    }
    progress.finish_and_clear();
    Ok((whole, notes))
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

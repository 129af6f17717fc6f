//! `hotseat resync`.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use serde::Deserialize;

use super::Failure;
use super::args::ResyncArgs;
use super::progress::spinner;
use super::server::Server;
use crate::config::load;

/// The answer of `POST /admin/v1/options/{optionId}/resync`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    shard: u16,
    event_seq: u64,
    hash: String,
    restored: bool,
    difference_count: usize,
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    what: String,
    memory: Option<String>,
    ledger: Option<String>,
}

pub(super) async fn run(args: &ResyncArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let answer = ask(args, &config.node.data).await?;
    let mut out = std::io::stdout().lock();
    for Difference { what, memory, ledger } in &answer.differences {
        let or_nothing = |said: &Option<String>| said.clone().unwrap_or_else(|| "nothing".to_owned());
        writeln!(out, "{what}: memory said {}; the ledger says {}", or_nothing(memory), or_nothing(ledger))?;
    }
    let unlisted = answer.difference_count - answer.differences.len();
    if unlisted > 0 {
        writeln!(out, "… and {unlisted} more")?;
    }
    writeln!(out, "head     {}/{}: {}", answer.shard, answer.event_seq, answer.hash)?;
    let said = match (answer.restored, answer.difference_count) {
        (true, _) => {
            "the ledger ended with another event than memory knew: the shard is restored from the ledger"
                .to_owned()
        }
        (false, 0) => "memory was as the ledger is; the mirror is rebuilt".to_owned(),
        (false, 1) => "1 difference; memory is as the ledger is now, and the mirror is rebuilt".to_owned(),
        (false, n) => format!("{n} differences; memory is as the ledger is now, and the mirror is rebuilt"),
    };
    writeln!(out, "{said}")?;
    Ok(())
}

async fn ask(args: &ResyncArgs, data: &std::path::Path) -> anyhow::Result<Answer> {
    let Some(server) = Server::find(data).await? else {
        bail!(
            "no server runs on {}: there is no memory to rebuild, and a start reads the ledger anyway",
            data.display()
        );
    };
    let progress = spinner("Rebuilding from the ledger");
    let answer = server.post(&format!("/admin/v1/options/{}/resync", args.option), Bytes::new()).await;
    progress.finish_and_clear();
    serde_json::from_slice(&answer?).context("the server's answer")
}

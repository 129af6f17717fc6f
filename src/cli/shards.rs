//! `hotseat shards`.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Failure;
use super::args::{RebalanceArgs, ShardsCommand, ShardsListArgs, ShardsMoveArgs};
use super::moves::{self, Move, Page, server, shards};
use super::table::{self, Column};
use crate::config::load;

/// Of the answer of `GET /admin/v1/shards`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    shard: u16,
    epoch: u64,
    node: Option<String>,
    url: Option<String>,
    state: String,
    expires_in_ms: Option<u64>,
    concerts: usize,
}

/// The answer of `POST /admin/v1/rebalance`.
#[derive(Deserialize)]
struct Plan {
    moves: Vec<Move>,
}

pub(super) async fn run(command: &ShardsCommand) -> Result<(), Failure> {
    match command {
        ShardsCommand::List(args) => list(args).await,
        ShardsCommand::Move(args) => Ok(move_one(args).await?),
        ShardsCommand::Rebalance(args) => rebalance(args).await,
    }
}

async fn list(args: &ShardsListArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let answer = server(&config.node.data).await?.get("/admin/v1/shards").await?;
    let page: Page<Shard> = serde_json::from_slice(&answer).context("the server's answer")?;
    let mut out = std::io::stdout().lock();
    let columns = [
        Column::Number("shard"),
        Column::Number("epoch"),
        Column::Word("node"),
        Column::Word("state"),
        Column::Number("lease"),
        Column::Number("concerts"),
        Column::Word("url"),
    ];
    let rows: Vec<_> = page.items.iter().map(row).collect();
    table::print(&mut out, columns, &rows)?;
    let mut counts = Vec::new();
    for state in ["SERVING", "STARTING", "MOVING", "FREE"] {
        let count = page.items.iter().filter(|shard| shard.state == state).count();
        if count > 0 {
            counts.push(format!("{count} {state}"));
        }
    }
    writeln!(out, "{}: {}", shards(page.items.len()), counts.join(", "))?;
    Ok(())
}

fn row(shard: &Shard) -> [String; 7] {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lease = shard.expires_in_ms.map(|millis| format!("{}.{}s", millis / 1_000, millis % 1_000 / 100));
    [
        shard.shard.to_string(),
        shard.epoch.to_string(),
        or_none(&shard.node),
        shard.state.clone(),
        or_none(&lease),
        shard.concerts.to_string(),
        or_none(&shard.url),
    ]
}

async fn move_one(args: &ShardsMoveArgs) -> anyhow::Result<()> {
    let config = load(&args.place.flags())?.config;
    let server = server(&config.node.data).await?;
    let body = Bytes::from(json!({"shard": args.shard, "to": args.to}).to_string());
    let answer = server.post("/admin/v1/moves", body).await?;
    let begun: Move = serde_json::from_slice(&answer).context("the server's answer")?;
    let Move { shard, from, to, .. } = begun.clone();
    match moves::wait(&server, vec![begun]).await?.iter().find(|one| !one.is_done()) {
        None => writeln!(std::io::stdout(), "shard {shard} is at {to} now; it was at {from}")?,
        Some(failed) => bail!("shard {shard} was not moved to {to}: {}", failed.outcome()),
    }
    Ok(())
}

async fn rebalance(args: &RebalanceArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let server = server(&config.node.data).await?;
    let body = Bytes::from(json!({"dryRun": args.dry_run, "atOnce": args.at_once}).to_string());
    let answer = server.post("/admin/v1/rebalance", body).await?;
    let Plan { moves } = serde_json::from_slice(&answer).context("the server's answer")?;
    if moves.is_empty() {
        writeln!(std::io::stdout(), "the shards are spread evenly: there is nothing to move")?;
        return Ok(());
    }
    moves::print_planned(&mut std::io::stdout().lock(), &moves)?;
    if args.dry_run {
        writeln!(std::io::stdout(), "{} would be moved; without --dry-run they are", shards(moves.len()))?;
        return Ok(());
    }
    writeln!(std::io::stdout(), "{} to move", shards(moves.len()))?;
    let ended = moves::wait(&server, moves).await?;
    if moves::print_ended(&mut std::io::stdout().lock(), &ended)? { Ok(()) } else { Err(Failure::PRINTED) }
}

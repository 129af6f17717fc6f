//! `hotseat nodes`.

use std::io::Write as _;

use anyhow::Context as _;
use axum::body::Bytes;
use serde::Deserialize;

use super::Failure;
use super::args::{DrainArgs, NodesCommand, NodesListArgs};
use super::moves::{self, Move, Page, server, shards};
use super::table::{self, Column};
use crate::config::load;

/// Of the answer of `GET /admin/v1/nodes`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    node: String,
    url: String,
    peer_url: Option<String>,
    state: String,
    shards: usize,
    ledger: String,
}

/// The answer of `POST /admin/v1/nodes/{node}/drain`.
#[derive(Deserialize)]
struct Drain {
    moves: Vec<Move>,
}

pub(super) async fn run(command: &NodesCommand) -> Result<(), Failure> {
    match command {
        NodesCommand::List(args) => list(args).await,
        NodesCommand::Drain(args) => drain(args).await,
    }
}

async fn list(args: &NodesListArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let answer = server(&config.node.data).await?.get("/admin/v1/nodes").await?;
    let page: Page<Node> = serde_json::from_slice(&answer).context("the server's answer")?;
    let columns = [
        Column::Word("node"),
        Column::Word("state"),
        Column::Number("shards"),
        Column::Word("ledger"),
        Column::Word("url"),
        Column::Word("peers at"),
    ];
    let rows: Vec<_> = page.items.iter().map(row).collect();
    table::print(&mut std::io::stdout().lock(), columns, &rows)?;
    Ok(())
}

fn row(node: &Node) -> [String; 6] {
    [
        node.node.clone(),
        node.state.clone(),
        node.shards.to_string(),
        node.ledger.clone(),
        node.url.clone(),
        node.peer_url.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

async fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let server = server(&config.node.data).await?;
    let path = format!("/admin/v1/nodes/{}/drain", args.node);
    let answer = server.post(&path, Bytes::new()).await?;
    let Drain { moves } = serde_json::from_slice(&answer).context("the server's answer")?;
    let ended = moves::wait(&server, moves).await?;
    let mut out = std::io::stdout().lock();
    if !ended.is_empty() && !moves::print_ended(&mut out, &ended)? {
        let left = ended.iter().filter(|one| !one.is_done()).count();
        writeln!(out, "{} still has {}", args.node, shards(left))?;
        return Err(Failure::PRINTED);
    }
    writeln!(out, "{} has no shards and takes none: it can be stopped", args.node)?;
    Ok(())
}

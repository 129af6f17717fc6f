//! `hotseat gate`.

use std::io::Write as _;

use anyhow::Context as _;
use axum::body::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Failure;
use super::args::{GateArgs, GateCommand, GateHistoryArgs, GateSetArgs};
use super::moves::{Page, server};
use super::table::{self, Column};
use crate::config::load;

/// How a waiting room is set.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Setting {
    state: String,
    mode: String,
    per_second: Option<u64>,
    max_active: Option<u64>,
    opens_at: Option<String>,
}

/// The answer of `GET /admin/v1/gates/{concertId}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gate {
    version: u64,
    #[serde(flatten)]
    setting: Setting,
    waiting: u64,
    active: u64,
    admitted: u64,
    durable: bool,
}

/// The answer of `PUT /admin/v1/gates/{concertId}`.
#[derive(Deserialize)]
struct Set {
    version: u64,
    #[serde(flatten)]
    setting: Setting,
    changed: bool,
}

/// Of the answer of `GET /admin/v1/gates/{concertId}/history`.
#[derive(Deserialize)]
struct Line {
    no: u64,
    at: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "what", rename_all = "SCREAMING_SNAKE_CASE")]
enum What {
    Set {
        #[serde(flatten)]
        setting: Setting,
        by: u64,
    },
    Admitted {
        since: String,
        count: u64,
    },
}

pub(super) async fn run(command: &GateCommand) -> Result<(), Failure> {
    match command {
        GateCommand::Show(args) => show(args).await,
        GateCommand::Set(args) => set(args).await,
        GateCommand::History(args) => history(args).await,
    }
}

async fn show(args: &GateArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let answer = server(&config.node.data).await?.get(&path(args)).await?;
    let gate: Gate = serde_json::from_slice(&answer).context("the server's answer")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", sentence(&gate.setting))?;
    let Gate { version, waiting, active, admitted, .. } = gate;
    writeln!(out, "{waiting} waiting, {active} in the sale, {admitted} admitted; version {version}")?;
    if !gate.durable {
        writeln!(out, "not durable: the mirror is away, and a crash now would lose what it has not got")?;
    }
    Ok(())
}

async fn set(args: &GateSetArgs) -> Result<(), Failure> {
    let config = load(&args.gate.place.flags())?.config;
    let body = json!({
        "state": args.state.name(),
        "mode": args.mode.name(),
        "perSecond": args.per_second,
        "maxActive": args.max_active,
        "opensAt": args.opens_at,
    });
    let server = server(&config.node.data).await?;
    let answer = server.put(&path(&args.gate), Bytes::from(body.to_string())).await?;
    let Set { version, setting, changed } = serde_json::from_slice(&answer).context("the server's answer")?;
    let was = if changed { "set" } else { "it was so before" };
    writeln!(std::io::stdout(), "{}: {was}; version {version}", sentence(&setting))?;
    Ok(())
}

async fn history(args: &GateHistoryArgs) -> Result<(), Failure> {
    let config = load(&args.gate.place.flags())?.config;
    let path = format!("{}/history?limit={}", path(&args.gate), args.limit);
    let answer = server(&config.node.data).await?.get(&path).await?;
    let page: Page<Line> = serde_json::from_slice(&answer).context("the server's answer")?;
    let row = |line: &Line| {
        let (what, by) = match &line.what {
            What::Set { setting, by } => (sentence(setting), by.to_string()),
            What::Admitted { since, count } => (format!("{count} admitted since {since}"), "-".to_owned()),
        };
        [line.no.to_string(), line.at.clone(), by, what]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    let columns = [Column::Number("no"), Column::Word("at"), Column::Number("by"), Column::Word("what")];
    table::print(&mut std::io::stdout().lock(), columns, &rows)?;
    Ok(())
}

fn path(args: &GateArgs) -> String {
    format!("/admin/v1/gates/{}", args.concert)
}

/// A setting in words.
fn sentence(setting: &Setting) -> String {
    let mut text = format!("{}, {}", setting.state, setting.mode);
    if let Some(rate) = setting.per_second {
        text.push_str(&format!(", {rate} per second"));
    }
    if let Some(ceiling) = setting.max_active {
        text.push_str(&format!(", {ceiling} at once"));
    }
    if let Some(opening) = &setting.opens_at {
        text.push_str(&format!(", opens at {opening}"));
    }
    text
}

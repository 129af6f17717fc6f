//! `hotseat import`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use axum::body::Bytes;
use engine::Time;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Failure;
use super::args::ImportArgs;
use super::progress::spinner;
use super::server::Server;
use crate::app::{Access, open_ledger};
use crate::catalogue::{Import, Plan, ReadOptions, Warning, read_plan};
use crate::config::{Config, load};

/// `POST /admin/v1/imports`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    title: &'a str,
    starts_at: String,
    own_shard: bool,
    currency: Option<&'a str>,
    prices: &'a BTreeMap<String, i64>,
    plan: &'a RawValue,
}

/// Its answer, as far as it is printed.
#[derive(Deserialize)]
struct Answer {
    concert: ConcertAnswer,
    option: OptionAnswer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConcertAnswer {
    concert_id: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptionAnswer {
    option_id: u32,
}

pub(super) async fn run(args: ImportArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let file = args.file.display().to_string();
    let text = tokio::fs::read(&args.file).await.with_context(|| format!("{file} cannot be read"))?;
    let options =
        ReadOptions { prices: args.price.iter().cloned().collect(), currency: args.currency.clone() };

    let progress = spinner("Reading the plan");
    let (plan, warnings, text, options) = read(text, options).await.with_context(|| file.clone())?;
    let seats = plan.seat_count();
    progress.set_message(format!("Importing {seats} seats"));
    let imported = match Server::find(&config.node.data).await? {
        Some(server) => through(&server, &args, &text, &options).await,
        None => directly(&config, &args, plan).await,
    };
    progress.finish_and_clear();
    let (concert, option, how) = imported?;

    for Warning(warning) in warnings {
        writeln!(std::io::stderr(), "hotseat: {file}: {warning}")?;
    }
    writeln!(std::io::stdout(), "concert {concert}, option {option}: {seats} seats, {how}")?;
    Ok(())
}

type Read = (Plan, Vec<Warning>, Vec<u8>, ReadOptions);

/// A stadium takes a good part of a second.
async fn read(text: Vec<u8>, options: ReadOptions) -> anyhow::Result<Read> {
    let read = tokio::task::spawn_blocking(move || {
        read_plan(&text, &options).map(|(plan, warnings)| (plan, warnings, text, options))
    });
    Ok(read.await??)
}

/// Through the server that runs on the data directory.
async fn through(
    server: &Server,
    args: &ImportArgs,
    text: &[u8],
    options: &ReadOptions,
) -> anyhow::Result<(u64, u32, String)> {
    let body = Body {
        title: &args.concert,
        starts_at: args.at.to_string(),
        own_shard: args.own_shard,
        currency: options.currency.as_deref(),
        prices: &options.prices,
        plan: serde_json::from_slice(text)?,
    };
    let body = Bytes::from(serde_json::to_vec(&body)?);
    let answer = server.post("/admin/v1/imports", body).await?;
    let answer: Answer = serde_json::from_slice(&answer).context("the server's answer")?;
    let how = format!("on sale now (server {})", server.pid());
    Ok((answer.concert.concert_id, answer.option.option_id, how))
}

/// Into the ledger, without a server of this data directory.
async fn directly(config: &Config, args: &ImportArgs, plan: Plan) -> anyhow::Result<(u64, u32, String)> {
    let ledger = open_ledger(config, Access::Import).await?;
    let import = Import {
        title: args.concert.clone(),
        starts_at: Time(args.at.as_microsecond()),
        plan: Arc::new(plan),
        own_shard: args.own_shard,
    };
    let imported = ledger.import(&import).await;
    ledger.close().await;
    let imported = imported?;
    let how = if config.ledger.is_embedded() {
        "on sale at the next start of the server"
    } else {
        "on sale as soon as a server has its shard"
    };
    Ok((imported.concert.concert.0, imported.option.option.0, how.to_owned()))
}

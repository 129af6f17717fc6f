//! `hotseat resync`.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::Context as _;
use axum::body::Bytes;
use serde::Deserialize;

use super::Failure;
use super::args::{ResyncArgs, ResyncWhat};
use super::moves::{Page, shards};
use super::progress::{Progress, spinner};
use super::server::Server;
use super::table::{self, Column};
use crate::config::load;

/// The answer of `POST /admin/v1/options/{optionId}/resync` and `/admin/v1/shards/{shard}/resync`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    shard: u16,
    event_seq: u64,
    hash: String,
    restored: bool,
    difference_count: usize,
    options: Vec<OptionDifferences>,
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptionDifferences {
    option_id: u32,
    difference_count: usize,
}

#[derive(Deserialize)]
struct Difference {
    what: String,
    memory: Option<String>,
    ledger: Option<String>,
}

/// Of the answer of `GET /admin/v1/shards`.
#[derive(Deserialize)]
struct Shard {
    shard: u16,
    concerts: usize,
}

/// What could not be rebuilt, and why.
type Failed = (u16, anyhow::Error);

pub(super) async fn run(args: &ResyncArgs) -> Result<(), Failure> {
    let data = load(&args.place.flags())?.config.node.data;
    let Some(server) = Server::find(&data).await? else {
        let data = data.display();
        let why = "there is no memory to rebuild, and a start reads the ledger anyway";
        return Err(anyhow::anyhow!("no server runs on {data}: {why}").into());
    };
    let mut out = io::stdout();
    match args.what {
        ResyncWhat { option: Some(option), .. } => {
            let answer = post_alone(&server, &format!("options/{option}")).await?;
            print(&mut out, &answer)?;
            writeln!(out, "{}", sentence(answer.restored, answer.difference_count))?;
            Ok(())
        }
        ResyncWhat { shard: Some(shard), .. } => {
            let answer = post_alone(&server, &format!("shards/{shard}")).await?;
            print(&mut out, &answer)?;
            print_options(&mut out, std::slice::from_ref(&answer))?;
            writeln!(out, "{}", sentence(answer.restored, answer.difference_count))?;
            Ok(())
        }
        ResyncWhat { .. } => all(&server, &mut out).await,
    }
}

async fn all(server: &Server, out: &mut impl Write) -> Result<(), Failure> {
    let answer = server.get("/admin/v1/shards").await?;
    let page: Page<Shard> = serde_json::from_slice(&answer).context("the server's answer")?;
    let wanted: Vec<u16> =
        page.items.iter().filter(|shard| shard.concerts > 0).map(|shard| shard.shard).collect();
    let (answers, failed) = one_after_the_other(server, &wanted).await;
    for answer in &answers {
        print(out, answer)?;
    }
    print_options(out, &answers)?;
    for answer in answers.iter().filter(|answer| answer.restored) {
        writeln!(out, "shard {}: {}", answer.shard, sentence(true, 0))?;
    }
    let compared = answers.iter().filter(|answer| !answer.restored);
    let count = compared.map(|answer| answer.difference_count).sum();
    writeln!(out, "{} rebuilt: {}", shards(answers.len()), sentence(false, count))?;
    for (shard, why) in &failed {
        writeln!(out, "shard {shard} could not be rebuilt: {why:#}")?;
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::PRINTED) }
}

/// One at a time, so that few buyers wait at the same time.
async fn one_after_the_other(server: &Server, wanted: &[u16]) -> (Vec<Answer>, Vec<Failed>) {
    let mut progress = Progress::new("Rebuilding shards", wanted.len() as u64);
    let begun = Instant::now();
    let (mut answers, mut failed) = (Vec::new(), Vec::new());
    for (shard, done) in wanted.iter().zip(1_u32..) {
        match post(server, &format!("shards/{shard}")).await {
            Ok(answer) => answers.push(answer),
            Err(error) => failed.push((*shard, error)),
        }
        let left = wanted.len().saturating_sub(done as usize);
        let left = begun.elapsed() / done * u32::try_from(left).unwrap_or(u32::MAX);
        progress.show(done.into(), Some(left));
    }
    progress.end();
    (answers, failed)
}

async fn post_alone(server: &Server, what: &str) -> anyhow::Result<Answer> {
    let progress = spinner("Rebuilding from the ledger");
    let answer = post(server, what).await;
    progress.finish_and_clear();
    answer
}

async fn post(server: &Server, what: &str) -> anyhow::Result<Answer> {
    let answer = server.post(&format!("/admin/v1/{what}/resync"), Bytes::new()).await?;
    serde_json::from_slice(&answer).context("the server's answer")
}

/// What a rebuilt shard had different, and where its chain ends.
fn print(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    for Difference { what, memory, ledger } in &answer.differences {
        let or_nothing = |said: &Option<String>| said.clone().unwrap_or_else(|| "nothing".to_owned());
        writeln!(out, "{what}: memory said {}; the ledger says {}", or_nothing(memory), or_nothing(ledger))?;
    }
    let unlisted = answer.difference_count.saturating_sub(answer.differences.len());
    if unlisted > 0 {
        writeln!(out, "… and {unlisted} more")?;
    }
    writeln!(out, "head     {}/{}: {}", answer.shard, answer.event_seq, answer.hash)
}

/// How much of each option was different.
fn print_options(out: &mut impl Write, answers: &[Answer]) -> io::Result<()> {
    let row = |shard: u16, restored: bool, option: &OptionDifferences| {
        let differences = if restored { "-".to_owned() } else { option.difference_count.to_string() };
        [option.option_id.to_string(), shard.to_string(), differences]
    };
    let rows: Vec<_> = answers
        .iter()
        .flat_map(|answer| answer.options.iter().map(|option| row(answer.shard, answer.restored, option)))
        .collect();
    let columns = [Column::Number("option"), Column::Number("shard"), Column::Number("differences")];
    table::print(out, columns, &rows)
}

fn sentence(restored: bool, differences: usize) -> String {
    match (restored, differences) {
        (true, _) => {
            "the ledger ended with another event than memory knew: the shard is restored from the ledger"
                .to_owned()
        }
        (false, 0) => "memory was as the ledger is; the mirror is rebuilt".to_owned(),
        (false, 1) => "1 difference; memory is as the ledger is now, and the mirror is rebuilt".to_owned(),
        (false, n) => format!("{n} differences; memory is as the ledger is now, and the mirror is rebuilt"),
    }
}

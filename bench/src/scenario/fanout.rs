//! Many viewers watch an option while others click: how long until the last of them has seen a click?
//!
//! Reading order: `hand` and `board` (which click is it?), `clicker`; `sightings` (who saw it, and when?), `audience`;
//! `findings`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use self::audience::Audience;
use self::board::{Board, Map};
use self::clicker::Clickers;
use self::findings::Findings;
use crate::args::Common;
use crate::audit;
use crate::command::{Outcome, begin, plan, settings, title};
use crate::feed::Kind;
use crate::frames::Frame;
use crate::http::{Connection, Request};
use crate::limits;
use crate::live::Live;
use crate::report::model::Headline;
use crate::report::numbers;
use crate::run::{Plan, measure};
use crate::schedule::Shape;
use crate::target::Introduced;

mod audience;
mod board;
mod clicker;
mod findings;
mod hand;
mod sightings;

const RATE: Shape = Shape::Poisson { rate: 500.0 };
const TIME: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
pub struct FanoutArgs {
    #[command(flatten)]
    pub common: Common,
    /// How many watch, each over a connection of its own
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub viewers: u32,
    /// How they are told what changes
    #[arg(long, value_enum, default_value_t)]
    pub feed: Kind,
}

/// Gathers the audience, clicks, and waits until everybody has seen the last click.
///
/// # Errors
/// It could not begin.
pub async fn fanout(args: &FanoutArgs) -> anyhow::Result<Outcome> {
    let common = &args.common;
    ensure!(!common.null, "the null server has no feed, so that there is nothing to see");
    let at = begin(common).await?;
    limits::make_room(u64::from(args.viewers) + u64::from(common.connections))?;
    let plan = plan(common, RATE, TIME, WARM_UP);
    ensure!(plan.shape.is_some(), "viewers need time to see each click: --rate max is for the other loads");
    let mut outcome = Outcome::new("fanout", &at, settings(common, &plan));
    let feed = match args.feed {
        Kind::Ws => "WebSocket, binary",
        Kind::Sse => "server-sent events",
    };
    let told = [("viewers", args.viewers.to_string()), ("viewers are told by", feed.to_owned())];
    outcome.scenario.settings.extend(told.map(|(name, value)| (name.to_owned(), value)));
    for repetition in 0..common.repeat {
        let plan = Plan { seed: common.seed + u64::from(repetition), ..plan.clone() };
        let live = || Live::new(&title("fanout", &at, repetition, common.repeat));
        once(args, &at, &plan, live, &mut outcome).await?;
        if outcome.is_over() {
            break;
        }
    }
    Ok(outcome)
}

/// The view begins when everybody has come in.
async fn once(
    args: &FanoutArgs,
    at: &Introduced,
    plan: &Plan,
    live: impl FnOnce() -> Live,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let audience = Audience::gather(at.target.authority(), at.option, args.feed, args.viewers).await?;
    eprintln!(
        "{} viewers came in within {}",
        numbers::count(audience.count),
        numbers::seconds(audience.took.as_secs_f64())
    );
    let seats = audience.reference().map.free();
    ensure!(
        seats.len() >= usize::from(plan.connections),
        "option {} has {} free seats, and each of {} connections clicks seats of its own: try fewer --connections",
        at.option,
        seats.len(),
        plan.connections
    );
    let clickers = Arc::new(Clickers {
        at: at.clone(),
        via: args.common.via,
        seed: plan.seed,
        connections: plan.connections,
        seats,
        audience,
        done: Mutex::default(),
    });
    let mut measured = measure(plan, clickers.clone(), &live()).await?;
    let audience = &clickers.audience;
    audience.until(Board::is_quiet).await;
    clickers.tidy().await?;
    audience.until(Board::is_quiet).await;
    let fresh = read(at).await?;
    let seen = audience.settle(fresh.at).await;
    let Findings { fanout, checks } = Findings::of(audience, &seen, &fresh, measured.measured_from);
    let mut audit = audit::of_answers(&mut measured);
    audit.checks.extend(checks);
    outcome.add(measured, audit);
    let last = &fanout.click_to_last_viewer;
    let value = format!("{} ms", numbers::fixed(last.p99, 1));
    outcome.headline.push(Headline { what: "p99 from a click to its last viewer".to_owned(), value });
    if let Some(run) = outcome.scenario.runs.last_mut() {
        run.fanout = Some(fanout);
    }
    Ok(())
}

/// The map that everybody can read.
async fn read(at: &Introduced) -> anyhow::Result<Map> {
    let path = format!("/api/v1/options/{}/seats", at.option);
    let request = Request { accept: Some("application/octet-stream"), ..Request::get(&path) };
    let answer = Connection::new(at.target.clone()).call(&request).await?;
    let frame = Frame::read(&answer.body).context("what the server sent for the seats is no seat map")?;
    let mut map = Map::default();
    map.apply(&frame);
    Ok(map)
}

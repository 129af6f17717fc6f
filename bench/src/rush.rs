//! All users at once: finds the option, lets them in over a fixed number of connections, waits for the end.

use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::args::RushArgs;
use crate::audit;
use crate::buyer::{Buyer, Sale, look, token};
use crate::client::{Broken, Call, Connection, Shared};
use crate::recorder::Recorder;
use crate::report;
use crate::wire::{Concert, ConcertOption, Page, State};
use crate::workload::Draws;

/// A user id of its own for the payment service, above those of the buyers.
const PAYMENT_USER: u64 = 1 << 52;

/// What every user of a run knows.
pub struct Run {
    pub shared: Shared,
    pub option: u64,
    pub purchases: u32,
    pub party: RangeInclusive<u32>,
    pub zipf: f64,
    pub payment_token: String,
    pub progress: ProgressBar,
    seed: u64,
    /// Between arrivals of users; zero is as fast as they are served.
    gap: Duration,
    started: Instant,
    users: AtomicU64,
}

/// What one connection brought home.
struct Brought {
    recorder: Recorder,
    sales: Vec<Sale>,
    failed: Option<anyhow::Error>,
}

pub async fn run(args: &RushArgs) -> anyhow::Result<ExitCode> {
    // Until the server is there, waiting for it is the same as surviving its absence.
    let mut shared = Shared::new(args.url.clone(), args.wait);
    let (option, payment_token) = introduce(&shared, args.option).await?;
    let (before, _) = look(&mut Connection::new(&shared), option).await.map_err(failure)?;
    let (seat_count, sold_before) = (before.seat_count(), before.count(State::Confirmed));
    if sold_before == seat_count {
        bail!(
            "option {option} is sold out already; start a server on an empty data directory to sell it again"
        );
    }
    shared.survive = args.survive;
    shared.connections_lost = AtomicU64::new(0);
    let run = Arc::new(Run {
        shared,
        option,
        purchases: args.purchases,
        party: args.party.clone(),
        zipf: args.zipf,
        payment_token,
        progress: bar(seat_count as u64),
        seed: args.seed,
        gap: args.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate),
        started: Instant::now(),
        users: AtomicU64::new(0),
    });
    println!("{}", report::head(args, option, seat_count, seat_count - sold_before));
    let sold = sell(&run, args).await;
    let took = run.started.elapsed();
    run.progress.finish_and_clear();
    print!("{}", report::body(&sold.recorder, &sold.sales, &run.shared, took));
    if let Some(error) = sold.failed {
        return Err(error.context("the run was broken off"));
    }
    // The audit waits for a busy server as well.
    run.shared.stop.store(false, Ordering::Relaxed);
    let stopped = sold.end != End::SoldOut;
    let findings = tokio::select! {
        findings = audit::audit(&run, &sold.sales, sold_before, stopped, usize::from(args.connections)) => findings?,
        _ = tokio::signal::ctrl_c() => {
            println!("\naudit: interrupted");
            return Ok(INTERRUPTED.into());
        }
    };
    print!("{}", report::audit(&findings));
    Ok(match (findings.is_clean(), sold.end) {
        (false, _) => ExitCode::FAILURE,
        (true, End::Interrupted) => INTERRUPTED.into(),
        (true, End::SoldOut | End::TimeIsUp) => ExitCode::SUCCESS,
    })
}

/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Why the selling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    SoldOut,
    TimeIsUp,
    Interrupted,
}

/// What all connections brought home.
struct Sold {
    recorder: Recorder,
    sales: Vec<Sale>,
    failed: Option<anyhow::Error>,
    end: End,
}

pub fn failure(broken: Broken) -> anyhow::Error {
    match broken {
        Broken::Failed(error) => error,
        Broken::Stopped => anyhow::anyhow!("stopped"),
    }
}

/// Makes sure that this is hotseat and that it lets us in.
async fn introduce(shared: &Shared, wanted: Option<u64>) -> anyhow::Result<(u64, String)> {
    let mut connection = Connection::new(shared);
    let option = match wanted {
        Some(option) => option,
        None => largest_option(&mut connection).await?,
    };
    let payment_token = token(&mut connection, PAYMENT_USER, "PAYMENT").await.map_err(failure)?;
    Ok((option, payment_token))
}

async fn largest_option(connection: &mut Connection<'_>) -> anyhow::Result<u64> {
    let mut largest: Option<ConcertOption> = None;
    let concerts: Vec<Concert> = list(connection, "/api/v1/concerts").await?;
    for concert in concerts {
        let path = format!("/api/v1/concerts/{}/options", concert.concert_id);
        for option in list::<ConcertOption>(connection, &path).await? {
            if largest.as_ref().is_none_or(|known| known.seat_count < option.seat_count) {
                largest = Some(option);
            }
        }
    }
    largest
        .map(|option| option.option_id)
        .context("nothing is on sale; import a concert, or `hotseat serve --demo`")
}

/// All pages of a list.
async fn list<T: serde::de::DeserializeOwned>(
    connection: &mut Connection<'_>,
    path: &str,
) -> anyhow::Result<Vec<T>> {
    let mut items = Vec::new();
    let mut cursor = None;
    loop {
        let page_path = cursor.map_or(path.to_owned(), |cursor: String| format!("{path}?cursor={cursor}"));
        let answer = connection.call(&Call::get(page_path)).await.map_err(failure)?;
        if !answer.status.is_success() {
            bail!("{path} was answered with {}: this does not look like hotseat", answer.status);
        }
        let page: Page<T> = answer.json().context("this does not look like hotseat")?;
        items.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
}

/// Until everything is sold, the time is up, somebody presses Ctrl-C or a connection fails for good.
async fn sell(run: &Arc<Run>, args: &RushArgs) -> Sold {
    let mut connections = JoinSet::new();
    for _ in 0..args.connections {
        connections.spawn(serve_users(run.clone()));
    }
    let mut sold = Sold { recorder: Recorder::new(), sales: Vec::new(), failed: None, end: End::SoldOut };
    let stop = |end: &mut End, why: End| {
        *end = why;
        run.shared.stop.store(true, Ordering::Relaxed);
    };
    let time_is_up = sleep(args.time_limit.unwrap_or(Duration::MAX));
    tokio::pin!(time_is_up);
    loop {
        tokio::select! {
            brought = connections.join_next() => match brought {
                None => return sold,
                Some(Ok(brought)) => {
                    sold.recorder.add(&brought.recorder);
                    sold.sales.extend(brought.sales);
                    sold.failed = sold.failed.or(brought.failed);
                }
                Some(Err(error)) => sold.failed = sold.failed.or(Some(error.into())),
            },
            () = &mut time_is_up, if sold.end == End::SoldOut => stop(&mut sold.end, End::TimeIsUp),
            _ = tokio::signal::ctrl_c(), if sold.end != End::Interrupted => stop(&mut sold.end, End::Interrupted),
        }
    }
}

/// One connection: a user after the other.
async fn serve_users(run: Arc<Run>) -> Brought {
    let mut connection = Connection::new(&run.shared);
    let (mut recorder, mut sales) = (Recorder::new(), Vec::new());
    let mut failed = None;
    while !run.shared.stopped() {
        let number = run.users.fetch_add(1, Ordering::Relaxed);
        let arrival = run.gap * u32::try_from(number).unwrap_or(u32::MAX);
        sleep(arrival.saturating_sub(run.started.elapsed())).await;
        match serve_user(&run, number, &mut connection, &mut recorder, &mut sales).await {
            Ok(true) => {}
            Ok(false) | Err(Broken::Stopped) => break,
            Err(Broken::Failed(error)) => {
                // What the others would meet as well.
                run.shared.stop.store(true, Ordering::Relaxed);
                failed = Some(error);
            }
        }
    }
    Brought { recorder, sales, failed }
}

async fn serve_user(
    run: &Run,
    number: u64,
    connection: &mut Connection<'_>,
    recorder: &mut Recorder,
    sales: &mut Vec<Sale>,
) -> Result<bool, Broken> {
    // Users of another seed are other people, whom no limit of this run concerns.
    let user = (run.seed % (1 << 20)) * (1 << 32) + number + 1;
    let token = token(connection, user, "USER").await?;
    let draws = Draws::new(run.seed, user);
    Buyer { run, connection, recorder, sales, draws, token, free: Vec::new(), looked: false }.shop().await
}

fn bar(seat_count: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed:>4} {wide_bar} {pos}/{len} seats sold");
    ProgressBar::new(seat_count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

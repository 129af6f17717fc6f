//! What a click costs through the [`actors::Handle`], beside a bare ractor message with a oneshot.
//!
//! `cargo bench -p actors --bench handle`. Sixty-four tasks ask in a closed loop, rounds alternate;
//! printed are the medians and their ratios;
//! processor time per command is the better figure where other programs run. Not a test: nothing is asserted.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark reports and gives up loudly")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::handle::Ask;
use actors::observe::Metrics;
use actors::peers::Alone;
use actors::{Handle, LeaseSettings, Options, Rebalance, System};
use engine::plan::{Layout, Run};
use engine::{Authority, Caller, Command, ConcertId, OptionId, SeatNo, Settings, ShardId, UserId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

#[path = "../tests/it/gate_world.rs"]
#[expect(dead_code, reason = "the faults are the tests'")]
mod gate_world;
#[path = "../tests/it/ledger.rs"]
#[expect(dead_code, reason = "the faults are the tests'")]
mod ledger;
#[path = "../tests/it/network.rs"]
#[expect(dead_code, reason = "one node needs no network")]
mod network;
#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "the shortcuts are the tests'")]
mod world;

const TASKS: u64 = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const SEATS: u32 = 100_000;
const OPTION: OptionId = OptionId(1);

/// Answers and does nothing else.
struct Bare;

/// A click and who waits for it.
struct Asked(Ask, oneshot::Sender<u64>);

impl ractor::Message for Asked {}

impl Actor for Bare {
    type Msg = Asked;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        Asked(ask, reply): Asked,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        drop(ask);
        *count += 1;
        let _waits = reply.send(*count);
        Ok(())
    }
}

fn click(task: u64, turn: u64) -> Ask {
    let seat = SeatNo(u32::try_from((task * 997 + turn / 2) % u64::from(SEATS)).unwrap());
    let seats = [seat].into_iter().collect();
    let command = if turn.is_multiple_of(2) {
        Command::Select { option: OPTION, seats }
    } else {
        Command::Release { option: OPTION, seats: Some(seats) }
    };
    let caller = Caller { user: UserId(task + 1), authority: Authority::Own };
    Ask { caller, key: None, pass: None, command }
}

/// Processor time of this process so far, in seconds.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: fields 12 and 13 are user and system time in hundredths.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Of all tasks together: commands per second, and nanoseconds of processor time per command.
async fn round<F>(ask: impl Fn(Ask) -> F + Clone + Send + 'static) -> (f64, f64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (start, processor_before) = (Instant::now(), processor());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let ask = ask.clone();
            tokio::spawn(async move {
                let mut turn = 0u32;
                while start.elapsed() < ROUND {
                    for _ in 0..16 {
                        ask(click(task, u64::from(turn))).await;
                        turn += 1;
                    }
                }
                f64::from(turn)
            })
        })
        .collect();
    let mut total = 0.0;
    for task in tasks {
        total += task.await.unwrap();
    }
    (total / start.elapsed().as_secs_f64(), (processor() - processor_before) * 1e9 / total)
}

async fn serve() -> (System, Handle) {
    let world = world::World::new();
    let system = System::start(Options {
        peers: Arc::new(Alone::default()),
        rebalance: Rebalance::default(),
        ledger: ledger::TestLedger::new(&world.tables, 1, tokio::time::Instant::now()),
        mirror: world.mirror.clone(),
        shards: 1,
        settings: Settings::default(),
        gates: world.gate_options(1),
        lease: LeaseSettings::default(),
        ledger_ack_timeout: Duration::from_secs(5),
        feed_tick: Duration::from_millis(50),
        mirror_restore_timeout: Duration::from_millis(200),
        metrics: Metrics::default(),
    })
    .await
    .unwrap();
    let handle = system.handle();
    handle.until_serving().await;
    let layout = Arc::new(Layout {
        categories: vec![0; usize::try_from(SEATS).unwrap()],
        runs: vec![Run { first: SeatNo(0), seats: SEATS }],
        sections: vec![SeatNo(0)],
        prices: vec![100],
    });
    let command = Command::AddOption { option: OPTION, concert: ConcertId(1), layout };
    world::ask(&handle, OPTION, 0, None, command).await;
    (system, handle)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn medians(rounds: Vec<(f64, f64)>) -> (f64, f64) {
    let (rates, costs) = rounds.into_iter().unzip();
    (median(rates), median(costs))
}

#[tokio::main]
async fn main() {
    let (system, handle) = serve().await;
    let (bare, _) = Actor::spawn(None, Bare, ()).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3_600);
    let (mut through_bare, mut through_handle) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let bare = bare.clone();
        through_bare.push(
            round(move |ask| {
                let bare = bare.clone();
                async move {
                    let (reply, answer) = oneshot::channel();
                    bare.send_message(Asked(ask, reply)).unwrap();
                    answer.await.unwrap();
                }
            })
            .await,
        );
        let handle = handle.clone();
        through_handle.push(
            round(move |ask| {
                let handle = handle.clone();
                async move {
                    handle.ask(ShardId(0), ask, deadline).await;
                }
            })
            .await,
        );
    }
    let (bare, handle) = (medians(through_bare), medians(through_handle));
    println!("bare ractor message and oneshot {:>10.0} /s {:>6.0} ns of processor", bare.0, bare.1);
    println!("click through the handle        {:>10.0} /s {:>6.0} ns of processor", handle.0, handle.1);
    println!("ratio                           {:>10.2}    {:>6.2}", handle.0 / bare.0, bare.1 / handle.1);
    system.shutdown(Duration::from_secs(1)).await;
}

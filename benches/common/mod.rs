//! What the benchmarks share: the machine, medians, a stadium on a ledger of its own, a server process.
#![allow(dead_code, reason = "each benchmark uses a part")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actors::Rebalance;
use actors::gates::GateOptions;
use actors::handle::{Ask, Handle, ShardStatus};
use actors::observe::Metrics;
use actors::peers::Alone;
use actors::ports::{Ledger, Mirror};
use actors::system::{LeaseSettings, Options, System};
use engine::{
    Authority, Caller, Granted, OptionId, Outcome, RequestKey, SeatList, SeatNo, Settings, ShardId, Span,
    UserId,
};
use hotseat::catalogue::demo;
use hotseat::ledger::Store;
use hotseat::ledger::postgres::{PgLedger, PgOptions};
use hotseat::ledger::sqlite::{Access, Durability, SqliteLedger, SqliteOptions};
use hotseat::mirror::local::LocalMirror;
use tokio::time::Instant;

pub mod http;
pub mod socket;

pub const SEATS: u32 = 100_000;
const SHARDS: u16 = 64;
/// Clock ticks in a second, as `/proc/PID/stat` counts them on every Linux.
const TICKS: f64 = 100.0;

/// CPU and cores, to stand beside every number.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores, {}", model.trim_start_matches(['\t', ' ', ':']), std::env::consts::OS)
}

/// Processor time of a process so far, in seconds.
pub fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<f64> = after_name.split(' ').filter_map(|field| field.parse().ok()).collect();
    // The state is no number, so utime and stime, fields 14 and 15 of the line, are the 11th and 12th here.
    fields.get(10..12).map_or(0.0, |times| times.iter().sum::<f64>() / TICKS)
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).expect("Linux says it")
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The program that is measured: `HOTSEAT_BIN`, or the one that was built with the benchmark.
pub fn hotseat() -> Command {
    const BIN: &str = "HOTSEAT_BIN";
    let program = std::env::var_os(BIN).unwrap_or_else(|| env!("CARGO_BIN_EXE_hotseat").into());
    let mut hotseat = Command::new(program);
    // It would take it for a setting.
    hotseat.env_remove(BIN);
    hotseat
}

pub fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound listener has an address").to_string()
}

pub async fn open(dir: &Path) -> Arc<SqliteLedger> {
    let options = SqliteOptions {
        dir: dir.to_owned(),
        shards: SHARDS,
        owner: uuid::Uuid::new_v4().as_u128(),
        node: "bench".to_owned(),
        public_url: "http://127.0.0.1:0".to_owned(),
        peer_url: String::new(),
        lease_ttl: Span::from_secs(5),
        durability: Durability::Full,
        access: Access::Own,
    };
    SqliteLedger::open(options).await.expect("a new data directory can be opened")
}

pub async fn open_postgres(url: &str) -> Arc<PgLedger> {
    let options = PgOptions {
        url: url.to_owned(),
        shards: SHARDS,
        owner: uuid::Uuid::new_v4().as_u128(),
        node: "bench".to_owned(),
        public_url: "http://127.0.0.1:0".to_owned(),
        peer_url: String::new(),
        lease_ttl: Span::from_secs(5),
        access: Access::Own,
    };
    PgLedger::open(options).await.expect("a new database can be opened")
}

/// A stadium on sale, without HTTP before it.
pub struct Stadium {
    system: System,
    pub handle: Handle,
    pub shard: ShardId,
    pub option: OptionId,
}

impl Stadium {
    /// `store` is the ledger below whatever `ledger` puts around it.
    pub async fn open(store: Arc<dyn Store>, ledger: Arc<dyn Ledger>) -> Self {
        Self::mirrored(store, ledger, Arc::new(LocalMirror::new()), Settings::default()).await
    }

    pub async fn mirrored(
        store: Arc<dyn Store>,
        ledger: Arc<dyn Ledger>,
        mirror: Arc<dyn Mirror>,
        settings: Settings,
    ) -> Self {
        let stadium = demo::concerts().pop().expect("the stadium is the last");
        let layout = Arc::new(stadium.plan.layout());
        let imported = store.import(&stadium).await.expect("a new catalogue takes an import");
        let system = System::start(Options {
            peers: Arc::new(Alone::default()),
            rebalance: Rebalance::default(),
            ledger,
            mirror,
            gates: GateOptions::new(store, Arc::new(LocalMirror::new()), || [7; 32]),
            shards: SHARDS,
            settings: Settings { reservations_per_user: 1_000, ..settings },
            lease: LeaseSettings::default(),
            ledger_ack_timeout: Duration::from_secs(5),
            feed_tick: Duration::from_millis(50),
            mirror_restore_timeout: Duration::from_millis(200),
            metrics: Metrics::default(),
        })
        .await
        .expect("the actors start");
        let (handle, shard, option) = (system.handle(), imported.concert.shard, imported.option.option);
        let serving = |(id, status)| id == shard && matches!(status, ShardStatus::Serving(_));
        while !handle.statuses().into_iter().any(serving) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let stadium = Self { system, handle, shard, option };
        let add = engine::Command::AddOption { option, concert: imported.concert.concert, layout };
        let caller = Caller { user: UserId(0), authority: Authority::Any };
        stadium.granted(caller, None, add).await;
        stadium
    }

    pub async fn close(self) {
        self.system.shutdown(Duration::from_secs(10)).await;
    }

    /// Asks for something that nothing speaks against.
    pub async fn granted(&self, caller: Caller, key: Option<u128>, command: engine::Command) -> Granted {
        let ask = Ask { caller, key: key.map(RequestKey), pass: None, command };
        let answer = self.handle.ask(self.shard, ask, Instant::now() + Duration::from_secs(30)).await;
        match answer.outcome {
            Outcome::Granted(granted) => granted,
            other => panic!("not granted: {other:?}"),
        }
    }
}

pub fn user(number: u32) -> Caller {
    Caller { user: UserId(u64::from(number) + 1), authority: Authority::Own }
}

pub fn one(seat: u32) -> SeatList {
    [SeatNo(seat)].into_iter().collect()
}

/// `hotseat serve` as a process; killed when dropped.
pub struct Server(pub Child);

impl Server {
    /// With settings beyond the defaults, as the environment has them.
    pub fn start(
        data: &Path,
        listen: &str,
        ops: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let child = hotseat()
            .args(["serve", "--listen", listen, "--ops-listen", ops, "--data"])
            .arg(data)
            .args(arguments)
            // Clicks that are SELECTING run out while the benchmark goes round the stadium.
            .env("HOTSEAT_SELECT_TTL", "1s")
            .env("HOTSEAT_LOG_LEVEL", "warn")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server can be started");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of the benchmark may stay behind; a process that is gone already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

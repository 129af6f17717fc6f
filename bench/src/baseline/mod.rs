//! How people sell seats today: one server for each idea, behind the same JSON.
//!
//! Each is as fast as its idea allows, and none does more than it must: a token is the plain user id, there is no
//! limit for a user, idempotency keys are not looked at, holds do not run out, and soft locks need not survive a
//! crash. Where hotseat does such things, it does them in the same comparison.

mod conditional;
mod database;
mod front;
mod none;
mod optimistic;
mod pessimistic;
mod redis_lock;
mod redis_setnx;
mod refusal;
mod sales;
#[cfg(test)]
mod tests;

use std::future::Future;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use uuid::Uuid;

use conditional::Conditional;
use database::Database;
use none::Unlocked;
use optimistic::Optimistic;
use pessimistic::Pessimistic;
use redis_lock::RedisLock;
use redis_setnx::RedisSetnx;
use refusal::Refusal;

/// The machine of a comparison has two cores, and hotseat has as many workers.
const WORKERS: usize = 2;

/// A way of selling seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idea {
    None,
    Optimistic,
    Pessimistic,
    Conditional,
    RedisSetnx,
    RedisLock,
}

impl Idea {
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Optimistic,
        Self::Pessimistic,
        Self::Conditional,
        Self::RedisSetnx,
        Self::RedisLock,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optimistic => "optimistic",
            Self::Pessimistic => "pessimistic",
            Self::Conditional => "conditional",
            Self::RedisSetnx => "redis-setnx",
            Self::RedisLock => "redis-lock",
        }
    }

    /// How it sells, in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::None => "Reads the row, then writes it; nothing stops two who do so at once.",
            Self::Optimistic => {
                "Reads the row with its version, and writes it if the version is still the same."
            }
            Self::Pessimistic => "SELECT … FOR UPDATE, then writes and commits: two round trips, pipelined.",
            Self::Conditional => "One UPDATE … WHERE the seat is free.",
            Self::RedisSetnx => "SET NX PX in Redis for a click, a row in PostgreSQL for a hold.",
            Self::RedisLock => {
                "A lock in Redis around a transaction in PostgreSQL that reads and writes the row."
            }
        }
    }
}

/// What the hidden subcommand is told by whoever starts it.
#[derive(Args, Debug)]
pub struct BaselineArgs {
    idea: Idea,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// A database whose tables it may replace.
    #[arg(long)]
    postgres: String,
    /// A database that it may empty.
    #[arg(long)]
    redis: String,
    #[arg(long)]
    seats: u32,
}

/// Sells until it is killed. Says where on standard output.
///
/// # Errors
/// A server that it needs does not answer, or the address is taken.
pub fn run(args: &BaselineArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&args.listen).await;
        let listener = listener.with_context(|| format!("nobody can listen on {}", args.listen))?;
        serve(args.idea, listener, &args.postgres, &args.redis, args.seats, |address| {
            println!("listening http://{address}");
        })
        .await
    })
}

/// Calls back when it is ready.
async fn serve(
    idea: Idea,
    listener: TcpListener,
    postgres: &str,
    redis: &str,
    seats: u32,
    ready: impl FnOnce(std::net::SocketAddr),
) -> anyhow::Result<()> {
    let database = Database::open(postgres, seats).await?;
    let name = idea.name();
    ready(listener.local_addr()?);
    match idea {
        Idea::None => front::serve(listener, name, seats, Unlocked(database)).await,
        Idea::Optimistic => front::serve(listener, name, seats, Optimistic(database)).await,
        Idea::Pessimistic => front::serve(listener, name, seats, Pessimistic(database)).await,
        Idea::Conditional => front::serve(listener, name, seats, Conditional(database)).await,
        Idea::RedisSetnx => {
            let seller = RedisSetnx::new(database, redis_of(redis).await?, seats);
            front::serve(listener, name, seats, seller).await
        }
        Idea::RedisLock => {
            let seller = RedisLock::new(database, redis_of(redis).await?);
            front::serve(listener, name, seats, seller).await
        }
    }
}

/// One connection for everybody: their commands share writes, which no pool can do.
async fn redis_of(url: &str) -> anyhow::Result<redis::aio::MultiplexedConnection> {
    use redis::IntoConnectionInfo as _;

    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let client = redis::Client::open(url.into_connection_info()?.set_tcp_settings(tcp))?;
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .with_context(|| format!("Redis does not answer at {url}"))?;
    let () = redis::cmd("FLUSHDB").query_async(&mut connection).await?;
    Ok(connection)
}

/// As on the wire; what is sold and what is held are rows, everything else may be forgotten.
const SELECTING: i16 = 1;
const HOLD: i16 = 2;
const CONFIRMED: i16 = 3;
/// Of a reservation alone.
const CANCELLED: i16 = 4;

#[derive(Debug)]
struct Reservation {
    id: Uuid,
    user: i64,
    seats: Vec<i32>,
    status: i16,
}

/// What an idea has to say for itself. Seats are of the plan, ascending, and each is named once. What follows the
/// click is the same for all whose soft locks are rows: the cheapest that is right.
trait Seats: Send + Sync + 'static {
    fn database(&self) -> &Database;

    /// All of the seats or none, for 30 s; again if they are the user's already.
    fn select(&self, user: i64, seats: &[i32]) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Those of the seats that the user had selected.
    fn release(&self, user: i64, seats: &[i32]) -> impl Future<Output = Result<Vec<i32>, Refusal>> + Send {
        self.database().release(user, seats)
    }

    fn hold(&self, user: i64, seats: &[i32]) -> impl Future<Output = Result<Reservation, Refusal>> + Send {
        self.database().hold(user, seats)
    }

    fn confirm(&self, id: Uuid) -> impl Future<Output = Result<Reservation, Refusal>> + Send {
        self.database().confirm(id)
    }

    fn cancel(&self, id: Uuid) -> impl Future<Output = Result<Reservation, Refusal>> + Send {
        self.database().cancel(id)
    }

    /// Seats that are not free, and what they are.
    fn map(&self) -> impl Future<Output = Result<Vec<(i32, i16)>, Refusal>> + Send {
        self.database().map()
    }
}

//! The seats as rows of PostgreSQL, and connections to it.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use deadpool_postgres::{Client, Manager, Object, Pool};
use futures_util::FutureExt as _;
use futures_util::future::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Error, NoTls, Row};

use super::Refusal;

/// Connections that everybody shares: single statements of many clicks are under way in each, and share writes. Of 2,
/// 4, 8, 16 and 32 the best on two cores, 1.6 times as fast as 32.
const LINES: usize = 4;
/// Connections that one transaction of a click has for itself. Of 2, 3, 4, 6, 8, 16, 32 and 64 as good as the best on
/// two cores where seats differ, and the best where all want the same one; 1.3 and 1.9 times as fast as 32.
const CLICKS: usize = 4;
/// Connections for what must be durable: who waits for the disk waits together. From 16 to 64 there is no difference.
const SALES: usize = 32;

/// Plans are made once. Rows are always found, and locked, in the order of the primary key, also in a small hall:
/// two parties that overlap never wait for each other.
const PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off \
    -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off";

/// A page has room for the next version of its rows, and no index names what a click changes, so that updates stay in
/// their page. A reservation whose seats were not all the user's is refused by the table itself.
const TABLES: &str = "
DROP TABLE IF EXISTS seats, reservations, held;
CREATE TABLE seats (
    option_id int NOT NULL,
    seat_no int NOT NULL,
    status smallint NOT NULL DEFAULT 0,
    version int NOT NULL DEFAULT 0,
    user_id bigint NOT NULL DEFAULT 0,
    locked_until timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (option_id, seat_no)
) WITH (fillfactor = 40);
CREATE TABLE reservations (
    id uuid PRIMARY KEY,
    user_id bigint NOT NULL,
    seats int[] NOT NULL,
    status smallint NOT NULL DEFAULT 2,
    held bigint NOT NULL,
    CONSTRAINT all_of_them CHECK (held = cardinality(seats))
) WITH (fillfactor = 80);
CREATE TABLE held (
    option_id int NOT NULL,
    seat_no int NOT NULL,
    reservation uuid NOT NULL,
    PRIMARY KEY (option_id, seat_no)
);
";

pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

pub struct Database {
    lines: Vec<Client>,
    next: AtomicUsize,
    clicks: Pool,
    sales: Pool,
}

impl Database {
    /// Empty seats, as a sale begins.
    pub async fn open(url: &str, seats: u32) -> anyhow::Result<Self> {
        // A crash may forget a soft lock: it would have run out soon.
        let clicks = pool(url, "off", LINES + CLICKS)?;
        let sales = pool(url, "on", SALES)?;
        let first = clicks.get().await.with_context(|| format!("PostgreSQL does not answer at {url}"))?;
        first.batch_execute(TABLES).await?;
        let fill = "INSERT INTO seats (option_id, seat_no) SELECT 1, generate_series(0, $1::bigint - 1)";
        first.execute(fill, &[&i64::from(seats)]).await?;
        first.batch_execute("VACUUM ANALYZE seats").await?;
        first.batch_execute("CHECKPOINT").await?;
        let mut lines = vec![first];
        while lines.len() < LINES {
            lines.push(clicks.get().await?);
        }
        Ok(Self { lines, next: AtomicUsize::new(0), clicks, sales })
    }

    /// A statement that is a transaction of its own and need not be durable.
    pub async fn click(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let line = &self.lines[self.next.fetch_add(1, Ordering::Relaxed) % self.lines.len()];
        line.query(&line.prepare_cached(sql).await?, params).await
    }

    /// A statement that is a transaction of its own, on disk when it is answered.
    pub async fn sale(&self, sql: &str, params: Params<'_>) -> Result<Result<Vec<Row>, Error>, Refusal> {
        let client = self.sales.get().await?;
        Ok(client.query(&client.prepare_cached(sql).await?, params).await)
    }

    /// Begins a transaction of a click with a statement, in one round trip.
    pub async fn begin(&self, sql: &str, params: Params<'_>) -> Result<(Transaction, Vec<Row>), Refusal> {
        let client = self.clicks.get().await?;
        let statement = client.prepare_cached(sql).await?;
        let transaction = Transaction(Some(client));
        let client = transaction.client()?;
        let ((), rows) = try_join(client.batch_execute("BEGIN"), client.query(&statement, params)).await?;
        Ok((transaction, rows))
    }
}

/// An open transaction. One that is dropped, because its user hung up, takes its connection along.
pub struct Transaction(Option<Client>);

impl Transaction {
    pub async fn commit(mut self) -> Result<(), Refusal> {
        self.client()?.batch_execute("COMMIT").await?;
        self.0 = None;
        Ok(())
    }

    /// Ends with a statement, in one round trip.
    pub async fn commit_with(mut self, sql: &str, params: Params<'_>) -> Result<(), Refusal> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await?;
        try_join(client.execute(&statement, params), client.batch_execute("COMMIT")).await?;
        self.0 = None;
        Ok(())
    }

    /// Nobody waits for it: whoever gets the connection next comes after it.
    pub fn roll_back(mut self) {
        if let Some(client) = self.0.take() {
            let _answer = client.batch_execute("ROLLBACK").now_or_never();
        }
    }

    fn client(&self) -> anyhow::Result<&Client> {
        self.0.as_ref().context("a transaction has its connection until it ends")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

fn pool(url: &str, synchronous_commit: &str, size: usize) -> anyhow::Result<Pool> {
    let mut config: Config = url.parse().with_context(|| format!("{url} is no URL of PostgreSQL"))?;
    config.options(format!("-c synchronous_commit={synchronous_commit} {PLANS}"));
    Ok(Pool::builder(Manager::new(config, NoTls)).max_size(size).build()?)
}

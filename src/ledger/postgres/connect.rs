//! Connections: to a primary of a known version, with the limits and the name of this process.

use std::str::FromStr as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::Span;
use engine::lease::Timeline;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::time::timeout;
use uuid::Uuid;

use super::error::ConnectError;
use crate::lock::lock;

/// From the first packet to the first answer.
const CONNECT: Duration = Duration::from_secs(3);

/// `server_version_num` of the oldest server that is tested.
const OLDEST: i32 = 150_000;

/// Sets the session up and asks whom we have reached. A dead client's statement ends within the interval, where
/// the server's system can tell.
const HELLO: &str = "
SELECT pg_backend_pid(), current_setting('server_version_num')::int, pg_is_in_recovery(),
       current_setting('default_transaction_read_only')::bool,
       CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
       set_config('statement_timeout', $1, false), set_config('lock_timeout', $1, false),
       set_config('idle_in_transaction_session_timeout', $1, false),
       set_config('synchronous_commit', 'on', false),
       set_config('default_transaction_isolation', 'read committed', false),
       CASE WHEN version() LIKE '%linux%' THEN set_config('client_connection_check_interval', '500ms', false) END";

/// A connection that was asked who it is.
pub(super) struct Session {
    pub connection: PgConnection,
    /// The server's process.
    pub pid: i32,
    /// The server's.
    pub timeline: Timeline,
    /// Of the [`Connector`] when it was made.
    pub generation: u64,
    age: u64,
}

/// Makes connections, and notices when the server is another than before.
pub(super) struct Connector {
    options: PgConnectOptions,
    /// Where it connects to, without a password.
    server: String,
    /// For `statement_timeout` and its kin.
    limit: String,
    known: Mutex<Known>,
    /// Sessions of an earlier age may have ended with one that has.
    age: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// The server's timeline, once there was a session.
    timeline: Option<Timeline>,
    /// Rises with each new timeline.
    generation: u64,
}

/// What an owner's connections are called.
pub(super) fn session_name(owner: u128) -> String {
    format!("hotseat/{}", Uuid::from_u128(owner))
}

pub(super) fn statement_limit(lease_ttl: Span) -> Duration {
    (Duration::from(lease_ttl) / 2).max(Duration::from_millis(500))
}

impl Connector {
    /// # Errors
    /// The URL says something that no connection can be made of.
    pub(super) fn new(url: &str, owner: u128, limit: Duration) -> Result<Self, ConnectError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(ConnectError::Database)?
            .application_name(&session_name(owner))
            .disable_statement_logging();
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let server = format!("{place}/{database}");
        Ok(Self {
            server,
            options,
            limit: format!("{}ms", limit.as_millis()),
            known: Mutex::default(),
            age: AtomicU64::new(0),
        })
    }

    /// `host:port/database`.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Rises when the server turns out to be another one than before. What was granted under a lower one
    /// is over.
    pub(super) fn generation(&self) -> u64 {
        lock(&self.known).generation
    }

    pub(super) async fn connect(&self) -> Result<Session, ConnectError> {
        timeout(CONNECT, self.try_connect()).await.unwrap_or(Err(ConnectError::TimedOut(CONNECT)))
    }

    async fn try_connect(&self) -> Result<Session, ConnectError> {
        let age = self.age.load(Ordering::Relaxed);
        let mut connection = self.options.connect().await.map_err(ConnectError::Database)?;
        let hello = sqlx::query(HELLO).persistent(false).bind(self.limit.as_str());
        let row = hello.fetch_one(&mut connection).await.map_err(ConnectError::Database)?;
        let pid = row.try_get(0).map_err(ConnectError::Database)?;
        let timeline = primary(&row)?;
        let generation = self.note(timeline);
        Ok(Session { connection, pid, timeline, generation, age })
    }

    /// The server ended a session, as it does with all of them when it stops: those as old are not used again.
    pub(super) fn has_ended(&self, session: &Session) {
        self.age.fetch_max(session.age + 1, Ordering::Relaxed);
    }

    /// Whether a session may still be used: no other of its age has ended, and the server is the same.
    pub(super) fn is_current(&self, session: &Session) -> bool {
        session.age >= self.age.load(Ordering::Relaxed) && session.generation == self.generation()
    }

    /// The generation of a server on that timeline.
    fn note(&self, timeline: Timeline) -> u64 {
        let mut known = lock(&self.known);
        if let Some(before) = known.timeline.replace(timeline).filter(|before| *before != timeline) {
            known.generation += 1;
            tracing::error!(
                server = self.server,
                from = before.0,
                to = timeline.0,
                "the ledger failed over to another timeline: every shard is taken anew; run `hotseat audit`"
            );
        }
        known.generation
    }
}

/// The timeline, of a primary that we can use.
fn primary(row: &PgRow) -> Result<Timeline, ConnectError> {
    let database = ConnectError::Database;
    let version: i32 = row.try_get(1).map_err(database)?;
    if version < OLDEST {
        return Err(ConnectError::OldServer { found: version / 10_000, oldest: OLDEST / 10_000 });
    }
    if row.try_get(2).map_err(database)? {
        return Err(ConnectError::ReadOnly("it is a standby"));
    }
    if row.try_get(3).map_err(database)? {
        return Err(ConnectError::ReadOnly("default_transaction_read_only is on"));
    }
    let timeline: String = row.try_get(4).map_err(database)?;
    let timeline = u32::from_str_radix(&timeline, 16);
    timeline.map(Timeline).map_err(|error| database(sqlx::Error::Decode(error.into())))
}

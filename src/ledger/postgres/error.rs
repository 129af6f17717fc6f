//! What PostgreSQL's answers mean to us.

use std::time::Duration;

use actors::ports::{AppendError, LedgerError};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::catalogue::CatalogueError;

/// Why a database cannot be opened. The text is what the operator reads; `server` is `host:port/database`.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("ledger.url cannot be used: {reason}; it is postgres://user:password@host:port/database")]
    Url { reason: String },
    #[error("the ledger at {server} cannot be reached ({reason}); see that PostgreSQL runs there")]
    Unreachable { server: String, reason: String },
    #[error(
        "the ledger at {server} cannot be written: {reason}; name the primary in ledger.url, or promote this one"
    )]
    ReadOnly { server: String, reason: String },
    #[error("the ledger at {server} refuses the user or the database of ledger.url: {reason}")]
    Refused { server: String, reason: String },
    #[error("the ledger at {server} is PostgreSQL {found}; hotseat needs {oldest} or later")]
    OldServer { server: String, found: i32, oldest: i32 },
    #[error(
        "between here and the ledger at {server} stands a proxy that pools transactions: it hands one connection \
         to several processes, and nobody could tell which of them lives; connect directly, or pool sessions"
    )]
    Pooled { server: String },
    #[error(
        "the ledger at {server} was written by a newer hotseat (schema {found}, this version knows {known}); run \
         that version or a later one, this one has changed nothing"
    )]
    NewerSchema { server: String, found: i64, known: i64 },
    #[error(
        "the ledger at {server} has schema {found}, this version needs {known}; run `hotseat migrate` or start \
         the server once"
    )]
    OlderSchema { server: String, found: i64, known: i64 },
    #[error("the database {server} holds tables of another program ({reason}); name another in ledger.url")]
    NotHotseat { server: String, reason: String },
    #[error(
        "the ledger at {server} belongs to a cluster of {stored} shards, but cluster.shards is {configured}; set \
         it to {stored}: the number is fixed once seats are sold"
    )]
    ShardCountDiffers { server: String, stored: i32, configured: u16 },
    #[error(
        "NODE_NAME_IN_USE: another process that calls itself {node:?} lives and owns shards in the ledger at \
         {server}; stop it, or give this one another node.name"
    )]
    NodeNameInUse { server: String, node: String },
    #[error("the ledger at {server} cannot be opened: {reason}")]
    Other { server: String, reason: String },
}

impl OpenError {
    /// Whether it may go away by itself: a server that starts, fails over or is being repaired.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::ReadOnly { .. })
    }

    pub(super) fn of(server: &str, error: Failed) -> Self {
        let server = server.to_owned();
        match error {
            Failed::Connect(ConnectError::Database(error)) => Self::of_connecting(server, &error),
            Failed::Connect(ConnectError::TimedOut(_)) | Failed::TimedOut(_) | Failed::Closed => {
                Self::Unreachable { server, reason: error.to_string() }
            }
            Failed::Connect(ConnectError::ReadOnly(reason)) => {
                Self::ReadOnly { server, reason: reason.to_owned() }
            }
            Failed::Connect(ConnectError::OldServer { found, oldest }) => {
                Self::OldServer { server, found, oldest }
            }
            Failed::Sql(error) => match code(&error) {
                READ_ONLY_TRANSACTION => Self::ReadOnly { server, reason: error.to_string() },
                DUPLICATE_TABLE => Self::NotHotseat { server, reason: error.to_string() },
                INSUFFICIENT_PRIVILEGE => Self::Refused { server, reason: error.to_string() },
                _ if is_alive_after(&error) => Self::Other { server, reason: error.to_string() },
                _ => Self::Unreachable { server, reason: error.to_string() },
            },
        }
    }

    fn of_connecting(server: String, error: &sqlx::Error) -> Self {
        let reason = error.to_string();
        match error {
            sqlx::Error::Configuration(_) => Self::Url { reason },
            sqlx::Error::Tls(_) => Self::Other { server, reason },
            sqlx::Error::Database(_) => match &code(error)[..2] {
                // Refused connection, no more connections, shutting down, starting up.
                "08" | "53" | "57" => Self::Unreachable { server, reason },
                "28" | "3D" | "42" => Self::Refused { server, reason },
                _ => Self::Other { server, reason },
            },
            _ => Self::Unreachable { server, reason },
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Database(sqlx::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("it cannot be written: {0}")]
    ReadOnly(&'static str),
    #[error("it is PostgreSQL {found}, and {oldest} is the oldest that can be used")]
    OldServer { found: i32, oldest: i32 },
}

/// Why some work on a connection was not done, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("not connected: {0}")]
    Connect(#[source] ConnectError),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("it is closed")]
    Closed,
    #[error(transparent)]
    Sql(sqlx::Error),
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html, and those that append_batch raises.
const STATE_DIFFERS: &str = "HS001";
const OTHER_HASH: &str = "HS002";
const READ_ONLY_TRANSACTION: &str = "25006";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const DUPLICATE_TABLE: &str = "42P07";

fn code(error: &sqlx::Error) -> &str {
    database_error(error).map_or("", PgDatabaseError::code)
}

fn database_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
}

/// Whether the server said no and listens on: the transaction is rolled back, the connection as good as before.
pub(super) fn is_alive_after(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => {
            database_error(error).is_some_and(|error| matches!(error.severity(), PgSeverity::Error))
        }
        sqlx::Error::RowNotFound | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

/// Whether the server looked at the rows and will never take them, as opposed to being unable now.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    code(error) == STATE_DIFFERS || code(error).starts_with("23")
}

impl From<Failed> for AppendError {
    fn from(error: Failed) -> Self {
        let rolled_back = match &error {
            Failed::Sql(error) if is_refusal(error) => return Self::Refused(error.to_string()),
            Failed::Sql(error) if code(error) == OTHER_HASH => return Self::OtherHash(error.to_string()),
            Failed::Sql(error) => is_alive_after(error),
            _ => false,
        };
        Self::Unknown { reason: error.to_string(), rolled_back }
    }
}

impl From<Failed> for LedgerError {
    fn from(error: Failed) -> Self {
        match &error {
            Failed::Sql(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
                Self::Corrupt(error.to_string())
            }
            // Data corrupted, index corrupted.
            Failed::Sql(sql) if code(sql).starts_with("XX00") && code(sql) != "XX000" => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<Failed> for CatalogueError {
    fn from(error: Failed) -> Self {
        match &error {
            Failed::Sql(sql) if is_refusal(sql) => Self::Refused(error.to_string()),
            _ => LedgerError::from(error).into(),
        }
    }
}

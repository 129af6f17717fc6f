//! What SQLite's result codes mean to us.

use std::io;
use std::path::{Path, PathBuf};

use actors::ports::{AppendError, LedgerError};

/// Why a data directory cannot be opened. The text is what the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the data directory {} is in use by another hotseat process; stop that one or name another \
         directory with --data",
        dir.display()
    )]
    InUse { dir: PathBuf },
    #[error(
        "the data directory {} was written by a newer hotseat (schema {found}, this version knows {known}); \
         run that version or a later one, this one has changed nothing",
        dir.display()
    )]
    NewerSchema { dir: PathBuf, found: i64, known: i64 },
    #[error(
        "the data directory {} was written by an older hotseat (schema {found}, this version needs {known}); \
         run `hotseat migrate` or start the server once",
        dir.display()
    )]
    OlderSchema { dir: PathBuf, found: i64, known: i64 },
    #[error(
        "the data directory {} cannot be written ({reason}); give this user write permission, or mount the \
         file system read-write",
        dir.display()
    )]
    ReadOnly { dir: PathBuf, reason: String },
    #[error(
        "the disk of the data directory {} is full ({reason}); free some space and start again, nothing is \
         lost",
        dir.display()
    )]
    DiskFull { dir: PathBuf, reason: String },
    #[error("{} is not a hotseat data directory: {reason}; name the right one with --data", dir.display())]
    NotHotseat { dir: PathBuf, reason: String },
    #[error(
        "the data directory {} belongs to a cluster of {stored} shards, but cluster.shards is {configured}; \
         set it to {stored}: the number is fixed once seats are sold",
        dir.display()
    )]
    ShardCountDiffers { dir: PathBuf, stored: u16, configured: u16 },
    #[error("the data directory {} cannot be opened: {reason}; see to the disk and try again", dir.display())]
    Io { dir: PathBuf, reason: String },
}

impl OpenError {
    /// A file of the data directory could not be read or written.
    #[must_use]
    pub fn from_io(dir: &Path, error: &io::Error) -> Self {
        let (dir, reason) = (dir.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { dir, reason }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { dir, reason },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
                Self::NotHotseat { dir, reason }
            }
            _ => Self::Io { dir, reason },
        }
    }

    pub(super) fn from_sqlx(dir: &Path, error: &sqlx::Error) -> Self {
        let (dir, reason) = (dir.to_owned(), error.to_string());
        match extended_code(error) {
            Some(READONLY_DBMOVED) => Self::Io { dir, reason },
            Some(code) if primary(code) == READONLY || primary(code) == PERM => {
                Self::ReadOnly { dir, reason }
            }
            Some(code) if primary(code) == FULL || code == IOERR_SHMSIZE => Self::DiskFull { dir, reason },
            Some(code) if primary(code) == NOTADB => Self::NotHotseat { dir, reason },
            Some(code) if primary(code) == BUSY => Self::InUse { dir },
            _ => Self::Io { dir, reason },
        }
    }
}

// https://www.sqlite.org/rescode.html
const PERM: i32 = 3;
const BUSY: i32 = 5;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NOTADB: i32 = 26;
const READONLY_DBMOVED: i32 = 1032;
const IOERR_SHMSIZE: i32 = 4874;

const fn primary(code: i32) -> i32 {
    code & 0xff
}

fn extended_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Whether SQLite looked at the rows and will never take them, as opposed to being unable now.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    extended_code(error).is_some_and(|code| matches!(primary(code), CONSTRAINT | MISMATCH))
}

/// Whether a failed COMMIT surely left nothing behind once it was rolled back.
pub(super) fn commit_surely_failed(error: &sqlx::Error) -> bool {
    extended_code(error).is_some_and(|code| matches!(primary(code), BUSY | FULL | READONLY))
}

pub(super) fn unknown(error: &sqlx::Error, rolled_back: bool) -> AppendError {
    AppendError::Unknown { reason: error.to_string(), rolled_back }
}

/// A read or a lease operation that failed.
pub(super) fn ledger_error(error: sqlx::Error) -> LedgerError {
    match (&error, extended_code(&error)) {
        (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => {
            LedgerError::Corrupt(error.to_string())
        }
        (_, Some(code)) if matches!(primary(code), CORRUPT | NOTADB) => {
            LedgerError::Corrupt(error.to_string())
        }
        _ => LedgerError::Unavailable(error.to_string()),
    }
}

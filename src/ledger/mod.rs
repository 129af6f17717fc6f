//! Ledgers: who owns which shard, and what was sold to whom, durable. One file per database.

pub mod sqlite;

//! The HTTP edge over a real listener, real shards and a real SQLite ledger.

#![allow(clippy::unwrap_used)]

mod admin;
mod bad_input;
pub mod cluster;
mod document;
pub mod draws;
mod reads;
mod sale;
mod tokens;
pub mod world;

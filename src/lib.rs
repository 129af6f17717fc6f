//! The server: composition, adapters and the edge.

pub mod app;
pub mod audit;
pub mod auth_key;
pub mod catalogue;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod http;
pub mod ledger;
mod listener;
mod lock;
pub mod mirror;
pub mod pass;
pub mod redis_url;
pub mod run_file;
pub mod shutdown;
pub mod telemetry;
pub mod ws;

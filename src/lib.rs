//! The server: composition, adapters and the edge.

pub mod app;
pub mod audit;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod http;
pub mod ledger;
pub mod mirror;
pub mod shutdown;
pub mod telemetry;

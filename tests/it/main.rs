//! Everything together: the API over real shards and a real ledger, and the real binary from outside: its command
//! line, its configuration, its starts and its ends.

#![allow(clippy::unwrap_used)]

mod api;
mod bad_data;
mod bad_servers;
mod cli;
mod cli_cluster;
mod cluster;
mod config;
mod crash;
mod demo;
mod draw;
mod faults;
mod feed;
mod import;
mod mirror;
mod packaging;
mod passes;
mod postgres;
mod queue;
mod restart;
mod support;
mod ws;

//! The actors against a ledger and a mirror that fail on command. Time is paused where it matters.

#![allow(clippy::unwrap_used)]

mod batch;
mod cluster;
mod gate_world;
mod gates;
mod halts;
mod ledger;
mod life;
mod network;
mod ops;
mod resync;
mod sale;
mod together;
mod world;
mod writer;

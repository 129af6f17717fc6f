//! The engine's rules as tables.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod bounds;
mod cluster;
mod gate;
mod resync;
mod rules;
mod script;
mod seeds;
mod simulator;
mod twin;

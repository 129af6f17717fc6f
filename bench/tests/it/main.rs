//! The harness against the real server, as its users run it.
//!
//! The server's binary is expected beside the bench's, where `cargo test --workspace` builds both. A missing one is a
//! failure, never a skip.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod bad_input;
mod compared;
mod loads;
mod stall;
mod support;

//! The feed as its viewers have it: streams and polls, against real servers.

mod polls;
mod restarts;
mod streams;
pub mod viewer;

//! Sockets through a real listener: what well-behaved clients see, and what the others get.

#![allow(clippy::unwrap_used)]

mod clicks;
pub mod client;
mod evil;
mod feed;
mod opening;
mod process;

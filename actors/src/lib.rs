//! Thin shells around the engine.

pub mod handle;
pub mod ports;
pub mod row;

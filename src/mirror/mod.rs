//! The crash-recovery copy of soft locks and of gates.

pub mod local;
pub mod redis;

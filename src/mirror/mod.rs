//! The crash-recovery copy of the soft locks.

pub mod local;
pub mod redis;

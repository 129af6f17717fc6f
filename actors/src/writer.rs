//! The ledger writer: group commit, sealing, and what to do when the ledger says no or nothing.

pub mod machine;
pub mod seal;

#[cfg(test)]
mod tests;

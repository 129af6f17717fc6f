//! The `hotseat` binary.

fn main() {}

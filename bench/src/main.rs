//! A foreign client of hotseat.

fn main() {}

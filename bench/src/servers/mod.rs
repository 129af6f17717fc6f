//! Private servers of a comparison: PostgreSQL, Redis, hotseat, and the other ways of selling seats.
//!
//! Each listens on loopback alone, keeps its files in a temporary directory, and is gone when its value is dropped or
//! when this process ends, however it ends. Starting one blocks: do it before the load.

mod baseline;
mod cpu;
mod hotseat;
mod postgres;
mod process;
mod redis;
#[cfg(test)]
mod tests;

pub use self::baseline::BaselineServer;
pub use self::cpu::cpu_seconds;
pub use self::hotseat::HotseatServer;
pub use self::postgres::Postgres;
pub use self::redis::Redis;

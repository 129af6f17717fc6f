//! Private servers for tests and benchmarks: real ones, on free loopback ports, with their data in a
//! temporary directory, stopped by pid when dropped. A missing binary is a failure that names what to
//! install, never a skip.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that has no server fails")]

mod nginx;
mod pooler;
mod postgres;
mod process;
mod proxy;
mod redis;

pub use self::nginx::Nginx;
pub use self::pooler::Pooler;
pub use self::postgres::Postgres;
pub use self::process::{Process, find_binary, free_port};
pub use self::proxy::{Cut, Proxy, Side};
pub use self::redis::{Redis, RedisCluster, RedisSentinels};

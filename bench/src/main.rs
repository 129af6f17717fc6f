//! A foreign client of hotseat: it knows what the API's documents say and shares no code with the server.
//!
//! `rush` sells an option out the way a crowd would, measures, and checks by public reads what it was told.
//!
//! Reading order: `args`, `wire` and `client` (one connection), `workload` (who wants what), `buyer` (one user),
//! `rush` (all of them), then `audit`, `recorder` and `report`.

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Task};

mod args;
mod audit;
mod buyer;
mod client;
mod recorder;
mod report;
mod rush;
mod wire;
mod workload;

/// Exit codes: 0 all went well, 1 the audit found something, 2 the run could not begin or was broken off,
/// 130 interrupted.
fn main() -> ExitCode {
    let Args { task: Task::Rush(args) } = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(rush::run(&args)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("hotseat-bench: {error:#}");
    ExitCode::from(2)
}

//! A foreign client of hotseat: it knows what the API's documents say and shares no code with the server.
//!
//! It sends requests by a schedule that is fixed before the run, counts latency from the instant at which each was due,
//! shows its own error, and checks by public reads what it was told.
//!
//! Reading order: `args`; `schedule` and `pace` (when), `http`, `ws` and `session` (one connection, one user),
//! `scenario` (what users do), `run` (all of them at once), `recorder` and `history` (what was seen and what it
//! proves), `audit`, `report`; then `capacity`, and `compare` with the other ways of selling seats in `baseline`.

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Task};
use crate::command::Started;

mod args;
mod command;
mod frames;
mod limits;
mod lock;
mod target;
mod wire;

mod pace;
mod schedule;

mod feed;
mod http;
mod session;
mod ws;

mod null;
mod run;
mod scenario;
mod workload;

mod audit;
mod history;
mod recorder;

mod live;
mod report;

mod capacity;
mod usl;

mod baseline;
mod compare;
mod servers;
mod suite;

/// As hotseat has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Args { task, canonical } = Args::parse();
    let brief = task.is_none();
    let task = task.unwrap_or(Task::Rush(canonical));
    match run(&task, brief) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hotseat-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `brief` is for who did not say what to do.
fn run(task: &Task, brief: bool) -> anyhow::Result<ExitCode> {
    if let Task::Baseline(args) = task {
        return baseline::run(args).map(|()| ExitCode::SUCCESS);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(cores) = task.cores() {
        runtime.worker_threads(usize::from(cores));
    }
    let started = Started::now(brief);
    runtime.enable_all().build()?.block_on(async {
        match task {
            Task::Capacity(args) => capacity::command(args, &started).await,
            Task::Compare(args) => compare::command(args, &started).await,
            Task::Suite(args) => suite::command(args, &started).await,
            load => match command::run(load).await? {
                Some(outcome) => {
                    started.finish(outcome, load.common().and_then(|common| common.out.as_deref()))
                }
                None => Ok(ExitCode::SUCCESS),
            },
        }
    })
}

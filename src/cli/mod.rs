//! The command line: what may be typed, and what the exit code then says.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Args, Command};
use crate::config::Problems;

mod args;
mod audit;
mod check_config;
mod draw;
mod gate;
mod import;
mod migrate;
mod moves;
mod nodes;
mod progress;
mod resync;
mod serve;
mod server;
mod shards;
mod table;
mod token;

/// Why a command ends with another exit code than 0. What it has to say goes to standard error.
#[derive(Debug)]
pub enum Failure {
    /// 1: it was tried and did not work; `None` where what there is to say is already printed.
    Failed(Option<anyhow::Error>),
    /// 2: the command line or the configuration is wrong; nothing was tried.
    Config(String),
}

impl Failure {
    /// Its output says what is wrong.
    pub(crate) const PRINTED: Self = Self::Failed(None);
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    /// A wrong configuration keeps its exit code, however deep it was found.
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        match error.downcast_ref::<Problems>() {
            Some(problems) => Self::Config(problems.to_string()),
            None => Self::Failed(Some(error)),
        }
    }
}

/// Runs the command that was typed.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, text) = match failure {
                Failure::Failed(None) => (1, None),
                Failure::Failed(Some(error)) => (1, Some(format!("{error:#}"))),
                Failure::Config(text) => (2, Some(text)),
            };
            if let Some(text) = text {
                for line in text.lines() {
                    // Nobody is left to hear that standard error is closed.
                    let _ = writeln!(std::io::stderr(), "hotseat: {line}");
                }
            }
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Serve(args) => runtime()?.block_on(serve::run(&args)),
        Command::Import(args) => runtime()?.block_on(import::run(args)),
        Command::Audit(args) => runtime()?.block_on(audit::run(&args)),
        Command::Resync(args) => runtime()?.block_on(resync::run(&args)),
        Command::Shards(command) => runtime()?.block_on(shards::run(&command)),
        Command::Nodes(command) => runtime()?.block_on(nodes::run(&command)),
        Command::Gate(command) => runtime()?.block_on(gate::run(&command)),
        Command::Draw(command) => runtime()?.block_on(draw::run(&command)),
        Command::Migrate(args) => runtime()?.block_on(migrate::run(&args)),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

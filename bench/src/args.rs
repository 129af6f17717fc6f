//! The command line.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::baseline::BaselineArgs;
use crate::capacity::CapacityArgs;
use crate::compare::CompareArgs;
use crate::scenario::fanout::FanoutArgs;
use crate::scenario::queue::QueueArgs;
use crate::schedule::Shape;
use crate::session::Via;
use crate::suite::SuiteArgs;
use crate::target::Target;

/// Measures a running hotseat server from outside, and believes nothing that it does not read back.
///
/// Without a command: the canonical sale. 400 users a second arrive independently of each other at the largest option
/// on sale, which is the demo's stadium of 100,000 seats, and buy some ten seats each until it is sold out: about half
/// of what a machine with two cores can sell. Prints two numbers and a verdict.
///
/// Requests are sent by a schedule that is fixed before the run, and latency counts from the instant at which a request
/// was due: a server that stalls cannot hide what it kept waiting. With `--rate max` everybody goes on as soon as
/// the last answer is there: that measures what a server can take, and says little about latency.
///
/// Exit codes: 0 all is well, 1 the audit found something, 2 the run could not begin or was broken off,
/// 130 interrupted.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub task: Option<Task>,
    #[command(flatten)]
    pub canonical: RushArgs,
}

#[derive(Subcommand)]
pub enum Task {
    /// Sell an option out: everybody wants the best seats at once.
    ///
    /// Users arrive, look at the seats, click on good free ones (the best are wanted most, by Zipf's law), try others
    /// when somebody was faster, hold, pay, and come back for more until they may not. Some give up on the way. The
    /// run ends when every seat is CONFIRMED.
    Rush(RushArgs),
    /// Everybody wants one seat; whoever gets it gives it back.
    Hotseat(ToggleArgs),
    /// Click and give back, all over the option.
    Toggle(ToggleArgs),
    /// Many watch while others click: how long until the last of them has seen it?
    Fanout(FanoutArgs),
    /// Looks, polls, clicks and purchases side by side.
    Mixed(MixedArgs),
    /// A crowd at the gate of a concert: they join, wait in line, give up, come in and leave.
    ///
    /// Sets the gate, lets the crowd arrive in a spike, and asks for each user as the server says; some listen to events
    /// instead, and all of those come back at once when their connections are dropped. The run ends when the line is
    /// empty, and the gate is off then. What is promised of a gate is proved from what was answered and when: nobody
    /// is overtaken, no rank rises, nobody loses a place or has two passes, never more are let in than is allowed.
    ///
    /// All of them come from one address: the server's gate.joins_per_ip must allow that.
    Queue(QueueArgs),
    /// The highest rate that keeps an objective, and how throughput grows with users.
    ///
    /// First 1, 2, 4, … users at once in a closed loop, and the Universal Scalability Law through what they get; then
    /// rates in an open loop, up until the objective breaks twice and from both sides towards the knee.
    Capacity(CapacityArgs),
    /// Ways of selling seats side by side: rows in PostgreSQL, keys in Redis, hotseat.
    ///
    /// Starts a PostgreSQL, a Redis and a server for each way, all private to this run and gone after it, and measures
    /// each load on each of them in turn, in a closed loop. Needs both installed, and nothing running.
    ///
    /// Exit code 1 is for hotseat alone: a seat sold or granted twice, or refused though it was free. Bars that are
    /// missed are printed.
    Compare(CompareArgs),
    /// All of it, in at most ten minutes: the generator against a server that does nothing, every load on a server of its
    /// own with PostgreSQL and Redis beside it, its capacity, a sell-out, and the comparison.
    Suite(SuiteArgs),
    /// One of the ways that hotseat is compared with, as a server.
    #[command(hide = true)]
    Baseline(BaselineArgs),
}

/// What every load is told.
#[derive(ClapArgs, Clone, Debug)]
pub struct Common {
    /// Where the server is
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: Target,
    /// The server's auth.secret, to sign tokens with; without it the server must give dev tokens
    #[arg(long, env = "HOTSEAT_BENCH_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub secret: Option<String>,
    /// Which option; without it the largest on sale
    #[arg(long, value_name = "ID")]
    pub option: Option<u64>,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Threads of the generator; without it one for each core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub cores: Option<u16>,
    /// How clicks and holds travel
    #[arg(long, value_enum, default_value_t = Via::Http)]
    pub via: Via,
    /// Arrivals per second: a number (or constant:R), poisson:R, ramp:FROM..TO, spike:BASE..PEAK; or max: a closed loop
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// How long arrivals come, e.g. 10s or 5m
    #[arg(long, visible_alias = "time-limit", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
    /// Comes before, and is not counted
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub warm_up: Option<Duration>,
    /// How often the run is repeated
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeat: u16,
    /// What the wishes and the schedule are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Wait this long for a server that is not there yet
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub wait: Duration,
    /// Write report.html, report.json and the histograms into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Ask a built-in server that does nothing: what is late then, the generator was late with
    #[arg(long, conflicts_with_all = ["url", "option", "secret", "wait"])]
    pub null: bool,
}

/// How often something is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    Open(Shape),
    /// As fast as it is answered.
    Max,
}

#[derive(ClapArgs, Clone, Debug)]
pub struct RushArgs {
    #[command(flatten)]
    pub common: Common,
    /// How many seats a user wants at a time: one number, or a range of equally likely ones; at most 8
    #[arg(long, default_value = "1..=4", value_name = "SEATS", value_parser = party)]
    pub party: RangeInclusive<u32>,
    /// How many reservations a user makes before going away
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub purchases: u32,
    /// The exponent of Zipf's law over the free seats, best first; 0 is no preference
    #[arg(long, default_value_t = 1.0, value_name = "S", value_parser = exponent)]
    pub zipf: f64,
    /// Share of purchases that their users give up: the click is given back, or the hold cancelled
    #[arg(long, default_value_t = 0.05, value_name = "SHARE", value_parser = share)]
    pub abandon: f64,
    /// When the server dies in the middle, connect again for this long and repeat what was not answered
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub survive: Duration,
}

#[derive(ClapArgs, Clone, Debug)]
pub struct ToggleArgs {
    #[command(flatten)]
    pub common: Common,
    /// Adjacent seats that are clicked together, all or none; at most 8
    #[arg(long, default_value_t = 1, value_name = "SEATS", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub party: u32,
}

#[derive(ClapArgs, Clone, Debug)]
pub struct MixedArgs {
    #[command(flatten)]
    pub common: Common,
}

impl Task {
    /// What every load is told.
    pub fn common(&self) -> Option<&Common> {
        match self {
            Self::Rush(RushArgs { common, .. })
            | Self::Hotseat(ToggleArgs { common, .. })
            | Self::Toggle(ToggleArgs { common, .. })
            | Self::Fanout(FanoutArgs { common, .. })
            | Self::Mixed(MixedArgs { common })
            | Self::Queue(QueueArgs { common, .. })
            | Self::Capacity(CapacityArgs { common, .. }) => Some(common),
            Self::Compare(_) | Self::Suite(_) | Self::Baseline(_) => None,
        }
    }

    /// Threads of the generator.
    pub fn cores(&self) -> Option<u16> {
        match self {
            Self::Compare(args) => args.cores,
            _ => self.common().and_then(|common| common.cores),
        }
    }
}

impl Common {
    /// What arrives, unless something else was asked for; `None` is a closed loop.
    pub fn shape(&self, otherwise: Shape) -> Option<Shape> {
        match self.rate {
            None => Some(otherwise),
            Some(Rate::Open(shape)) => Some(shape),
            Some(Rate::Max) => None,
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            _ => text.parse().map(Self::Open).map_err(|error| format!("{error}, or max")),
        }
    }
}

fn party(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (low, high) = match text.split_once("..=") {
        Some((low, high)) => (low, high),
        None => (text, text),
    };
    match (low.trim().parse::<u32>(), high.trim().parse::<u32>()) {
        (Ok(low), Ok(high)) if (1..=8).contains(&low) && (low..=8).contains(&high) => Ok(low..=high),
        _ => Err("a number from 1 to 8, or a range like 1..=4".to_owned()),
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(exponent) if (0.0..=5.0).contains(&exponent) => Ok(exponent),
        _ => Err("a number from 0 to 5".to_owned()),
    }
}

pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 0.9".to_owned()),
    }
}

/// A whole number with its unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number = text[..unit].parse::<u64>().map_err(|_| "a whole number with ms, s or m".to_owned())?;
    match &text[unit..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("a whole number with ms, s or m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_rate_is_a_schedule_or_as_fast_as_it_goes() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("500".parse(), Ok(Rate::Open(Shape::Constant { rate: 500.0 })));
        assert!("fast".parse::<Rate>().is_err());
    }

    #[test]
    fn parties_are_numbers_or_ranges() {
        assert_eq!(party("3"), Ok(3..=3));
        assert_eq!(party("1..=4"), Ok(1..=4));
        for text in ["0", "9", "4..=1", "1..4", "x", "", "1..=9"] {
            assert!(party(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["5", "s", "-1s", "1h", "1.5s", ""] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

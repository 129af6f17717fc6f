//! `hotseat gate`.

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;

use super::Place;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum GateCommand {
    /// Print how a concert's waiting room is set, and how full it is
    Show(GateArgs),
    /// Set a concert's waiting room: what is not named is as by default, not as before
    Set(GateSetArgs),
    /// Print who set a concert's waiting room when, and how many it let in when, newest first
    History(GateHistoryArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat gate show 7 --data /var/lib/hotseat

Exit codes:
  0  printed
  1  no such concert, or no server runs on the data directory, or it cannot say now
  2  the command line or the configuration is wrong")]
pub(in crate::cli) struct GateArgs {
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    /// The concert
    #[arg(value_name = "CONCERT")]
    pub(in crate::cli) concert: u64,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hotseat gate set 7 open --per-second 200 --max-active 5000 --data /var/lib/hotseat
  hotseat gate set 7 open --mode presale-draw --per-second 200 --opens-at 2027-05-01T10:00:00Z
  hotseat gate set 7 closed

Exit codes:
  0  set, and durable; or it was so before
  1  refused, and why is said; or no server runs on the data directory
  2  the command line or the configuration is wrong")]
pub(in crate::cli) struct GateSetArgs {
    #[command(flatten)]
    pub(in crate::cli) gate: GateArgs,
    /// Whether it lets anybody in
    #[arg(value_enum, value_name = "STATE")]
    pub(in crate::cli) state: StateArg,
    /// In which order
    #[arg(long, value_enum, default_value = "fifo")]
    pub(in crate::cli) mode: ModeArg,
    /// Admissions in any second, at most
    #[arg(long, value_name = "N")]
    pub(in crate::cli) per_second: Option<u64>,
    /// People in the sale at once, at most
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_active: Option<u64>,
    /// Nobody is admitted before; RFC 3339 with an offset
    #[arg(long, value_name = "INSTANT")]
    pub(in crate::cli) opens_at: Option<Timestamp>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  hotseat gate history 7 --limit 20 --data /var/lib/hotseat

Exit codes:
  0  printed
  1  no such concert, or no server runs on the data directory, or it cannot say now
  2  the command line or the configuration is wrong")]
pub(in crate::cli) struct GateHistoryArgs {
    #[command(flatten)]
    pub(in crate::cli) gate: GateArgs,
    /// How many lines
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(in crate::cli) limit: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum StateArg {
    /// In turn, as the other flags say
    Open,
    /// Nobody; the line grows and keeps its order
    Paused,
    /// Everybody, without a pass
    Off,
    /// Nobody any more: sold out
    Closed,
}

impl StateArg {
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Closed => "closed",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ModeArg {
    /// As they come
    Fifo,
    /// Whoever comes before the opening is shuffled at the opening; the others queue behind
    PresaleDraw,
}

impl ModeArg {
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::PresaleDraw => "presale-draw",
        }
    }
}

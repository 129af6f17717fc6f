//! The command line.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::client::Target;

/// Measures a running hotseat server from outside.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Subcommand)]
pub enum Task {
    /// Sell an option out: everybody wants the best seats at once.
    ///
    /// Users arrive, look at the seats, click on good free ones (the best are wanted most, by Zipf's law), try others
    /// when somebody was faster, hold, pay, and come back for more until they may not. The run ends when every
    /// seat is CONFIRMED. It then reads each reservation and the seats back: exit 1 when anything differs from
    /// what the server had answered.
    ///
    /// The server must give out dev tokens, as `hotseat serve --demo` does.
    Rush(RushArgs),
}

#[derive(ClapArgs)]
pub struct RushArgs {
    /// Where the server is
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: Target,
    /// Which option to sell; without it the largest on sale, which is the demo's stadium
    #[arg(long, value_name = "ID")]
    pub option: Option<u64>,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// How many seats a user wants at a time: one number, or a range of equally likely ones; at most 8
    #[arg(long, default_value = "1..=4", value_name = "SEATS", value_parser = party)]
    pub party: RangeInclusive<u32>,
    /// How many reservations a user makes before the next one comes
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub purchases: u32,
    /// The exponent of Zipf's law over the free seats, best first; 0 is no preference
    #[arg(long, default_value_t = 1.0, value_name = "S", value_parser = exponent)]
    pub zipf: f64,
    /// How many users arrive each second; without it as many as the connections serve
    #[arg(long, value_name = "USERS/S", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// What the users' wishes are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Stop selling after this long, e.g. 90s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_limit: Option<Duration>,
    /// Wait this long for a server that is not there yet
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub wait: Duration,
    /// When the server dies in the middle, connect again for this long and repeat what was not answered
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub survive: Duration,
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

fn duration(text: &str) -> Result<Duration, String> {
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

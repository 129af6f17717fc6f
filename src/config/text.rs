//! How durations and addresses are written.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};

use crate::http::budget::Rate;

/// What a duration looks like, for messages.
pub const DURATION: &str =
    "a duration with a unit (ms, s, m or h) of at most 365 days, such as \"30s\" or \"1500ms\"";

/// What an address looks like, for messages.
pub const ADDRESS: &str = "an IP address and a port, such as \"127.0.0.1:8080\"";

/// So that no sum of two durations overflows anything.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Reads `30s`, `1500ms`, `15m`, `2h`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    let duration = Duration::from_millis(millis);
    (duration <= LONGEST).then_some(duration)
}

/// The shortest text that [`parse_duration`] reads back.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// A URL as it may be shown: without who logs in, and with which password.
#[must_use]
pub fn without_login(url: &str) -> String {
    match url.split_once("://").zip(url.rsplit_once('@')) {
        Some(((scheme, _), (_, place))) => format!("{scheme}://{place}"),
        None => url.to_owned(),
    }
}

/// Reads a duration given on the command line.
///
/// # Errors
/// A sentence.
pub fn duration_argument(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("expected {DURATION}"))
}

/// A string that is parsed, with one sentence for whatever else is found.
struct Parsed<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
    of: PhantomData<T>,
}

impl<T> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// For `#[serde(with = …)]`.
pub mod duration {
    use super::{DURATION, Duration, Parsed, PhantomData, format_duration, parse_duration};

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*duration))
    }

    /// # Errors
    /// Not a duration with a unit.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Parsed { expected: DURATION, parse: parse_duration, of: PhantomData })
    }
}

/// For `#[serde(with = …)]`.
pub mod address {
    use super::{ADDRESS, Parsed, PhantomData, SocketAddr};

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: serde::Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(address)
    }

    /// # Errors
    /// Not an address with a port.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let parse = |text: &str| text.parse().ok();
        deserializer.deserialize_str(Parsed { expected: ADDRESS, parse, of: PhantomData })
    }
}

/// What a rate looks like, for messages.
pub const RATE: &str = "a rate and how many at once, such as \"50/s burst 500\"";

/// Reads `50/s burst 500`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (per_second, burst) = text.split_once("/s burst ")?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    Some(Rate { per_second: number(per_second)?, burst: number(burst)? })
}

/// For `#[serde(with = …)]`.
pub mod rate {
    use super::{Parsed, PhantomData, RATE, Rate, parse_rate};

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: serde::Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/s burst {}", rate.per_second, rate.burst))
    }

    /// # Errors
    /// Not a rate with a burst.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        deserializer.deserialize_str(Parsed { expected: RATE, parse: parse_rate, of: PhantomData })
    }
}

/// What [`is_node_name`] takes.
pub const NODE_NAME: &str = "1 to 64 letters, digits, '-', '_' or '.'";

/// Whether a node may be called so.
#[must_use]
pub fn is_node_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("1500ms", Some(1_500)),
            ("30s", Some(30_000)),
            ("15m", Some(900_000)),
            ("2h", Some(7_200_000)),
            ("8760h", Some(31_536_000_000)),
            ("8761h", None),
            ("30", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("30 s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn rates_say_how_many_at_once() {
        let rate = |text| parse_rate(text).map(|rate| (rate.per_second.get(), rate.burst.get()));
        assert_eq!(rate("50/s burst 500"), Some((50, 500)));
        for text in
            ["", "50", "50/s", "0/s burst 1", "1/s burst 0", "+1/s burst 1", "1/m burst 1", "1/s burst 1 "]
        {
            assert_eq!(rate(text), None, "{text:?}");
        }
        assert_eq!(rate("4294967296/s burst 1"), None);
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for millis in [0, 1, 999, 1_000, 1_500, 60_000, 61_000, 3_600_000, 5_400_000, 31_536_000_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}

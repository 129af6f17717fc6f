//! When arrivals are due, fixed before the run begins: what the server does cannot move them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::workload::Draws;

/// Arrivals of a schedule; beyond it the list alone would fill memory.
const ARRIVALS_MAX: f64 = 50_000_000.0;

/// How the rate moves over the time of a run. Rates are arrivals per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Evenly spaced.
    Constant { rate: f64 },
    /// Independent of each other: gaps are drawn from the exponential distribution.
    Poisson { rate: f64 },
    /// From one rate to another, in a straight line.
    Ramp { from: f64, to: f64 },
    /// `base`, but `peak` during the second fifth of the time: the doors open.
    Spike { base: f64, peak: f64 },
}

/// Instants since the start of the run, ascending.
#[derive(Clone, Debug)]
pub struct Schedule {
    due: Vec<Duration>,
}

impl Schedule {
    /// The same seed gives the same instants.
    ///
    /// # Errors
    /// More arrivals than fit in memory.
    pub fn new(shape: Shape, span: Duration, seed: u64) -> Result<Self, String> {
        let seconds = span.as_secs_f64();
        let count = shape.arrivals_until(1.0, seconds);
        if count > ARRIVALS_MAX {
            return Err(format!(
                "{count:.0} arrivals are more than {ARRIVALS_MAX:.0}; lower the rate or the time"
            ));
        }
        let due = match shape {
            Shape::Poisson { rate } => poisson(rate, seconds, seed),
            _ => even(shape, seconds, count),
        };
        Ok(Self { due })
    }

    /// The same after a warm-up at the rate with which the shape begins.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn after_warm_up(shape: Shape, warm_up: Duration, span: Duration, seed: u64) -> Result<Self, String> {
        let mut schedule = Self::new(shape.beginning(), warm_up, seed.wrapping_add(1))?;
        let measured = Self::new(shape, span, seed)?;
        schedule.due.extend(measured.due.into_iter().map(|due| warm_up + due));
        Ok(schedule)
    }

    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// When an arrival is due; `None` past the last.
    pub fn due(&self, number: usize) -> Option<Duration> {
        self.due.get(number).copied()
    }

    /// Arrivals that are due before an instant.
    pub fn due_before(&self, at: Duration) -> usize {
        self.due.partition_point(|due| *due < at)
    }
}

fn poisson(rate: f64, seconds: f64, seed: u64) -> Vec<Duration> {
    let mut draws = Draws::new(seed, 0);
    let mut at = 0.0;
    std::iter::from_fn(|| {
        // 1 - u is never 0, so the logarithm is finite.
        at += -(1.0 - draws.fraction()).ln() / rate;
        (at < seconds).then(|| Duration::from_secs_f64(at))
    })
    .collect()
}

/// The instants at which the integral of the rate passes 0, 1, 2, …; found by bisection, since it only rises.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by ARRIVALS_MAX above")]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn even(shape: Shape, seconds: f64, count: f64) -> Vec<Duration> {
    let at = |number: usize| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if shape.arrivals_until(middle, seconds) < number as f64 { low = middle } else { high = middle }
        }
        Duration::from_secs_f64(high * seconds)
    };
    match shape {
        Shape::Constant { rate } => {
            (0..count as usize).map(|number| Duration::from_secs_f64(number as f64 / rate)).collect()
        }
        _ => (0..count as usize).map(at).collect(),
    }
}

impl Shape {
    /// The rate at which it begins, as a shape of its own.
    fn beginning(self) -> Self {
        match self {
            Self::Ramp { from: rate, .. } | Self::Spike { base: rate, .. } => Self::Constant { rate },
            Self::Constant { .. } | Self::Poisson { .. } => self,
        }
    }

    /// The same shape at another mean rate.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Constant { rate } => Self::Constant { rate: rate * factor },
            Self::Poisson { rate } => Self::Poisson { rate: rate * factor },
            Self::Ramp { from, to } => Self::Ramp { from: from * factor, to: to * factor },
            Self::Spike { base, peak } => Self::Spike { base: base * factor, peak: peak * factor },
        }
    }

    /// Arrivals per second, over all the time.
    pub fn mean_rate(self) -> f64 {
        self.arrivals_until(1.0, 1.0)
    }

    /// Arrivals due before a part (0 to 1) of the time has passed.
    fn arrivals_until(self, part: f64, seconds: f64) -> f64 {
        let arrivals = match self {
            Self::Constant { rate } | Self::Poisson { rate } => rate * part,
            Self::Ramp { from, to } => part * (from + (to - from) * part / 2.0),
            Self::Spike { base, peak } => base * part + (peak - base) * (part - 0.2).clamp(0.0, 0.2),
        };
        arrivals * seconds
    }
}

impl FromStr for Shape {
    type Err = String;

    /// `500`, `constant:500`, `poisson:500`, `ramp:100..2000`, `spike:100..2000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rates) = text.split_once(':').unwrap_or(("constant", text));
        let rate = |text: &str| match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate <= 1e7 => Ok(rate),
            _ => Err(format!("{text:?} is no rate; expected arrivals per second, up to 10 million")),
        };
        let two =
            || rates.split_once("..").ok_or_else(|| format!("{kind} needs two rates, e.g. {kind}:100..2000"));
        match kind {
            "constant" => Ok(Self::Constant { rate: rate(rates)? }),
            "poisson" => Ok(Self::Poisson { rate: rate(rates)? }),
            "ramp" => two().and_then(|(from, to)| Ok(Self::Ramp { from: rate(from)?, to: rate(to)? })),
            "spike" => {
                two().and_then(|(base, peak)| Ok(Self::Spike { base: rate(base)?, peak: rate(peak)? }))
            }
            _ => Err("expected a rate, constant:R, poisson:R, ramp:FROM..TO or spike:BASE..PEAK".to_owned()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { rate } => write!(f, "constant:{rate}"),
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Ramp { from, to } => write!(f, "ramp:{from}..{to}"),
            Self::Spike { base, peak } => write!(f, "spike:{base}..{peak}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: &str, seconds: u64) -> Schedule {
        Schedule::new(shape.parse().unwrap(), Duration::from_secs(seconds), 1).unwrap()
    }

    #[test]
    fn shapes_are_read_as_they_are_written() {
        for text in ["constant:500", "poisson:2.5", "ramp:100..2000", "spike:100..2000"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        assert_eq!("500".parse::<Shape>(), Ok(Shape::Constant { rate: 500.0 }));
        for text in ["", "0", "-1", "constant:", "ramp:5", "ramp:0..5", "sine:5", "1e9", "NaN", "inf"] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let schedule = schedule("constant:1000", 2);
        assert_eq!(schedule.len(), 2_000);
        assert_eq!(schedule.due(0), Some(Duration::ZERO));
        assert_eq!(schedule.due(1_500), Some(Duration::from_millis(1_500)));
        assert_eq!(schedule.due(2_000), None);
        assert_eq!(schedule.due_before(Duration::from_secs(1)), 1_000);
    }

    #[test]
    fn a_ramp_and_a_spike_hold_their_rates() {
        let ramp = schedule("ramp:100..300", 10);
        assert_eq!(ramp.len(), 2_000);
        // The first half of a ramp from 100 to 300 has a mean of 150.
        assert!((749..=751).contains(&ramp.due_before(Duration::from_secs(5))));
        let spike = schedule("spike:100..1100", 10);
        assert_eq!(spike.len(), 3_000);
        let from = spike.due_before(Duration::from_secs(2));
        let to = spike.due_before(Duration::from_secs(4));
        assert!((199..=201).contains(&from) && (2_398..=2_402).contains(&to), "{from} {to}");
    }

    #[test]
    fn independent_arrivals_are_repeatable_and_as_irregular_as_they_should_be() {
        let one = schedule("poisson:1000", 20);
        assert_eq!(one.due, schedule("poisson:1000", 20).due);
        assert!((19_500..20_500).contains(&one.len()), "{}", one.len());
        // Gaps of an exponential distribution are shorter than their mean in 1 - 1/e of all cases.
        let short = one.due.windows(2).filter(|gap| gap[1] - gap[0] < Duration::from_millis(1)).count();
        let share = short as f64 / one.len() as f64;
        assert!((0.61..0.66).contains(&share), "{share}");
    }

    #[test]
    fn instants_ascend() {
        for shape in ["constant:777", "poisson:777", "ramp:1..900", "ramp:900..1", "spike:5..900"] {
            let schedule = schedule(shape, 3);
            assert!(schedule.due.is_sorted(), "{shape}");
            assert!(schedule.due.iter().all(|due| *due <= Duration::from_secs(3)), "{shape}");
        }
        assert!(Schedule::new("1e7".parse().unwrap(), Duration::from_secs(60), 1).is_err());
    }
}

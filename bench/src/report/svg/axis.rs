//! Axes: where a value stands, and which values have a line of their own.

use crate::report::numbers::fixed;

/// Lines of a logarithmic axis, at most.
const LOG_TICKS_MAX: usize = 8;
/// Below a microsecond nothing is measured.
const LOG_LOW: f64 = 0.001;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Log,
}

/// From values to pixels.
#[derive(Clone, Debug)]
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Pixels at `low` and at `high`.
    from: f64,
    to: f64,
}

impl Axis {
    /// From 0 to at least `high`.
    pub fn linear(high: f64, (from, to): (f64, f64)) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        Self { scale: Scale::Linear, low: 0.0, high, from, to }
    }

    /// As `linear`, but ends at a tick.
    pub fn rounded(high: f64, pixels: (f64, f64)) -> Self {
        let axis = Self::linear(high, pixels);
        let step = step(axis.high, axis.ticks_max());
        Self { high: (axis.high / step - 1e-9).ceil() * step, ..axis }
    }

    /// Around all values that are positive; both ends are 1, 2 or 5 times a power of ten.
    pub fn log(values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let values = values.filter(|value| value.is_finite() && *value > 0.0).map(|value| value.max(LOG_LOW));
        let (low, high) =
            values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 1.0) };
        let low = round(low, false);
        let high = round(high.max(low * 1.001), true);
        Self { scale: Scale::Log, low, high, from, to }
    }

    /// Values beyond the axis stand at its end.
    pub fn at(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self.from + (self.to - self.from) * part
    }

    pub fn pixels(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    /// Values with a line, and the words at it.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => linear_ticks(self.high, self.ticks_max()),
            Scale::Log => log_ticks(self.low, self.high),
        };
        values.into_iter().map(|value| (value, label(value))).collect()
    }

    /// A number needs this many pixels along the axis, whichever way it lies.
    fn ticks_max(&self) -> usize {
        let length = (self.to - self.from).abs();
        if length > 500.0 {
            8
        } else if length > 120.0 {
            6
        } else {
            3
        }
    }
}

/// 0 and multiples of 1, 2 or 5 times a power of ten, about `most` of them, up to `high`.
fn linear_ticks(high: f64, most: usize) -> Vec<f64> {
    let step = step(high, most);
    // Multiplied, so that no error adds up.
    (0..=most + 1)
        .map(|number| step * f64::from(u32::try_from(number).unwrap_or(0)))
        .take_while(|tick| *tick <= high * (1.0 + 1e-9))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few ticks")]
fn step(high: f64, most: usize) -> f64 {
    round(high / most.max(1) as f64, true)
}

/// Decades; with 2 and 5 between them where there are few, and not every one where there are many.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor();
    let decades = (0..=20).map(|decade| 10f64.powf(first + f64::from(decade)));
    let inside = |tick: &f64| *tick >= low * (1.0 - 1e-9) && *tick <= high * (1.0 + 1e-9);
    let decades: Vec<f64> = decades.take_while(|decade| *decade <= high * (1.0 + 1e-9)).collect();
    let with = |factors: &[f64]| -> Vec<f64> {
        let ticks = decades.iter().flat_map(|decade| factors.iter().map(move |factor| decade * factor));
        ticks.filter(inside).collect()
    };
    let all = with(&[1.0, 2.0, 5.0]);
    if all.len() <= LOG_TICKS_MAX {
        return all;
    }
    let whole = with(&[1.0]);
    let every = whole.len().div_ceil(LOG_TICKS_MAX).max(1);
    whole.into_iter().step_by(every).collect()
}

/// The next 1, 2 or 5 times a power of ten, upwards or downwards.
fn round(number: f64, upwards: bool) -> f64 {
    let decade = 10f64.powf(number.log10().floor());
    let factor = number / decade;
    let steps = [1.0, 2.0, 5.0, 10.0];
    let found = if upwards {
        steps.into_iter().find(|step| factor <= step * (1.0 + 1e-9))
    } else {
        steps.into_iter().rev().find(|step| factor >= step * (1.0 - 1e-9))
    };
    decade * found.unwrap_or(1.0)
}

fn label(value: f64) -> String {
    if value >= 1e6 {
        return format!("{} M", fixed(value / 1e6, usize::from(value % 1e6 > 0.0)));
    }
    let decimals = (0..=3).find(|decimals| {
        let scaled = value * 10f64.powi(*decimals);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
    });
    fixed(value, usize::try_from(decimals.unwrap_or(3)).unwrap_or(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(axis: &Axis, labels: &[&str]) {
        let ticks: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(ticks, labels);
    }

    #[test]
    fn linear_ticks_are_round() {
        let axis = |high| Axis::rounded(high, (0.0, 300.0));
        check(&axis(10_000.0), &["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
        check(&axis(12_001.0), &["0", "5,000", "10,000", "15,000"]);
        check(&axis(7.0), &["0", "2", "4", "6", "8"]);
        check(&axis(0.7), &["0", "0.2", "0.4", "0.6", "0.8"]);
        check(&axis(4_100_000.0), &["0", "1 M", "2 M", "3 M", "4 M", "5 M"]);
        check(&axis(0.0), &["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        check(&axis(f64::NAN), &["0", "0.2", "0.4", "0.6", "0.8", "1"]);
    }

    #[test]
    fn logarithmic_ticks_are_decades_where_there_are_many() {
        let axis = |low, high| Axis::log([low, high].into_iter(), (0.0, 300.0));
        check(&axis(0.4, 2.0), &["0.2", "0.5", "1", "2"]);
        check(&axis(0.21, 80.0), &["1", "10", "100"]);
    }

    #[test]
    fn many_decades_have_few_lines() {
        let axis = |low, high| Axis::log([low, high].into_iter(), (0.0, 300.0));
        check(&axis(0.05, 4_000.0), &["0.1", "1", "10", "100", "1,000"]);
        check(&axis(1e-9, 1e9), &["0.001", "0.1", "10", "1,000", "100,000", "10 M", "1,000 M"]);
    }

    #[test]
    fn an_axis_has_two_ends_whatever_it_is_given() {
        for values in [vec![], vec![0.0], vec![5.0], vec![3.0, 3.0], vec![f64::NAN, f64::INFINITY, -1.0]] {
            let axis = Axis::log(values.iter().copied(), (300.0, 0.0));
            assert!(axis.low < axis.high, "{values:?}");
            assert!(axis.ticks().len() >= 2, "{values:?}");
            assert!(axis.at(f64::NAN).is_finite() && axis.at(0.0) == 300.0 && axis.at(1e30) == 0.0);
        }
    }

    #[test]
    fn values_stand_where_they_belong() {
        let linear = Axis::linear(10.0, (300.0, 0.0));
        assert_eq!(
            [0.0, 5.0, 10.0, 20.0, -1.0].map(|value| linear.at(value)),
            [300.0, 150.0, 0.0, 0.0, 300.0]
        );
        let log = Axis::log([1.0, 100.0].into_iter(), (0.0, 200.0));
        assert!((log.at(10.0) - 100.0).abs() < 1e-9);
    }
}

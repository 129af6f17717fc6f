//! What hotseat promises beside the others, and whether it keeps it.

use super::contender::Contender;
use super::load::Load;
use crate::baseline::Idea;
use crate::report::model::{Bar, LoadResult};

const PESSIMISTIC: Contender = Contender::Baseline(Idea::Pessimistic);
const REDIS_SETNX: Contender = Contender::Baseline(Idea::RedisSetnx);

/// Results by load and contender.
pub struct Table<'a> {
    pub contenders: &'a [Contender],
    pub loads: &'a [(Load, Vec<Option<LoadResult>>)],
}

/// As many times what another one does, at least.
struct AtLeast {
    load: Load,
    of: Contender,
    beside: Contender,
    times: f64,
    /// The 99th percentile must not be worse for it.
    and_no_slower: bool,
}

const RATES: [AtLeast; 6] = [
    rate(Load::Hot, Contender::Hotseat, PESSIMISTIC, 8.0),
    rate(Load::Renew, Contender::Hotseat, PESSIMISTIC, 25.0),
    rate(Load::Spread, Contender::Hotseat, PESSIMISTIC, 10.0),
    AtLeast { and_no_slower: true, ..rate(Load::Spread, Contender::Hotseat, REDIS_SETNX, 1.0) },
    AtLeast { and_no_slower: true, ..rate(Load::Spread, Contender::HotseatAlone, REDIS_SETNX, 1.1) },
    rate(Load::Parties, Contender::Hotseat, REDIS_SETNX, 2.0),
];
const CPU_TIMES: f64 = 0.5;

const fn rate(load: Load, of: Contender, beside: Contender, times: f64) -> AtLeast {
    AtLeast { load, of, beside, times, and_no_slower: false }
}

/// Those of which everything was measured.
pub fn bars(table: &Table<'_>) -> Vec<Bar> {
    let rates = RATES.iter().flat_map(|bar| rate_and_time(table, bar));
    rates
        .chain([Contender::Hotseat, Contender::HotseatAlone].into_iter().filter_map(|of| cpu(table, of)))
        .collect()
}

impl Table<'_> {
    pub fn result(&self, load: Load, contender: Contender) -> Option<&LoadResult> {
        let at = self.contenders.iter().position(|other| *other == contender)?;
        let (_, results) = self.loads.iter().find(|(other, _)| *other == load)?;
        results.get(at)?.as_ref()
    }

    /// Over all loads.
    pub fn sum(&self, contender: Contender, of: impl Fn(&LoadResult) -> u64) -> u64 {
        self.loads.iter().filter_map(|(load, _)| self.result(*load, contender)).map(of).sum()
    }
}

fn rate_and_time(table: &Table<'_>, bar: &AtLeast) -> Vec<Bar> {
    let results = table.result(bar.load, bar.of).zip(table.result(bar.load, bar.beside));
    let Some((mine, theirs)) = results else { return Vec::new() };
    let (of, beside, load) = (bar.of.name(), bar.beside.name(), bar.load.name());
    let mut bars = vec![Bar {
        what: format!("{of}: clicks/s on {load}, beside {beside}"),
        bar: format!("≥ {}×", bar.times),
        measured: times(mine.clicks_per_second / theirs.clicks_per_second, f64::floor),
        met: mine.clicks_per_second >= bar.times * theirs.clicks_per_second,
    }];
    if bar.and_no_slower {
        bars.push(Bar {
            what: format!("{of}: p99 of clicks on {load}, beside {beside}"),
            bar: "≤ 1×".to_owned(),
            measured: times(mine.p99 / theirs.p99, f64::ceil),
            met: mine.p99 <= theirs.p99,
        });
    }
    bars
}

/// Beside the cheapest of the others that sold no seat twice.
fn cpu(table: &Table<'_>, of: Contender) -> Option<Bar> {
    let per_seat = |contender| table.result(Load::Sale, contender)?.cpu_seconds_per_seat;
    let honest = table.contenders.iter().copied().filter(|contender| {
        !contender.is_hotseat() && table.sum(*contender, |result| result.double_sales) == 0
    });
    let costs = honest.filter_map(|contender| Some((contender, per_seat(contender)?)));
    let (beside, theirs) = costs.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let mine = per_seat(of)?;
    Some(Bar {
        what: format!("{}: processor time per seat sold, beside {}", of.name(), beside.name()),
        bar: format!("≤ {CPU_TIMES}×"),
        measured: times(mine / theirs, f64::ceil),
        met: mine <= CPU_TIMES * theirs,
    })
}

/// Rounded against us.
fn times(ratio: f64, round: fn(f64) -> f64) -> String {
    format!("{:.2}×", round(ratio * 100.0) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Contender; 5] = [
        Contender::Baseline(Idea::None),
        PESSIMISTIC,
        REDIS_SETNX,
        Contender::Hotseat,
        Contender::HotseatAlone,
    ];

    /// Clicks per second, p99, processor milliseconds per seat, double sales.
    fn result((clicks_per_second, p99, cpu, double_sales): (f64, f64, f64, u64)) -> Option<LoadResult> {
        Some(LoadResult {
            clicks_per_second,
            p50: 0.0,
            p99,
            p999: 0.0,
            holds_per_second: None,
            cpu_seconds_per_seat: Some(cpu / 1_000.0),
            refused: 0,
            failed: 0,
            double_grants: 0,
            double_sales,
            false_refusals: 0,
        })
    }

    fn check(load: Load, results: [(f64, f64, f64, u64); 5]) -> Vec<(String, bool)> {
        let loads = [(load, results.map(result).to_vec())];
        let bars = bars(&Table { contenders: &ALL, loads: &loads });
        bars.into_iter().map(|bar| (format!("{} {}", bar.bar, bar.measured), bar.met)).collect()
    }

    fn rates(none: f64, pessimistic: f64, setnx: f64, hotseat: f64, alone: f64) -> [(f64, f64, f64, u64); 5] {
        [none, pessimistic, setnx, hotseat, alone].map(|rate| (rate, 1.0, 1.0, 0))
    }

    #[test]
    fn a_bar_is_met_exactly_or_not_at_all() {
        assert_eq!(check(Load::Hot, rates(1.0, 100.0, 1.0, 800.0, 1.0)), [("≥ 8× 8.00×".to_owned(), true)]);
        assert_eq!(check(Load::Hot, rates(1.0, 100.0, 1.0, 799.99, 1.0)), [("≥ 8× 7.99×".to_owned(), false)]);
        assert_eq!(
            check(Load::Renew, rates(1.0, 100.0, 1.0, 2_499.0, 1.0)),
            [("≥ 25× 24.99×".to_owned(), false)]
        );
        assert_eq!(
            check(Load::Parties, rates(1.0, 1.0, 50.0, 101.0, 1.0)),
            [("≥ 2× 2.02×".to_owned(), true)]
        );
    }

    #[test]
    fn speed_that_is_paid_for_with_time_is_a_bar_missed() {
        let mut results = rates(1.0, 100.0, 1_000.0, 1_000.0, 1_099.0);
        results[3].1 = 1.001;
        let expected = [
            ("≥ 10× 10.00×", true),
            ("≥ 1× 1.00×", true),
            ("≤ 1× 1.01×", false),
            ("≥ 1.1× 1.09×", false),
            ("≤ 1× 1.00×", true),
        ];
        assert_eq!(check(Load::Spread, results), expected.map(|(text, met)| (text.to_owned(), met)));
    }

    #[test]
    fn the_cheapest_that_sells_nothing_twice_is_what_counts() {
        // `none` is cheaper, but it sells twice.
        let results =
            [(1., 1., 0.1, 3), (1., 1., 4., 0), (1., 1., 2., 0), (1., 1., 1., 0), (1., 1., 1.001, 0)];
        let expected = [("≤ 0.5× 0.50×", true), ("≤ 0.5× 0.51×", false)];
        assert_eq!(check(Load::Sale, results), expected.map(|(text, met)| (text.to_owned(), met)));
    }

    #[test]
    fn what_was_not_measured_has_no_bar() {
        let loads = [(Load::Hot, vec![result((1.0, 1.0, 1.0, 0))])];
        assert!(bars(&Table { contenders: &[Contender::Hotseat], loads: &loads }).is_empty());
        assert!(bars(&Table { contenders: &[], loads: &[] }).is_empty());
    }
}

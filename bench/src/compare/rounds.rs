//! In which order the contenders are measured, and what becomes of several rounds.

use crate::report::model::LoadResult;

/// Every contender once in each round, each round from another one on: who comes first or after whom is nobody's luck.
pub fn order(contenders: usize, round: usize, rounds: usize) -> Vec<usize> {
    let shift = if contenders == 0 { 0 } else { round * contenders / rounds.max(1) % contenders };
    (shift..contenders).chain(0..shift).collect()
}

/// Rates and times in the middle; wrongs are counted over all rounds, and so is what was refused.
pub fn together(rounds: &[LoadResult]) -> Option<LoadResult> {
    let middle = |of: fn(&LoadResult) -> f64| median(rounds.iter().map(of).collect());
    let sum = |of: fn(&LoadResult) -> u64| rounds.iter().map(of).sum();
    Some(LoadResult {
        clicks_per_second: middle(|round| round.clicks_per_second)?,
        p50: middle(|round| round.p50)?,
        p99: middle(|round| round.p99)?,
        p999: middle(|round| round.p999)?,
        holds_per_second: median(rounds.iter().filter_map(|round| round.holds_per_second).collect()),
        cpu_seconds_per_seat: median(rounds.iter().filter_map(|round| round.cpu_seconds_per_seat).collect()),
        refused: sum(|round| round.refused),
        failed: sum(|round| round.failed),
        double_grants: sum(|round| round.double_grants),
        double_sales: sum(|round| round.double_sales),
        false_refusals: sum(|round| round.false_refusals),
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another() {
        assert_eq!(order(4, 0, 2), [0, 1, 2, 3]);
        assert_eq!(order(4, 1, 2), [2, 3, 0, 1]);
        let firsts: Vec<usize> = (0..3).map(|round| order(8, round, 3)[0]).collect();
        assert_eq!(firsts, [0, 2, 5]);
        assert_eq!(order(1, 2, 3), [0]);
        assert!(order(0, 0, 0).is_empty());
    }

    #[test]
    fn the_middle_counts_and_wrongs_add_up() {
        let round = |rate: f64, holds: Option<f64>, double_sales: u64| LoadResult {
            clicks_per_second: rate,
            p50: rate,
            p99: rate,
            p999: rate,
            holds_per_second: holds,
            cpu_seconds_per_seat: None,
            refused: 1,
            failed: 0,
            double_grants: 0,
            double_sales,
            false_refusals: 0,
        };
        let rounds = [round(30.0, Some(3.0), 1), round(10.0, None, 0), round(20.0, Some(2.0), 2)];
        let all = together(&rounds).unwrap();
        assert_eq!((all.clicks_per_second, all.holds_per_second), (20.0, Some(2.5)));
        assert_eq!((all.refused, all.double_sales, all.cpu_seconds_per_seat), (3, 3, None));
        assert!(together(&[]).is_none());
    }
}

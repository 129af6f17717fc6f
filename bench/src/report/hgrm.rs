//! The percentile distribution of an `HdrHistogram` as text: what its plotter reads.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Lines for every halving of the distance to 100%.
const TICKS: u32 = 5;

/// Of nanoseconds; the values are milliseconds with as many decimals as there are microseconds in one.
pub fn text(nanos: &Histogram<u64>) -> String {
    let mut text = String::new();
    // A String takes every line.
    let _infallible = table(&mut text, nanos).and_then(|()| foot(&mut text, nanos));
    text
}

fn table(text: &mut String, nanos: &Histogram<u64>) -> std::fmt::Result {
    writeln!(text, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for step in nanos.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (super::millis(step.value_iterated_to()), step.quantile_iterated_to());
        write!(text, "{value:>12.3} {quantile:.12} {total:>10}")?;
        if quantile < 1.0 {
            write!(text, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn foot(text: &mut String, nanos: &Histogram<u64>) -> std::fmt::Result {
    let sub_buckets = (2 * 10u64.pow(u32::from(nanos.sigfig()))).next_power_of_two();
    let (mean, deviation) = (nanos.mean() / 1e6, nanos.stdev() / 1e6);
    writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    writeln!(
        text,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        super::millis(nanos.max()),
        nanos.len()
    )?;
    writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {sub_buckets:>12}]", nanos.buckets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_one_by_hand() {
        let mut nanos = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for (micros, times) in [(100, 11), (200, 6), (400, 3), (1_000, 1)] {
            nanos.record_n(micros * 1_000, times).unwrap();
        }
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)

       0.100 0.000000000000         11           1.00
       0.100 0.100000000000         11           1.11
       0.100 0.200000000000         11           1.25
       0.100 0.300000000000         11           1.43
       0.100 0.400000000000         11           1.67
       0.100 0.500000000000         11           2.00
       0.200 0.550000000000         17           2.22
       0.200 0.600000000000         17           2.50
       0.200 0.650000000000         17           2.86
       0.200 0.700000000000         17           3.33
       0.200 0.750000000000         17           4.00
       0.200 0.775000000000         17           4.44
       0.200 0.800000000000         17           5.00
       0.400 0.825000000000         20           5.71
       0.400 0.850000000000         20           6.67
       0.400 0.875000000000         20           8.00
       0.400 0.887500000000         20           8.89
       0.400 0.900000000000         20          10.00
       0.400 0.912500000000         20          11.43
       0.400 0.925000000000         20          13.33
       0.400 0.937500000000         20          16.00
       0.400 0.943750000000         20          17.78
       0.400 0.950000000000         20          20.00
       1.000 0.956250000000         21          22.86
       1.000 1.000000000000         21
#[Mean    =        0.214, StdDeviation   =        0.203]
#[Max     =        1.000, Total count    =           21]
#[Buckets =           20, SubBuckets     =         2048]
";
        assert_eq!(text(&nanos), expected);
    }

    #[test]
    fn nothing_has_a_head_and_a_foot() {
        let text = text(&crate::recorder::histogram());
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }
}

//! What was measured, beside what it should be.

use super::common::median;

/// A line of the table.
pub struct Row {
    what: String,
    bar: String,
    median: String,
    worst: String,
    is_met: bool,
}

impl Row {
    /// Values of several rounds, of which none may be above the bar.
    pub fn at_most(what: &str, bar: f64, unit: &str, values: &[f64]) -> Self {
        let worst = values.iter().copied().fold(0.0, f64::max);
        // What is counted has no digits behind the point.
        let digits = if unit.is_empty() { 0 } else { 2 };
        let shown = |value: f64| format!("{value:.digits$} {unit}").trim_end().to_owned();
        Self {
            what: what.to_owned(),
            bar: shown(bar),
            median: shown(median(&mut values.to_vec())),
            worst: shown(worst),
            is_met: worst <= bar,
        }
    }
}

pub fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    println!("\n{:width$}{:>12}{:>12}{:>12}   met", "", "at most", "median", "worst");
    for Row { what, bar, median, worst, is_met } in rows {
        let met = if *is_met { "yes" } else { "NO" };
        println!("{what:width$}{bar:>12}{median:>12}{worst:>12}   {met}");
    }
}

//! What a run found: as text, JSON, histograms, and a page with drawings.

mod hgrm;
mod html;
mod machine;
pub mod model;
pub mod numbers;
mod queue;
mod svg;
mod text;

#[cfg(test)]
mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hdrhistogram::Histogram;

use model::{Distribution, Machine, Report, Run, Scenario};

/// Points of a curve per factor of ten towards 100%.
const CURVE_STEPS: i32 = 20;

/// Of nanoseconds, in milliseconds.
pub fn distribution(nanos: &Histogram<u64>) -> Distribution {
    let at = |quantile| millis(nanos.value_at_quantile(quantile));
    Distribution {
        count: nanos.len(),
        mean: nanos.mean() / 1e6,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: millis(nanos.max()),
        curve: curve(nanos),
    }
}

/// Ends where one sample is left: a curve cannot know more than its samples.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn curve(nanos: &Histogram<u64>) -> Vec<(f64, f64)> {
    if nanos.is_empty() {
        return Vec::new();
    }
    let last = 1.0 - 1.0 / nanos.len() as f64;
    let quantiles = (0..).map(|step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(CURVE_STEPS)));
    let quantiles: Vec<f64> = quantiles.take_while(|quantile| *quantile < last).collect();
    let values = nanos.value_at_quantiles(quantiles.iter().copied()).map(millis);
    let points = quantiles.iter().map(|quantile| quantile * 100.0).zip(values);
    points.chain([(last * 100.0, millis(nanos.max()))]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "times far below 2^53 nanoseconds")]
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// What it was measured on.
pub fn machine() -> Machine {
    machine::read()
}

/// For a terminal.
pub fn text(report: &Report) -> String {
    text::print(report)
}

/// `report.json`, `report.html`, one `.hgrm` per operation, and the drawings as `.svg`, for documents.
///
/// # Errors
/// The directory cannot be made or written.
pub fn write(report: &Report, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make {}; choose another place with --out", dir.display()))?;
    let mut files = vec![
        (
            "report.json".to_owned(),
            serde_json::to_string_pretty(report).context("the report as JSON")? + "\n",
        ),
        ("report.html".to_owned(), html::page(report)),
    ];
    files.extend(histograms(report));
    files.extend(svg::files(report));
    let mut written = Vec::new();
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

fn histograms(report: &Report) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (name, scenario) in names(report).into_iter().zip(&report.scenarios) {
        for (number, run) in (1..).zip(&scenario.runs) {
            let run_name =
                if scenario.runs.len() == 1 { name.clone() } else { format!("{name}-run{number}") };
            for operation in &run.operations {
                let file = format!("{run_name}-{}.hgrm", slug(&operation.name));
                files.push((file, hgrm::text(&operation.histogram)));
            }
            files.extend(run.fanout.as_ref().map(|fanout| {
                (format!("{run_name}-click-to-last-viewer.hgrm"), hgrm::text(&fanout.histogram))
            }));
        }
    }
    files
}

/// Of the scenarios, for files: short, and each another.
fn names(report: &Report) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut unique = |scenario: &Scenario| {
        let name = slug(&scenario.name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
        let free = free.unwrap_or(name);
        taken.insert(free.clone());
        free
    };
    report.scenarios.iter().map(&mut unique).collect()
}

/// Lower case letters, digits and dashes: harmless as a part of a file's name.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-").to_lowercase();
    if slug.is_empty() { "run".to_owned() } else { slug }
}

/// `SEAT_TAKEN 1,200, SEAT_HELD 4`, the most frequent first.
fn tally(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let parts: Vec<String> =
        counts.iter().map(|(what, number)| format!("{what} {}", numbers::count(**number))).collect();
    parts.join(", ")
}

/// The repetition in the middle by rate: the one that is drawn.
fn median(scenario: &Scenario) -> Option<&Run> {
    let mut runs: Vec<&Run> = scenario.runs.iter().collect();
    runs.sort_by(|a, b| a.answered_per_second.total_cmp(&b.answered_per_second));
    runs.get(runs.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::histogram;

    #[test]
    fn a_distribution_is_in_milliseconds_and_its_curve_ends_at_the_last_sample() {
        let mut nanos = histogram();
        for millis in 1..=1_000u64 {
            nanos.record(millis * 1_000_000).unwrap();
        }
        let found = distribution(&nanos);
        assert_eq!(found.count, 1_000);
        for (value, expected) in [(found.p50, 500.0), (found.p99, 990.0), (found.max, 1_000.0)] {
            assert!((value / expected - 1.0).abs() < 0.001, "{value} is not {expected}");
        }
        assert_eq!(found.curve[0].0, 0.0);
        let (percentile, last) = found.curve[found.curve.len() - 1];
        assert!((percentile - 99.9).abs() < 1e-9, "{percentile}");
        assert_eq!(last, found.max);
        assert!(found.curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }

    #[test]
    fn nothing_and_one_sample_have_distributions_too() {
        let mut nanos = histogram();
        let nothing = distribution(&nanos);
        assert_eq!((nothing.count, nothing.mean, nothing.max), (0, 0.0, 0.0));
        assert!(nothing.curve.is_empty());
        nanos.record(2_000_000).unwrap();
        let one = distribution(&nanos);
        assert_eq!(one.curve, [(0.0, one.max)]);
    }

    #[test]
    fn names_of_files_are_harmless() {
        assert_eq!(slug("select best"), "select-best");
        assert_eq!(slug("../../etc/<b>"), "etc-b");
        assert_eq!(slug("…"), "run");
    }

    #[test]
    fn everything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let report = example::report();
        let mut written: Vec<String> = write(&report, &dir.path().join("new"))
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        written.sort_unstable();
        assert_eq!(written, example::FILES);
        let json = fs::read_to_string(dir.path().join("new/report.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["version"], model::VERSION);
        assert_eq!(json["scenarios"][0]["runs"][0]["operations"][0]["name"], "look");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = write(&example::nothing(), file.path()).unwrap_err();
        assert!(error.to_string().contains("--out"), "{error}");
    }
}

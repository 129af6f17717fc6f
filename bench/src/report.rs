//! The result as text.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::args::RushArgs;
use crate::audit::Findings;
use crate::buyer::Sale;
use crate::client::Shared;
use crate::recorder::{Op, Recorder};

/// Rows of differences that are printed.
const ROWS_MAX: usize = 20;

pub fn head(args: &RushArgs, option: u64, seat_count: usize, left: usize) -> String {
    let (low, high) = (args.party.start(), args.party.end());
    format!(
        "rush on option {option} of {}: {left} of {seat_count} seats to sell, {} connections, \
         parties of {low} to {high}, seed {}",
        args.url, args.connections, args.seed
    )
}

pub fn body(recorder: &Recorder, sales: &[Sale], shared: &Shared, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let confirmed: Vec<&Sale> = sales.iter().filter(|sale| sale.confirmed).collect();
    let seats: usize = confirmed.iter().map(|sale| sale.seats.len()).sum();
    let clicks = recorder.of(Op::Select).len() + recorder.of(Op::Best).len();
    let holds = sales.len() as u64;
    let mut text = format!(
        "\nsold {seats} seats in {} reservations to {} users in {seconds:.1} s\n\n",
        confirmed.len(),
        recorder.users
    );
    for (name, count) in [("clicks/s", clicks), ("holds/s", holds), ("sales/s", confirmed.len() as u64)] {
        line(&mut text, format_args!("  {name:<12}{:>10.0}", per_second(count, seconds)));
    }
    line(
        &mut text,
        format_args!(
            "\n  {:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "count", "p50", "p90", "p99", "p99.9", "max"
        ),
    );
    for op in Op::ALL {
        let times = recorder.of(op);
        let at = |quantile| millis(times.value_at_quantile(quantile));
        line(
            &mut text,
            format_args!(
                "  {:<12}{:>10}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
                op.name(),
                times.len(),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                millis(times.max())
            ),
        );
    }
    let refusals: Vec<String> =
        recorder.refusals.iter().map(|(code, count)| format!("{code} {count}")).collect();
    if !refusals.is_empty() {
        line(&mut text, format_args!("\n  refused: {}", refusals.join(", ")));
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (lost, busy, replays) =
        (count(&shared.connections_lost), count(&shared.busy), count(&shared.replays));
    if lost + busy + replays > 0 {
        line(
            &mut text,
            format_args!(
                "  asked again: {lost} lost connections, {busy} times busy; {replays} first answers repeated"
            ),
        );
    }
    text
}

pub fn audit(findings: &Findings) -> String {
    let mut text = format!(
        "\naudit: {} of {} seats CONFIRMED, {} of them before; {} acknowledged reservations read again{}\n",
        findings.confirmed,
        findings.seat_count,
        findings.confirmed_before,
        findings.reservations,
        if findings.stopped { "; the run was stopped early" } else { "" }
    );
    if findings.is_clean() {
        text.push_str("audit: no seat sold twice, nothing forgotten\n");
    }
    for difference in findings.differences.iter().take(ROWS_MAX) {
        line(&mut text, format_args!("audit: DIFFERENCE: {difference}"));
    }
    if let Some(more) = findings.differences.len().checked_sub(ROWS_MAX + 1) {
        line(&mut text, format_args!("audit: and {} more", more + 1));
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a String takes every line");
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

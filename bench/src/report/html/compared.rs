//! Capacity and comparison on the page.

use super::super::model::{Bar, Capacity, Comparison, Contender, Law, Load, LoadResult};
use super::super::numbers::{NONE, count, counted, fixed, millis, rate, significant};
use super::super::svg::{by_rate, by_users, escape, panel};
use super::parts::{Row, block, facts, figure, row, table, words};

pub fn capacity(capacity: &Capacity) -> String {
    let (objective, conclusion) = (escape(&capacity.objective), escape(&capacity.conclusion));
    let mut body = format!("<h2>Capacity</h2>\n<p>Objective: {objective}. {conclusion}</p>\n");
    let caption = "Dots: measured. The line is the Universal Scalability Law through them.";
    let numbers = closed(capacity) + &capacity.law.as_ref().map(law).unwrap_or_default();
    body += &figure("Throughput by users at once", caption, |frame| by_users(capacity, frame), &numbers);
    let caption = "Filled: the objective was kept. Hollow: it was broken.";
    body += &figure("Latency by offered rate", caption, |frame| by_rate(capacity, frame), &open(capacity));
    body
}

fn closed(capacity: &Capacity) -> String {
    let rows: Vec<Row> = capacity
        .closed
        .iter()
        .map(|point| {
            row([count(point.users.into()), rate(point.per_second), millis(point.p50), millis(point.p99)])
        })
        .collect();
    table("Closed loop", &["users", "per s", "p50 ms", "p99 ms"], &rows)
}

fn law(law: &Law) -> String {
    let (users, rate_there) = match law.peak_users {
        Some(users) => (fixed(users, 0), rate(law.peak_per_second)),
        None => ("only rises".to_owned(), NONE.to_owned()),
    };
    let rows = [
        ("λ, one user’s rate", significant(law.lambda, 3)),
        ("σ, contention", fixed(law.sigma, 4)),
        ("κ, coherency", fixed(law.kappa, 6)),
        ("R²", fixed(law.r_squared, 3)),
        ("peak, users", users),
        ("peak, per s", rate_there),
    ];
    table("The fitted law", &["", ""], &rows.map(|(what, value)| row([what.to_owned(), value])))
}

fn open(capacity: &Capacity) -> String {
    let mut points: Vec<_> = capacity.open.iter().collect();
    points.sort_by(|one, other| one.offered.total_cmp(&other.offered));
    let rows: Vec<Row> = points
        .into_iter()
        .map(|point| {
            let word = match (point.generator_limited, point.kept) {
                (true, _) => "generator-limited",
                (false, true) => "✓ kept",
                (false, false) => "✗ broken",
            };
            let cells = [rate(point.offered), rate(point.achieved), millis(point.p50), millis(point.p99)];
            ("", [cells.to_vec(), vec![count(point.failed), word.to_owned()]].concat())
        })
        .collect();
    table("Open loop", &["offered/s", "achieved/s", "p50 ms", "p99 ms", "failed", "objective"], &rows)
}

pub fn comparison(comparison: &Comparison) -> String {
    let Comparison { seats, connections, rounds, .. } = *comparison;
    let mut body = format!(
        "<h2>Ways of selling seats, side by side</h2>\n\
         <p class=\"quiet\">{}, {connections} connections, medians of {}, the same JSON front for everybody.</p>\n",
        counted(seats.into(), "seat"),
        counted(rounds.into(), "round")
    );
    body += &facts(comparison.facts.iter().map(|(what, value)| (what.as_str(), value.as_str())));
    let panels: String = comparison
        .loads
        .iter()
        .map(|load| format!("<div>{}</div>\n", panel(comparison, load).inline("panel")))
        .collect();
    if !panels.is_empty() {
        body += &format!("<figure>\n<div class=\"panels\">\n{panels}</div>\n</figure>\n");
    }
    body += &bars(&comparison.bars);
    body += &ideas(&comparison.contenders);
    body += &block(&results(comparison));
    body
}

fn bars(bars: &[Bar]) -> String {
    let rows: Vec<Row> = bars
        .iter()
        .map(|bar| {
            let word = if bar.met { "✓ met" } else { "✗ missed" };
            row([word.to_owned(), bar.what.clone(), bar.bar.clone(), bar.measured.clone()])
        })
        .collect();
    block(&words("Promises", &["", "what", "promised", "measured"], &rows))
}

fn ideas(contenders: &[Contender]) -> String {
    let rows: Vec<Row> =
        contenders.iter().map(|contender| row([contender.name.clone(), contender.idea.clone()])).collect();
    block(&words("How they sell", &["", ""], &rows))
}

/// All loads in one table, so that their columns stand under each other.
fn results(comparison: &Comparison) -> String {
    let head = ["", "load", "clicks/s", "p50 ms", "p99 ms", "p99.9 ms", "holds/s", "CPU ms/seat"];
    let wrong = ["refused", "failed", "double grants", "double sales", "false refusals"];
    let of_load = |load: &Load| -> Vec<Row> {
        let pairs = comparison.contenders.iter().zip(&load.results).enumerate();
        pairs
            .map(|(number, (contender, found))| result(load, number == 0, contender, found.as_ref()))
            .collect()
    };
    let rows: Vec<Row> = comparison.loads.iter().flat_map(of_load).collect();
    table("All numbers", &[&head[..], &wrong].concat(), &rows)
}

fn result(load: &Load, is_first: bool, contender: &Contender, found: Option<&LoadResult>) -> Row {
    let class = match (contender.name.starts_with("hotseat"), is_first) {
        (true, _) => "ours",
        (false, true) => "top",
        (false, false) => "",
    };
    let mut cells = vec![contender.name.clone(), load.name.clone()];
    match found {
        None => cells.extend(std::iter::once("cannot".to_owned()).chain((0..10).map(|_| NONE.to_owned()))),
        Some(found) => {
            cells.push(rate(found.clicks_per_second));
            cells.extend([found.p50, found.p99, found.p999].map(millis));
            cells.push(found.holds_per_second.map_or(NONE.to_owned(), rate));
            cells.push(found.cpu_seconds_per_seat.map_or(NONE.to_owned(), |cpu| millis(cpu * 1e3)));
            let LoadResult { refused, failed, double_grants, double_sales, false_refusals, .. } = *found;
            cells.extend([refused, failed, double_grants, double_sales, false_refusals].map(count));
        }
    }
    (class, cells)
}

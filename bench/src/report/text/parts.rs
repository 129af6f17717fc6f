//! The sections of the report for a terminal.

use super::super::model::{
    Audit, Capacity, Comparison, Distribution, Fanout, LoadResult, Operation, Queue, Run, Sale, Scenario,
};
use super::super::numbers::{NONE, bytes, count, counted, fixed, millis, rate, seconds, significant};
use super::super::queue::lines;
use super::super::tally;
use super::table::{left, numbers, plain, right};

type Rows = Vec<Vec<String>>;

/// Failed checks say so many details; the JSON has them all.
const DETAILS_MAX: usize = 5;

pub fn scenario(scenario: &Scenario) -> String {
    let target = &scenario.target;
    let mut text = format!("{} on {}, {}\n", plain(&scenario.name), plain(&target.name), plain(&target.url));
    let settings = scenario.settings.iter().map(|(what, value)| vec![what.clone(), value.clone()]);
    let facts = target.facts.iter().map(|(what, value)| vec![what.clone(), value.clone()]);
    text += &left(2, &settings.chain(facts).collect::<Rows>());
    for (number, one) in (1..).zip(&scenario.runs) {
        text += &format!("\n  run {number} of {}, {} after ", scenario.runs.len(), seconds(one.seconds));
        text += &format!("{} of warm-up\n", seconds(one.warm_up_seconds));
        text += &run(one);
    }
    text
}

fn run(run: &Run) -> String {
    let mut rows = rates(run);
    rows.extend(run.sale.as_ref().map(sale));
    let mut text = left(4, &rows);
    if !run.operations.is_empty() {
        text += "\n";
        text += &operations(&run.operations);
    }
    text += &run.fanout.as_ref().map(fanout).unwrap_or_default();
    text += &run.queue.as_ref().map(queue).unwrap_or_default();
    text += "\n";
    text += &audit(&run.audit);
    text
}

fn rates(run: &Run) -> Rows {
    let row = |what: &str, value: String, more: String| vec![what.to_owned(), value, more];
    let generator = &run.generator;
    let offered = match (run.offered_per_second, run.offered) {
        (Some(per_second), Some(arrivals)) => {
            row("offered", format!("{}/s", rate(per_second)), counted(arrivals, "arrival"))
        }
        _ => row("offered", NONE.to_owned(), "closed loop: as many as were answered".to_owned()),
    };
    let late = format!(
        "later than 1 ms; p99 {} ms, max {} ms",
        millis(generator.lateness.p99),
        millis(generator.lateness.max)
    );
    let mut rows = vec![
        offered,
        row("answered", format!("{}/s", rate(run.answered_per_second)), counted(run.answered, "request")),
        row("dropped", count(run.dropped), String::new()),
        row("failed", count(run.failed), tally(&run.failures)),
        row("refused", count(run.refusals.values().sum()), tally(&run.refusals)),
        row("sent late", count(generator.late_sends), late),
    ];
    rows.extend(generator.schedule_error.as_ref().map(|error| {
        let more = format!("p99, max {} ms: the generator's own", millis(error.max));
        row("schedule error", format!("{} ms", millis(error.p99)), more)
    }));
    rows
}

fn sale(sale: &Sale) -> Vec<String> {
    let what = if sale.sold_out { "sold out" } else { "sold" };
    let more = format!(
        "in {} to {}, in {}; {} given up on purpose",
        counted(sale.reservations, "reservation"),
        counted(sale.users, "user"),
        seconds(sale.seconds),
        count(sale.abandoned)
    );
    vec![what.to_owned(), counted(sale.seats, "seat"), more]
}

fn operations(operations: &[Operation]) -> String {
    let head = ["ms", "count", "granted", "refused", "failed", "p50", "p90", "p99", "p99.9", "max"];
    let mut rows: Rows = vec![head.map(str::to_owned).to_vec()];
    for operation in operations {
        let Operation { granted, refused, failed, .. } = *operation;
        let counts = [granted + refused + failed, granted, refused, failed].map(count);
        rows.push([vec![operation.name.clone()], counts.to_vec(), percentiles(&operation.latency)].concat());
    }
    numbers(4, &rows)
}

fn percentiles(times: &Distribution) -> Vec<String> {
    if times.count == 0 {
        return vec![NONE.to_owned(); 5];
    }
    [times.p50, times.p90, times.p99, times.p999, times.max].map(millis).to_vec()
}

fn fanout(fanout: &Fanout) -> String {
    let mut text = format!(
        "\n    {} saw {} in {} frames, {}; {}, {}\n",
        counted(fanout.viewers, "viewer"),
        counted(fanout.changes, "change"),
        count(fanout.frames),
        bytes(fanout.bytes),
        counted(fanout.gaps, "gap"),
        counted(fanout.snapshots, "snapshot"),
    );
    let head = ["ms", "count", "p50", "p90", "p99", "p99.9", "max"];
    let mut rows: Rows = vec![head.map(str::to_owned).to_vec()];
    let viewers = [("first", &fanout.click_to_first_viewer), ("last", &fanout.click_to_last_viewer)];
    for (which, times) in viewers {
        let name = vec![format!("click to {which} viewer"), count(times.count)];
        rows.push([name, percentiles(times)].concat());
    }
    text += &numbers(4, &rows);
    text
}

fn queue(queue: &Queue) -> String {
    format!("\n{}", left(4, &lines(queue).into_iter().map(|line| line.to_vec()).collect::<Rows>()))
}

fn audit(audit: &Audit) -> String {
    let mut text = String::new();
    for check in &audit.checks {
        let word = if check.passed { "✓ passed" } else { "✗ FAILED" };
        text += &format!("    {word}: {}\n", plain(&check.what));
        for detail in check.details.iter().take(DETAILS_MAX) {
            text += &format!("        {}\n", plain(detail));
        }
        if let Some(more @ 1..) = check.details.len().checked_sub(DETAILS_MAX) {
            text += &format!("        and {more} more\n");
        }
    }
    text += &format!(
        "    {}, {} of them false; {}, {}\n",
        counted(audit.refusals, "refusal"),
        count(audit.false_refusals),
        counted(audit.double_grants, "double grant"),
        counted(audit.double_sales, "double sale"),
    );
    text
}

pub fn capacity(capacity: &Capacity) -> String {
    let mut text = format!("capacity, objective: {}\n", plain(&capacity.objective));
    if !capacity.closed.is_empty() {
        let mut rows: Rows = vec![["users", "per s", "p50", "p99"].map(str::to_owned).to_vec()];
        let point = |users: u32, figures: [String; 3]| [vec![count(users.into())], figures.to_vec()].concat();
        rows.extend(
            capacity.closed.iter().map(|found| {
                point(found.users, [rate(found.per_second), millis(found.p50), millis(found.p99)])
            }),
        );
        text += &format!("\n  closed loop, ms\n{}", right(4, &rows));
    }
    if let Some(law) = &capacity.law {
        let at = law.peak_users.map_or("only rises".to_owned(), |users| {
            format!("peaks at {}/s with {} users", rate(law.peak_per_second), fixed(users, 0))
        });
        text += &format!(
            "    law: λ {}, σ {}, κ {}, R² {}; {at}\n",
            significant(law.lambda, 3),
            fixed(law.sigma, 4),
            fixed(law.kappa, 6),
            fixed(law.r_squared, 3),
        );
    }
    if !capacity.open.is_empty() {
        let head = ["offered/s", "achieved/s", "p50", "p99", "failed", "objective"];
        let mut rows: Rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(capacity.open.iter().map(|point| {
            let kept = match (point.generator_limited, point.kept) {
                (true, _) => "generator-limited",
                (false, true) => "kept",
                (false, false) => "broken",
            };
            let rates = [rate(point.offered), rate(point.achieved), millis(point.p50), millis(point.p99)];
            [rates.to_vec(), vec![count(point.failed), kept.to_owned()]].concat()
        }));
        text += &format!("\n  open loop, ms\n{}", right(4, &rows));
    }
    text += &format!("\n  {}\n", plain(&capacity.conclusion));
    text
}

pub fn comparison(comparison: &Comparison) -> String {
    let Comparison { seats, connections, rounds, .. } = *comparison;
    let mut text = format!(
        "comparison, {}, {connections} connections, medians of {rounds} rounds\n",
        counted(seats.into(), "seat")
    );
    let facts = comparison.facts.iter().map(|(what, value)| vec![what.clone(), value.clone()]);
    text += &left(2, &facts.collect::<Rows>());
    for load in &comparison.loads {
        text += &format!("\n  {}: {}\n", plain(&load.name), plain(&load.what));
        let head = ["ms", "clicks/s", "p50", "p99", "p99.9", "holds/s", "cpu/seat", "refused", "failed"];
        let wrong = ["double grants", "double sales", "false refusals"];
        let mut rows: Rows = vec![head.iter().chain(&wrong).map(|cell| (*cell).to_owned()).collect()];
        for (contender, result) in comparison.contenders.iter().zip(&load.results) {
            let cells = result.as_ref().map_or_else(|| vec!["cannot".to_owned()], result_cells);
            rows.push([vec![contender.name.clone()], cells].concat());
        }
        text += &numbers(4, &rows);
    }
    if !comparison.bars.is_empty() {
        let mut rows: Rows = vec![["", "bar", "measured"].map(str::to_owned).to_vec()];
        rows.extend(comparison.bars.iter().map(|bar| {
            let word = if bar.met { "met" } else { "missed" };
            vec![word.to_owned(), bar.bar.clone(), bar.measured.clone(), bar.what.clone()]
        }));
        text += &format!("\n{}", left(2, &rows));
    }
    text
}

fn result_cells(found: &LoadResult) -> Vec<String> {
    let cpu = found.cpu_seconds_per_seat.map_or(NONE.to_owned(), |cpu| millis(cpu * 1e3));
    let mut cells = vec![rate(found.clicks_per_second)];
    cells.extend([found.p50, found.p99, found.p999].map(millis));
    cells.extend([found.holds_per_second.map_or(NONE.to_owned(), rate), cpu]);
    let counts = [found.refused, found.failed, found.double_grants, found.double_sales, found.false_refusals];
    cells.extend(counts.map(count));
    cells
}

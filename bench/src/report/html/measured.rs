//! A scenario on the page: what was asked for, what came of it, and the audit.

use super::super::model::{Distribution, Fanout, Queue, Run, Scenario};
use super::super::numbers::{NONE, bytes, count, counted, fixed, millis, rate, seconds};
use super::super::queue::lines;
use super::super::svg::{at_gate, busiest, escape, fanout as draw_fanout, latency, over_time};
use super::super::{median, tally};
use super::parts::{Row, audit, facts, figure, row, table, words};

pub fn scenario(scenario: &Scenario) -> String {
    let target = &scenario.target;
    let url = [("target", target.url.as_str())];
    let settings = scenario.settings.iter().map(|(what, value)| (what.as_str(), value.as_str()));
    let found = target.facts.iter().map(|(what, value)| (what.as_str(), value.as_str()));
    let mut body = format!("<h2>{} on {}</h2>\n", escape(&scenario.name), escape(&target.name));
    body += &loops(scenario);
    body += &facts(url.into_iter().chain(settings).chain(found));
    if let Some(run) = median(scenario) {
        let numbers = percentiles(run) + &outcomes(run);
        let caption = "From the intended instant to the answer. Dashed: the service time of the busiest operation, \
                       from sending to the answer; where the lines part, requests waited to be sent. Pale: the other repetitions.";
        body += &figure("Latency by percentile", caption, |frame| latency(scenario, frame), &numbers);
        let caption = "Shaded: warm-up, not counted. A hollow dot: requests failed.";
        body += &figure(
            "Rate and latency over time",
            caption,
            |frame| over_time(scenario, frame),
            &rates(scenario),
        );
    }
    if let Some(fanout) = median(scenario).and_then(|run| run.fanout.as_ref()) {
        let caption = "From the instant at which a click was due to the viewers that saw the map change.";
        body += &figure(
            "From a click to its viewers",
            caption,
            |frame| draw_fanout(scenario, frame),
            &viewers(fanout),
        );
    }
    if let Some(queue) = median(scenario).and_then(|run| run.queue.as_ref()) {
        let caption = "Above: who waits, by the gate's counter. Below: who is let in per second, by that counter and as users \
                       learned of it; those who ask do so when they were told to.";
        body += &figure("At the gate", caption, |frame| at_gate(scenario, frame), &gate(queue));
    }
    body + &outcome(scenario)
}

fn gate(queue: &Queue) -> String {
    let rows: Vec<Row> = lines(queue).into_iter().map(row).collect();
    words("At the gate", &["", "", ""], &rows)
}

fn loops(scenario: &Scenario) -> String {
    let Some(run) = median(scenario) else {
        return "<p class=\"quiet\">Nothing was measured.</p>\n".to_owned();
    };
    let kind = match run.offered_per_second {
        Some(offered) => format!("Open loop: {} arrivals per second offered", rate(offered)),
        None => "Closed loop: everybody goes on as soon as the last answer is there".to_owned(),
    };
    let place = scenario.runs.iter().position(|other| std::ptr::eq(other, run)).unwrap_or(0);
    let drawn = format!("; shown is run {}, the middle one by rate", place + 1);
    let drawn = if scenario.runs.len() > 1 { drawn } else { String::new() };
    format!(
        "<p class=\"quiet\">{kind}, {} per second answered. {} of {} after {} of warm-up{drawn}.</p>\n",
        rate(run.answered_per_second),
        counted(scenario.runs.len() as u64, "repetition"),
        seconds(run.seconds),
        seconds(run.warm_up_seconds)
    )
}

fn percentiles(run: &Run) -> String {
    let mut rows = Vec::new();
    let busiest = busiest(run).map(|operation| operation.name.as_str());
    for operation in &run.operations {
        let is_busiest = busiest == Some(&operation.name);
        rows.push(times(&operation.name, if is_busiest { "ours" } else { "" }, &operation.latency));
        rows.extend(is_busiest.then(|| times("service time", "", &operation.service)));
    }
    table("Latency, ms", &["", "p50", "p90", "p99", "p99.9", "max"], &rows)
}

fn times(name: &str, class: &'static str, times: &Distribution) -> Row {
    let figures = [times.p50, times.p90, times.p99, times.p999, times.max];
    let figures = figures.map(|value| if times.count == 0 { NONE.to_owned() } else { millis(value) });
    (class, [vec![name.to_owned()], figures.to_vec()].concat())
}

fn outcomes(run: &Run) -> String {
    let rows: Vec<Row> = run
        .operations
        .iter()
        .map(|operation| {
            let [granted, refused, failed] = [operation.granted, operation.refused, operation.failed];
            let all = count(granted + refused + failed);
            row([operation.name.clone(), all, count(granted), count(refused), count(failed)])
        })
        .collect();
    table("Requests", &["", "all", "granted", "refused", "failed"], &rows)
}

/// One column per repetition.
fn rates(scenario: &Scenario) -> String {
    let runs = &scenario.runs;
    let names: Vec<String> = (1..=runs.len()).map(|number| format!("run {number}")).collect();
    let head: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    let each = |name: &str, value: &dyn Fn(&Run) -> String| -> Row {
        ("", std::iter::once(name.to_owned()).chain(runs.iter().map(value)).collect())
    };
    let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    let schedule_error = |run: &Run, which: fn(&Distribution) -> f64| {
        or_none(run.generator.schedule_error.as_ref().map(|error| millis(which(error))))
    };
    let rows = [
        each("measured, s", &|run| fixed(run.seconds, 1)),
        each("warm-up, s", &|run| fixed(run.warm_up_seconds, 1)),
        each("offered per s", &|run| or_none(run.offered_per_second.map(rate))),
        each("answered per s", &|run| rate(run.answered_per_second)),
        each("arrivals offered", &|run| or_none(run.offered.map(count))),
        each("requests answered", &|run| count(run.answered)),
        each("dropped", &|run| count(run.dropped)),
        each("failed", &|run| count(run.failed)),
        each("sent late (> 1 ms)", &|run| count(run.generator.late_sends)),
        each("lateness p99, ms", &|run| millis(run.generator.lateness.p99)),
        each("schedule error p99, ms", &|run| schedule_error(run, |error| error.p99)),
        each("schedule error max, ms", &|run| schedule_error(run, |error| error.max)),
    ];
    table("By repetition", &head, &rows)
}

fn viewers(fanout: &Fanout) -> String {
    let first = times("first viewer", "", &fanout.click_to_first_viewer);
    let last = times("last viewer", "ours", &fanout.click_to_last_viewer);
    let times = table("Click to viewer, ms", &["", "p50", "p90", "p99", "p99.9", "max"], &[first, last]);
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    let per_change = fanout.bytes as f64 / (fanout.changes.max(1) as f64 * fanout.viewers.max(1) as f64);
    let counts = [
        ("viewers", count(fanout.viewers)),
        ("changes", count(fanout.changes)),
        ("frames", count(fanout.frames)),
        ("bytes", bytes(fanout.bytes)),
        ("bytes per change and viewer", fixed(per_change, 1)),
        ("gaps", count(fanout.gaps)),
        ("snapshots in the middle", count(fanout.snapshots)),
    ];
    let rows = counts.map(|(what, value)| row([what.to_owned(), value]));
    times + &table("What was sent", &["", ""], &rows)
}

/// What was sold, why some were refused, and the audits.
fn outcome(scenario: &Scenario) -> String {
    let mut blocks = String::new();
    for (number, run) in (1..).zip(&scenario.runs) {
        let of = if scenario.runs.len() == 1 { String::new() } else { format!(", run {number}") };
        if let Some(sale) = &run.sale {
            let what = if sale.sold_out { "Sold out" } else { "Sold" };
            let text = format!(
                "{} in {} to {}, in {}. {} given up on purpose.",
                counted(sale.seats, "seat"),
                counted(sale.reservations, "reservation"),
                counted(sale.users, "user"),
                seconds(sale.seconds),
                counted(sale.abandoned, "purchase")
            );
            blocks += &format!("<div>\n<h3>{what}{of}</h3>\n<p>{text}</p>\n{}</div>\n", reasons(run));
        } else if run.refusals.len() + run.failures.len() > 0 {
            blocks += &format!("<div>\n<h3>Refusals and failures{of}</h3>\n{}</div>\n", reasons(run));
        }
        blocks += &audit(&format!("Audit{of}"), &run.audit);
    }
    if blocks.is_empty() { blocks } else { format!("<div class=\"blocks\">\n{blocks}</div>\n") }
}

fn reasons(run: &Run) -> String {
    let reasons = [("Refused", &run.refusals), ("Failed", &run.failures)];
    let some = reasons.into_iter().filter(|(_, counts)| !counts.is_empty());
    some.map(|(what, counts)| format!("<p>{what}: {}.</p>\n", escape(&tally(counts)))).collect()
}

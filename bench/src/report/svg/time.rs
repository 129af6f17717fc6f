//! The rate and the latency over the time of a run, one above the other: a stall is a valley and a peak.

use super::super::median;
use super::super::model::{Moment, Scenario};
use super::super::numbers::{millis, rate};
use super::Frame;
use super::axis::Axis;
use super::drawing::{Anchor, Drawing};
use super::plot::{Line, Margins, Plot};

/// Of the height; the rest is latency.
const RATE_PART: f64 = 0.46;

pub fn over_time(scenario: &Scenario, Frame { width, height }: Frame) -> Option<Drawing> {
    let moments = median(scenario)?.timeline.as_slice();
    let last = moments.last()?;
    let whole = Frame { width, height: height * 1.3 };
    let title = format!("{} on {}: rate and latency over time", scenario.name, scenario.target.name);
    let mut drawing = Drawing::new(title, about(moments), whole.width, whole.height);
    let (rates, latencies) = (rates(moments), latencies(moments));
    let names = rates.iter().chain(&latencies).map(|line| line.name.as_str());
    let margins = Margins::for_names(names);
    let (bottom, top) = margins.up(whole.height);
    let middle = top + (bottom - top) * RATE_PART;
    let highest = values(&rates).fold(0.0, f64::max);
    let rate_axis = Axis::rounded(highest, (middle - 22.0, top));
    let time_axis = Axis::log(values(&latencies), (bottom, middle + 22.0));
    let across = margins.beside(&rate_axis).beside(&time_axis).across(whole.width);
    let x = Axis::linear(last.at_seconds + last.seconds, across);
    let above = Plot { x: x.clone(), y: rate_axis };
    let below = Plot { x, y: time_axis };
    for plot in [&above, &below] {
        shade(&mut drawing, plot, moments);
    }
    above.grid(&mut drawing, &[], "", "per second");
    below.grid(&mut drawing, &below.x.ticks(), "seconds", "ms, logarithmic");
    if moments.iter().any(|moment| moment.warm_up) {
        drawing.text("", (across.0, middle - 7.0), Anchor::Start, "warm-up");
    }
    above.lines(&mut drawing, &rates);
    below.lines(&mut drawing, &latencies);
    failures(&mut drawing, &above, moments);
    Some(drawing)
}

fn about(moments: &[Moment]) -> String {
    let measured = || moments.iter().filter(|moment| !moment.warm_up);
    let lowest = measured().map(|moment| moment.answered).fold(f64::INFINITY, f64::min);
    let highest = measured().map(|moment| moment.answered).fold(0.0, f64::max);
    let slowest = measured().map(|moment| moment.max).fold(0.0, f64::max);
    let failed: u64 = measured().map(|moment| moment.failed).sum();
    format!(
        "Between {} and {} requests were answered per second, {failed} failed, and the slowest answer took {} ms.",
        rate(lowest),
        rate(highest),
        millis(slowest)
    )
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).filter(|value| value.is_finite())
}

/// A moment's value stands at its middle.
fn points(moments: &[Moment], value: impl Fn(&Moment) -> Option<f64>) -> Vec<(f64, f64)> {
    let middle = |moment: &Moment| moment.at_seconds + moment.seconds / 2.0;
    moments.iter().filter_map(|moment| Some((middle(moment), value(moment)?))).collect()
}

fn rates(moments: &[Moment]) -> Vec<Line> {
    let line =
        |class, name_class, name: &str, points| Line { class, name_class, name: name.to_owned(), points };
    let offered = points(moments, |moment| moment.offered);
    let answered = points(moments, |moment| Some(moment.answered));
    vec![line("dash", "", "offered", offered), line("main", "a", "answered", answered)]
}

/// A moment without an answer has no latency.
fn latencies(moments: &[Moment]) -> Vec<Line> {
    let line = |class, name_class, name: &str, value: fn(&Moment) -> f64| {
        let points = points(moments, |moment| Some(value(moment)).filter(|value| *value > 0.0));
        Line { class, name_class, name: name.to_owned(), points }
    };
    vec![
        line("thin", "", "max", |moment| moment.max),
        line("", "b", "p99", |moment| moment.p99),
        line("main", "a", "p50", |moment| moment.p50),
    ]
}

fn shade(drawing: &mut Drawing, plot: &Plot, moments: &[Moment]) {
    let warm_up = moments.iter().filter(|moment| moment.warm_up);
    let Some(end) = warm_up.map(|moment| moment.at_seconds + moment.seconds).reduce(f64::max) else { return };
    let ((left, _), (bottom, top)) = (plot.x.pixels(), plot.y.pixels());
    let right = plot.x.at(end);
    drawing.rect("shade", (left, top), right - left, bottom - top);
}

fn failures(drawing: &mut Drawing, plot: &Plot, moments: &[Moment]) {
    let (bottom, _) = plot.y.pixels();
    for moment in moments.iter().filter(|moment| moment.failed > 0) {
        let x = plot.x.at(moment.at_seconds + moment.seconds / 2.0);
        drawing.dot("hole", (x, bottom), &format!("{} failed", moment.failed));
    }
}

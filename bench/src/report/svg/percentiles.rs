//! Latency by percentile, on an axis that gives every nine the same room: where averages hide nothing.

use super::super::median;
use super::super::model::{Distribution, Operation, Run, Scenario};
use super::super::numbers::millis;
use super::Frame;
use super::axis::Axis;
use super::drawing::Drawing;
use super::plot::{Line, Margins, Plot};

/// One line per operation; of the busiest one also its service time, and the other repetitions.
pub fn latency(scenario: &Scenario, frame: Frame) -> Option<Drawing> {
    let run = median(scenario)?;
    let main = busiest(run)?;
    let others = run.operations.iter().filter(|other| other.name != main.name && other.latency.count > 0);
    let mut lines: Vec<Line> =
        others.map(|other| line("thin", "", other.name.clone(), &other.latency)).collect();
    for repetition in scenario.runs.iter().filter(|other| !std::ptr::eq(*other, run)) {
        let same = repetition.operations.iter().find(|other| other.name == main.name);
        lines.extend(same.map(|same| line("ghost", "", String::new(), &same.latency)));
    }
    lines.push(line("main dash thin", "a", "service time".to_owned(), &main.service));
    lines.push(line("main", "a", main.name.clone(), &main.latency));
    let title = format!("{} on {}: latency by percentile", scenario.name, scenario.target.name);
    let about = run.operations.iter().filter(|operation| operation.latency.count > 0);
    let about: Vec<String> = about.map(|found| sentence(&found.name, &found.latency)).collect();
    Some(draw(title, &about.join(" "), lines, Some(&main.latency), frame))
}

/// From a click to its first and its last viewer.
pub fn fanout(scenario: &Scenario, frame: Frame) -> Option<Drawing> {
    let fanout = median(scenario)?.fanout.as_ref()?;
    let (first, last) = (&fanout.click_to_first_viewer, &fanout.click_to_last_viewer);
    if last.count == 0 {
        return None;
    }
    let lines = vec![
        line("", "b", "first viewer".to_owned(), first),
        line("main", "a", "last viewer".to_owned(), last),
    ];
    let title = format!("{} on {}: from a click to its viewers", scenario.name, scenario.target.name);
    let about = format!("{} {}", sentence("first viewer", first), sentence("last viewer", last));
    Some(draw(title, &about, lines, Some(last), frame))
}

pub fn busiest(run: &Run) -> Option<&Operation> {
    let operations = run.operations.iter().filter(|operation| operation.latency.count > 0);
    operations.max_by_key(|operation| operation.latency.count)
}

fn sentence(name: &str, times: &Distribution) -> String {
    format!(
        "{name}: p50 {} ms, p99 {} ms, p99.9 {} ms, max {} ms.",
        millis(times.p50),
        millis(times.p99),
        millis(times.p999),
        millis(times.max)
    )
}

fn line(class: &'static str, name_class: &'static str, name: String, times: &Distribution) -> Line {
    let points = times.curve.iter().map(|(percentile, millis)| (nines(*percentile), *millis)).collect();
    Line { class, name_class, name, points }
}

/// 1 at 90%, 2 at 99%, 3 at 99.9%.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

fn draw(
    title: String,
    about: &str,
    lines: Vec<Line>,
    dots: Option<&Distribution>,
    Frame { width, height }: Frame,
) -> Drawing {
    let mut drawing = Drawing::new(title, about.to_owned(), width, height);
    let margins = Margins::for_names(lines.iter().map(|line| line.name.as_str()));
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|(nines, _)| *nines).fold(1.0, f64::max);
    let y = Axis::log(points().map(|(_, millis)| *millis), margins.up(height));
    let plot = Plot { x: Axis::linear(last, margins.beside(&y).across(width)), y };
    plot.grid(&mut drawing, &percentile_ticks(last), "percentile", "ms, logarithmic");
    plot.lines(&mut drawing, &lines);
    for times in dots.into_iter().filter(|times| times.count > 0) {
        let places = [(50.0, times.p50), (90.0, times.p90), (99.0, times.p99), (99.9, times.p999)];
        for (percentile, value) in places.into_iter().filter(|(percentile, _)| nines(*percentile) <= last) {
            let at = (plot.x.at(nines(percentile)), plot.y.at(value));
            drawing.dot("dot", at, &format!("p{percentile}: {} ms", millis(value)));
        }
    }
    drawing
}

/// 0, 50%, and every nine.
fn percentile_ticks(last: f64) -> Vec<(f64, String)> {
    let names = ["0", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%", "99.99999%"];
    let places = [0.0, nines(50.0)].into_iter().chain((1..).map(f64::from));
    let ticks = places.zip(names).take_while(|(nines, _)| *nines <= last + 1e-9);
    ticks.map(|(nines, name)| (nines, name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nine_has_the_same_room() {
        for (percentile, expected) in [(0.0, 0.0), (90.0, 1.0), (99.0, 2.0), (99.9, 3.0), (100.0, 9.0)] {
            assert!((nines(percentile) - expected).abs() < 1e-9, "{percentile}");
        }
        let labels = |last| percentile_ticks(last).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(1.0), ["0", "50%", "90%"]);
        assert_eq!(labels(3.7), ["0", "50%", "90%", "99%", "99.9%"]);
    }
}

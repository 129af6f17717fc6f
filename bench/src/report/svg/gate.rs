//! A gate over the time of a run: who waits, and below who is let in.

use super::super::median;
use super::super::model::{GateSecond, Queue, Scenario};
use super::super::numbers::{count, rate};
use super::Frame;
use super::axis::Axis;
use super::drawing::Drawing;
use super::plot::{Line, Margins, Plot};

/// Of the height; the rest is who is let in.
const WAITING_PART: f64 = 0.5;

pub fn at_gate(scenario: &Scenario, Frame { width, height }: Frame) -> Option<Drawing> {
    let queue = median(scenario)?.queue.as_ref()?;
    let last = queue.seconds.last()?;
    let whole = Frame { width, height: height * 1.3 };
    let title = format!("{} on {}: the gate over time", scenario.name, scenario.target.name);
    let mut drawing = Drawing::new(title, about(queue), whole.width, whole.height);
    let (waiting, admitted) = (waiting(queue), admitted(queue));
    let margins = Margins::for_names(waiting.iter().chain(&admitted).map(|line| line.name.as_str()));
    let (bottom, top) = margins.up(whole.height);
    let middle = top + (bottom - top) * WAITING_PART;
    let waiting_axis = Axis::rounded(highest(&waiting), (middle - 22.0, top));
    let admitted_axis = Axis::rounded(highest(&admitted), (bottom, middle + 22.0));
    let across = margins.beside(&waiting_axis).beside(&admitted_axis).across(whole.width);
    let x = Axis::linear(number(last.at + 1), across);
    let above = Plot { x: x.clone(), y: waiting_axis };
    let below = Plot { x, y: admitted_axis };
    above.grid(&mut drawing, &[], "", "people");
    below.grid(&mut drawing, &below.x.ticks(), "seconds", "let in per second");
    above.lines(&mut drawing, &waiting);
    below.lines(&mut drawing, &admitted);
    Some(drawing)
}

fn about(queue: &Queue) -> String {
    let longest = queue.seconds.iter().filter_map(|second| second.waiting).max().unwrap_or(0);
    let admitted = queue.admitted_per_second.map_or("nobody".to_owned(), rate);
    format!(
        "At most {} waited at once; {admitted} were let in per second while enough waited.",
        count(longest)
    )
}

fn waiting(queue: &Queue) -> Vec<Line> {
    vec![
        line("", "b", "inside", points(queue, 0.0, |second| second.active.map(number))),
        line("main", "a", "waiting", points(queue, 0.0, |second| second.waiting.map(number))),
    ]
}

/// What was counted in a second stands at its middle.
fn admitted(queue: &Queue) -> Vec<Line> {
    let end = queue.seconds.last().map_or(0.0, |second| number(second.at + 1));
    let bound = queue.per_second.map(|bound| vec![(0.0, f64::from(bound)), (end, f64::from(bound))]);
    vec![
        line("dash", "", "at most", bound.unwrap_or_default()),
        line("thin", "", "learned", points(queue, 0.5, |second| Some(number(second.learned)))),
        line("main", "a", "counted", points(queue, 0.5, |second| second.admitted)),
    ]
}

fn line(class: &'static str, name_class: &'static str, name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { class, name_class, name: name.to_owned(), points }
}

fn points(queue: &Queue, after: f64, value: impl Fn(&GateSecond) -> Option<f64>) -> Vec<(f64, f64)> {
    queue.seconds.iter().filter_map(|second| Some((number(second.at) + after, value(second)?))).collect()
}

fn highest(lines: &[Line]) -> f64 {
    lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(_, value)| *value)
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

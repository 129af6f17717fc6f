//! Ways of selling seats, side by side: one panel per load, small enough for a phone.

use super::super::model::{Comparison, Contender, Load, LoadResult};
use super::super::numbers::{counted, millis, rate};
use super::drawing::{Anchor, BOLD, Drawing, width_of, wrap};

const WIDTH: f64 = 328.0;
const ROW: f64 = 22.0;
/// More for a row with a word of warning.
const WARNING: f64 = 15.0;
/// And under the last word of it.
const BELOW: f64 = 5.0;
const BAR: f64 = 12.0;
/// Of the columns with clicks and with p99.
const COLUMNS: [f64; 2] = [62.0, 58.0];
/// Between panels that stand in one file.
const GUTTER: f64 = 40.0;

/// One load; ours is highlighted.
pub fn panel(comparison: &Comparison, load: &Load) -> Drawing {
    let rows: Vec<(&Contender, Option<&LoadResult>)> =
        comparison.contenders.iter().zip(load.results.iter().map(Option::as_ref)).collect();
    let names = rows.iter().map(|(contender, _)| width_of(&contender.name)).fold(0.0, f64::max);
    let names = (names * BOLD).min(140.0);
    let most = rows.iter().filter_map(|(_, found)| Some(found.as_ref()?.clicks_per_second));
    let most = most.filter(|rate| rate.is_finite()).fold(0.0, f64::max);
    let bars = Bars { left: names + 10.0, room: WIDTH - names - 10.0 - COLUMNS[0] - COLUMNS[1], most };

    let what = wrap(&load.what, WIDTH);
    let mut drawing = Drawing::new(load.name.clone(), about(&rows), WIDTH, 0.0);
    drawing.text("b", (0.0, 14.0), Anchor::Start, &load.name);
    let mut y = 31.0;
    for line in &what {
        drawing.text("", (0.0, y), Anchor::Start, line);
        y += 16.0;
    }
    y += 8.0;
    drawing.text("", (WIDTH - COLUMNS[1], y), Anchor::End, "clicks/s");
    drawing.text("", (WIDTH, y), Anchor::End, "p99 ms");
    y += 6.0;
    drawing.line("grid", &[(0.0, y), (WIDTH, y)]);
    y += 4.0;
    for (contender, found) in rows {
        y += bars.row(&mut drawing, y, contender, found);
    }
    drawing.height = y + 4.0;
    drawing
}

struct Bars {
    left: f64,
    room: f64,
    most: f64,
}

impl Bars {
    /// How high it is.
    fn row(&self, drawing: &mut Drawing, y: f64, contender: &Contender, found: Option<&LoadResult>) -> f64 {
        let ours = contender.name.starts_with("hotseat");
        let (text, bar) = if ours { ("a", "abar") } else { ("i", "bar") };
        let base = y + 15.0;
        drawing.text(text, (0.0, base), Anchor::Start, &contender.name);
        let Some(found) = found else {
            drawing.text("", (self.left, base), Anchor::Start, "cannot do this");
            return ROW;
        };
        let part = found.clicks_per_second / self.most;
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        drawing.rect(bar, (self.left, y + 5.0), (self.room * part).max(1.0), BAR);
        drawing.text(text, (WIDTH - COLUMNS[1], base), Anchor::End, &rate(found.clicks_per_second));
        drawing.text(text, (WIDTH, base), Anchor::End, &millis(found.p99));
        let warnings = warnings(found);
        let mut height = ROW;
        for line in wrap(&warnings, WIDTH - self.left).iter().filter(|line| !line.is_empty()) {
            drawing.text("b", (self.left, y + height + 7.0), Anchor::Start, line);
            height += WARNING;
        }
        if warnings.is_empty() { height } else { height + BELOW }
    }
}

/// What is wrong with it, in words.
fn warnings(found: &LoadResult) -> String {
    let counts = [
        (found.double_sales, "double sale"),
        (if found.double_sales > 0 { 0 } else { found.double_grants }, "double grant"),
        (found.false_refusals, "false refusal"),
        (found.failed, "failure"),
    ];
    let wrong = counts.into_iter().filter(|(number, _)| *number > 0);
    wrong.map(|(number, what)| counted(number, what)).collect::<Vec<_>>().join(", ")
}

fn about(rows: &[(&Contender, Option<&LoadResult>)]) -> String {
    let sentence = |(contender, found): &(&Contender, Option<&LoadResult>)| {
        let name = &contender.name;
        let Some(found) = found else { return format!("{name}: cannot do this.") };
        let warnings = warnings(found);
        let comma = if warnings.is_empty() { "" } else { ", " };
        let (clicks, p99) = (rate(found.clicks_per_second), millis(found.p99));
        format!("{name}: {clicks} clicks/s, p99 {p99} ms{comma}{warnings}.")
    };
    rows.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

/// All panels in two columns, as one drawing.
pub fn all(comparison: &Comparison) -> Option<Drawing> {
    let panels: Vec<Drawing> = comparison.loads.iter().map(|load| panel(comparison, load)).collect();
    let columns = if panels.len() > 1 { 2.0 } else { 1.0 };
    let title = "Ways of selling seats, side by side".to_owned();
    let about: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    let about = format!("Clicks per second and p99 by contender, for: {}.", about.join("; "));
    let mut drawing = Drawing::new(title, about, WIDTH * columns + GUTTER * (columns - 1.0), 0.0);
    let mut y = 0.0;
    for pair in panels.chunks(2) {
        for (x, panel) in [0.0, WIDTH + GUTTER].into_iter().zip(pair) {
            drawing.place(panel, (x, y));
        }
        y += pair.iter().map(|panel| panel.height).fold(0.0, f64::max) + GUTTER / 2.0;
    }
    drawing.height = y - GUTTER / 2.0;
    (!panels.is_empty()).then_some(drawing)
}

//! Two axes, lines on a grid, and names at the ends of the lines instead of a legend.

use super::axis::Axis;
use super::drawing::{Anchor, BOLD, Drawing, width_of};

/// Between the names of lines that end close together.
const LINE_HEIGHT: f64 = 15.0;
/// From the plot to the names at its right.
const GAP: f64 = 10.0;

pub struct Plot {
    pub x: Axis,
    pub y: Axis,
}

/// A line and its name.
pub struct Line {
    /// Of the line.
    pub class: &'static str,
    /// Of the name: `b` ink, `a` accent, or quiet.
    pub name_class: &'static str,
    /// Empty: it has no name.
    pub name: String,
    /// In values.
    pub points: Vec<(f64, f64)>,
}

/// Room around a plot.
pub struct Margins {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Margins {
    /// For names of lines at the right.
    pub fn for_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let widest = names.map(width_of).fold(0.0, f64::max);
        let right = if widest > 0.0 { (widest * BOLD).min(120.0) + GAP } else { 14.0 };
        Self { left: 0.0, right, top: 26.0, bottom: 40.0 }
    }

    /// Room for the values of an axis at the left.
    #[must_use]
    pub fn beside(self, y: &Axis) -> Self {
        let widest = y.ticks().iter().map(|(_, label)| width_of(label)).fold(0.0, f64::max);
        Self { left: self.left.max(widest + 12.0), ..self }
    }

    pub fn across(&self, width: f64) -> (f64, f64) {
        (self.left, width - self.right)
    }

    pub fn up(&self, height: f64) -> (f64, f64) {
        (height - self.bottom, self.top)
    }
}

impl Plot {
    /// Lines behind everything, with their values, and what the axes say.
    pub fn grid(&self, drawing: &mut Drawing, x_ticks: &[(f64, String)], x_name: &str, y_name: &str) {
        let (left, right) = self.x.pixels();
        let (bottom, top) = self.y.pixels();
        for (value, label) in self.y.ticks() {
            let y = self.y.at(value);
            drawing.line("grid", &[(left, y), (right, y)]);
            drawing.text("", (left - 8.0, y + 4.0), Anchor::End, &label);
        }
        let mut taken = f64::NEG_INFINITY;
        for (value, label) in x_ticks {
            let x = self.x.at(*value);
            drawing.line("grid", &[(x, bottom), (x, top)]);
            let half = width_of(label) / 2.0;
            if x - half >= taken {
                drawing.text("", (x, bottom + 16.0), Anchor::Middle, label);
                taken = x + half + 6.0;
            }
        }
        drawing.line("base", &[(left, bottom), (right, bottom)]);
        drawing.text("", (0.0, top - 13.0), Anchor::Start, y_name);
        drawing.text("", (f64::midpoint(left, right), bottom + 33.0), Anchor::Middle, x_name);
    }

    pub fn lines(&self, drawing: &mut Drawing, lines: &[Line]) {
        for line in lines {
            let points: Vec<_> = line.points.iter().map(|(x, y)| (self.x.at(*x), self.y.at(*y))).collect();
            match points[..] {
                [] => {}
                [(x, y)] => drawing.line(line.class, &[(x - 3.0, y), (x + 3.0, y)]),
                _ => drawing.line(line.class, &points),
            }
        }
        self.names(drawing, lines);
    }

    fn names(&self, drawing: &mut Drawing, lines: &[Line]) {
        let (_, right) = self.x.pixels();
        let (bottom, top) = self.y.pixels();
        let end = |line: &Line| line.points.last().map(|(x, y)| (self.x.at(*x), self.y.at(*y)));
        let mut named: Vec<(&Line, (f64, f64))> = lines
            .iter()
            .filter(|line| !line.name.is_empty())
            .filter_map(|line| Some((line, end(line)?)))
            .collect();
        named.sort_by(|(_, one), (_, other)| one.1.total_cmp(&other.1));
        let ends: Vec<f64> = named.iter().map(|(_, (_, y))| *y).collect();
        for ((line, (x, y)), place) in named.into_iter().zip(spread(&ends, top, bottom)) {
            if (place - y).abs() > 5.0 || right - x > 6.0 {
                drawing.line("lead", &[(x, y), (right, place), (right + GAP - 3.0, place)]);
            }
            drawing.text(line.name_class, (right + GAP, place + 4.0), Anchor::Start, &line.name);
        }
    }

    /// A value of the x axis that matters, with words beside it where there is more room.
    pub fn mark(&self, drawing: &mut Drawing, value: f64, words: &str) {
        let x = self.x.at(value);
        let ((left, right), (bottom, top)) = (self.x.pixels(), self.y.pixels());
        drawing.line("mark", &[(x, bottom), (x, top)]);
        let width = width_of(words) * BOLD;
        let (at, anchor) = if right - x >= x - left && x + 6.0 + width <= right {
            (x + 6.0, Anchor::Start)
        } else if x - 6.0 - width >= left {
            (x - 6.0, Anchor::End)
        } else {
            (right, Anchor::End)
        };
        drawing.text("b halo", (at, top + 12.0), anchor, words);
    }
}

/// Moves places that ascend apart until none overlap, within bounds where they suffice.
fn spread(ends: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut places = ends.to_vec();
    let mut free = top;
    for place in &mut places {
        *place = place.max(free);
        free = *place + LINE_HEIGHT;
    }
    let mut limit = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - LINE_HEIGHT;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_overlap() {
        let cases: [(&[f64], &[f64]); 5] = [
            (&[], &[]),
            (&[50.0], &[50.0]),
            (&[50.0, 51.0, 52.0], &[50.0, 65.0, 80.0]),
            (&[0.0, 90.0, 99.0], &[10.0, 85.0, 100.0][..]),
            (&[99.0, 99.0], &[85.0, 100.0]),
        ];
        for (ends, places) in cases {
            assert_eq!(spread(ends, 10.0, 100.0), places, "{ends:?}");
        }
    }

    #[test]
    fn words_stand_where_there_is_more_room() {
        let plot = Plot { x: Axis::linear(100.0, (0.0, 600.0)), y: Axis::linear(10.0, (200.0, 20.0)) };
        let marked = |value| {
            let mut drawing = Drawing::new(String::new(), String::new(), 700.0, 220.0);
            plot.mark(&mut drawing, value, "knee");
            drawing.inline("")
        };
        assert!(marked(25.0).contains("<text class=\"b halo\" x=\"156\" y=\"32\">knee"), "{}", marked(25.0));
        let left = "<text class=\"b halo\" x=\"444\" y=\"32\" text-anchor=\"end\">knee";
        assert!(marked(75.0).contains(left), "{}", marked(75.0));
    }
}

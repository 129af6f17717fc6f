//! How far it goes: throughput by users with the law through it, and latency by rate up to the knee.

use super::super::model::{Capacity, ClosedPoint, Law, OpenPoint};
use super::super::numbers::{fixed, millis, rate, significant};
use super::Frame;
use super::axis::Axis;
use super::drawing::Drawing;
use super::plot::{Line, Margins, Plot};

/// Straight pieces of the law's curve.
const PIECES: u32 = 80;
/// A peak is inside the drawing up to so many times the users that were tried.
const FAR: f64 = 2.0;

pub fn by_users(capacity: &Capacity, Frame { width, height }: Frame) -> Option<Drawing> {
    let points = &capacity.closed;
    let most = f64::from(points.iter().map(|point| point.users).max()?);
    let law = capacity.law.as_ref();
    let peak = law.and_then(|law| Some((law.peak_users?, law.peak_per_second)));
    let near = peak.filter(|(users, _)| *users <= most * FAR);
    let right = near.map_or(most, |(users, _)| most.max(users)) * 1.05;
    let curve = law.map_or(Vec::new(), |law| curve(law, right));
    let highest = curve.iter().map(|(_, rate)| *rate).chain(points.iter().map(|point| point.per_second));
    let highest = highest.filter(|rate| rate.is_finite()).fold(0.0, f64::max);

    let title = "Throughput by users at once".to_owned();
    let mut drawing = Drawing::new(title, about_users(points, peak), width, height);
    let margins = Margins::for_names(["law"].into_iter());
    let y = Axis::rounded(highest * 1.08, margins.up(height));
    let plot = Plot { x: Axis::linear(right, margins.beside(&y).across(width)), y };
    plot.grid(&mut drawing, &plot.x.ticks(), "users at once, closed loop", "answered per second");
    let name = "law".to_owned();
    plot.lines(&mut drawing, &[Line { class: "main", name_class: "a", name, points: curve }]);
    if let Some((users, per_second)) = near {
        let words = format!("peak {}/s at {} users", rate(per_second), fixed(users, 0));
        plot.mark(&mut drawing, users, &words);
    }
    for point in points {
        let at = (plot.x.at(point.users.into()), plot.y.at(point.per_second));
        drawing.dot("idot", at, &format!("{} users: {}/s", point.users, rate(point.per_second)));
    }
    Some(drawing)
}

fn about_users(points: &[ClosedPoint], peak: Option<(f64, f64)>) -> String {
    let best = points.iter().max_by(|one, other| one.per_second.total_cmp(&other.per_second));
    let best =
        best.map(|best| format!("The most was {}/s with {} users.", rate(best.per_second), best.users));
    let peak = peak.map_or("The fitted law has no peak.".to_owned(), |(users, per_second)| {
        format!("The fitted law peaks at {}/s with {} users.", rate(per_second), fixed(users, 0))
    });
    format!("{} {peak}", best.unwrap_or_default())
}

fn curve(law: &Law, right: f64) -> Vec<(f64, f64)> {
    let law_at = |n: f64| law.lambda * n / (1.0 + law.sigma * (n - 1.0) + law.kappa * n * (n - 1.0));
    let users = (0..=PIECES).map(|piece| right * f64::from(piece) / f64::from(PIECES));
    users.map(|n| (n, law_at(n))).filter(|(_, rate)| rate.is_finite() && *rate >= 0.0).collect()
}

pub fn by_rate(capacity: &Capacity, Frame { width, height }: Frame) -> Option<Drawing> {
    let mut points: Vec<&OpenPoint> = capacity.open.iter().collect();
    points.sort_by(|one, other| one.offered.total_cmp(&other.offered));
    let most = points.last()?.offered;
    let title = format!("Latency by offered rate; objective: {}", capacity.objective);
    let mut drawing = Drawing::new(title, capacity.conclusion.clone(), width, height);
    let margins = Margins::for_names(["p99", "p50"].into_iter());
    let all = points.iter().flat_map(|point| [point.p50, point.p99]);
    let y = Axis::log(all, margins.up(height));
    let plot = Plot { x: Axis::linear(most * 1.05, margins.beside(&y).across(width)), y };
    plot.grid(&mut drawing, &plot.x.ticks(), "offered per second, open loop", "ms, logarithmic");
    let line = |class, name: &str, value: fn(&OpenPoint) -> f64| Line {
        class,
        name_class: "",
        name: name.to_owned(),
        points: points.iter().map(|point| (point.offered, value(point))).collect(),
    };
    let lines = [line("dash thin", "p50", |point| point.p50), line("", "p99", |point| point.p99)];
    plot.lines(&mut drawing, &lines);
    if let Some(knee) = capacity.knee {
        plot.mark(&mut drawing, knee, &format!("knee {}/s", rate(knee)));
    }
    for point in points {
        let at = (plot.x.at(point.offered), plot.y.at(point.p99));
        let (class, word) = if point.kept { ("dot", "kept") } else { ("hole", "broken") };
        let achieved = significant(point.achieved, 3);
        let words = format!(
            "{word}: {}/s offered, {achieved}/s achieved, p99 {} ms",
            rate(point.offered),
            millis(point.p99)
        );
        drawing.dot(class, at, &words);
    }
    Some(drawing)
}

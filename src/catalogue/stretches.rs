//! Which seats of a row are neighbours: an aisle cuts a row into stretches.

use super::plan::{Position, Seat};

/// A gap wider than this many times the row's usual spacing is an aisle. A missing seat leaves twice
/// the spacing; curved and hand-drawn rows vary by less than half.
const AISLE: f64 = 1.75;

/// Cuts the seats of one row, in natural order, at its aisles.
///
/// Neighbours by number are neighbours in the hall, except where odd numbers go to the left and even ones
/// to the right of the middle. There the order along the row has fewer gaps, and it is taken instead.
pub(super) fn stretches(seats: Vec<Seat>) -> impl Iterator<Item = Vec<Seat>> {
    let by_number: Vec<usize> = (0..seats.len()).collect();
    let order = match seats.iter().map(|seat| seat.position).collect::<Option<Vec<_>>>() {
        Some(positions) => cut(&positions, by_number),
        None => vec![by_number],
    };
    let mut seats: Vec<Option<Seat>> = seats.into_iter().map(Some).collect();
    order.into_iter().map(move |stretch| stretch.into_iter().filter_map(|i| seats[i].take()).collect())
}

fn cut(positions: &[Position], by_number: Vec<usize>) -> Vec<Vec<usize>> {
    let along_row = along(positions);
    let (numbered, walked) = (gaps(positions, &by_number), gaps(positions, &along_row));
    let spacing = match (median(&numbered), median(&walked)) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => match a.or(b) {
            Some(spacing) => spacing,
            // All seats in one place: the file has no geometry.
            None => return vec![by_number],
        },
    };
    let aisles = |gaps: &[f64]| gaps.iter().filter(|gap| **gap > AISLE * spacing).count();
    let (order, gaps) =
        if aisles(&walked) < aisles(&numbered) { (along_row, walked) } else { (by_number, numbered) };
    let mut stretches = vec![Vec::new()];
    for (place, seat) in order.into_iter().enumerate() {
        if place > 0 && gaps[place - 1] > AISLE * spacing {
            stretches.push(Vec::new());
        }
        let last = stretches.len() - 1;
        stretches[last].push(seat);
    }
    stretches
}

/// The seats in the order in which somebody walking along the row meets them, beginning at the end
/// with the lower number.
fn along(positions: &[Position]) -> Vec<usize> {
    let farthest = |from: Position| {
        positions.iter().copied().max_by(|a, b| distance(from, *a).total_cmp(&distance(from, *b)))
    };
    let Some(one_end) = positions.first().and_then(|first| farthest(*first)) else {
        return Vec::new();
    };
    let other_end = farthest(one_end).unwrap_or(one_end);
    let (dx, dy) = (other_end.x - one_end.x, other_end.y - one_end.y);
    let way = |i: usize| (positions[i].x - one_end.x) * dx + (positions[i].y - one_end.y) * dy;
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_by(|a, b| way(*a).total_cmp(&way(*b)).then(a.cmp(b)));
    if order.last() < order.first() {
        order.reverse();
    }
    order
}

fn gaps(positions: &[Position], order: &[usize]) -> Vec<f64> {
    order.windows(2).map(|pair| distance(positions[pair[0]], positions[pair[1]])).collect()
}

fn distance(a: Position, b: Position) -> f64 {
    (a.x - b.x).hypot(a.y - b.y)
}

/// The lower median; `None` when there is none above zero.
fn median(gaps: &[f64]) -> Option<f64> {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    (middle > 0.0).then_some(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seats `number@x[,y]` in natural order; prints stretches separated by `|`.
    fn check(row: &str, expected: &str) {
        let seats = row.split_whitespace().map(|seat| {
            let (label, at) = seat.split_once('@').unwrap();
            let (x, y) = at.split_once(',').unwrap_or((at, "0"));
            let position = Some(Position::new(x.parse().unwrap(), y.parse().unwrap()));
            Seat { label: label.to_owned(), category: 0, position }
        });
        let stretches: Vec<String> = stretches(seats.collect())
            .map(|stretch| stretch.iter().map(|seat| seat.label.as_str()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(stretches.join(" | "), expected, "{row}");
    }

    #[test]
    fn an_aisle_is_wider_than_the_rows_spacing() {
        check("1@0", "1");
        check("1@0 2@10", "1 2");
        check("1@0 2@10 3@20 4@30", "1 2 3 4");
        check("1@0 2@10 3@40 4@50", "1 2 | 3 4");
        check("1@0 2@10 3@30", "1 2 | 3");
        check("1@0 2@10 3@27 4@37", "1 2 3 4");
        check("1@0 2@10 3@28 4@38", "1 2 | 3 4");
        check("1@0 2@10 3@30 4@40 5@60 6@70", "1 2 | 3 4 | 5 6");
    }

    #[test]
    fn the_row_may_run_any_way() {
        check("1@50 2@40 3@10 4@0", "1 2 | 3 4");
        check("1@0,0 2@7,7 3@14,14 4@40,40", "1 2 3 | 4");
        check("1@0,5 2@10,1 3@20,0 4@30,1 5@40,5", "1 2 3 4 5");
    }

    #[test]
    fn odd_to_the_left_and_even_to_the_right() {
        check("1@40 2@50 3@30 4@60 5@20 6@70", "5 3 1 2 4 6");
        check("1@40 2@80 3@30 4@90 5@20 6@100", "5 3 1 | 2 4 6");
    }

    #[test]
    fn no_geometry_no_aisles() {
        check("1@0 2@0 3@0", "1 2 3");
        check("1@5,5 2@5,5 3@5,5 4@90,5", "1 2 3 4");
    }
}

//! Who came first, and who was let in first.
//!
//! Instants are known from one request to its answer: what is said for certain is said of pairs whose spans do not
//! overlap, and of no others.

use crate::history::Nanos;

/// It happened between these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    pub from: Nanos,
    pub to: Nanos,
}

/// One who joined, and what the other order is about: an admission, or a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    pub user: u32,
    pub joined: Within,
    pub then: Within,
}

/// Pairs of whom one joined before the other for certain, and was served after it for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overtaken {
    pub pairs: u64,
    /// All of whom it is certain who joined first and who was served first.
    pub told_apart: u64,
    /// One of them: who came first and who was served first.
    pub example: Option<(u32, u32)>,
}

/// Kendall's τ-b by Knight's algorithm (1966): 1 for the same order, −1 for the reverse; `None` where there is none.
#[expect(clippy::cast_precision_loss, reason = "10^6 people are 10^12 pairs")]
pub fn tau(mut pairs: Vec<(u64, u64)>) -> Option<f64> {
    pairs.sort_unstable();
    let all = of_pairs(pairs.len() as u64);
    let ties_first = ties(pairs.iter().map(|pair| pair.0));
    let ties_both = ties(pairs.iter().copied());
    let mut seconds: Vec<u64> = pairs.into_iter().map(|pair| pair.1).collect();
    let discordant = inversions(&mut seconds);
    let ties_second = ties(seconds.into_iter());
    let [untied_first, untied_second] = [ties_first, ties_second].map(|ties| (all - ties) as f64);
    let concordant = all + ties_both - ties_first - ties_second - discordant;
    let scale = (untied_first * untied_second).sqrt();
    (scale > 0.0).then(|| (concordant as f64 - discordant as f64) / scale)
}

fn of_pairs(count: u64) -> u64 {
    count * count.saturating_sub(1) / 2
}

/// Pairs of equals among values in order.
fn ties<T: PartialEq>(values: impl Iterator<Item = T>) -> u64 {
    let (mut pairs, mut run, mut last) = (0, 0, None);
    for value in values {
        run = if last.as_ref() == Some(&value) { run + 1 } else { 0 };
        pairs += run;
        last = Some(value);
    }
    pairs
}

/// Sorts, and counts the pairs that were in the wrong order.
fn inversions(values: &mut [u64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut from_left, mut from_right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(one), Some(other)) = (from_left.peek(), from_right.peek()) {
        if one <= other {
            merged.extend(from_left.next());
        } else {
            count += from_left.len() as u64;
            merged.extend(from_right.next());
        }
    }
    merged.extend(from_left.chain(from_right));
    values.copy_from_slice(&merged);
    count
}

/// O(n log n): in the order of joining, each asks how many of those before it were served later, and how many earlier.
pub fn overtaken(passages: &[Passage]) -> Overtaken {
    let mut by_end: Vec<&Passage> = passages.iter().collect();
    by_end.sort_unstable_by_key(|passage| passage.joined.to);
    let mut by_start: Vec<&Passage> = passages.iter().collect();
    by_start.sort_unstable_by_key(|passage| passage.joined.from);
    let mut starts: Vec<Nanos> = passages.iter().map(|passage| passage.then.from).collect();
    starts.sort_unstable();
    let mut ends: Vec<Nanos> = passages.iter().map(|passage| passage.then.to).collect();
    ends.sort_unstable();
    let mut seen = Counts::new(starts.len());
    let mut seen_ends = Counts::new(ends.len());
    let mut latest: Option<&Passage> = None;
    let mut found = Overtaken::default();
    let mut before = by_end.into_iter().peekable();
    for later in by_start {
        while let Some(earlier) = before.next_if(|earlier| earlier.joined.to < later.joined.from) {
            seen.add(starts.partition_point(|start| *start < earlier.then.from));
            seen_ends.add(ends.partition_point(|end| *end < earlier.then.to));
            latest = latest.into_iter().chain([earlier]).max_by_key(|passage| passage.then.from);
        }
        let pairs = seen.total - seen.below(starts.partition_point(|start| *start <= later.then.to));
        let in_order = seen_ends.below(ends.partition_point(|end| *end < later.then.from));
        found.pairs += pairs;
        found.told_apart += pairs + in_order;
        if pairs > 0 {
            found.example = found.example.or(latest.map(|latest| (latest.user, later.user)));
        }
    }
    found
}

/// Fenwick's tree (1994): how many are below a place, while more come.
struct Counts {
    tree: Vec<u64>,
    total: u64,
}

impl Counts {
    fn new(places: usize) -> Self {
        Self { tree: vec![0; places + 1], total: 0 }
    }

    fn add(&mut self, place: usize) {
        self.total += 1;
        let mut node = place + 1;
        while node < self.tree.len() {
            self.tree[node] += 1;
            node += node & node.wrapping_neg();
        }
    }

    fn below(&self, place: usize) -> u64 {
        let (mut node, mut sum) = (place, 0);
        while node > 0 {
            sum += self.tree[node];
            node &= node - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Draws;

    fn naive_tau(pairs: &[(u64, u64)]) -> Option<f64> {
        let (mut sum, mut first, mut second) = (0i64, 0i64, 0i64);
        for (at, one) in pairs.iter().enumerate() {
            for other in &pairs[..at] {
                let (x, y) = (one.0.cmp(&other.0) as i64, one.1.cmp(&other.1) as i64);
                sum += x * y;
                first += x * x;
                second += y * y;
            }
        }
        let scale = (first as f64 * second as f64).sqrt();
        (scale > 0.0).then(|| sum as f64 / scale)
    }

    fn naive_overtaken(passages: &[Passage]) -> (u64, u64) {
        let (mut pairs, mut told_apart) = (0, 0);
        for one in passages {
            for other in passages.iter().filter(|other| one.joined.to < other.joined.from) {
                let wrong = one.then.from > other.then.to;
                pairs += u64::from(wrong);
                told_apart += u64::from(wrong || one.then.to < other.then.from);
            }
        }
        (pairs, told_apart)
    }

    #[test]
    fn tau_of_known_orders() {
        for (pairs, expected) in [
            (vec![], None),
            (vec![(1, 1)], None),
            (vec![(1, 1), (1, 2)], None),
            (vec![(1, 10), (2, 20), (3, 30)], Some(1.0)),
            (vec![(1, 30), (2, 20), (3, 10)], Some(-1.0)),
            (vec![(1, 1), (2, 3), (3, 2)], Some(1.0 / 3.0)),
            (vec![(1, 1), (1, 2), (2, 2)], Some(0.5)),
        ] {
            let found = tau(pairs.clone());
            let near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(near, "{pairs:?}: {found:?}");
        }
    }

    #[test]
    fn tau_is_what_counting_all_pairs_finds() {
        let mut draws = Draws::new(1, 1);
        for (count, bound) in [(2, 2), (17, 5), (100, 10), (300, 100_000)] {
            let mut draw = || u64::from(draws.below(bound));
            let pairs: Vec<(u64, u64)> = (0..count).map(|_| (draw(), draw())).collect();
            match (tau(pairs.clone()), naive_tau(&pairs)) {
                (Some(found), Some(expected)) => {
                    assert!((found - expected).abs() < 1e-9, "{found} {expected}")
                }
                (found, expected) => assert_eq!(found, expected),
            }
        }
    }

    #[test]
    fn only_what_does_not_overlap_is_proved() {
        let passage = |user, [a, b, c, d]: [u64; 4]| Passage {
            user,
            joined: Within { from: a, to: b },
            then: Within { from: c, to: d },
        };
        for (other, pairs, told_apart) in [
            // Came later, was served earlier.
            ([10, 20, 100, 110], 1, 1),
            // Perhaps it came first.
            ([5, 20, 100, 110], 0, 0),
            // Perhaps it was served last.
            ([10, 20, 100, 200], 0, 0),
            ([10, 20, 210, 220], 0, 0),
            ([10, 20, 300, 310], 0, 1),
        ] {
            let found = overtaken(&[passage(7, [0, 5, 200, 210]), passage(8, other)]);
            assert_eq!((found.pairs, found.told_apart), (pairs, told_apart), "{other:?}");
            assert_eq!(found.example, (pairs > 0).then_some((7, 8)), "{other:?}");
        }
        assert_eq!(overtaken(&[]), Overtaken::default());
    }

    #[test]
    fn overtaking_is_what_looking_at_all_pairs_finds() {
        let mut draws = Draws::new(2, 1);
        for length in [1, 10, 100] {
            let mut within = || {
                let from = u64::from(draws.below(300));
                Within { from, to: from + u64::from(draws.below(length)) }
            };
            let passages: Vec<Passage> =
                (0..200).map(|user| Passage { user, joined: within(), then: within() }).collect();
            let found = overtaken(&passages);
            assert_eq!((found.pairs, found.told_apart), naive_overtaken(&passages));
        }
    }
}

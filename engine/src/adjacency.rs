//! Which seats of an option are free, and which of those sit together: bit arithmetic over one bit a seat.
//!
//! `link` has bit i set where seats i and i+1 are neighbours, so that a run of free seats can be found
//! without looking at rows: with x the free bits, `x & x>>1 & link` are the pairs, and eroding the
//! pairs n-2 times more leaves the starts of runs of n. 100,000 seats are 1,563 words.

use crate::ids::SeatNo;
use crate::limits::SEATS_PER_COMMAND;
use crate::plan::Layout;

/// The free bits of an option and what never changes about its seats.
#[derive(Clone, Debug)]
pub struct Adjacency {
    seat_count: u32,
    free: Vec<u64>,
    link: Vec<u64>,
    /// Per category, the seats in it.
    categories: Vec<Vec<u64>>,
    /// The first seat of each run, ascending.
    runs: Vec<u32>,
    /// The first seat of each section, ascending.
    sections: Vec<u32>,
}

/// What select-best asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// 1..=8.
    pub party: u32,
    /// Seats to look at, half open.
    pub from: u32,
    pub to: u32,
    pub category: Option<u8>,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Seats `first..first + party`.
    Together(SeatNo),
    /// The longest run there is, below the party's size.
    TooShort(u32),
    /// Runs there are, but each contains a seat that is refused to this user.
    Refused,
}

impl Adjacency {
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let seat_count = layout.seat_count();
        let words = layout.categories.len().div_ceil(64);
        let mut adjacency = Self {
            seat_count,
            free: vec![0; words],
            link: vec![0; words],
            categories: vec![vec![0; words]; layout.prices.len()],
            runs: layout.runs.iter().map(|run| run.first.0).collect(),
            sections: layout.sections.iter().map(|section| section.0).collect(),
        };
        for run in &layout.runs {
            for seat in run.first.0..run.first.0 + run.seats - 1 {
                set(&mut adjacency.link, seat, true);
            }
        }
        for (seat, category) in (0u32..).zip(&layout.categories) {
            set(&mut adjacency.free, seat, true);
            set(&mut adjacency.categories[usize::from(*category)], seat, true);
        }
        adjacency
    }

    pub fn set_free(&mut self, seat: SeatNo, free: bool) {
        set(&mut self.free, seat.0, free);
    }

    #[must_use]
    pub fn is_free(&self, seat: SeatNo) -> bool {
        get(&self.free, seat.0)
    }

    /// The seats of a section, half open; all seats for `None`; `None` when there is no such section.
    #[must_use]
    pub fn section(&self, section: Option<u16>) -> Option<(u32, u32)> {
        let Some(section) = section.map(usize::from) else { return Some((0, self.seat_count)) };
        let from = *self.sections.get(section)?;
        Some((from, self.sections.get(section + 1).copied().unwrap_or(self.seat_count)))
    }

    #[must_use]
    pub fn has_category(&self, category: u8) -> bool {
        usize::from(category) < self.categories.len()
    }

    /// The best run for a party: the first run of the plan that offers places leaving no lone seat
    /// beside them, and there the place nearest to the run's middle. A place that leaves a lone seat
    /// is taken only where there is no other. `refused` tells a seat this user may not have yet.
    pub fn best(&self, wish: Wish, refused: impl Fn(SeatNo) -> bool) -> Found {
        let mut fallback: Option<u32> = None;
        let mut any_refused = false;
        let mut longest = 0;
        let mut word = (wish.from / 64) as usize;
        while (word as u64) * 64 < u64::from(wish.to) {
            let (mut starts, run) = self.starts(word, wish);
            longest = longest.max(run);
            while starts != 0 {
                let first = at(word, starts.trailing_zeros());
                starts &= starts - 1;
                if (first..first + wish.party).any(|seat| refused(SeatNo(seat))) {
                    any_refused = true;
                } else if self.leaves_lone_seat(first, wish.party) {
                    fallback = fallback.or(Some(first));
                } else {
                    return Found::Together(SeatNo(self.most_central(first, wish, &refused)));
                }
            }
            word += 1;
        }
        match fallback {
            Some(first) => Found::Together(SeatNo(first)),
            None if any_refused => Found::Refused,
            None => Found::TooShort(longest),
        }
    }

    /// The starts of runs of `party` seats in a word, and the longest run that starts there, at most
    /// `party`. A run of at most eight seats ends in the next word at the latest.
    #[expect(clippy::cast_possible_truncation, reason = "the low word is what is asked for")]
    fn starts(&self, word: usize, wish: Wish) -> (u64, u32) {
        const { assert!(SEATS_PER_COMMAND <= 64) };
        let mut runs = self.wide(&self.free, word);
        if let Some(category) = wish.category {
            runs &= self.wide(&self.categories[usize::from(category)], word);
        }
        runs &= window(word, wish.from, wish.to);
        if runs as u64 == 0 {
            return (0, 0);
        }
        let pairs = (runs >> 1) & self.wide(&self.link, word);
        let mut length = 1;
        while length < wish.party {
            // A run of n+1 starts where a run of n does whose last seat has a free neighbour.
            let longer = runs & (pairs >> (length - 1));
            if longer as u64 == 0 {
                return (0, length);
            }
            runs = longer;
            length += 1;
        }
        (runs as u64, length)
    }

    /// A word and its successor.
    fn wide(&self, bits: &[u64], word: usize) -> u128 {
        u128::from(bits[word]) | u128::from(bits.get(word + 1).copied().unwrap_or(0)) << 64
    }

    /// Whether taking these seats would leave a single free seat on either side.
    fn leaves_lone_seat(&self, first: u32, party: u32) -> bool {
        let last = first + party - 1;
        let left = self.free_left(first) && !(first >= 1 && self.free_left(first - 1));
        let right = self.free_right(last) && !self.free_right(last + 1);
        left || right
    }

    /// Whether the left neighbour exists and is free.
    fn free_left(&self, seat: u32) -> bool {
        seat > 0 && get(&self.link, seat - 1) && get(&self.free, seat - 1)
    }

    fn free_right(&self, seat: u32) -> bool {
        seat + 1 < self.seat_count && get(&self.link, seat) && get(&self.free, seat + 1)
    }

    /// Among the good places in the run of `first`, the one nearest to the run's middle.
    fn most_central(&self, first: u32, wish: Wish, refused: impl Fn(SeatNo) -> bool) -> u32 {
        let run = self.runs.partition_point(|start| *start <= first) - 1;
        let start = self.runs[run];
        let end = self.runs.get(run + 1).copied().unwrap_or(self.seat_count).min(wish.to);
        // Twice the middles, so that halves stay whole.
        let middle = i64::from(start) + i64::from(end) - 1;
        let distance = |place: u32| (i64::from(2 * place + wish.party - 1) - middle).abs();
        let mut best = first;
        let mut eligible = 0;
        for seat in first..end {
            let fits = get(&self.free, seat)
                && wish.category.is_none_or(|c| get(&self.categories[usize::from(c)], seat))
                && !refused(SeatNo(seat));
            eligible = if fits { eligible + 1 } else { 0 };
            if eligible < wish.party {
                continue;
            }
            let place = seat + 1 - wish.party;
            if distance(place) < distance(best) && !self.leaves_lone_seat(place, wish.party) {
                best = place;
            }
            if i64::from(2 * place + wish.party) > middle && distance(place) >= distance(best) {
                break; // From here on every place is farther from the middle.
            }
        }
        best
    }
}

/// The bits of word `word` and its successor that lie in `from..to`.
fn window(word: usize, from: u32, to: u32) -> u128 {
    let base = word as u64 * 64;
    let low = u64::from(from).saturating_sub(base).min(128);
    let high = u64::from(to).saturating_sub(base).min(128);
    let below = |bit: u64| if bit >= 128 { u128::MAX } else { (1u128 << bit) - 1 };
    below(high) & !below(low)
}

#[expect(clippy::cast_possible_truncation, reason = "a seat number")]
const fn at(word: usize, bit: u32) -> u32 {
    word as u32 * 64 + bit
}

fn get(bits: &[u64], seat: u32) -> bool {
    bits[(seat / 64) as usize] >> (seat % 64) & 1 == 1
}

fn set(bits: &mut [u64], seat: u32, on: bool) {
    let word = &mut bits[(seat / 64) as usize];
    let bit = 1 << (seat % 64);
    if on { *word |= bit } else { *word &= !bit }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "small numbers")]

    use super::*;
    use crate::index::mix;
    use crate::plan::Run;

    fn layout(runs: &[u32]) -> Layout {
        let mut first = 0;
        let runs = runs
            .iter()
            .map(|seats| {
                let run = Run { first: SeatNo(first), seats: *seats };
                first += seats;
                run
            })
            .collect();
        let categories = (0..first).map(|seat| u8::from(seat % 97 >= 60)).collect();
        Layout { categories, runs, sections: vec![SeatNo(0), SeatNo(first / 2)], prices: vec![1, 2] }
    }

    /// The same question, answered by looking at every place.
    fn naive(layout: &Layout, free: &[bool], wish: Wish) -> (u32, Vec<u32>, Vec<u32>) {
        let fits = |seat: u32| {
            (wish.from..wish.to).contains(&seat)
                && free[seat as usize]
                && wish.category.is_none_or(|c| layout.categories[seat as usize] == c)
        };
        let (mut longest, mut good, mut lone) = (0, vec![], vec![]);
        for run in &layout.runs {
            let end = run.first.0 + run.seats;
            for start in run.first.0..end {
                let length = (start..end).take_while(|seat| fits(*seat)).count() as u32;
                longest = longest.max(length.min(wish.party));
                if length < wish.party {
                    continue;
                }
                let is_free = |seat: i64| {
                    (i64::from(run.first.0)..i64::from(end)).contains(&seat) && free[seat as usize]
                };
                let (left, right) = (i64::from(start) - 1, i64::from(start + wish.party));
                let lonely = is_free(left) && !is_free(left - 1) || is_free(right) && !is_free(right + 1);
                if lonely { lone.push(start) } else { good.push(start) }
            }
        }
        (longest, good, lone)
    }

    #[test]
    fn agrees_with_looking_everywhere() {
        let layout = layout(&[1, 2, 63, 65, 1, 130, 8, 8, 40, 7, 200, 3]);
        let seats = layout.seat_count();
        let mut state = 11u64;
        let mut draw = |below: u64| {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            state % below
        };
        for round in 0..4_000 {
            let mut adjacency = Adjacency::new(&layout);
            let fill = draw(100);
            let free: Vec<bool> = (0..seats).map(|_| draw(100) >= fill).collect();
            for (seat, free) in (0..seats).zip(&free) {
                adjacency.set_free(SeatNo(seat), *free);
            }
            let section = [None, Some(0), Some(1)][draw(3) as usize];
            let (from, to) = adjacency.section(section).unwrap();
            let category = [None, Some(0), Some(1)][draw(3) as usize];
            let wish = Wish { party: draw(8) as u32 + 1, from, to, category };
            let (longest, good, lone) = naive(&layout, &free, wish);
            match adjacency.best(wish, |_| false) {
                Found::Together(first) if !good.is_empty() => {
                    assert!(good.contains(&first.0), "round {round}: {wish:?} {first:?} not in {good:?}");
                    let run_of = |seat| layout.runs.partition_point(|run| run.first.0 <= seat);
                    assert_eq!(run_of(first.0), run_of(good[0]), "round {round}: an earlier run was free");
                }
                Found::Together(first) => assert_eq!(first.0, lone[0], "round {round}: {wish:?}"),
                Found::TooShort(length) => {
                    assert!(good.is_empty() && lone.is_empty(), "round {round}: {wish:?}");
                    assert_eq!(length, longest, "round {round}: {wish:?}");
                }
                Found::Refused => unreachable!("nothing is refused"),
            }
        }
    }

    #[test]
    fn prefers_the_middle_and_leaves_no_lone_seat() {
        let adjacency = Adjacency::new(&layout(&[10, 10]));
        let wish = Wish { party: 2, from: 0, to: 20, category: None };
        assert_eq!(adjacency.best(wish, |_| false), Found::Together(SeatNo(4)));
        let odd = Wish { party: 3, ..wish };
        // 3 and 4 are equally central; both leave no lone seat: the first.
        assert_eq!(adjacency.best(odd, |_| false), Found::Together(SeatNo(3)));
        let nine = Adjacency::new(&layout(&[5, 4]));
        let four = Wish { party: 4, from: 0, to: 9, category: None };
        assert_eq!(nine.best(four, |_| false), Found::Together(SeatNo(5)), "4 of 5 would leave one");
    }
}

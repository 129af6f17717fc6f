//! How many were let in within a second, and how many were inside at once.

use super::order::Within;
use crate::history::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// The gate's own counters, as an operator reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub at: Within,
    pub admitted: u64,
    pub waiting: u64,
    pub active: u64,
}

/// A second of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// From zero, in seconds.
    pub at: u64,
    /// By the gate's counter, evenly between readings; `None` where nobody knows.
    pub counted: Option<f64>,
    /// By the first reading in it; `None` where there is none.
    pub waiting: Option<u64>,
    pub active: Option<u64>,
    /// Users who learned in this second that they may enter.
    pub seen: u64,
}

/// The most of these that happened within a window of this length for certain, and where it begins.
pub fn most_within(events: &[Within], window: Nanos) -> (u64, Nanos) {
    // Whatever is not shorter than the window cannot be said to lie in it, so that of the others those which end
    // before the window's end, without those which begin before its beginning, are those inside.
    let inside = || events.iter().filter(|event| event.to.saturating_sub(event.from) < window);
    let mut starts: Vec<Nanos> = inside().map(|event| event.from).collect();
    let mut ends: Vec<Nanos> = inside().map(|event| event.to).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    let (mut most, mut ended) = ((0, 0), 0);
    for (begun, start) in starts.iter().enumerate() {
        while ends.get(ended).is_some_and(|end| *end < start.saturating_add(window)) {
            ended += 1;
        }
        // Of several that begin at once, the first counts them all.
        let count = (ended - begun.min(ended)) as u64;
        if count > most.0 {
            most = (count, *start);
        }
    }
    most
}

/// The most that were there at one instant, each from the one to the other of its instants.
pub fn most_at_once(stays: &[Within]) -> u64 {
    let mut steps: Vec<(Nanos, i64)> = stays
        .iter()
        .filter(|stay| stay.from < stay.to)
        .flat_map(|stay| [(stay.from, 1), (stay.to, -1)])
        .collect();
    // Who leaves makes room for who comes at the same instant.
    steps.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, step) in steps {
        now += step;
        most = most.max(now);
    }
    u64::try_from(most).unwrap_or(0)
}

/// The most that the counter grew by between two readings that were both made within a window.
pub fn most_counted(readings: &[Reading], window: Nanos) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for last in readings {
        while readings[first].at.from + window < last.at.to {
            first += 1;
        }
        // The counter begins anew with another owner.
        let since = readings[first..].iter().take_while(|reading| reading.at.from < last.at.from);
        let lowest = since.map(|reading| reading.admitted).min().unwrap_or(last.admitted);
        most = most.max(last.admitted.saturating_sub(lowest));
    }
    most
}

/// Second by second from zero until the end; `seen` are the instants at which somebody learned that they may enter.
pub fn seconds(zero: Nanos, end: Nanos, readings: &[Reading], seen: &[Nanos]) -> Vec<Second> {
    let second = |at: Nanos| at.saturating_sub(zero) / SECOND;
    let times = readings.iter().map(Reading::middle).chain(seen.iter().copied()).map(second);
    // A second that had only begun needs no reading.
    let Some(last) = times.chain(second(end).checked_sub(1)).max() else { return Vec::new() };
    let mut counts = vec![0; usize::try_from(last).unwrap_or(0) + 1];
    for at in seen {
        counts[usize::try_from(second(*at)).unwrap_or(0)] += 1;
    }
    let each = (0u64..).zip(counts).map(|(at, seen)| {
        let (begin, end) = (zero + at * SECOND, zero + (at + 1) * SECOND);
        let first = readings.get(readings.partition_point(|reading| reading.middle() < begin));
        let reading = first.filter(|reading| reading.middle() < end);
        Second {
            at,
            counted: grown(readings, begin, end),
            waiting: reading.map(|reading| reading.waiting),
            active: reading.map(|reading| reading.active),
            seen,
        }
    });
    each.collect()
}

/// By how much the counter grew per second within a second: evenly between two readings, so that a second without one
/// has its part of what the next one finds. `None` where it began anew, or readings lie around less than half of it.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn grown(readings: &[Reading], begin: Nanos, end: Nanos) -> Option<f64> {
    let begin = begin.max(readings.first()?.middle());
    let end = end.min(readings.last()?.middle());
    let took = end.checked_sub(begin).filter(|took| *took >= SECOND / 2)?;
    let before = readings.partition_point(|reading| reading.middle() <= begin).checked_sub(1)?;
    let after = readings.partition_point(|reading| reading.middle() < end);
    let around = readings.get(before..=after)?;
    if !around.is_sorted_by_key(|reading| reading.admitted) {
        return None;
    }
    let grown: f64 = around
        .windows(2)
        .map(|pair| {
            let (from, to) = (pair[0].middle(), pair[1].middle());
            let part =
                end.min(to).saturating_sub(begin.max(from)) as f64 / to.saturating_sub(from).max(1) as f64;
            (pair[1].admitted - pair[0].admitted) as f64 * part
        })
        .sum();
    Some(grown * SECOND as f64 / took as f64)
}

/// How fast a gate let people in while it could.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Full {
    /// Of each second.
    pub rates: Vec<f64>,
    /// Of these seconds, those without a reading.
    pub unread: u64,
    /// Seconds of which nobody can say it: the counter began anew, or no reading came before the line ran dry.
    pub left_out: u64,
}

/// The seconds at whose beginning and end at least so many waited, and fewer were inside than may be. Whoever cannot be
/// asked for a while was as full as before, if it is full when it answers again: a gate that stalls has no gap, it is slow.
pub fn full(seconds: &[Second], enough: u64, ceiling: u64) -> Full {
    let is_full = |second: &Second| {
        let read = second.waiting.zip(second.active);
        read.map(|(waiting, active)| waiting >= enough && active < ceiling)
    };
    let Some(last) = seconds.iter().rposition(|second| is_full(second) == Some(true)) else {
        return Full::default();
    };
    let mut found = Full::default();
    let mut now = false;
    for (place, pair) in seconds.windows(2).enumerate() {
        now = is_full(&pair[0]).unwrap_or(now);
        if !now || is_full(&pair[1]) == Some(false) {
            continue;
        }
        match pair[0].counted.filter(|_| place < last) {
            Some(rate) => {
                found.rates.push(rate);
                found.unread += u64::from(pair[0].waiting.is_none());
            }
            None => found.left_out += 1,
        }
    }
    found
}

impl Reading {
    /// It was made within the request; nobody knows when.
    fn middle(&self) -> Nanos {
        self.at.from.midpoint(self.at.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Draws;

    fn within(from: Nanos, to: Nanos) -> Within {
        Within { from, to }
    }

    #[test]
    fn what_lies_in_a_window_for_certain_is_counted() {
        for (events, most) in [
            (vec![], 0),
            (vec![(5, 6)], 1),
            (vec![(0, 1), (5, 6), (9, 9)], 3),
            // The last one may have been later.
            (vec![(0, 1), (5, 6), (9, 10)], 2),
            (vec![(0, 100), (0, 100)], 0),
            (vec![(3, 3), (3, 3), (3, 3), (20, 20)], 3),
        ] {
            let spans: Vec<Within> = events.iter().map(|(from, to)| within(*from, *to)).collect();
            assert_eq!(most_within(&spans, 10).0, most, "{events:?}");
        }
    }

    #[test]
    fn windows_are_what_trying_all_of_them_finds() {
        let mut draws = Draws::new(3, 1);
        for _ in 0..20 {
            let mut span = || {
                let from = u64::from(draws.below(200));
                within(from, from + u64::from(draws.below(15)))
            };
            let events: Vec<Within> = (0..60).map(|_| span()).collect();
            let inside =
                |start| events.iter().filter(|event| event.from >= start && event.to < start + 10).count();
            let expected = (0..200).map(inside).max().unwrap_or(0) as u64;
            assert_eq!(most_within(&events, 10).0, expected);
        }
    }

    #[test]
    fn those_inside_at_once() {
        for (stays, most) in [
            (vec![], 0),
            (vec![(0, 5), (5, 9)], 1),
            (vec![(0, 5), (4, 9), (4, 6)], 3),
            (vec![(7, 3), (2, 2)], 0),
        ] {
            let stays: Vec<Within> = stays.into_iter().map(|(from, to)| within(from, to)).collect();
            assert_eq!(most_at_once(&stays), most, "{stays:?}");
        }
    }

    fn reading(at: Nanos, admitted: u64) -> Reading {
        Reading { at: within(at, at + 10), admitted, waiting: admitted * 2, active: 7 }
    }

    #[test]
    fn a_counter_proves_what_happened_between_two_readings() {
        for (readings, most) in [
            (vec![], 0),
            (vec![(0, 5)], 0),
            (vec![(0, 0), (500, 40), (980, 100), (1_500, 130)], 100),
            // Only the one before the restart and the one after it may not be compared.
            (vec![(0, 1_000), (500, 3), (900, 30)], 27),
        ] {
            let readings: Vec<Reading> =
                readings.into_iter().map(|(at, admitted)| reading(at, admitted)).collect();
            assert_eq!(most_counted(&readings, 1_000), most, "{readings:?}");
        }
    }

    #[test]
    fn seconds_have_what_was_counted_and_what_was_seen() {
        let readings = [(0, 0), (1, 100), (3, 500)].map(|(at, admitted)| reading(SECOND * at, admitted));
        let found = seconds(5, 5 * SECOND, &readings, &[6, SECOND + 5, SECOND + 6]);
        let figures: Vec<_> =
            found.iter().map(|second| (second.at, second.counted, second.waiting, second.seen)).collect();
        assert_eq!(
            figures,
            [
                (0, Some(100.0), Some(0), 1),
                (1, Some(200.0), Some(200), 2),
                (2, Some(200.0), None, 0),
                (3, None, Some(1_000), 0)
            ]
        );
        assert!(seconds(0, 0, &[], &[]).is_empty());
    }

    /// Tenths of a second, and the counter.
    fn told(readings: &[(u64, u64)]) -> Vec<Reading> {
        let reading = |(at, admitted): &(u64, u64)| Reading {
            at: within(at * SECOND / 10, at * SECOND / 10),
            admitted: *admitted,
            waiting: 1_000 - admitted,
            active: 0,
        };
        readings.iter().map(reading).collect()
    }

    #[test]
    fn a_stall_is_slow_and_no_gap() {
        let full_of = |readings: &[(u64, u64)], end| {
            full(&seconds(0, end * SECOND, &told(readings), &[]), 100, u64::MAX)
        };
        let known = |rates: &[f64], unread, left_out| Full { rates: rates.to_vec(), unread, left_out };
        for (readings, end, expected) in [
            // Without a hole.
            (&[(0, 0), (10, 100), (20, 200), (30, 300)][..], 3, known(&[100.0; 3], 0, 0)),
            // It stood still for 3 s, and answered then: nothing, or at last a part of it.
            (
                &[(0, 0), (10, 100), (19, 100), (50, 100), (60, 200)],
                6,
                known(&[100.0, 0.0, 0.0, 0.0, 0.0, 100.0], 3, 0),
            ),
            (
                &[(0, 0), (10, 100), (20, 200), (60, 300), (70, 400)],
                7,
                known(&[100.0, 100.0, 25.0, 25.0, 25.0, 25.0, 100.0], 3, 0),
            ),
            // Another owner's counter begins anew.
            (&[(0, 0), (10, 100), (20, 50), (30, 150)], 3, known(&[100.0, 100.0], 0, 1)),
            // Nobody knows whether it was slow, or the line dry: what was before is not judged by it.
            (&[(0, 0), (10, 100), (20, 200), (60, 990), (70, 1_000)], 7, known(&[100.0, 100.0], 0, 3)),
            // It never answered again.
            (&[(0, 0), (10, 100), (20, 200)], 5, known(&[100.0, 100.0], 0, 2)),
            // The line was dry before: it is not slow.
            (&[(0, 0), (10, 1_000), (50, 1_000)], 6, known(&[], 0, 0)),
            (&[], 5, Full::default()),
        ] {
            assert_eq!(full_of(readings, end), expected, "{readings:?}");
        }
    }
}

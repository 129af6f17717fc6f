//! What the viewers saw, for the report, and what it proves.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::audience::{Audience, Seen};
use super::board::{Board, Map};
use crate::recorder::{histogram, nanos};
use crate::report::distribution;
use crate::report::model::{Check, Fanout};

/// What the viewers say of a run, and what it proves.
pub struct Findings {
    pub fanout: Fanout,
    pub checks: Vec<Check>,
}

/// Of clicks that every viewer saw, in nanoseconds from due.
struct Delays {
    first: Histogram<u64>,
    last: Histogram<u64>,
    clicks: u64,
    /// Clicks that the reference saw never, or not every viewer.
    missed: u64,
}

impl Findings {
    /// `fresh` is the map as a public read has it after the run; `since` the end of the warm-up.
    pub fn of(audience: &Audience, seen: &Seen, fresh: &Map, since: Instant) -> Self {
        let reference = audience.reference();
        let delays = Delays::of(&reference.board, seen, audience.count, since);
        let (frames, bytes) = seen.sightings.traffic(since);
        let fanout = Fanout {
            viewers: audience.count,
            changes: delays.clicks,
            frames,
            bytes,
            gaps: seen.gaps,
            snapshots: seen.snapshots,
            click_to_last_viewer: distribution(&delays.last),
            click_to_first_viewer: distribution(&delays.first),
            histogram: delays.last,
        };
        let behind = format!("{} of {} viewers are not at {}", seen.behind, audience.count, fresh.at);
        let missed = format!("{} of {} clicks were not seen by everybody", delays.missed, delays.clicks);
        let checks = vec![
            check("the feed had no gaps", seen.gaps == 0, vec![format!("{} gaps", seen.gaps)]),
            check("every viewer stayed", seen.lost.is_empty(), first(&seen.lost)),
            check("every viewer saw the last change", seen.behind == 0, vec![behind]),
            check("every viewer saw every click", delays.missed == 0, vec![missed]),
            check(
                "a viewer's map is the one that everybody can read",
                reference.map == *fresh,
                reference.map.differences(fresh),
            ),
        ];
        Self { fanout, checks }
    }
}

/// Details are those of a failure.
fn check(what: &str, passed: bool, details: Vec<String>) -> Check {
    Check { what: what.to_owned(), passed, details: if passed { Vec::new() } else { details } }
}

fn first(sentences: &[String]) -> Vec<String> {
    sentences.iter().take(5).cloned().collect()
}

impl Delays {
    fn of(board: &Board, seen: &Seen, viewers: u64, since: Instant) -> Self {
        let reached = seen.sightings.reached();
        let mut delays = Self { first: histogram(), last: histogram(), clicks: 0, missed: 0 };
        for click in board.clicks(since) {
            delays.clicks += 1;
            match click.seen.and_then(|at| reached.at(at)).filter(|seen| seen.viewers == viewers) {
                Some(seen) => {
                    let after = |at: Instant| nanos(at.saturating_duration_since(click.due));
                    delays.first.saturating_record(after(seen.first));
                    delays.last.saturating_record(after(seen.last));
                }
                None => delays.missed += 1,
            }
        }
        delays
    }
}

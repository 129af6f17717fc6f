//! Who saw how far the map had come, and when. Pure.
//!
//! Thousands of viewers get the same frames, so what is kept is not a line for each of them but a count for each kind
//! of step, from one position to another. Whoever makes a longer step than others, because the server merged frames
//! for somebody slow, saw at its end everything that others saw in between.

use std::collections::HashMap;
use std::time::Instant;

use crate::frames::{Frame, Position};

/// Steps, each with those who made it.
#[derive(Clone, Debug, Default)]
pub struct Sightings(HashMap<(Position, Position), Seen>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub viewers: u64,
    /// Of all their frames.
    pub bytes: u64,
    pub first: Instant,
    pub last: Instant,
}

/// One viewer's way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Viewer {
    /// Nothing before the first snapshot.
    pub has: Option<Position>,
    /// Frames that did not begin where it was, or led back.
    pub gaps: u64,
    /// Beside the first.
    pub snapshots: u64,
}

/// Positions at which any viewer was, ascending, each with those who got there or past it.
#[derive(Clone, Debug)]
pub struct Reached(Vec<(Position, Option<Seen>)>);

impl Viewer {
    /// Goes where a frame leads.
    pub fn follow(&mut self, frame: &Frame<'_>, bytes: u64, at: Instant, sightings: &mut Sightings) {
        let to = frame.to();
        if let Some(has) = self.has {
            match frame {
                Frame::Map { .. } => self.snapshots += 1,
                Frame::Changes { from, to, .. } => self.gaps += u64::from(*from != has || to < from),
            }
            sightings.add((has, to), Seen { viewers: 1, bytes, first: at, last: at });
        }
        self.has = Some(to);
    }
}

impl Sightings {
    fn add(&mut self, step: (Position, Position), seen: Seen) {
        self.0.entry(step).and_modify(|so_far| so_far.merge(seen)).or_insert(seen);
    }

    pub fn add_all(&mut self, other: &Self) {
        for (step, seen) in &other.0 {
            self.add(*step, *seen);
        }
    }

    /// Frames and their bytes since an instant.
    pub fn traffic(&self, since: Instant) -> (u64, u64) {
        let measured = self.0.values().filter(|seen| seen.first >= since);
        measured.fold((0, 0), |(frames, bytes), seen| (frames + seen.viewers, bytes + seen.bytes))
    }

    pub fn reached(&self) -> Reached {
        let mut reached: Vec<(Position, Option<Seen>)> = self.0.keys().map(|(_, to)| (*to, None)).collect();
        reached.sort_unstable_by_key(|(position, _)| *position);
        reached.dedup_by_key(|(position, _)| *position);
        for ((from, to), seen) in &self.0 {
            let begin = reached.partition_point(|(position, _)| position <= from);
            let end = reached.partition_point(|(position, _)| position <= to);
            // Empty for a step back, which is a gap.
            for (_, so_far) in reached.get_mut(begin..end).into_iter().flatten() {
                match so_far {
                    Some(so_far) => so_far.merge(*seen),
                    None => *so_far = Some(*seen),
                }
            }
        }
        Reached(reached)
    }
}

impl Seen {
    fn merge(&mut self, other: Self) {
        self.viewers += other.viewers;
        self.bytes += other.bytes;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl Reached {
    /// `None` when nobody was at that position.
    pub fn at(&self, position: Position) -> Option<Seen> {
        let place = self.0.binary_search_by_key(&position, |(position, _)| *position).ok()?;
        self.0[place].1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn position(seq: u64) -> Position {
        // Every hundred is an epoch.
        Position { epoch: seq / 100, seq: seq % 100 }
    }

    /// Steps `viewer: from..to @millisecond`, or `viewer: to @millisecond` for a snapshot.
    struct World {
        start: Instant,
        viewers: Vec<Viewer>,
        sightings: Sightings,
    }

    impl World {
        fn after(steps: &str) -> Self {
            let mut world = Self { start: Instant::now(), viewers: vec![], sightings: Sightings::default() };
            for step in steps.split_terminator(',') {
                let (viewer, step) = step.trim().split_once(": ").unwrap();
                let (step, at) = step.split_once(" @").unwrap();
                let viewer: usize = viewer.parse().unwrap();
                let number = |text: &str| position(text.parse().unwrap());
                let frame = match step.split_once("..") {
                    Some((from, to)) => Frame::Changes { from: number(from), to: number(to), set: &[] },
                    None => Frame::Map { at: number(step), seats: 0, packed: &[] },
                };
                if world.viewers.len() <= viewer {
                    world.viewers.resize(viewer + 1, Viewer::default());
                }
                let at = world.start + Duration::from_millis(at.parse().unwrap());
                world.viewers[viewer].follow(&frame, 10, at, &mut world.sightings);
            }
            world
        }

        /// `position=viewers:first-last` of each asked for.
        fn reached(&self, positions: &[u64]) -> String {
            let reached = self.sightings.reached();
            let millis = |at: Instant| (at - self.start).as_millis();
            let one = |seq: &u64| match reached.at(position(*seq)) {
                Some(seen) => {
                    format!("{seq}={}:{}-{}", seen.viewers, millis(seen.first), millis(seen.last))
                }
                None => format!("{seq}=nobody"),
            };
            positions.iter().map(one).collect::<Vec<_>>().join(" ")
        }

        fn gaps(&self) -> u64 {
            self.viewers.iter().map(|viewer| viewer.gaps).sum()
        }

        fn snapshots(&self) -> u64 {
            self.viewers.iter().map(|viewer| viewer.snapshots).sum()
        }
    }

    #[test]
    fn who_got_where_and_when() {
        let cases = [
            ("everybody the same", "0: 5 @0, 1: 5 @0, 0: 5..8 @10, 1: 5..8 @12", "8=2:10-12"),
            (
                "a merged frame covers what is in it",
                "0: 5 @0, 1: 5 @0, 0: 5..8 @10, 0: 8..9 @20, 1: 5..9 @25",
                "8=2:10-25 9=2:20-25",
            ),
            (
                "also when the merged one comes first",
                "0: 5 @0, 1: 5 @0, 1: 5..9 @20, 0: 5..8 @21, 0: 8..9 @22",
                "8=2:20-21 9=2:20-22",
            ),
            (
                "one lags",
                "0: 5 @0, 1: 5 @0, 0: 5..8 @10, 0: 8..9 @20, 1: 5..8 @30",
                "8=2:10-30 9=1:20-20 7=nobody",
            ),
            (
                "who joined later is not counted before",
                "0: 5 @0, 0: 5..8 @1, 1: 8 @2, 1: 8..9 @3",
                "8=1:1-1 9=1:3-3",
            ),
            (
                "another epoch goes on",
                "0: 98 @0, 1: 98 @0, 0: 98..101 @5, 1: 98..99 @6, 1: 99..101 @7",
                "99=2:5-6 101=2:5-7",
            ),
            (
                "a snapshot is a step as well",
                "0: 5 @0, 1: 5 @0, 0: 5..8 @10, 1: 9 @15",
                "8=2:10-15 9=1:15-15",
            ),
        ];
        for (name, steps, expected) in cases {
            let positions: Vec<u64> =
                expected.split(' ').map(|one| one.split('=').next().unwrap().parse().unwrap()).collect();
            let world = World::after(steps);
            assert_eq!(world.reached(&positions), expected, "{name}");
            assert_eq!(world.gaps(), 0, "{name}");
        }
    }

    #[test]
    fn gaps_and_snapshots_are_counted() {
        for (steps, gaps, snapshots) in [
            ("0: 5 @0, 0: 5..8 @1, 0: 8..9 @2", 0, 0),
            ("0: 5 @0, 0: 6..8 @1, 0: 8..9 @2", 1, 0),
            ("0: 5 @0, 0: 4..8 @1", 1, 0),
            ("0: 5 @0, 0: 5..3 @1", 1, 0),
            ("0: 5 @0, 0: 9 @1, 0: 9..10 @2", 0, 1),
            ("0: 5 @0, 0: 9 @1, 0: 5..10 @2", 1, 1),
            ("0: 5 @0, 1: 7 @0, 0: 7..8 @1, 1: 7..8 @1", 1, 0),
        ] {
            let world = World::after(steps);
            assert_eq!((world.gaps(), world.snapshots()), (gaps, snapshots), "{steps}");
        }
    }

    #[test]
    fn parts_are_added_up() {
        let mut one = World::after("0: 5 @0, 0: 5..8 @10, 0: 8..9 @20");
        let other = World { start: one.start, ..World::after("0: 5 @0, 0: 5..8 @0") };
        one.sightings.add_all(&other.sightings);
        assert_eq!(one.sightings.reached().at(position(8)).unwrap().viewers, 2);
        assert_eq!(one.sightings.traffic(one.start), (3, 30));
        assert_eq!(one.sightings.traffic(one.start + Duration::from_millis(15)), (1, 10));
    }
}

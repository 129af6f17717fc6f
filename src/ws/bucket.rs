//! How much of something is put up with.

use std::time::Duration;

use tokio::time::Instant;

/// Fills by a rate up to a brim, and is taken from. Time is an argument.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    level: f32,
    at: Instant,
}

/// How fast a bucket fills, in pieces a second, and how many it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f32,
    pub brim: f32,
}

impl Bucket {
    /// Full.
    pub const fn new(now: Instant, rate: Rate) -> Self {
        Self { level: rate.brim, at: now }
    }

    /// Takes so many, or says that there are not so many left.
    pub fn take(&mut self, now: Instant, rate: Rate, pieces: f32) -> bool {
        let passed = now.saturating_duration_since(self.at).min(Duration::from_secs(3_600));
        self.level = (self.level + passed.as_secs_f32() * rate.per_second).min(rate.brim);
        self.at = now;
        self.level -= pieces;
        self.level >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_it_holds_and_fills_again() {
        let rate = Rate { per_second: 10.0, brim: 20.0 };
        let start = Instant::now();
        let mut bucket = Bucket::new(start, rate);
        // (milliseconds from the start, pieces, whether there were so many)
        let rows = [
            (0, 20.0, true),
            (0, 1.0, false),
            (200, 1.0, true),
            (10_000, 20.0, true),
            (10_000, 1.0, false),
            (9_000, 1.0, false),
        ];
        for (ms, pieces, given) in rows {
            let now = start + Duration::from_millis(ms);
            assert_eq!(bucket.take(now, rate, pieces), given, "{pieces} after {ms} ms");
        }
    }
}

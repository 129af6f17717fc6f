//! Which rate to try next: up until the objective breaks, then ever closer from both sides.
//!
//! It knows nothing of servers: what was measured goes in, the next rate comes out. A rate counts as broken when it
//! broke twice, since one hiccup of the machine is not the server's limit.

/// Factors between rates while one side is not known yet.
const UP: f64 = 1.3;
const DOWN: f64 = 0.6;
/// A server that breaks at this part of the first rate breaks at once.
const LOWEST: f64 = 0.02;
/// Close enough: the lowest rate that broke, over the highest that kept.
const CLOSE: f64 = 1.05;
/// Around the knee there are so many different rates, within this share of it.
const NEAR_POINTS: usize = 5;
const NEAR: f64 = 0.2;
/// Where they are put, as parts of the knee, and how far from those that are there.
const PLACES: [f64; 6] = [0.9, 1.1, 0.85, 1.15, 0.95, 0.82];
const APART: f64 = 0.02;
/// However noisy the machine is.
const TRIES_MAX: usize = 30;

/// What became of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Kept,
    Broken,
    /// The generator could not offer it, so nothing is known about the server.
    Limited,
}

/// A rate that was measured.
pub type Tried = (f64, Outcome);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Measure this rate.
    Try(f64),
    Found(Conclusion),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conclusion {
    /// The highest rate that kept the objective, below one that broke it.
    Knee(f64),
    /// It kept at the highest rate that was to be tried.
    NeverBroke(f64),
    /// It kept up to here, and the generator could offer no more.
    GeneratorLimited(Option<f64>),
    /// It broke even at this rate.
    BrokeAtOnce(f64),
    /// The same rate keeps and breaks, whichever way one looks.
    TooNoisy,
}

#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The first rate.
    pub start: f64,
    /// None is higher.
    pub max: f64,
}

impl Search {
    /// From all that was tried so far, in that order.
    pub fn next(&self, tried: &[Tried]) -> Step {
        let start = self.start.min(self.max);
        let Some(last) = tried.last() else { return Step::Try(start) };
        let bracket = Bracket::of(tried);
        if verdict(tried, last.0).is_none() {
            // Again: it may have been a hiccup.
            return Step::Try(last.0);
        }
        if tried.len() >= TRIES_MAX {
            return Step::Found(bracket.conclude());
        }
        let Bracket { kept, broken, limited } = bracket;
        // No higher rate says more.
        let upper = [broken, limited].into_iter().flatten().reduce(f64::min);
        match (kept, upper) {
            (None, upper) => {
                let rate = upper.unwrap_or(self.max) * DOWN;
                if rate < self.start * LOWEST { Step::Found(bracket.conclude()) } else { Step::Try(rate) }
            }
            (Some(kept), Some(upper)) if upper / kept > CLOSE => Step::Try(middle(kept, upper)),
            (Some(kept), Some(_)) => match missing(kept, self.max, tried) {
                Some(rate) if broken.is_some() => Step::Try(rate),
                _ => Step::Found(bracket.conclude()),
            },
            (Some(kept), None) if kept >= self.max => Step::Found(Conclusion::NeverBroke(kept)),
            (Some(kept), None) => Step::Try((kept * UP).min(self.max)),
        }
    }
}

/// What is known of the rates: below, above, and beyond what the generator can do.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    /// The highest that kept below all that broke.
    kept: Option<f64>,
    /// The lowest that broke.
    broken: Option<f64>,
    /// Of those above `kept`, the lowest that could not be offered.
    limited: Option<f64>,
}

impl Bracket {
    fn of(tried: &[Tried]) -> Self {
        let rates = |wanted| {
            let rates = tried.iter().map(|(rate, _)| *rate);
            rates.filter(move |rate| verdict(tried, *rate) == Some(wanted))
        };
        let broken = rates(Outcome::Broken).reduce(f64::min);
        let kept =
            rates(Outcome::Kept).filter(|rate| broken.is_none_or(|broken| *rate < broken)).reduce(f64::max);
        let limited =
            rates(Outcome::Limited).filter(|rate| kept.is_none_or(|kept| *rate > kept)).reduce(f64::min);
        Self { kept, broken, limited }
    }

    /// When no further rate is tried.
    fn conclude(self) -> Conclusion {
        match self {
            Self { kept: Some(kept), broken: Some(_), .. } => Conclusion::Knee(kept),
            Self { kept, broken: None, limited: Some(_) } => Conclusion::GeneratorLimited(kept),
            Self { kept: None, broken: Some(broken), .. } => Conclusion::BrokeAtOnce(broken),
            _ => Conclusion::TooNoisy,
        }
    }
}

/// One good measurement of a rate is enough; bad ones are needed twice, and the same way. `None` until then.
fn verdict(tried: &[Tried], rate: f64) -> Option<Outcome> {
    let count = |wanted| tried.iter().filter(|(of, outcome)| *of == rate && *outcome == wanted).count();
    if count(Outcome::Kept) > 0 {
        return Some(Outcome::Kept);
    }
    [Outcome::Broken, Outcome::Limited].into_iter().find(|bad| count(*bad) >= 2)
}

/// In proportion, since a rate twice as high is as far as one half as high.
fn middle(low: f64, high: f64) -> f64 {
    (low * high).sqrt()
}

/// A rate near the knee at which there is no point yet, while there are too few.
fn missing(knee: f64, max: f64, tried: &[Tried]) -> Option<f64> {
    let mut near: Vec<f64> =
        tried.iter().map(|(rate, _)| *rate).filter(|rate| (rate / knee - 1.0).abs() <= NEAR).collect();
    near.sort_by(f64::total_cmp);
    near.dedup();
    if near.len() >= NEAR_POINTS {
        return None;
    }
    let free = |rate: &f64| *rate <= max && near.iter().all(|other| (rate - other).abs() > APART * knee);
    PLACES.iter().map(|part| part * knee).find(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Draws;

    /// Tries until something is found.
    fn run(search: Search, mut server: impl FnMut(f64) -> Outcome) -> (Conclusion, Vec<Tried>) {
        let mut tried = Vec::new();
        loop {
            match search.next(&tried) {
                Step::Try(rate) => {
                    assert!(rate > 0.0 && rate <= search.max, "{rate}");
                    tried.push((rate, server(rate)));
                }
                Step::Found(conclusion) => return (conclusion, tried),
            }
            assert!(tried.len() <= TRIES_MAX + 1, "{tried:?}");
        }
    }

    fn breaks_at(knee: f64) -> impl FnMut(f64) -> Outcome {
        move |rate| if rate <= knee { Outcome::Kept } else { Outcome::Broken }
    }

    fn near(knee: f64, tried: &[Tried]) -> usize {
        let mut rates: Vec<u64> = tried
            .iter()
            .filter(|(rate, _)| (rate / knee - 1.0).abs() <= NEAR)
            .map(|(rate, _)| rate.to_bits())
            .collect();
        rates.sort_unstable();
        rates.dedup();
        rates.len()
    }

    #[test]
    fn the_knee_is_found_from_wherever_the_search_begins() {
        for knee in [150.0, 900.0, 1_000.0, 1_001.0, 5_000.0, 40_000.0] {
            let (found, tried) = run(Search { start: 1_000.0, max: 100_000.0 }, breaks_at(knee));
            let Conclusion::Knee(found) = found else { panic!("{knee}: {found:?} {tried:?}") };
            assert!(found <= knee && found * CLOSE >= knee, "{knee}: {found} {tried:?}");
            assert!(near(found, &tried) >= NEAR_POINTS, "{knee}: {tried:?}");
            assert!(tried.len() <= 26, "{knee}: {} tries", tried.len());
        }
    }

    #[test]
    fn a_server_that_never_breaks_is_not_said_to_have_a_knee() {
        let search = Search { start: 1_000.0, max: 5_000.0 };
        assert_eq!(run(search, |_| Outcome::Kept).0, Conclusion::NeverBroke(5_000.0));
        let search = Search { start: 9_000.0, max: 5_000.0 };
        assert_eq!(run(search, |_| Outcome::Kept).0, Conclusion::NeverBroke(5_000.0));
    }

    #[test]
    fn a_server_that_breaks_at_once_is_left_alone_soon() {
        let (found, tried) = run(Search { start: 1_000.0, max: 5_000.0 }, |_| Outcome::Broken);
        assert!(matches!(found, Conclusion::BrokeAtOnce(rate) if rate < 40.0), "{found:?}");
        assert!(tried.len() <= 18, "{tried:?}");
    }

    #[test]
    fn what_the_generator_cannot_offer_is_not_the_servers_limit() {
        let limit = |generator: f64, server: f64| {
            move |rate: f64| match rate {
                rate if rate > generator => Outcome::Limited,
                rate if rate > server => Outcome::Broken,
                _ => Outcome::Kept,
            }
        };
        let search = Search { start: 1_000.0, max: 100_000.0 };
        let (found, tried) = run(search, limit(3_000.0, 9_000.0));
        let Conclusion::GeneratorLimited(Some(kept)) = found else { panic!("{found:?} {tried:?}") };
        assert!(kept <= 3_000.0 && kept * CLOSE >= 3_000.0, "{kept}");
        assert_eq!(run(search, |_| Outcome::Limited).0, Conclusion::GeneratorLimited(None));
        // The server's knee is below.
        for generator in [3_000.0, 2_500.0] {
            let (found, tried) = run(search, limit(generator, 2_000.0));
            let Conclusion::Knee(knee) = found else { panic!("{found:?} {tried:?}") };
            assert!(knee <= 2_000.0 && knee * CLOSE >= 2_000.0, "{knee} {tried:?}");
        }
    }

    #[test]
    fn a_generator_that_hiccups_below_a_broken_rate_hides_no_knee() {
        let mut tries = 0;
        let (found, tried) = run(Search { start: 3_500.0, max: 100_000.0 }, |rate| {
            tries += 1;
            match rate {
                rate if rate <= 4_000.0 => Outcome::Kept,
                rate if rate < 4_200.0 || tries % 4 == 0 => Outcome::Limited,
                _ => Outcome::Broken,
            }
        });
        assert!(
            matches!(found, Conclusion::Knee(knee) if knee <= 4_000.0 && knee * CLOSE >= 3_900.0),
            "{found:?} {tried:?}"
        );
    }

    #[test]
    fn a_hiccup_is_not_a_knee() {
        let mut hiccups = 0;
        let (found, _) = run(Search { start: 1_000.0, max: 100_000.0 }, |rate| {
            hiccups += 1;
            // Every third measurement is disturbed.
            if rate > 4_000.0 || hiccups % 3 == 2 { Outcome::Broken } else { Outcome::Kept }
        });
        assert!(
            matches!(found, Conclusion::Knee(knee) if knee <= 4_000.0 && knee * CLOSE >= 4_000.0),
            "{found:?}"
        );
    }

    #[test]
    fn a_blurred_knee_is_found_within_its_blur() {
        for seed in 1..50 {
            let mut draws = Draws::new(seed, 1);
            // Below 3,400 it keeps, above 4,600 it breaks, between by chance.
            let (found, tried) = run(Search { start: 1_000.0, max: 100_000.0 }, |rate| {
                let chance = (rate - 3_400.0) / 1_200.0;
                if draws.fraction() < chance { Outcome::Broken } else { Outcome::Kept }
            });
            let Conclusion::Knee(knee) = found else { panic!("seed {seed}: {found:?} {tried:?}") };
            assert!((3_200.0..4_700.0).contains(&knee), "seed {seed}: {knee} {tried:?}");
        }
    }
}

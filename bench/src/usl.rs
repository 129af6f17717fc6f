//! The Universal Scalability Law, fitted to what was measured.
//!
//! Throughput of N users at once is `X(N) = λN / (1 + σ(N-1) + κN(N-1))`: λ is what one user gets, σ what they wait for
//! each other, κ what they have to agree about (Gunther, "A Simple Capacity Model of Massively Parallel Transaction
//! Systems", 1993).

use crate::report::model::Law;

/// Fewer points than parameters say nothing.
const POINTS_MIN: usize = 3;
/// The grid from which the search begins: decades of σ and κ, so many steps in each.
const SIGMA_DECADES: (i32, i32) = (-5, 1);
const KAPPA_DECADES: (i32, i32) = (-9, 0);
const STEPS_PER_DECADE: i32 = 4;
/// The search ends when its steps are so small.
const PRECISION: f64 = 1e-10;
const ROUNDS_MAX: usize = 20_000;
/// What changes the highest measured throughput by less than this share is nothing.
const NOTHING: f64 = 1e-6;

/// How many users at once, and the throughput they had.
pub type Point = (f64, f64);

/// σ and κ; λ follows from them.
#[derive(Clone, Copy)]
struct Shape {
    sigma: f64,
    kappa: f64,
}

/// Least squares over λ > 0, σ ≥ 0, κ ≥ 0. `None` when there are too few different numbers of users.
pub fn fit(points: &[Point]) -> Option<Law> {
    let mut users: Vec<f64> = points.iter().map(|(users, _)| *users).collect();
    users.sort_by(f64::total_cmp);
    users.dedup();
    let all_fine = points.iter().all(|(users, rate)| *users >= 1.0 && rate.is_finite() && *rate > 0.0);
    if users.len() < POINTS_MIN || !all_fine {
        return None;
    }
    let most = users.last().copied()?;
    let shape = refine(points, coarse(points)).without_traces(most);
    let (lambda, error) = scale(points, shape);
    let Shape { sigma, kappa } = shape;
    let law = Law {
        lambda,
        sigma,
        kappa,
        peak_users: None,
        peak_per_second: 0.0,
        r_squared: r_squared(points, error),
    };
    let peak_users = (kappa > 0.0).then(|| ((1.0 - sigma).max(0.0) / kappa).sqrt().max(1.0));
    let peak_per_second = match peak_users {
        Some(peak) => throughput(&law, peak),
        // It comes ever closer to this.
        None if sigma > 0.0 => lambda / sigma,
        None => throughput(&law, most),
    };
    Some(Law { peak_users, peak_per_second, ..law })
}

/// What the law says of so many users.
pub fn throughput(law: &Law, users: f64) -> f64 {
    law.lambda * Shape { sigma: law.sigma, kappa: law.kappa }.of(users)
}

impl Shape {
    /// Throughput as a multiple of λ.
    fn of(self, users: f64) -> f64 {
        users / (1.0 + self.sigma * (users - 1.0) + self.kappa * users * (users - 1.0))
    }

    /// The search comes ever closer to zero; a peak at a million users is none.
    fn without_traces(self, most: f64) -> Self {
        let or_nothing = |value: f64, times: f64| if value * times < NOTHING { 0.0 } else { value };
        let pairs = most * (most - 1.0);
        Self { sigma: or_nothing(self.sigma, most - 1.0), kappa: or_nothing(self.kappa, pairs) }
    }
}

/// The best λ for a shape (it is linear), and the sum of the squares that remain.
fn scale(points: &[Point], shape: Shape) -> (f64, f64) {
    let (mut product, mut square) = (0.0, 0.0);
    for (users, rate) in points {
        let of = shape.of(*users);
        product += of * rate;
        square += of * of;
    }
    let lambda = product / square;
    let error = points.iter().map(|(users, rate)| (rate - lambda * shape.of(*users)).powi(2)).sum();
    (lambda, error)
}

fn coarse(points: &[Point]) -> Shape {
    let values = |(from, to): (i32, i32)| {
        let steps = from * STEPS_PER_DECADE..=to * STEPS_PER_DECADE;
        std::iter::once(0.0)
            .chain(steps.map(|step| 10f64.powf(f64::from(step) / f64::from(STEPS_PER_DECADE))))
    };
    let shapes = values(SIGMA_DECADES)
        .flat_map(|sigma| values(KAPPA_DECADES).map(move |kappa| Shape { sigma, kappa }));
    let better = |best: (Shape, f64), shape: Shape| {
        let error = scale(points, shape).1;
        if error < best.1 { (shape, error) } else { best }
    };
    shapes.fold((Shape { sigma: 0.0, kappa: 0.0 }, f64::INFINITY), better).0
}

/// Goes to the best of the eight neighbours while one is better, and looks closer when none is.
fn refine(points: &[Point], mut shape: Shape) -> Shape {
    let mut best = scale(points, shape).1;
    let mut step = Shape { sigma: shape.sigma.max(1e-3), kappa: shape.kappa.max(1e-6) };
    for _ in 0..ROUNDS_MAX {
        let before = best;
        let from = shape;
        for (right, up) in
            [(1., 0.), (-1., 0.), (0., 1.), (0., -1.), (1., -1.), (-1., 1.), (1., 1.), (-1., -1.)]
        {
            let near = Shape {
                sigma: (from.sigma + right * step.sigma).max(0.0),
                kappa: (from.kappa + up * step.kappa).max(0.0),
            };
            let error = scale(points, near).1;
            if error < best {
                (shape, best) = (near, error);
            }
        }
        if best == before {
            step = Shape { sigma: step.sigma / 2.0, kappa: step.kappa / 2.0 };
            if step.sigma < PRECISION && step.kappa < PRECISION * 1e-3 {
                break;
            }
        }
    }
    shape
}

#[expect(clippy::cast_precision_loss, reason = "a handful of points")]
fn r_squared(points: &[Point], error: f64) -> f64 {
    let mean = points.iter().map(|(_, rate)| rate).sum::<f64>() / points.len() as f64;
    let all: f64 = points.iter().map(|(_, rate)| (rate - mean).powi(2)).sum();
    if all > 0.0 { 1.0 - error / all } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Draws;

    const USERS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

    /// Points of a law, each off by up to a share of itself.
    fn points(lambda: f64, sigma: f64, kappa: f64, noise: f64) -> Vec<Point> {
        let mut draws = Draws::new(7, 1);
        let shape = Shape { sigma, kappa };
        USERS
            .map(|users| (users, lambda * shape.of(users) * (1.0 + noise * (2.0 * draws.fraction() - 1.0))))
            .to_vec()
    }

    /// Within a share of the expected value, or within a tiny bit of zero.
    fn assert_near(found: f64, expected: f64, share: f64, what: &str) {
        assert!(
            (found - expected).abs() <= share * expected.abs() + 1e-7,
            "{what}: {found} is not {expected}"
        );
    }

    #[test]
    fn exact_points_give_their_parameters_back() {
        for (lambda, sigma, kappa) in [
            (1_000.0, 0.05, 0.000_1),
            (995.65, 0.026_71, 0.000_769),
            (20_000.0, 0.3, 0.002),
            (50.0, 0.9, 0.01),
            (1_000.0, 0.05, 0.0),
            (1_000.0, 0.0, 0.001),
            (1_000.0, 0.0, 0.0),
        ] {
            let law = fit(&points(lambda, sigma, kappa, 0.0)).unwrap();
            let what = format!("λ {lambda} σ {sigma} κ {kappa}: {law:?}");
            assert_near(law.lambda, lambda, 1e-4, &what);
            assert_near(law.sigma, sigma, 1e-3, &what);
            assert_near(law.kappa, kappa, 1e-3, &what);
            assert!(law.r_squared > 0.999_999, "{what}");
        }
    }

    #[test]
    fn noisy_points_give_nearly_the_same_curve() {
        for (lambda, sigma, kappa) in [(1_000.0, 0.05, 0.000_1), (20_000.0, 0.3, 0.002), (1_000.0, 0.02, 0.0)]
        {
            let law = fit(&points(lambda, sigma, kappa, 0.05)).unwrap();
            for users in USERS {
                let expected = lambda * Shape { sigma, kappa }.of(users);
                assert_near(throughput(&law, users), expected, 0.1, &format!("{users} users: {law:?}"));
            }
            assert!(law.r_squared > 0.95, "{law:?}");
        }
    }

    #[test]
    fn the_peak_is_where_agreeing_costs_more_than_a_user_brings() {
        let law = fit(&points(1_000.0, 0.04, 0.000_6, 0.0)).unwrap();
        assert_near(law.peak_users.unwrap(), 40.0, 1e-3, "√((1 - 0.04) / 0.0006)");
        assert_near(law.peak_per_second, throughput(&law, 40.0), 1e-6, "at the peak");
        // With contention alone there is none, only a limit.
        let law = fit(&points(1_000.0, 0.04, 0.0, 0.0)).unwrap();
        assert_eq!(law.peak_users, None);
        assert_near(law.peak_per_second, 25_000.0, 1e-2, "λ / σ");
        let law = fit(&points(1_000.0, 0.0, 0.0, 0.0)).unwrap();
        assert_eq!(law.peak_users, None);
        assert_near(law.peak_per_second, 256_000.0, 1e-3, "as far as was measured");
        // Users who only wait for each other are best alone.
        let law = fit(&[(1.0, 100.0), (2.0, 50.0), (4.0, 25.0), (8.0, 12.0)]).unwrap();
        assert_eq!(law.peak_users, Some(1.0), "{law:?}");
    }

    #[test]
    fn too_little_says_nothing() {
        assert!(fit(&[]).is_none());
        assert!(fit(&[(1.0, 10.0), (2.0, 20.0)]).is_none());
        assert!(fit(&[(1.0, 10.0), (2.0, 20.0), (2.0, 21.0)]).is_none(), "the same users twice");
        assert!(fit(&[(1.0, 10.0), (2.0, 0.0), (4.0, 20.0)]).is_none(), "a server that did nothing");
        assert!(fit(&[(1.0, 10.0), (2.0, 20.0), (4.0, f64::NAN)]).is_none());
        assert!(fit(&[(1.0, 10.0), (2.0, 20.0), (4.0, 40.0)]).is_some());
    }
}

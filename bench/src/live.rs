//! What a person sees while a run lasts: a view that moves on a terminal, a line now and then in a file.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::lock::lock;
use crate::report::numbers;

/// How often the view of a terminal changes.
const FRAME: Duration = Duration::from_millis(200);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// Positions of the bar.
const STEPS: u64 = 1_000;

/// A run at one instant. Latencies are milliseconds, rates per second, both of the last moments.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Since the start, warm-up included.
    pub elapsed: Duration,
    /// How long it will last, when that is known.
    pub total: Option<Duration>,
    /// `None` in a closed loop.
    pub offered: Option<f64>,
    pub answered: f64,
    pub p50: f64,
    pub p99: f64,
    /// Since the start.
    pub failed: u64,
    pub progress: Option<Progress>,
}

/// `seats sold 41,200 of 100,000`.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub what: &'static str,
    pub done: u64,
    pub all: u64,
}

/// The view. It is over when it is finished or dropped.
pub struct Live {
    view: View,
    /// The elapsed time from which the next snapshot is shown.
    next: Mutex<Duration>,
}

enum View {
    Hidden,
    Lines,
    Bar(ProgressBar),
}

impl Live {
    /// On standard error.
    pub fn new(title: &str) -> Self {
        if !stderr().is_terminal() {
            eprintln!("{title}");
            return Self { view: View::Lines, next: Mutex::new(LINE) };
        }
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
        let template = "{prefix:.bold}\n{bar:24.red/dim} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━─"));
        }
        bar.set_prefix(title.to_owned());
        bar.tick();
        Self { view: View::Bar(bar), next: Mutex::default() }
    }

    /// Shows nothing: for tests and for runs inside a run.
    pub fn hidden() -> Self {
        Self { view: View::Hidden, next: Mutex::default() }
    }

    /// Costs next to nothing when it is too early for a new picture.
    pub fn moment(&self, snapshot: &Snapshot) {
        match &self.view {
            View::Hidden => {}
            View::Lines => {
                if self.is_due(snapshot.elapsed, LINE) {
                    eprintln!("{}", line(snapshot));
                }
            }
            View::Bar(bar) => {
                if self.is_due(snapshot.elapsed, FRAME) {
                    bar.set_position(position(snapshot));
                    bar.set_message(below(snapshot));
                }
            }
        }
    }

    /// Leaves the terminal as it was. Nothing is shown after this.
    pub fn finish(&self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }

    fn is_due(&self, elapsed: Duration, every: Duration) -> bool {
        let mut next = lock(&self.next);
        let due = elapsed >= *next;
        if due {
            // On the beat, however late this one is.
            *next = every * u32::try_from(elapsed.as_nanos() / every.as_nanos() + 1).unwrap_or(u32::MAX);
        }
        due
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `12.0 s  answered 9,812/s of 10,000/s  p50 0.4 ms  p99 2.1 ms  failed 0  seats sold 41,200 of 100,000  2 s left`.
fn line(snapshot: &Snapshot) -> String {
    let mut parts = vec![numbers::seconds(snapshot.elapsed.as_secs_f64())];
    parts.extend(figures(snapshot));
    parts.extend(snapshot.progress.map(|progress| progress.text()));
    parts.extend(left(snapshot));
    parts.join("  ")
}

/// Beside and under the bar.
fn below(snapshot: &Snapshot) -> String {
    let mut first = vec![numbers::seconds(snapshot.elapsed.as_secs_f64())];
    first.extend(left(snapshot));
    first.extend(snapshot.progress.map(|progress| progress.text()));
    format!("{}\n{}", first.join(" · "), figures(snapshot).join("   "))
}

fn figures(snapshot: &Snapshot) -> Vec<String> {
    let offered = snapshot.offered.map(|rate| format!(" of {}/s", numbers::fixed(rate, 0)));
    vec![
        format!("answered {}/s{}", numbers::fixed(snapshot.answered, 0), offered.unwrap_or_default()),
        format!("p50 {} ms", brief(snapshot.p50)),
        format!("p99 {} ms", brief(snapshot.p99)),
        format!("failed {}", numbers::count(snapshot.failed)),
    ]
}

/// Few digits, so that the eye may rest while they change.
fn brief(millis: f64) -> String {
    let decimals = match millis {
        ..0.1 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    numbers::fixed(millis, decimals)
}

fn left(snapshot: &Snapshot) -> Option<String> {
    let elapsed = snapshot.elapsed.as_secs_f64();
    let by_clock = snapshot.total.map(|total| total.as_secs_f64() - elapsed);
    let by_progress = || {
        let part = snapshot.progress?.part();
        (part > 0.01).then(|| elapsed / part - elapsed)
    };
    let left = by_clock.or_else(by_progress)?.max(0.0).round();
    Some(if left >= 120.0 {
        format!("{} left", numbers::seconds(left))
    } else {
        format!("{} s left", numbers::fixed(left, 0))
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of STEPS")]
#[expect(clippy::cast_precision_loss, reason = "a thousand")]
fn position(snapshot: &Snapshot) -> u64 {
    let by_clock = |total: Duration| snapshot.elapsed.as_secs_f64() / total.as_secs_f64().max(f64::EPSILON);
    let part = match (snapshot.progress, snapshot.total) {
        (Some(progress), _) => progress.part(),
        (None, Some(total)) => by_clock(total),
        (None, None) => 0.0,
    };
    (part.clamp(0.0, 1.0) * STEPS as f64) as u64
}

impl Progress {
    fn text(self) -> String {
        format!("{} {} of {}", self.what, numbers::count(self.done), numbers::count(self.all))
    }

    #[expect(clippy::cast_precision_loss, reason = "a part of a bar")]
    fn part(self) -> f64 {
        self.done as f64 / self.all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(12),
            total: Some(Duration::from_secs(14)),
            offered: Some(10_000.0),
            answered: 9_812.4,
            p50: 0.41,
            p99: 2.13,
            failed: 0,
            progress: Some(Progress { what: "seats sold", done: 41_200, all: 100_000 }),
        }
    }

    #[test]
    fn a_line_says_everything() {
        assert_eq!(
            line(&snapshot()),
            "12.0 s  answered 9,812/s of 10,000/s  p50 0.4 ms  p99 2.1 ms  failed 0  \
             seats sold 41,200 of 100,000  2 s left"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let closed = Snapshot { total: None, offered: None, progress: None, p50: f64::NAN, ..snapshot() };
        assert_eq!(line(&closed), "12.0 s  answered 9,812/s  p50 – ms  p99 2.1 ms  failed 0");
        let nothing_sold = Progress { what: "seats sold", done: 0, all: 0 };
        let text = line(&Snapshot { progress: Some(nothing_sold), ..closed });
        assert!(text.ends_with("seats sold 0 of 0"), "{text}");
    }

    #[test]
    fn without_a_clock_the_progress_says_how_long() {
        let half = Progress { what: "seats sold", done: 500, all: 1_000 };
        let snapshot = Snapshot { total: None, progress: Some(half), ..snapshot() };
        assert_eq!(left(&snapshot).as_deref(), Some("12 s left"));
        assert_eq!(position(&snapshot), 500);
        let long = Snapshot { elapsed: Duration::from_secs(150), ..snapshot };
        assert_eq!(left(&long).as_deref(), Some("2 min 30 s left"));
    }

    #[test]
    fn one_line_in_five_seconds() {
        let live = Live { view: View::Lines, next: Mutex::new(LINE) };
        let shown = |millis: u64| live.is_due(Duration::from_millis(millis), LINE);
        assert_eq!(
            [4_900, 5_100, 5_300, 9_999, 10_000, 31_000, 34_999, 35_000].map(shown),
            [false, true, false, false, true, true, false, true]
        );
    }
}

//! How far a command is: bars on a terminal, and lines elsewhere where somebody waits for many things.

use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `length` things. Hidden by itself where standard error is no terminal.
pub(super) fn bar(what: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {human_pos}/{human_len} {eta:>4}")
        .expect("the template is constant");
    ProgressBar::new(length).with_style(style).with_message(what.to_owned())
}

/// Something that takes its time, of unknown length.
pub(super) fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// How far things are that a server does: a bar, and where standard error is no terminal, and they are several, a line
/// whenever more are done.
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    length: u64,
    done: u64,
}

impl Progress {
    pub(super) fn new(what: &'static str, length: u64) -> Self {
        let style = ProgressStyle::with_template("{msg:24} {wide_bar} {human_pos}/{human_len} {prefix}")
            .expect("the template is constant");
        let bar = ProgressBar::new(length).with_style(style).with_message(what);
        Self { bar, what, length, done: 0 }
    }

    /// So many are done, and the rest takes so long as far as that can be told.
    pub(super) fn show(&mut self, done: u64, left: Option<Duration>) {
        let left = left.map(|left| format!("{:.1} s left", left.as_secs_f64()));
        self.bar.set_prefix(left.clone().unwrap_or_default());
        self.bar.set_position(done);
        if self.bar.is_hidden() && done > self.done && self.length > 1 {
            let left =
                left.filter(|_| done < self.length).map(|left| format!(", {left}")).unwrap_or_default();
            // Nobody is left to hear that standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}: {done} of {}{left}", self.what, self.length);
        }
        self.done = done;
    }

    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

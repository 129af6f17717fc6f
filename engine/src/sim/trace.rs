//! What happened, in lines, for whoever has to find out why.

use std::collections::VecDeque;

/// How much of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: lines are not even formatted.
    Nothing,
    /// The newest lines.
    Last(usize),
    All,
}

/// The lines of one run.
pub struct Trace {
    keep: Keep,
    lines: VecDeque<String>,
}

impl Trace {
    #[must_use]
    pub const fn new(keep: Keep) -> Self {
        Self { keep, lines: VecDeque::new() }
    }

    pub fn line(&mut self, line: impl FnOnce() -> String) {
        match self.keep {
            Keep::Nothing => return,
            Keep::Last(count) => {
                while self.lines.len() >= count {
                    self.lines.pop_front();
                }
            }
            Keep::All => {}
        }
        self.lines.push_back(line());
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

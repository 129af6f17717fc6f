//! What is wrong with a configuration: where, which key, what was expected, what was found.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, the environment variable or the flag; empty where several settings together are wrong.
    pub source: String,
    /// `section.key`; empty where the whole source is wrong.
    pub key: String,
    /// What was expected and what was found.
    pub what: String,
}

impl ConfigError {
    pub(crate) fn new(source: impl Into<String>, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { source: source.into(), key: key.into(), what: what.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.source, &self.key] {
            if !place.is_empty() {
                write!(f, "{place}: ")?;
            }
        }
        f.write_str(&self.what)
    }
}

/// Everything that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<ConfigError>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<ConfigError> for Problems {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// The candidate that was most likely meant, by Levenshtein distance; `None` when none is near.
pub(super) fn nearest<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (distance(wrong, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(wrong.len()) / 2)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named() {
        let keys = ["hold.ttl", "paying.ttl", "select.ttl", "select.max_age"];
        let near = |wrong| nearest(wrong, keys.into_iter());
        assert_eq!(near("hold.tttl"), Some("hold.ttl"));
        assert_eq!(near("select.maxage"), Some("select.max_age"));
        assert_eq!(near("zzzzzzzzzzzzzz"), None);
    }
}

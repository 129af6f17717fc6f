//! A point of an option's feed, as clients name it: `3.1042`.

use std::fmt;
use std::str::FromStr;

use engine::Epoch;

/// A point of an option's feed. `Display` and `FromStr` as `EPOCH.SEQ`; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub epoch: Epoch,
    /// How many changes of the option the epoch has seen.
    pub seq: u64,
}

/// Not two whole numbers with a point between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is EPOCH.SEQ, such as 3.1042")]
pub struct NotAPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (epoch, seq) = text.split_once('.').ok_or(NotAPosition)?;
        Ok(Self { epoch: Epoch(number(epoch)?), seq: number(seq)? })
    }
}

fn number(digits: &str) -> Result<u64, NotAPosition> {
    // `parse` would also take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotAPosition);
    }
    digits.parse().map_err(|_| NotAPosition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_two_numbers_with_a_point() {
        for text in ["3.1042", "0.0", "1.18446744073709551615"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in ["", ".", "3", "3.", ".7", "3.-1", "+3.1", "3.1.2", " 3.1", "3.1 ", "3,1", "a.b", "3.1e2"]
        {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text:?}");
        }
        assert_eq!("1.18446744073709551616".parse::<Position>(), Err(NotAPosition));
    }
}

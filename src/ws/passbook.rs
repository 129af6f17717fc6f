//! The passes that a socket has shown: one per concert, good when they were shown.

use engine::{ConcertId, UserId};
use tokio::time::Instant;

use crate::pass::Shown;

/// Passes that one socket keeps. With more, the oldest is forgotten.
const PASSES: usize = 16;

/// Oldest first. Most sockets have none.
#[derive(Debug, Default)]
pub struct Passbook(Vec<(Shown, Instant)>);

impl Passbook {
    /// Takes a pass that is good until `ends`, in the place of another one of its concert.
    pub fn put(&mut self, shown: Shown, ends: Instant) {
        self.0.retain(|(other, _)| other.concert != shown.concert);
        if self.0.len() == PASSES {
            self.0.remove(0);
        }
        self.0.push((shown, ends));
    }

    /// The pass that opens a concert to a user, or to whoever it was given to, and until when.
    pub fn find(&self, concert: ConcertId, user: Option<UserId>) -> Option<(Shown, Instant)> {
        self.0.iter().copied().find(|(shown, _)| shown.is_for(concert, user))
    }
}

#[cfg(test)]
mod tests {
    use engine::{PassId, Time};

    use super::*;

    fn shown(concert: u64, user: u64, pass: u64) -> Shown {
        Shown { pass: PassId(pass), user: UserId(user), concert: ConcertId(concert), ends_at: Time(0) }
    }

    #[test]
    fn a_concert_has_one_pass_and_a_socket_sixteen() {
        let (mut book, now) = (Passbook::default(), Instant::now());
        let find = |book: &Passbook, concert, user: Option<u64>| {
            book.find(ConcertId(concert), user.map(UserId)).map(|(shown, _)| shown.pass.0)
        };
        book.put(shown(1, 9, 10), now);
        assert_eq!((find(&book, 1, Some(9)), find(&book, 1, None)), (Some(10), Some(10)));
        assert_eq!((find(&book, 1, Some(8)), find(&book, 2, Some(9))), (None, None));
        book.put(shown(1, 9, 11), now);
        assert_eq!(find(&book, 1, Some(9)), Some(11), "the newer one");
        for concert in 2..=16 {
            book.put(shown(concert, 9, concert), now);
        }
        assert_eq!(find(&book, 1, None), Some(11));
        book.put(shown(17, 9, 17), now);
        assert_eq!(
            (find(&book, 1, None), find(&book, 2, None), find(&book, 17, None)),
            (None, Some(2), Some(17))
        );
        // Again is no further one.
        book.put(shown(17, 9, 18), now);
        assert_eq!((find(&book, 2, None), find(&book, 17, None)), (Some(2), Some(18)));
    }
}

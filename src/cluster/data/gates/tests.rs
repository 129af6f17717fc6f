//! Who tells of a gate, and what is asked for.

use engine::gate::Tick;

use super::*;

const CONCERT: ConcertId = ConcertId(1);

fn line() -> actors::gates::Line {
    actors::gates::Line { tick: Tick::default(), bitmaps: Vec::new(), pace: None, has_ranks: true }
}

fn view() -> News {
    News::View(line())
}

fn tick() -> News {
    News::Tick(line())
}

fn set(concerts: &[u64]) -> Arc<BTreeSet<ConcertId>> {
    Arc::new(concerts.iter().copied().map(ConcertId).collect())
}

/// What goes out for it: gone, and come.
fn turned(listening: &mut Listening, to: &Arc<BTreeSet<ConcertId>>) -> Option<(Vec<u64>, Vec<u64>)> {
    let ids = |concerts: BTreeSet<ConcertId>| concerts.into_iter().map(|concert| concert.0).collect();
    listening.turn_to(to.clone()).map(|(gone, come)| (ids(gone), ids(come)))
}

#[test]
fn a_peer_hears_what_has_changed() {
    let mut listening = Listening::default();
    assert_eq!(turned(&mut listening, &set(&[])), None);
    let both = set(&[1, 2]);
    assert_eq!(turned(&mut listening, &both), Some((vec![], vec![1, 2])));
    assert_eq!(turned(&mut listening, &both), None);
    assert_eq!(turned(&mut listening, &set(&[2, 1])), None, "the same in another place");
    assert_eq!(turned(&mut listening, &set(&[2, 3])), Some((vec![1], vec![3])));
    assert_eq!(turned(&mut listening, &set(&[])), Some((vec![2, 3], vec![])));
}

#[test]
fn the_last_view_says_who_tells() {
    let tellers = Tellers::default();
    assert!(!tellers.count(CONCERT, "old", &tick()), "nobody has told a view");
    assert!(tellers.count(CONCERT, "old", &view()));
    assert!(tellers.count(CONCERT, "old", &tick()));
    assert!(tellers.count(CONCERT, "new", &view()));
    assert!(!tellers.count(CONCERT, "old", &tick()));
    assert!(tellers.count(CONCERT, "new", &tick()));
    tellers.forget(&set(&[1]));
    assert!(!tellers.count(CONCERT, "new", &tick()));
}

/// The old owner's view was on its way for so long that it came after the new owner's.
#[test]
fn an_owner_whose_view_was_overtaken_is_asked_for_another_once() {
    let (tellers, mut new) = (Tellers::default(), Listening::default());
    let followed = set(&[1]);
    let mut told = |news: &News| {
        let counts = tellers.count(CONCERT, "new", news);
        new.told(CONCERT, news, counts);
        (counts, turned(&mut new, &followed))
    };
    let begins = Some((vec![], vec![1]));
    assert_eq!(told(&view()), (true, begins));
    assert_eq!(told(&tick()), (true, None));
    assert!(tellers.count(CONCERT, "old", &view()));
    let again = Some((vec![1], vec![1]));
    assert_eq!(told(&tick()), (false, again.clone()));
    assert_eq!(told(&tick()), (false, None), "it was asked");
    assert_eq!(told(&view()), (true, None));
    assert_eq!(told(&tick()), (true, None));
    // And once more.
    assert!(tellers.count(CONCERT, "old", &view()));
    assert_eq!(told(&tick()), (false, again));
}

#[test]
fn whoever_is_followed_no_more_is_not_asked_again() {
    let mut listening = Listening::default();
    assert_eq!(turned(&mut listening, &set(&[1])), Some((vec![], vec![1])));
    listening.told(CONCERT, &tick(), false);
    assert_eq!(turned(&mut listening, &set(&[])), Some((vec![1], vec![])));
    listening.told(CONCERT, &tick(), false);
    assert_eq!(turned(&mut listening, &set(&[2])), Some((vec![], vec![2])));
}

use super::*;

fn hello(node: &str, id: u128) -> Hello {
    Hello::new(1, node, id, &format!("http://{node}"), &format!("{node}:7400"))
}

fn beat(version: u64) -> Beat {
    Beat { version, draining: false, ledger_away: None, shards: vec![(3, version)] }
}

/// A book of `me` in which `b` is up over session 1, and its first second.
fn book() -> (Book, impl Fn(u64) -> Instant) {
    let base = Instant::now();
    let mut book = Book::new(hello("me", 1));
    book.welcome(1, &hello("b", 2), &beat(1), base);
    (book, move |millis| base + Duration::from_millis(millis))
}

fn state(book: &Book, id: u128) -> Option<State> {
    book.members().peers.into_iter().find(|member| member.id == id).map(|member| member.state)
}

#[test]
fn three_unanswered_beats_are_silence_and_a_sign_of_life_starts_anew() {
    let (mut book, at) = book();
    assert!(!book.missed(1, at(1_000)) && !book.missed(1, at(2_000)));
    book.heard(2, &beat(1), None, at(2_100));
    assert!(!book.missed(1, at(3_000)) && !book.missed(1, at(4_000)));
    assert_eq!(state(&book, 2), Some(State::Up));
    assert!(book.missed(1, at(5_000)));
    assert_eq!(state(&book, 2), Some(State::Silent));
    // The session is closed because of that, which proves nothing.
    book.ended(1, 2, End::Ours, at(5_000));
    book.settle(at(9_000));
    assert_eq!(state(&book, 2), Some(State::Silent));
    book.welcome(2, &hello("b", 2), &beat(1), at(10_000));
    assert_eq!(state(&book, 2), Some(State::Up));
    assert!(!book.missed(2, at(11_000)), "forgiven");
}

#[test]
fn how_a_session_ended_is_evidence_or_none() {
    for (end, expected) in [
        (End::Closed, State::Gone(Gone::Closed)),
        (End::Reset, State::Gone(Gone::Reset)),
        (End::Lost, State::Silent),
        (End::Ours, State::Silent),
    ] {
        let (mut book, at) = book();
        book.ended(1, 2, end, at(100));
        book.settle(at(399));
        assert_eq!(state(&book, 2), Some(State::Up), "{end:?}: it may be replaced");
        book.settle(at(400));
        assert_eq!(state(&book, 2), Some(expected), "{end:?}");
    }
}

#[test]
fn the_loser_of_two_sessions_ends_without_a_trace() {
    let (mut book, at) = book();
    book.ended(1, 2, End::Closed, at(100));
    book.welcome(2, &hello("b", 2), &beat(1), at(300));
    book.settle(at(1_000));
    assert_eq!(state(&book, 2), Some(State::Up));
    // The other way round: the winner is there first.
    book.welcome(3, &hello("b", 2), &beat(1), at(1_100));
    book.ended(2, 2, End::Closed, at(1_200));
    book.settle(at(2_000));
    assert_eq!(state(&book, 2), Some(State::Up));
}

#[test]
fn who_said_goodbye_has_left() {
    let (mut book, at) = book();
    book.left(2, at(100));
    book.ended(1, 2, End::Closed, at(110));
    book.settle(at(1_000));
    assert_eq!(state(&book, 2), Some(State::Gone(Gone::Left)));
}

#[test]
fn the_news_is_not_undone_by_an_older_answer() {
    let (mut book, at) = book();
    let away = Beat { ledger_away: Some(250), draining: true, ..beat(5) };
    assert!(book.heard(2, &away, Some(at(980)), at(1_000)));
    assert!(!book.heard(2, &beat(4), Some(at(990)), at(1_001)));
    let member = book.members().peers.remove(0);
    assert_eq!(member.ledger, Reach::Away { since: at(750) });
    assert_eq!((member.draining, member.shards, member.seen), (true, vec![(3, 5)], at(980)));
    // It is known, and what comes by itself may be old.
    assert!(!book.heard(2, &away, None, at(9_000)));
    assert_eq!(book.members().peers[0].seen, at(980));
    assert!(!book.heard(2, &beat(6), None, at(9_002)));
    assert_eq!(book.members().peers[0].ledger, Reach::Reaches);
}

#[test]
fn a_node_that_was_started_again_is_one_member() {
    let (mut book, at) = book();
    assert_eq!(book.judge(&hello("b", 3)), Err(TWO_B.to_owned()), "the old one is there");
    book.ended(1, 2, End::Closed, at(100));
    assert_eq!(book.judge(&hello("b", 3)), Ok(()));
    book.welcome(2, &hello("b", 3), &beat(1), at(500));
    assert_eq!((state(&book, 2), state(&book, 3)), (None, Some(State::Up)));
}

const TWO_B: &str = "two nodes are called b, one at b:7400 and one at b:7400: give one of them another node.name and \
                     start it again";

#[test]
fn who_does_not_belong_here_is_told_what_to_do() {
    let (book, _) = book();
    let other_protocol = |min, max| Hello { protocol_min: min, protocol_max: max, ..hello("c", 3) };
    for (hello, expected) in [
        (hello("c", 3), None),
        (hello("b", 2), None),
        (other_protocol(1, 9), None),
        (
            Hello { cluster_id: 2, ..hello("c", 3) },
            Some(
                "the node c at c:7400 belongs to another cluster (its ledger is another one): give it the ledger.url of \
                 this cluster, or take it out of cluster.peers",
            ),
        ),
        (
            Hello { build: "9.0.0".to_owned(), ..other_protocol(2, 3) },
            Some(
                "the node c (version 9.0.0) speaks protocol 2 at least, the node me (version 0.1.0) 1 at most: upgrade \
                 me, one version at a time",
            ),
        ),
        (
            Hello { build: "0.0.1".to_owned(), ..other_protocol(0, 0) },
            Some(
                "the node me (version 0.1.0) speaks protocol 1 at least, the node c (version 0.0.1) 0 at most: upgrade \
                 c, one version at a time",
            ),
        ),
        (hello("b", 3), Some(TWO_B)),
        (
            Hello { peer_url: "x:1".to_owned(), ..hello("me", 3) },
            Some(
                "two nodes are called me, one at me:7400 and one at x:1: give one of them another node.name and start it \
                 again",
            ),
        ),
    ] {
        assert_eq!(book.judge(&hello).err().as_deref(), expected, "{hello:?}");
    }
}

#[test]
fn a_refusal_is_news_once_and_ends_with_a_welcome() {
    let (mut book, at) = book();
    assert!(book.refuse(&hello("c", 3), "no", at(0)));
    assert!(!book.refuse(&hello("c", 3), "no", at(5_000)));
    assert!(book.refuse(&hello("c", 3), "never", at(5_000)));
    assert_eq!(state(&book, 3), Some(State::Refused("never".to_owned())));
    book.heard(3, &beat(1), None, at(5_001));
    assert_eq!(state(&book, 3), Some(State::Refused("never".to_owned())), "it is not listened to");
    book.welcome(7, &hello("c", 3), &beat(1), at(6_000));
    assert_eq!(state(&book, 3), Some(State::Up));
}

#[test]
fn who_said_hello_may_ask_until_the_session_ends() {
    let (mut book, at) = book();
    assert!(book.knows(2) && !book.knows(3));
    book.greeted(3);
    assert!(book.knows(3) && state(&book, 3).is_none());
    book.ended(7, 3, End::Closed, at(10));
    assert!(!book.knows(3));
    book.greeted(3);
    book.refuse(&hello("c", 3), "no", at(20));
    assert!(!book.knows(3));
    book.ended(1, 2, End::Closed, at(30));
    book.settle(at(1_000));
    assert!(!book.knows(2));
}

#[test]
fn an_address_is_unmet_until_somebody_answers_there() {
    let (mut book, _) = book();
    book.look_for("b:7400");
    book.look_for("c:7400");
    book.met("b:7400", 2);
    assert!(book.not_met("c:7400", "refused") && !book.not_met("c:7400", "refused"));
    let unmet = |book: &Book| book.members().unmet;
    assert_eq!(unmet(&book), [Unmet { address: "c:7400".to_owned(), why: "refused".to_owned() }]);
    // Its member says more than the address now.
    assert!(!book.not_met("b:7400", "refused"));
    assert_eq!(unmet(&book).len(), 1);
    book.stop_looking("c:7400");
    assert_eq!(unmet(&book), []);
}

#[test]
fn who_is_gone_is_remembered_while_configured_and_for_ten_minutes() {
    let (mut book, at) = book();
    book.look_for("b:7400");
    book.met("b:7400", 2);
    book.ended(1, 2, End::Closed, at(0));
    book.settle(at(1_000));
    book.settle(at(10_000_000));
    assert!(state(&book, 2).is_some());
    book.stop_looking("b:7400");
    book.settle(at(600_999));
    assert!(state(&book, 2).is_some());
    book.settle(at(601_000));
    assert_eq!(state(&book, 2), None);
}

#[test]
fn what_peers_must_hear_at_once() {
    let (_, at) = book();
    let status = Status { draining: false, ledger: Reach::Reaches, shards: vec![(1, 1)] };
    let away = |since| Status { ledger: Reach::Away { since: at(since) }, ..status.clone() };
    assert!(!status.is_news(&status.clone()));
    assert!(away(1).is_news(&status) && status.is_news(&away(1)) && !away(2).is_news(&away(1)));
    assert!(Status { draining: true, ..status.clone() }.is_news(&status));
    assert!(Status { shards: vec![(1, 2)], ..status.clone() }.is_news(&status));
    assert_eq!(
        away(100).beat(7, at(350)),
        Beat { version: 7, ledger_away: Some(250), shards: vec![(1, 1)], ..beat(7) }
    );
}

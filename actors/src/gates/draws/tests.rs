//! The numbers of `docs/draw.md`, and a driver against a ledger that obeys the port and can be made to fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use engine::gate::draw::{DrawRecord, is_included, verify};
use engine::gate::{Draw, Mode};
use engine::{Epoch, ShardId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::clock::LedgerClock;
use crate::gates::ports::{Admitted, DrawStage, Drawn, Fence, GateLedger, GateRow, HistoryRow, Written};
use crate::lock::lock;
use crate::ports::LedgerError;

const CONCERT: ConcertId = ConcertId(7);
const CHAIN: BeaconChain = BeaconChain { genesis: Time(1_000_000_000), period: Span::from_secs(3) };

fn settled(first: u32, count: u32, user: u64) -> Settled {
    let entrants = (0..count).map(|n| (Turn(first + n), UserId(user + u64::from(n)))).collect();
    Settled { first: Turn(first), upto: Turn(first + count), entrants }
}

/// The draw of the page.
fn page() -> DrawRow {
    let from = |first: u8| {
        let mut bytes = first..;
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    };
    commit(CONCERT, 1, Time(500), from(0), from(32))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_numbers_are_those_of_the_page() {
    let page_text = include_str!("../../../../docs/draw.md");
    let says = |what: &str, value: &str| {
        let row = page_text.lines().find(|line| line.starts_with(&format!("| {what} |")));
        let row = row.unwrap_or_else(|| panic!("no row of {what}"));
        assert!(row.contains(&format!("`{value}`")), "{what} is {value}, but the page says {row}");
    };
    let row = page();
    says("commitment", &hex(&commitment(&row)));
    says("salt of user 100", &hex(&salt(&row, UserId(100))));
    let frozen = freeze(&row, &settled(10, 11, 100), || Time(1_000), None);
    let published = frozen.frozen.as_ref().unwrap();
    says("leaf of turn 10", &hex(&leaves(&frozen, &published.entrants)[0]));
    says("root of all eleven", &hex(&published.root));
    let five = freeze(&row, &settled(10, 5, 100), || Time(1_000), None);
    says("root of the first five", &hex(&five.frozen.unwrap().root));

    let mut trusted = frozen.clone();
    trusted.drawn = Some(Drawn { at: Time(2_000), beacon: None });
    says("order, no beacon", &format!("{:?}", indexes(&trusted).unwrap()));
    assert_eq!(trust(&trusted), Some(Trust::Operator));
    let turns: Vec<u32> = order(&trusted).unwrap().iter().map(|turn| turn.0).collect();
    assert_eq!(turns, [10, 17, 13, 15, 12, 16, 18, 14, 19, 11, 20]);

    let mut drawn = frozen;
    drawn.frozen.as_mut().unwrap().round = Some((4_242, Time(9_000)));
    assert_eq!((trust(&drawn), indexes(&drawn), order(&drawn)), (None, None, None));
    drawn.drawn = Some(Drawn { at: Time(9_001), beacon: Some([0xbe; 32]) });
    says("order, round 4242 with value `be be … be`", &format!("{:?}", indexes(&drawn).unwrap()));
    assert_eq!(trust(&drawn), Some(Trust::Beacon));
    // The round was named, and given up.
    drawn.drawn = Some(Drawn { at: Time(9_001), beacon: None });
    assert_eq!((trust(&drawn), indexes(&drawn)), (Some(Trust::Operator), indexes(&trusted)));
}

#[test]
fn the_round_is_due_two_periods_after_the_root_or_later() {
    let second = |seconds: i64| CHAIN.genesis + Span::from_secs(seconds);
    // Published at, round, due at: seconds after the genesis.
    for (published, round, due) in [(0, 3, 6), (1, 4, 9), (3, 4, 9), (4, 5, 12), (-6, 1, 0), (-5, 2, 3)] {
        assert_eq!(CHAIN.round_after(second(published)), (round, second(due)), "{published}");
    }
    assert_eq!(CHAIN.round_after(Time(0)), (1, CHAIN.genesis), "long before");
    let (_, due) = CHAIN.round_after(second(0) + Span(1));
    assert_eq!(due, second(9), "a microsecond later");
}

#[test]
fn what_was_published_stands_until_a_turn_is_anothers() {
    let published = freeze(&page(), &settled(10, 4, 100), || Time(1), None).frozen.unwrap();
    let check = |case: &str, first: u32, upto: u32, entrants: &[(u32, u64)], expected: bool| {
        let entrants = entrants.iter().map(|(turn, user)| (Turn(*turn), UserId(*user))).collect();
        let settled = Settled { first: Turn(first), upto: Turn(upto), entrants };
        assert_eq!(stands(&published, &settled), expected, "{case}");
    };
    check("the same", 10, 14, &[(10, 100), (11, 101), (12, 102), (13, 103)], true);
    check("some have left", 10, 14, &[(11, 101), (13, 103)], true);
    check("all have left", 10, 14, &[], true);
    check("another's turn", 10, 14, &[(10, 100), (11, 102)], false);
    check("another's last turn", 10, 14, &[(13, 100)], false);
    check("other bounds", 9, 14, &[(10, 100)], false);
    check("other end", 10, 15, &[(10, 100)], false);
    let gap = Settled {
        first: Turn(10),
        upto: Turn(14),
        entrants: vec![(Turn(10), UserId(100)), (Turn(12), UserId(102))],
    };
    let sparse = freeze(&page(), &gap, || Time(1), None).frozen.unwrap();
    assert!(stands(&sparse, &settled(10, 4, 100)), "somebody was brought back");
}

#[test]
fn entrants_that_are_settled_stay_settled() {
    let frozen = freeze(&page(), &settled(10, 4, 100), || Time(1), Some(CHAIN));
    assert_eq!(freeze(&frozen, &settled(0, 2, 7), || Time(2), None), frozen);
}

/// One draw's row, as the port has it.
#[derive(Default)]
struct Book {
    row: Mutex<Option<DrawRow>>,
    saved: Mutex<Vec<&'static str>>,
    /// How many calls fail before one works.
    fail: AtomicU64,
    /// The next save is done, and nobody hears of it.
    unheard: AtomicU64,
    fenced: AtomicU64,
}

fn takes(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn away() -> LedgerError {
    LedgerError::Unavailable("asked to fail".into())
}

#[async_trait]
impl GateLedger for Book {
    async fn gates(&self, _: ShardId) -> Result<Vec<GateRow>, LedgerError> {
        Ok(Vec::new())
    }

    async fn gate(&self, _: ConcertId) -> Result<Option<GateRow>, LedgerError> {
        Ok(None)
    }

    async fn set_gate(&self, _: Fence, _: &GateRow, _: UserId) -> Result<Written, LedgerError> {
        Ok(Written::Done)
    }

    async fn note_admitted(&self, _: Fence, _: ConcertId, _: Admitted) -> Result<Written, LedgerError> {
        Ok(Written::Done)
    }

    async fn gate_history(
        &self,
        _: ConcertId,
        _: Option<u64>,
        _: u32,
    ) -> Result<Vec<HistoryRow>, LedgerError> {
        Ok(Vec::new())
    }

    async fn draw(&self, _: ConcertId, _: Option<u32>) -> Result<Option<DrawRow>, LedgerError> {
        if takes(&self.fail) { Err(away()) } else { Ok(lock(&self.row).clone()) }
    }

    async fn draw_stage(&self, _: ConcertId) -> Result<Option<(u32, DrawStage)>, LedgerError> {
        if takes(&self.fail) {
            Err(away())
        } else {
            Ok(lock(&self.row).as_ref().map(|row| (row.no, row.stage())))
        }
    }

    async fn save_draw(&self, _: Fence, draw: &DrawRow) -> Result<Written, LedgerError> {
        if takes(&self.fail) {
            return Err(away());
        }
        if takes(&self.fenced) {
            return Ok(Written::Fenced);
        }
        let mut row = lock(&self.row);
        let stays = |old: &DrawRow| {
            let promised = (old.seed, old.salt_key, old.committed_at);
            let frozen = old.frozen.is_none() || old.frozen == draw.frozen;
            let drawn = old.drawn.is_none() || old.drawn == draw.drawn;
            promised == (draw.seed, draw.salt_key, draw.committed_at) && frozen && drawn
        };
        let follows = match &*row {
            None => draw.no == 1,
            Some(old) if old.no == draw.no => stays(old),
            Some(old) => old.no + 1 == draw.no,
        };
        if !follows {
            return Ok(Written::Conflict);
        }
        let stage = match (&draw.frozen, &draw.drawn) {
            (_, Some(_)) => "drawn",
            (Some(_), None) => "frozen",
            (None, None) => "committed",
        };
        lock(&self.saved).push(stage);
        *row = Some(draw.clone());
        if takes(&self.unheard) { Err(away()) } else { Ok(Written::Done) }
    }
}

static SEEDS: AtomicU64 = AtomicU64::new(1);

fn random() -> Seed {
    sha256(&[&SEEDS.fetch_add(1, Ordering::SeqCst).to_be_bytes()])
}

type Heard = mpsc::UnboundedReceiver<(Turn, Turn, Vec<Turn>)>;

fn start(book: &Arc<Book>, beacon: Option<BeaconChain>) -> (Draws, Heard) {
    let (tell, heard) = mpsc::unbounded_channel();
    let now = Instant::now();
    let draws = Draws::start(DrawsOptions {
        ledger: book.clone(),
        clock: LedgerClock::new(now, now, CHAIN.genesis),
        concert: CONCERT,
        fence: Fence { shard: ShardId(0), epoch: Epoch(1) },
        beacon,
        random,
        ordered: Box::new(move |first, upto, order| tell.send((first, upto, order)).unwrap()),
    });
    (draws, heard)
}

/// Waits until the driver has nothing to do. Hashing is real work, on a thread that a paused clock does not wait for.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not within ten seconds");
}

fn stages(book: &Book) -> Vec<&'static str> {
    lock(&book.saved).clone()
}

fn checks_out(row: &DrawRow) -> Trust {
    let frozen = row.frozen.clone().unwrap();
    let round = frozen.round.map(|(_, due)| due);
    let record = DrawRecord {
        concert: row.concert,
        commitment: commitment(row),
        leaves: leaves(row, &frozen.entrants),
        root: frozen.root,
        root_published_at: frozen.published_at,
        beacon: beacon(row).zip(round),
        seed: row.seed,
        order: indexes(row).unwrap(),
    };
    verify(sha256, &record).unwrap()
}

#[tokio::test]
async fn a_presale_is_committed_published_drawn_and_told() {
    let book = Arc::new(Book::default());
    let (draws, mut heard) = start(&book, Some(CHAIN));
    draws.policy_set(Mode::PresaleDraw, Draw::Due);
    until(|| stages(&book) == ["committed"]).await;
    let committed = draws.row().unwrap();

    let entrants = settled(0, 100, 1_000);
    draws.frozen(entrants.first, entrants.upto, entrants.entrants.clone());
    until(|| stages(&book) == ["committed", "frozen"]).await;
    until(|| draws.row().is_some_and(|row| row.frozen.is_some())).await;
    let row = draws.row().unwrap();
    assert_eq!(commitment(&row), commitment(&committed), "the seed is the one that was committed to");
    let (round, due) = row.frozen.as_ref().unwrap().round.unwrap();
    assert!(!draws.beacon(round, Some([7; 32])), "the round is not out yet");
    assert!(!draws.beacon(round, None), "nor silent");
    assert!(!draws.beacon(round + 1, None), "another round");
    assert!(heard.try_recv().is_err());

    // A node of later: the round is out.
    drop(draws);
    *lock(&book.row) =
        Some(DrawRow { frozen: row.frozen.clone().map(|frozen| earlier(frozen, 10)), ..(*row).clone() });
    let (draws, mut heard) = start(&book, Some(CHAIN));
    let gone: Vec<_> = entrants.entrants.iter().copied().skip(3).collect();
    draws.frozen(entrants.first, entrants.upto, gone);
    until(|| draws.row().is_some()).await;
    assert!(!draws.beacon(round, None), "due at {due}, and nobody waited for it");
    assert!(draws.beacon(round, Some([7; 32])), "due at {due}");
    // Not durable yet, but heard.
    assert!(!draws.beacon(round, Some([8; 32])) && !draws.beacon(round, None));
    let (first, upto, order) = heard.recv().await.unwrap();
    assert_eq!((first, upto, order.len()), (entrants.first, entrants.upto, 100));
    let row = draws.row().unwrap();
    assert_eq!(super::order(&row).unwrap(), order);
    assert_eq!(checks_out(&row), Trust::Beacon);
    assert!(draws.beacon(round, Some([7; 32])) && !draws.beacon(round, Some([8; 32])));
    assert!(!draws.beacon(round, None));
    assert_eq!(stages(&book), ["committed", "frozen", "drawn"]);

    // The gate was restored before it had the order: it is told again, the same.
    let (draws, mut heard) = start(&book, Some(CHAIN));
    draws.frozen(entrants.first, entrants.upto, entrants.entrants.clone());
    assert_eq!(heard.recv().await.unwrap().2, order);
    drop(draws);
}

/// A word for a draw that is not the newest any more decides nothing.
#[tokio::test]
async fn a_word_of_another_round_is_not_taken() {
    let book = Arc::new(Book::default());
    let (draws, mut heard) = start(&book, Some(CHAIN));
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
    until(|| draws.row().is_some_and(|row| row.frozen.is_some())).await;
    let row = draws.row().unwrap();
    let frozen = row.frozen.clone().map(|frozen| earlier(frozen, 10));
    draws.replace_row(DrawRow { frozen, ..(*row).clone() });
    let (round, _) = row.frozen.as_ref().unwrap().round.unwrap();
    assert!(draws.beacon(round, Some([7; 32])));
    // Before the driver looks: another draw, whose round is another.
    let frozen = draws
        .row()
        .unwrap()
        .frozen
        .clone()
        .map(|frozen| Frozen { round: Some((round + 1, CHAIN.genesis)), ..frozen });
    draws.replace_row(DrawRow { frozen, ..(*draws.row().unwrap()).clone() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(heard.try_recv().is_err());
    assert_eq!(stages(&book), ["committed", "frozen"]);
}

/// Published so much earlier, for a clock that begins now.
fn earlier(frozen: Frozen, seconds: i64) -> Frozen {
    let (round, due) = frozen.round.unwrap();
    let earlier = Span::from_secs(seconds);
    Frozen { published_at: frozen.published_at - earlier, round: Some((round, due - earlier)), ..frozen }
}

#[tokio::test]
async fn without_a_beacon_the_order_comes_at_once() {
    let book = Arc::new(Book::default());
    let (draws, mut heard) = start(&book, None);
    // Nobody had time to commit before.
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
    assert_eq!(heard.recv().await.unwrap().2.len(), 5);
    assert_eq!(stages(&book), ["committed", "frozen", "drawn"]);
    assert_eq!(checks_out(&draws.row().unwrap()), Trust::Operator);
    assert!(!draws.beacon(1, None), "nothing waits");

    // The next presale has a seed of its own, before it opens.
    draws.policy_set(Mode::PresaleDraw, Draw::Done);
    let first = draws.row().unwrap();
    draws.policy_set(Mode::PresaleDraw, Draw::Due);
    until(|| draws.row().unwrap().no == 2).await;
    assert_ne!(commitment(&draws.row().unwrap()), commitment(&first));
}

#[tokio::test]
async fn a_beacon_that_stays_silent_is_given_up() {
    let book = Arc::new(Book::default());
    let (draws, _heard) = start(&book, Some(CHAIN));
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
    until(|| draws.row().is_some_and(|row| row.frozen.is_some())).await;
    let row = draws.row().unwrap();
    drop(draws);
    // Ten periods of three seconds after it was due, and not before.
    let (round, due) = row.frozen.as_ref().unwrap().round.unwrap();
    let since = (due.0 - CHAIN.genesis.0) / 1_000_000;
    for (seconds, is_silent) in [(since + 25, false), (since + 31, true)] {
        let frozen = row.frozen.clone().map(|frozen| earlier(frozen, seconds));
        *lock(&book.row) = Some(DrawRow { frozen, ..(*row).clone() });
        let (draws, mut heard) = start(&book, Some(CHAIN));
        draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
        until(|| draws.row().is_some()).await;
        assert_eq!(draws.beacon(round, None), is_silent, "{seconds}");
        if is_silent {
            assert_eq!(heard.recv().await.unwrap().2.len(), 5);
            assert_eq!(checks_out(&draws.row().unwrap()), Trust::Operator);
        }
    }
}

#[tokio::test]
async fn a_mirror_that_has_forgotten_everything_means_another_draw() {
    let book = Arc::new(Book::default());
    let (draws, mut heard) = start(&book, None);
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
    let before = heard.recv().await.unwrap().2;
    let (draws, mut heard) = start(&book, None);
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 600).entrants);
    let after = heard.recv().await.unwrap().2;
    assert_eq!((before.len(), after.len()), (5, 5));
    assert_eq!(stages(&book), ["committed", "frozen", "drawn", "committed", "frozen", "drawn"]);
    assert_eq!(draws.row().unwrap().no, 2);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_away_is_waited_for_and_its_row_goes_first() {
    let book = Arc::new(Book::default());
    book.fail.store(5, Ordering::SeqCst);
    let (draws, mut heard) = start(&book, None);
    draws.policy_set(Mode::PresaleDraw, Draw::Due);
    until(|| stages(&book) == ["committed"]).await;
    // Saved, but the answer is lost: it is read again, not made again.
    book.unheard.store(1, Ordering::SeqCst);
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
    assert_eq!(heard.recv().await.unwrap().2.len(), 5);
    assert_eq!(stages(&book), ["committed", "frozen", "drawn"]);

    // Another owner has committed meanwhile.
    let book = Arc::new(Book::default());
    let (draws, _heard) = start(&book, None);
    until(|| Arc::strong_count(&book) > 1).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    *lock(&book.row) = Some(page());
    draws.policy_set(Mode::PresaleDraw, Draw::Due);
    until(|| draws.row().is_some()).await;
    assert_eq!(*draws.row().unwrap(), page());
}

#[tokio::test]
async fn behind_the_fence_nothing_is_tried_again() {
    let book = Arc::new(Book::default());
    book.fenced.store(1, Ordering::SeqCst);
    let (draws, mut heard) = start(&book, None);
    draws.frozen(Turn(0), Turn(5), settled(0, 5, 1).entrants);
    until(|| draws.has_ended()).await;
    assert!(heard.try_recv().is_err() && stages(&book).is_empty());
}

#[test]
fn a_proof_leads_from_the_leaf_to_the_root() {
    let row = freeze(&page(), &settled(10, 11, 100), || Time(1), None);
    let frozen = row.frozen.as_ref().unwrap();
    let leaves = leaves(&row, &frozen.entrants);
    let proof = Tree::new(sha256, leaves.clone()).proof(10).unwrap();
    assert!(is_included(sha256, &frozen.root, &leaves[10], 10, 11, &proof));
}

//! Draws, stage by stage.

use actors::gates::ports::{DrawRow, DrawStage, Drawn, Frozen, Written};
use engine::{ConcertId, Time, Turn, UserId};

use crate::gates::fence;
use crate::world::{Sale, T0, World};

pub fn committed(concert: ConcertId, no: u32) -> DrawRow {
    let n = u8::try_from(no).unwrap();
    DrawRow {
        concert,
        no,
        seed: [n; 32],
        salt_key: [n ^ 0xff; 32],
        committed_at: Time(T0 + i64::from(no)),
        frozen: None,
        drawn: None,
    }
}

/// Every turn from 10 on, but for each third, which has left.
pub fn frozen(concert: ConcertId, no: u32, turns: u32) -> DrawRow {
    let user = |turn: u32| UserId(u64::MAX - u64::from(turn) * 0x9e37_79b9);
    let entrants = (10..10 + turns).filter(|turn| turn % 3 != 0).map(|turn| (Turn(turn), user(turn)));
    let frozen = Frozen {
        first: Turn(10),
        upto: Turn(10 + turns),
        entrants: entrants.collect(),
        root: [7; 32],
        published_at: Time(T0 + 20),
        round: Some((u64::MAX - 5, Time(T0 + 30))),
    };
    DrawRow { frozen: Some(frozen), ..committed(concert, no) }
}

fn drawn(draw: &DrawRow) -> DrawRow {
    DrawRow { drawn: Some(Drawn { at: Time(T0 + 40), beacon: Some([9; 32]) }), ..draw.clone() }
}

/// Nobody but the operator to trust.
fn without_beacon(draw: &DrawRow) -> DrawRow {
    altered(draw, |draw| {
        draw.frozen.as_mut().unwrap().round = None;
        if let Some(drawn) = &mut draw.drawn {
            drawn.beacon = None;
        }
    })
}

fn altered(draw: &DrawRow, alter: impl FnOnce(&mut DrawRow)) -> DrawRow {
    let mut draw = draw.clone();
    alter(&mut draw);
    draw
}

async fn save(sale: &Sale, draw: &DrawRow) -> Written {
    sale.store.save_draw(fence(sale), draw).await.unwrap()
}

pub async fn a_draw_goes_through_its_stages(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    assert_eq!(sale.store.draw(concert, None).await.unwrap(), None);
    let frozen = frozen(concert, 1, 50);
    for stage in [committed(concert, 1), frozen.clone(), drawn(&frozen)] {
        // The same again is done already.
        for _ in 0..2 {
            assert_eq!(save(&sale, &stage).await, Written::Done);
            assert_eq!(sale.store.draw(concert, None).await.unwrap().as_ref(), Some(&stage));
            assert_eq!(sale.store.draw_stage(concert).await.unwrap(), Some((1, stage.stage())));
        }
    }
    assert_eq!(sale.store.draw(ConcertId(concert.0 + 1), None).await.unwrap(), None);
    assert_eq!(sale.store.draw_stage(ConcertId(concert.0 + 1)).await.unwrap(), None);
}

/// A draw without entrants, one without a beacon, one whose beacon was given up, one that is written at once.
pub async fn draws_of_every_kind_come_back(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let given_up = altered(&drawn(&frozen(concert, 3, 5)), |draw| draw.drawn.as_mut().unwrap().beacon = None);
    let draws = [
        drawn(&frozen(concert, 1, 0)),
        without_beacon(&drawn(&frozen(concert, 2, 5))),
        given_up,
        drawn(&frozen(concert, 4, 5)),
    ];
    for draw in draws {
        assert_eq!(save(&sale, &draw).await, Written::Done);
        assert_eq!(sale.store.draw(concert, None).await.unwrap(), Some(draw));
    }
}

pub async fn what_a_draw_has_published_stays(world: &impl World) {
    type Alter = fn(&mut DrawRow);
    const COMMITTED: [(&str, Alter); 3] = [
        ("another seed", |draw| draw.seed[31] ^= 1),
        ("another key", |draw| draw.salt_key[0] ^= 1),
        ("committed at another time", |draw| draw.committed_at.0 += 1),
    ];
    const FROZEN: [(&str, Alter); 9] = [
        ("it melts", |draw| (draw.frozen, draw.drawn) = (None, None)),
        ("another first turn", |draw| draw.frozen.as_mut().unwrap().first.0 -= 1),
        ("another last turn", |draw| draw.frozen.as_mut().unwrap().upto.0 += 1),
        ("an entrant less", |draw| draw.frozen.as_mut().unwrap().entrants.truncate(32)),
        ("another entrant", |draw| draw.frozen.as_mut().unwrap().entrants[3].1.0 ^= 1),
        ("another root", |draw| draw.frozen.as_mut().unwrap().root[5] ^= 1),
        ("published at another time", |draw| draw.frozen.as_mut().unwrap().published_at.0 += 1),
        ("another round", |draw| draw.frozen.as_mut().unwrap().round.as_mut().unwrap().0 += 1),
        ("another due time", |draw| draw.frozen.as_mut().unwrap().round.as_mut().unwrap().1.0 += 1),
    ];
    const DRAWN: [(&str, Alter); 4] = [
        ("not drawn after all", |draw| draw.drawn = None),
        ("drawn at another time", |draw| draw.drawn.as_mut().unwrap().at.0 += 1),
        ("another value", |draw| draw.drawn.as_mut().unwrap().beacon.as_mut().unwrap()[0] ^= 1),
        ("given up after all", |draw| draw.drawn.as_mut().unwrap().beacon = None),
    ];
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let frozen = frozen(concert, 1, 50);
    let drawn = drawn(&frozen);
    let all: Vec<_> = [&COMMITTED[..], &FROZEN, &DRAWN].concat();
    for (stage, set) in [(committed(concert, 1), 3), (frozen, 12), (drawn.clone(), 16)] {
        assert_eq!(save(&sale, &stage).await, Written::Done);
        for (what, alter) in &all[..set] {
            for row in [altered(&stage, alter), altered(&drawn, alter)] {
                assert_eq!(save(&sale, &row).await, Written::Conflict, "{what}: {row:?}");
            }
        }
        assert_eq!(sale.store.draw(concert, None).await.unwrap(), Some(stage));
    }
    assert_eq!(save(&sale, &without_beacon(&drawn)).await, Written::Conflict, "the beacon is left out");
}

pub async fn a_further_draw_waits_for_the_one_before(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let (first, second) = (frozen(concert, 1, 9), committed(concert, 2));
    assert_eq!(save(&sale, &second).await, Written::Conflict, "there was no first one");
    assert_eq!(save(&sale, &committed(concert, 1)).await, Written::Done);
    assert_eq!(save(&sale, &second).await, Written::Conflict, "the first one goes on");
    assert_eq!(save(&sale, &first).await, Written::Done);
    assert_eq!(save(&sale, &committed(concert, 3)).await, Written::Conflict, "one was left out");
    // The first one's entrants are settled: it may never be drawn, and is followed all the same.
    assert_eq!(save(&sale, &second).await, Written::Done);
    assert_eq!(save(&sale, &committed(concert, 1)).await, Written::Conflict);
    let read = |no| sale.store.draw(concert, no);
    assert_eq!(read(None).await.unwrap().as_ref(), Some(&second), "the newest");
    assert_eq!(read(Some(1)).await.unwrap(), Some(first), "the one before is kept");
    assert_eq!(read(Some(2)).await.unwrap(), Some(second));
    assert_eq!(read(Some(3)).await.unwrap(), None);
    assert_eq!(sale.store.draw_stage(concert).await.unwrap(), Some((2, DrawStage::Committed)));
    let zeroth = DrawRow { no: 0, ..committed(concert, 1) };
    assert_eq!(save(&sale, &zeroth).await, Written::Conflict);
}

pub async fn a_draw_that_contradicts_itself_is_refused(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let whole = drawn(&frozen(concert, 1, 50));
    let rows = [
        altered(&whole, |draw| draw.frozen = None),
        altered(&whole, |draw| draw.frozen.as_mut().unwrap().round = None),
        altered(&whole, |draw| draw.frozen.as_mut().unwrap().upto.0 -= 1),
        altered(&whole, |draw| draw.frozen.as_mut().unwrap().first.0 += 1),
        altered(&whole, |draw| draw.frozen.as_mut().unwrap().entrants.swap(3, 4)),
        altered(&whole, |draw| draw.frozen.as_mut().unwrap().entrants[4].0.0 = 13),
    ];
    for row in rows {
        assert_eq!(save(&sale, &row).await, Written::Conflict, "{row:?}");
    }
    assert_eq!(sale.store.draw(concert, None).await.unwrap(), None);
}

pub async fn a_draw_of_a_hundred_thousand(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let frozen = frozen(concert, 1, 150_000);
    assert_eq!(frozen.frozen.as_ref().unwrap().entrants.len(), 100_000);
    for stage in [committed(concert, 1), frozen.clone(), drawn(&frozen)] {
        assert_eq!(save(&sale, &stage).await, Written::Done);
        assert!(sale.store.draw(concert, None).await.unwrap().as_ref() == Some(&stage));
    }
    let other = altered(&drawn(&frozen), |draw| {
        draw.frozen.as_mut().unwrap().entrants[99_999].1 = UserId(1);
    });
    assert_eq!(save(&sale, &other).await, Written::Conflict);
}

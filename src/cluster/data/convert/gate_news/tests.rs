//! Everything that travels comes back as it was.

use engine::Time;
use engine::Turn;
use engine::gate::{BlockCount, Pass};
use proptest::prelude::*;

use super::*;
use crate::cluster::data::wire::{decode, encode};

const BLOCKS: u32 = GATE_TURNS / TURNS_PER_BLOCK;

fn bitmap(turns: impl IntoIterator<Item = u32>) -> Bitmap {
    let mut bitmap = Bitmap::default();
    for turn in turns {
        bitmap.set(turn);
    }
    bitmap
}

/// Every block with the same turns in it.
fn alike(blocks: u32, turns: u32) -> Line {
    let counts = (0..blocks).map(|block| BlockCount::new(block, turns)).collect();
    let tick = Tick { no: 1, serving: Turn(0), counts };
    let bitmaps =
        vec![bitmap((0..turns).map(|turn| turn * 16 % TURNS_PER_BLOCK + turn / 256)); blocks as usize];
    Line { tick, bitmaps, pace: None, has_ranks: true }
}

fn block() -> impl Strategy<Value = (BlockCount, Bitmap)> {
    let few = proptest::collection::vec(0..TURNS_PER_BLOCK, 0..=300).prop_map(bitmap);
    let bits = prop_oneof![
        few,
        any::<[u64; 32]>().prop_map(|half| {
            let mut bitmap = Bitmap::default();
            bitmap.0[..32].copy_from_slice(&half);
            bitmap
        })
    ];
    (0..BLOCKS, bits)
        .prop_map(|(block, bits)| (BlockCount::new(block, bits.count_before(TURNS_PER_BLOCK)), bits))
}

fn line() -> impl Strategy<Value = Line> {
    let pace = (1e-3..1e6, 0.0..1e6, 10..=60_u32);
    let pace = pace.prop_map(|(mean, variance, seconds)| Pace { mean, variance, seconds });
    let blocks = proptest::collection::vec(block(), 0..20);
    let head = (any::<u32>(), any::<u32>(), any::<bool>());
    (head, blocks, proptest::option::of(pace)).prop_map(|((no, serving, has_ranks), blocks, pace)| {
        let (counts, bitmaps) = blocks.into_iter().unzip();
        Line { tick: Tick { no, serving: Turn(serving), counts }, bitmaps, pace, has_ranks }
    })
}

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        line().prop_map(News::View),
        line().prop_map(News::Tick),
        (any::<u64>(), any::<(u64, i64, i64)>(), any::<bool>()).prop_map(
            |(user, (id, expires_at, ends_at), durable)| {
                let (expires_at, ends_at) = (Time(expires_at), Time(ends_at));
                News::Admitted {
                    user: UserId(user),
                    pass: Pass { id: PassId(id), expires_at, ends_at },
                    durable,
                }
            }
        ),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(user, pass, bought)| {
            let why = if bought { PassEnd::GivenBack } else { PassEnd::Expired };
            News::Ended { user: UserId(user), pass: PassId(pass), why }
        }),
    ]
}

proptest! {
    #[test]
    fn everything_that_a_gate_tells_travels(concert in any::<u64>(), news in news()) {
        let concert = ConcertId(concert);
        let bytes = encode(&told_out(concert, &news)).unwrap();
        prop_assert_eq!(told_in(decode(&bytes).unwrap()), Ok((concert, news)));
    }

    /// Whatever a peer sends: it is understood or it is none.
    #[test]
    fn bytes_that_are_no_line_are_refused(line in line(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let wire::Line { tick, bitmaps, pace, has_ranks } = line_out(&line);
        let read = |tick: Bytes, bitmaps: Bytes| line_in(wire::Line { tick, bitmaps, pace, has_ranks });
        if !bitmaps.is_empty() {
            let end = at.index(bitmaps.len());
            prop_assert!(read(tick.clone(), bitmaps.slice(..end)).is_err(), "cut at {}", end);
            let mut other = bitmaps.to_vec();
            other[end] = byte;
            let _no_panic = read(tick.clone(), other.into());
        }
        let longer: Bytes = [&bitmaps[..], &[byte]].concat().into();
        prop_assert!(read(tick.clone(), longer).is_err());
        prop_assert!(read(tick.slice(1..), bitmaps).is_err());
    }
}

#[test]
fn a_bitmap_takes_what_it_needs() {
    let length = |turns: u32| {
        let mut bytes = Vec::new();
        bitmap_out(&bitmap(0..turns), &mut bytes);
        bytes.len()
    };
    assert_eq!([0, 1, 255, 256, 4_096].map(length), [2, 4, 512, 514, 514]);
    let read = |words: &[u16]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bitmap_in(&mut bytes.into())
    };
    assert_eq!(read(&[2, 0, 4_095]), Some(bitmap([0, 4_095])));
    for wrong in [&[2, 7, 7][..], &[1, 4_096], &[256], &[u16::MAX - 1], &[3, 1, 2], &[]] {
        assert_eq!(read(wrong), None, "{wrong:?}");
    }
}

#[test]
fn the_longest_line_fits_into_a_message() {
    let million = encode(&told_out(ConcertId(1), &News::View(alike(245, 4_096)))).unwrap();
    assert!(million.len() < 130_000, "{}", million.len());
    // As many as may wait, scattered over as many turns as there are.
    let scattered = News::View(alike(BLOCKS, u32::try_from(GATE_WAITERS).unwrap() / BLOCKS));
    let bytes = encode(&told_out(ConcertId(1), &scattered)).unwrap();
    assert!(bytes.len() < BYTES_MAX / 4, "{}", bytes.len());
    assert_eq!(told_in(decode(&bytes).unwrap()), Ok((ConcertId(1), scattered)));
}

#[test]
fn a_number_that_means_nothing_makes_the_message_none() {
    assert_eq!([PassEnd::GivenBack, PassEnd::Expired].map(end_out), [1, 2]);
    for number in [0, 3, 255] {
        let news = wire::News::Ended { user: 1, pass: 2, why: number };
        assert!(told_in(wire::Told { concert: 3, news }).is_err(), "{number}");
    }
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    for pace in
        [(nan, 1.0, 10), (0.0, 1.0, 10), (-1.0, 1.0, 10), (infinite, 1.0, 10), (1.0, nan, 10), (1.0, 1.0, 1)]
    {
        assert!(pace_in(pace).is_err(), "{pace:?}");
    }
}

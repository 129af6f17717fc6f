//! The draw: the numbers of `docs/draw.md`, what nobody can change unseen, and that it is fair.

use engine::gate::draw::{
    Beacon, Digest, DrawRecord, Fault, Salt, Seed, Tree, Trust, commitment, is_included, leaf, order, salt,
    verify,
};
use engine::{ConcertId, Time, Turn, UserId};
use sha2::Digest as _;

const CONCERT: ConcertId = ConcertId(7);

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn seed() -> Seed {
    std::array::from_fn(|byte| byte as u8)
}

fn salt_of(user: u64) -> Salt {
    salt(sha256, &std::array::from_fn(|byte| byte as u8 + 32), CONCERT, UserId(user))
}

fn leaves(count: u32) -> Vec<Digest> {
    let leaf = |n: u32| {
        let user = u64::from(100 + n);
        leaf(sha256, CONCERT, Turn(10 + n), UserId(user), &salt_of(user))
    };
    (0..count).map(leaf).collect()
}

fn record(beacon: Option<(Beacon, Time)>) -> DrawRecord {
    let leaves = leaves(11);
    let root = Tree::new(sha256, leaves.clone()).root();
    let order = order(sha256, CONCERT, &seed(), &root, beacon.as_ref().map(|(beacon, _)| beacon), 11);
    DrawRecord {
        concert: CONCERT,
        commitment: commitment(sha256, CONCERT, &seed()),
        leaves,
        root,
        root_published_at: Time(1_000),
        beacon,
        seed: seed(),
        order,
    }
}

const BEACON: (Beacon, Time) = (Beacon { round: 4_242, value: [0xbe; 32] }, Time(1_001));

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_numbers_are_those_of_the_page() {
    let page = include_str!("../../../../docs/draw.md");
    let drawn = record(Some(BEACON));
    for value in [
        hex(&drawn.commitment),
        hex(&salt_of(100)),
        hex(&drawn.leaves[0]),
        hex(&Tree::new(sha256, leaves(5)).root()),
        hex(&drawn.root),
        format!("{:?}", record(None).order),
        format!("{:?}", drawn.order),
    ] {
        assert!(page.contains(&format!("`{value}`")), "{value} is not on the page");
    }
}

#[test]
fn a_draw_checks_out_and_says_on_what_it_rests() {
    assert_eq!(verify(sha256, &record(Some(BEACON))), Ok(Trust::Beacon));
    assert_eq!(verify(sha256, &record(None)), Ok(Trust::Operator));
    assert_eq!(Trust::Operator.name(), "operator-trusted");
}

#[test]
fn whatever_is_changed_is_seen() {
    type Change = fn(&mut DrawRecord);
    let changes: [(Change, Fault); 9] = [
        (|drawn| drawn.seed[0] ^= 1, Fault::Seed),
        (|drawn| drawn.commitment[31] ^= 1, Fault::Seed),
        (|drawn| drawn.leaves[3][0] ^= 1, Fault::Root),
        (|drawn| drawn.leaves.swap(0, 1), Fault::Root),
        (|drawn| drawn.leaves.truncate(10), Fault::Root),
        (|drawn| drawn.root[0] ^= 1, Fault::Root),
        (|drawn| drawn.root_published_at = Time(1_001), Fault::BeaconEarly),
        (|drawn| drawn.beacon = None, Fault::Order),
        (|drawn| drawn.order.swap(0, 1), Fault::Order),
    ];
    for (index, (change, fault)) in changes.into_iter().enumerate() {
        let mut drawn = record(Some(BEACON));
        change(&mut drawn);
        assert_eq!(verify(sha256, &drawn), Err(fault), "change {index}");
    }
    let other = Beacon { round: 4_243, ..BEACON.0 };
    let drawn = DrawRecord { beacon: Some((other, BEACON.1)), ..record(Some(BEACON)) };
    assert_eq!(verify(sha256, &drawn), Err(Fault::Order), "the round counts, not only its value");
}

/// Every leaf of every small tree proves itself, and nothing else.
#[test]
fn an_entrant_can_prove_that_it_was_one() {
    for size in 1..40u32 {
        let leaves = leaves(size);
        let tree = Tree::new(sha256, leaves.clone());
        let root = tree.root();
        let included = |index: u32, leaf: &Digest, proof: &[Digest]| {
            is_included(sha256, &root, leaf, u64::from(index), u64::from(size), proof)
        };
        for (index, leaf) in (0..).zip(&leaves) {
            let proof = tree.proof(index as usize).unwrap();
            assert!(included(index, leaf, &proof), "leaf {index} of {size}");
            assert!(!included(index, &root, &proof) || size == 1);
            assert!((0..size + 2).all(|other| other == index || !included(other, leaf, &proof)));
            for at in 0..proof.len() {
                let mut other = proof.clone();
                other[at][7] ^= 1;
                assert!(!included(index, leaf, &other));
                other.remove(at);
                assert!(!included(index, leaf, &other));
            }
            let longer: Vec<Digest> = proof.iter().copied().chain([root]).collect();
            assert!(!included(index, leaf, &longer));
        }
        assert_eq!(tree.proof(size as usize), None);
    }
    let empty = Tree::new(sha256, Vec::new());
    assert_eq!(hex(&empty.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert!(!is_included(sha256, &empty.root(), &empty.root(), 0, 0, &[]));
}

/// Over many seeds each entrant has each place about equally often: the largest deviation of 6,000 draws of 6 is far
/// within five standard deviations of the binomial, 5 · √(6,000 · 1/6 · 5/6) = 144.
#[test]
fn every_entrant_has_every_place_equally_often() {
    let root = Tree::new(sha256, leaves(6)).root();
    let mut counts = [[0i32; 6]; 6];
    for number in 0..6_000u32 {
        let mut seed = Seed::default();
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let order = order(sha256, CONCERT, &seed, &root, None, 6);
        for (place, entrant) in order.iter().enumerate() {
            counts[place][*entrant as usize] += 1;
        }
    }
    let worst = counts.iter().flatten().map(|count| (count - 1_000).abs()).max().unwrap();
    assert!(worst < 144, "{counts:?}");
}

use engine::{Epoch, Turn};
use proptest::prelude::*;

use super::*;

const NOW: Time = Time(1_800_000_000_000_000);
const LATER: Time = Time(NOW.0 + 1_800_000_000);

fn key(id: u8, secret: u8) -> PassKey {
    PassKey { id, secret: vec![secret; 32] }
}

fn passes() -> Passes {
    Passes::new(&[key(7, 1)])
}

fn pass(turn: u32, ends_at: Time) -> Pass {
    Pass { id: PassId::new(Epoch(3), Turn(turn)), expires_at: NOW, ends_at }
}

fn signed(concert: u64, user: u64, turn: u32) -> String {
    passes().sign(ConcertId(concert), UserId(user), pass(turn, LATER)).unwrap()
}

fn bytes_of(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[test]
fn a_pass_is_good_for_its_concert_its_user_and_its_time() {
    let text = signed(5, 9, 4);
    assert_eq!(text.len(), PASS_LENGTH);
    let id = PassId(3 << 32 | 4);
    let check =
        |now, concert, user: Option<u64>| passes().check(&text, now, ConcertId(concert), user.map(UserId));
    assert_eq!(check(NOW, 5, Some(9)), Some(id));
    assert_eq!(check(NOW, 5, None), Some(id));
    assert_eq!(check(Time(LATER.0 - 1), 5, Some(9)), Some(id));
    assert_eq!(check(LATER, 5, Some(9)), None, "ended");
    assert_eq!(check(NOW, 6, Some(9)), None, "another concert");
    assert_eq!(check(NOW, 5, Some(8)), None, "another user");
    let shown = Shown { pass: id, user: UserId(9), concert: ConcertId(5), ends_at: LATER };
    assert_eq!(passes().read(&text, NOW), Some(shown));
}

/// What is on the wire stays as it is: passes outlive the version that signed them.
#[test]
fn the_layout_is_fixed() {
    let text = signed(5, 9, 4);
    let bytes = bytes_of(&text);
    let mut expected = vec![1, 7];
    for word in [3_u64 << 32 | 4, 9, 5, LATER.0.cast_unsigned()] {
        expected.extend(word.to_be_bytes());
    }
    assert_eq!(bytes[..SIGNED], expected);
    // Computed by another implementation.
    assert_eq!(text, "AQcAAAADAAAABAAAAAAAAAAJAAAAAAAAAAUABmUXk-JSAG7sOmhtAe8bVlbJB4anp3c");
}

#[test]
fn keys_rotate() {
    let (old, new) = (key(0, 1), key(1, 2));
    let before = Passes::new(std::slice::from_ref(&old));
    let known = Passes::new(&[old.clone(), new.clone()]);
    let during = Passes::new(&[new.clone(), old]);
    let after = Passes::new(std::slice::from_ref(&new));
    let good = |passes: &Passes, text: &str| passes.read(text, NOW).is_some();
    let sign = |passes: &Passes| passes.sign(ConcertId(5), UserId(9), pass(4, LATER)).unwrap();
    let (by_old, by_new) = (sign(&before), sign(&during));
    assert_eq!(sign(&known), by_old, "the first signs");
    assert!(
        good(&known, &by_new) && good(&during, &by_old) && good(&during, &by_new) && good(&after, &by_new)
    );
    assert!(!good(&before, &by_new) && !good(&after, &by_old));
    // The same number with another secret.
    assert!(!good(&Passes::new(&[key(0, 3)]), &by_old));
}

#[test]
fn without_a_key_nothing_is_signed_and_nothing_good() {
    let none = Passes::new(&[]);
    assert_eq!(none.can_sign(), Err(NoPassKey));
    assert_eq!(none.sign(ConcertId(5), UserId(9), pass(4, LATER)), Err(NoPassKey));
    assert_eq!(none.read(&signed(5, 9, 4), NOW), None);
}

#[test]
fn a_derived_key_depends_on_the_secret_and_tells_nothing_of_it() {
    let derived = PassKey::derived(b"0123456789abcdef0123456789abcdef");
    assert_eq!((derived.id, derived.secret.len()), (0, 32));
    assert_ne!(derived.secret, b"0123456789abcdef0123456789abcdef");
    assert_ne!(derived.secret, PassKey::derived(b"another secret, also long enough..").secret);
    assert_eq!(format!("{derived:?}"), "key 0");
}

#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    let text = signed(5, 9, 4);
    for bit in 0..BYTES * 8 {
        let mut bytes = bytes_of(&text);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(passes().read(&URL_SAFE_NO_PAD.encode(bytes), NOW), None, "bit {bit}");
    }
    // In the text as well: its last character has two bits that say nothing.
    for place in 0..text.len() {
        for bit in 0..7 {
            let mut flipped = text.clone().into_bytes();
            flipped[place] ^= 1 << bit;
            let flipped = String::from_utf8(flipped).unwrap();
            assert_eq!(passes().read(&flipped, NOW), None, "{flipped}");
        }
    }
    for length in 0..text.len() {
        assert_eq!(passes().read(&text[..length], NOW), None);
    }
    for longer in [format!("{text}="), format!("{text}A"), format!(" {text}"), text.repeat(2)] {
        assert_eq!(passes().read(&longer, NOW), None);
    }
    // The signature of less than there is.
    assert_eq!(passes().read(&"A".repeat(PASS_LENGTH), NOW), None);
}

proptest! {
    #[test]
    fn a_pass_is_good_for_nothing_else(
        (concert, user, turn, epoch) in (1..=4_u64, 1..=4_u64, 1..=4_u32, 0..=u64::from(u32::MAX)),
        (other_concert, other_user) in (1..=4_u64, 1..=4_u64),
        ends_in in -1_000_000_000..=1_000_000_000_i64,
    ) {
        let given = Pass { id: PassId::new(Epoch(epoch), Turn(turn)), expires_at: NOW, ends_at: Time(NOW.0 + ends_in) };
        let text = passes().sign(ConcertId(concert), UserId(user), given).unwrap();
        let found = passes().check(&text, NOW, ConcertId(other_concert), Some(UserId(other_user)));
        let is_good = ends_in > 0 && concert == other_concert && user == other_user;
        prop_assert_eq!(found, is_good.then_some(given.id));
    }

    #[test]
    fn what_nobody_signed_is_refused(text in "[A-Za-z0-9_-]{67}", any in ".{0,80}") {
        prop_assert_eq!(passes().read(&text, NOW), None);
        prop_assert_eq!(passes().read(&any, NOW), None);
    }
}

/// A small generator, so that the million is the same one every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A million passes that are forged, of other keys, of others, of other concerts, or over: none is good.
#[test]
fn of_a_million_bad_passes_none_is_good() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (ours, foreign) = (passes(), Passes::new(&[key(7, 2)]));
    let (concert, user) = (ConcertId(5), UserId(9));
    let good = bytes_of(&signed(5, 9, 4));
    let mut accepted = 0;
    for round in 0..1_000_000_u32 {
        let other = 10 + random.next() % 1_000_000;
        let at = |ends_at| pass(round, ends_at);
        let text = match round % 5 {
            // Forged: the contents of a good pass or others, and a guessed signature.
            0 => {
                let mut bytes = good.clone();
                bytes[SIGNED..SIGNED + 8].copy_from_slice(&random.next().to_be_bytes());
                bytes[SIGNED + 8..].copy_from_slice(&random.next().to_be_bytes());
                bytes[2] ^= u8::from(round % 2 == 0);
                URL_SAFE_NO_PAD.encode(bytes)
            }
            1 => foreign.sign(concert, user, at(LATER)).unwrap(),
            2 => ours.sign(concert, UserId(other), at(LATER)).unwrap(),
            3 => ours.sign(ConcertId(other), user, at(LATER)).unwrap(),
            _ => ours.sign(concert, user, at(Time(NOW.0 - i64::from(round)))).unwrap(),
        };
        accepted += u32::from(ours.check(&text, NOW, concert, Some(user)).is_some());
    }
    assert_eq!(accepted, 0);
    assert!(ours.check(&URL_SAFE_NO_PAD.encode(&good), NOW, concert, Some(user)).is_some());
}

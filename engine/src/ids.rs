//! The names of things. Every id is a newtype, so that a seat is never mistaken for a user.
//!
//! Public integer ids are 1..=2^53-1, which a JSON number in a browser carries without loss.

use std::fmt;

/// The largest integer a JSON number carries exactly everywhere: 2^53 - 1.
pub const PUBLIC_ID_MAX: u64 = (1 << 53) - 1;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A unit of ownership: one actor, one lease, one chain of events.
    ShardId(u16)
}
id! {
    /// A concert, 1..=2^53-1. All its options live in one shard.
    ConcertId(u64)
}
id! {
    /// A dated performance of a concert, with seats of its own. 1..=2^32-1.
    OptionId(u32)
}
id! {
    /// Whoever a token names, 1..=2^53-1.
    UserId(u64)
}
id! {
    /// A seat: dense, 0-based inside its option.
    SeatNo(u32)
}
id! {
    /// How often a shard's lease has changed hands. Only the ledger increments it.
    Epoch(u64)
}
id! {
    /// The order of a shard's entries within one incarnation of its actor; starts at 1.
    EntryNo(u64)
}
id! {
    /// Where a reply goes. Chosen by the shell, opaque to the engine, unique among waiting replies.
    ReplyTo(u64)
}
id! {
    /// A client's `Idempotency-Key`, reduced to 128 bits by the ingress. Scoped to its user.
    RequestKey(u128)
}

id! {
    /// Whose turn it is in a concert's waiting line: dense, given out in the order of joining, drawn anew
    /// at most once, when a presale opens. Never used twice.
    Turn(u32)
}
id! {
    /// A permission to enter a concert, given by its gate.
    PassId(u64)
}
id! {
    /// The order of what a gate tells the mirror within one incarnation of its actor; starts at 1.
    OpNo(u64)
}

impl PassId {
    /// The pass of whoever had this turn. A turn that a crash forgot may be given out again, but in another
    /// epoch; only the low half of an epoch counts, of which no concert sees four billion.
    #[must_use]
    pub const fn new(epoch: Epoch, turn: Turn) -> Self {
        Self((epoch.0 << 32) | turn.0 as u64)
    }
}

/// A UUIDv7 whose last 32 bits are the option, so that any node can route it.
///
/// Aligned like the integers beside it, so that a reservation in memory wastes no bytes on padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct ReservationId(pub u128);

impl ReservationId {
    /// Stamps `option` into the last 32 bits of a fresh UUIDv7. The ingress makes the UUID: the
    /// engine has no randomness.
    #[must_use]
    pub const fn stamp(uuid_v7: u128, option: OptionId) -> Self {
        Self((uuid_v7 & !0xffff_ffff) | option.0 as u128)
    }

    /// The option this reservation belongs to.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the option")]
    pub const fn option(self) -> OptionId {
        OptionId(self.0 as u32)
    }
}

impl fmt::Display for ReservationId {
    /// The usual hyphenated form of a UUID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = format!("{:032x}", { self.0 });
        write!(f, "{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
    }
}

impl fmt::Debug for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

//! What may be asked of a shard.

use std::sync::Arc;

use crate::ids::{ConcertId, OptionId, ReplyTo, RequestKey, ReservationId, SeatNo, UserId};
use crate::limits::SEATS_PER_COMMAND;
use crate::option::{OptionStatus, PolicyChange};
use crate::plan::Layout;

/// A command with everything its verdict depends on, and where the reply goes.
#[derive(Clone, Debug)]
pub struct Request {
    pub reply: ReplyTo,
    pub caller: Caller,
    /// The idempotency key; only looked at for commands that reach the ledger.
    pub key: Option<RequestKey>,
    /// Whether the caller showed a live pass of the concert's gate.
    pub pass: bool,
    pub command: Command,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub authority: Authority,
}

/// Whose reservations a caller may see and move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Their own.
    Own,
    /// Everybody's: a payment service, an admin, the shard itself.
    Any,
}

/// Everything a shard decides. `docs/api.md` tells the same as routes.
#[derive(Clone, Debug)]
pub enum Command {
    /// Soft-lock these seats, all or none; seats already mine are renewed.
    Select {
        option: OptionId,
        seats: SeatList,
    },
    /// Soft-lock `party` adjacent seats of the engine's choice.
    SelectBest {
        option: OptionId,
        party: u32,
        section: Option<u16>,
        category: Option<u8>,
    },
    /// Give soft locks back: these, or (`None`) all of mine in the option.
    Release {
        option: OptionId,
        seats: Option<SeatList>,
    },
    /// Turn soft locks of mine into a reservation that waits for payment.
    Hold {
        option: OptionId,
        seats: SeatList,
        reservation: ReservationId,
    },
    StartPaying {
        reservation: ReservationId,
    },
    Confirm {
        reservation: ReservationId,
    },
    Cancel {
        reservation: ReservationId,
    },
    Refund {
        reservation: ReservationId,
    },
    /// Take seats out of the sale, as a reservation of kind BLOCK.
    Block {
        option: OptionId,
        seats: SeatList,
        reservation: ReservationId,
    },
    /// Give the seats of a BLOCK back to the sale.
    Unblock {
        reservation: ReservationId,
    },
    AddOption {
        option: OptionId,
        concert: ConcertId,
        layout: Arc<Layout>,
    },
    SetOptionStatus {
        option: OptionId,
        status: OptionStatus,
    },
    SetPolicy {
        concert: ConcertId,
        change: PolicyChange,
    },
}

impl Command {
    /// The name used in metrics and logs.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Select { .. } => "select",
            Self::SelectBest { .. } => "select_best",
            Self::Release { .. } => "release",
            Self::Hold { .. } => "hold",
            Self::StartPaying { .. } => "start_paying",
            Self::Confirm { .. } => "confirm",
            Self::Cancel { .. } => "cancel",
            Self::Refund { .. } => "refund",
            Self::Block { .. } => "block",
            Self::Unblock { .. } => "unblock",
            Self::AddOption { .. } => "add_option",
            Self::SetOptionStatus { .. } => "set_option_status",
            Self::SetPolicy { .. } => "set_policy",
        }
    }

    /// Whether a success is durable before it is answered. Such commands wait under a ledger permit.
    #[must_use]
    pub const fn reaches_ledger(&self) -> bool {
        !matches!(self, Self::Select { .. } | Self::SelectBest { .. } | Self::Release { .. })
    }

    /// What the request asks for, in 64 bits: the same key with another content is a client's bug.
    ///
    /// FNV-1a (Fowler, Noll, Vo) over a canonical form: seats are sorted, and the reservation id of a
    /// hold is left out because each attempt brings a fresh one. Stored in the ledger: never change.
    #[must_use]
    pub fn content(&self) -> u64 {
        let mut hash = Fnv::new();
        match self {
            Self::Select { option, seats } => hash.word(1).word(option.0.into()).seats(seats),
            Self::SelectBest { option, party, section, category } => hash
                .word(2)
                .word(option.0.into())
                .word((*party).into())
                .word(section.map_or(u64::MAX, u64::from))
                .word(category.map_or(u64::MAX, u64::from)),
            Self::Release { option, seats } => {
                hash.word(3).word(option.0.into()).seats(&seats.unwrap_or_default())
            }
            Self::Hold { option, seats, .. } => hash.word(4).word(option.0.into()).seats(seats),
            Self::StartPaying { reservation } => hash.word(5).reservation(*reservation),
            Self::Confirm { reservation } => hash.word(6).reservation(*reservation),
            Self::Cancel { reservation } => hash.word(7).reservation(*reservation),
            Self::Refund { reservation } => hash.word(8).reservation(*reservation),
            Self::Block { option, seats, .. } => hash.word(9).word(option.0.into()).seats(seats),
            Self::Unblock { reservation } => hash.word(10).reservation(*reservation),
            Self::AddOption { option, concert, .. } => hash.word(11).word(option.0.into()).word(concert.0),
            Self::SetOptionStatus { option, status } => {
                hash.word(12).word(option.0.into()).word(*status as u64)
            }
            Self::SetPolicy { concert, change } => hash
                .word(13)
                .word(concert.0)
                .word(change.reservations_per_user.map_or(u64::MAX, u64::from))
                .word(change.gate.map_or(u64::MAX, u64::from)),
        };
        hash.0
    }
}

struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, word: u64) -> &mut Self {
        for byte in word.to_be_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the id")]
    fn reservation(&mut self, id: ReservationId) -> &mut Self {
        self.word((id.0 >> 64) as u64).word(id.0 as u64)
    }

    fn seats(&mut self, seats: &SeatList) -> &mut Self {
        let mut sorted = *seats;
        sorted.sort();
        self.word(sorted.len() as u64);
        for seat in sorted.iter() {
            self.word(seat.0.into());
        }
        self
    }
}

/// A handful of seats, inline, so that a click allocates nothing.
///
/// A list longer than a command may be keeps its first seats and its length: the refusal is then
/// the engine's to give, in its place among the others.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SeatList {
    seats: [SeatNo; SEATS_PER_COMMAND],
    len: u8,
}

impl SeatList {
    /// How many seats were named, which may be more than are kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn as_slice(&self) -> &[SeatNo] {
        &self.seats[..self.len().min(SEATS_PER_COMMAND)]
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = SeatNo> + '_ {
        self.as_slice().iter().copied()
    }

    #[must_use]
    pub fn contains(&self, seat: SeatNo) -> bool {
        self.as_slice().contains(&seat)
    }

    pub fn push(&mut self, seat: SeatNo) {
        if let Some(slot) = self.seats.get_mut(self.len as usize) {
            *slot = seat;
        }
        self.len = self.len.saturating_add(1);
    }

    pub fn sort(&mut self) {
        let kept = self.len().min(SEATS_PER_COMMAND);
        self.seats[..kept].sort_unstable();
    }
}

impl FromIterator<SeatNo> for SeatList {
    fn from_iter<I: IntoIterator<Item = SeatNo>>(seats: I) -> Self {
        let mut list = Self::default();
        for seat in seats {
            list.push(seat);
        }
        list
    }
}

impl std::fmt::Debug for SeatList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|seat| seat.0)).finish()
    }
}

//! An option on sale and the policy of its concert, as the ledger keeps them.

/// Whether an option sells. Pinned: the ledger stores the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OptionStatus {
    OnSale = 1,
    Closed = 2,
}

impl OptionStatus {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnSale => "ON_SALE",
            Self::Closed => "CLOSED",
        }
    }

    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::OnSale),
            2 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// What a concert allows its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Live reservations of kind SALE one user may have in the concert.
    pub reservations_per_user: u32,
    /// Whether selling commands need a pass of the concert's gate.
    pub gate: bool,
}

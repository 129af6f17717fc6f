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

/// What of a policy is to be different.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    pub reservations_per_user: Option<u32>,
    pub gate: Option<bool>,
}

impl Policy {
    #[must_use]
    pub const fn with(self, change: PolicyChange) -> Self {
        let reservations_per_user = match change.reservations_per_user {
            Some(bound) => bound,
            None => self.reservations_per_user,
        };
        let gate = match change.gate {
            Some(gate) => gate,
            None => self.gate,
        };
        Self { reservations_per_user, gate }
    }
}

impl From<Policy> for PolicyChange {
    fn from(policy: Policy) -> Self {
        let Policy { reservations_per_user, gate } = policy;
        Self { reservations_per_user: Some(reservations_per_user), gate: Some(gate) }
    }
}

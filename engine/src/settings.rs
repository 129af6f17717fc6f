//! What an operator may tune, with the defaults of `cluster.toml`.

use crate::time::Span;

/// The tunable durations of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a soft lock lives without renewal.
    pub select_ttl: Span,
    /// How long a user may keep a seat SELECTING by renewing, counted from the first select.
    pub select_max_age: Span,
    /// How long a hold waits for payment to start.
    pub hold_ttl: Span,
    /// How long a payment may take once started.
    pub paying_ttl: Span,
    /// How long an answered idempotency key is remembered.
    pub idempotency_horizon: Span,
    /// Live reservations of kind SALE one user may have in a concert that has no policy of its own.
    pub reservations_per_user: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            select_ttl: Span::from_secs(30),
            select_max_age: Span::from_secs(300),
            hold_ttl: Span::from_secs(300),
            paying_ttl: Span::from_secs(300),
            idempotency_horizon: Span::from_secs(15 * 60),
            reservations_per_user: 4,
        }
    }
}

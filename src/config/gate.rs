//! The gates' settings: passes, ghosts, how many may join, and the beacon of draws.

use std::num::NonZeroU32;
use std::time::Duration;

use actors::gates::draws::BeaconChain;
use engine::Time;
use serde::{Deserialize, Serialize};

use super::{Secret, text};
use crate::http::budget::{Budgets, Rate};
use crate::pass::PassKey;

/// Waiting rooms. How fast one admits is its own policy, which an operator sets while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// How long a pass lives without activity.
    #[serde(with = "text::duration")]
    pub pass_ttl: Duration,
    /// How long a pass lives at most; signed into it.
    #[serde(with = "text::duration")]
    pub pass_max_age: Duration,
    /// Who was not heard of for so long is passed over.
    #[serde(with = "text::duration")]
    pub grace: Duration,
    /// Who was not heard of for so long loses the place in line.
    #[serde(with = "text::duration")]
    pub ghost_ttl: Duration,
    /// How often ranks are told.
    #[serde(with = "text::duration")]
    pub tick: Duration,
    /// How long a gate waits for a mirror that does not answer at a take-over before it begins empty.
    #[serde(with = "text::duration")]
    pub restore_timeout: Duration,
    /// What passes are signed and checked with, see [`keys`].
    pub keys: Secret,
    /// Joins that one node takes.
    #[serde(with = "text::rate")]
    pub joins_per_second: Rate,
    #[serde(with = "text::rate")]
    pub joins_per_ip: Rate,
    #[serde(with = "text::rate")]
    pub joins_per_user: Rate,
    /// When the beacon's first round was due, RFC 3339; empty: there is no beacon.
    pub beacon_genesis: String,
    /// Between two rounds of the beacon.
    #[serde(with = "text::duration")]
    pub beacon_period: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        let rate = |per_second, burst| Rate {
            per_second: NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN),
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        };
        Self {
            pass_ttl: Duration::from_secs(5 * 60),
            pass_max_age: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(60),
            ghost_ttl: Duration::from_secs(10 * 60),
            tick: Duration::from_millis(500),
            restore_timeout: Duration::from_secs(5),
            keys: Secret::default(),
            joins_per_second: rate(20_000, 40_000),
            joins_per_ip: rate(50, 500),
            joins_per_user: rate(1, 10),
            beacon_genesis: String::new(),
            beacon_period: Duration::ZERO,
        }
    }
}

impl Gate {
    /// The engine's part.
    #[must_use]
    pub fn settings(&self) -> engine::gate::Settings {
        engine::gate::Settings {
            pass_ttl: self.pass_ttl.into(),
            pass_max_age: self.pass_max_age.into(),
            grace: self.grace.into(),
            ghost_ttl: self.ghost_ttl.into(),
        }
    }

    /// What the door to a gate's line puts up with.
    #[must_use]
    pub const fn budgets(&self) -> Budgets {
        Budgets { node: self.joins_per_second, address: self.joins_per_ip, user: self.joins_per_user }
    }

    /// The beacon of draws; `None`: whoever sells is trusted.
    #[must_use]
    pub fn beacon(&self) -> Option<BeaconChain> {
        let genesis = genesis(&self.beacon_genesis)?;
        Some(BeaconChain { genesis, period: self.beacon_period.into() })
    }
}

/// What [`genesis`] reads, for messages.
pub(super) const GENESIS: &str = "an instant such as \"2023-08-23T15:09:27Z\", or nothing";

/// Reads an instant.
pub(super) fn genesis(text: &str) -> Option<Time> {
    text.parse::<jiff::Timestamp>().ok().map(|instant| Time(instant.as_microsecond()))
}

/// What [`keys`] reads, for messages.
pub(super) const KEYS: &str = "ID:SECRET with spaces between, each ID from 0 to 255 and there once, each SECRET of at least 32 bytes; \
     or nothing for one that is made of auth.secret";

/// Reads `ID:SECRET ID:SECRET`; `None` where that is wrong, without a word of the secrets.
pub(super) fn keys(text: &str) -> Option<Vec<PassKey>> {
    let mut keys: Vec<PassKey> = Vec::new();
    for entry in text.split_whitespace() {
        let (id, secret) = entry.split_once(':')?;
        // `parse` would take a sign.
        let digits = id.bytes().all(|byte| byte.is_ascii_digit());
        let id = id.parse().ok().filter(|_| digits)?;
        if secret.len() < super::check::SECRET_BYTES || keys.iter().any(|key| key.id == id) {
            return None;
        }
        keys.push(PassKey { id, secret: secret.as_bytes().to_vec() });
    }
    Some(keys)
}

impl Gate {
    /// The configured keys: the first signs, all check. Empty where one is to be made of the token secret.
    #[must_use]
    pub fn pass_keys(&self) -> Vec<PassKey> {
        keys(&self.keys.0).unwrap_or_default()
    }
}

//! Passes as they travel: what a gate gives to whoever it admits, signed, so that any node can refuse a bad one by
//! itself.
//!
//! A pass is 50 bytes in base64url without padding, 67 characters. All numbers are big-endian:
//!
//! | bytes | |
//! |---|---|
//! | `u8` | version, 1 |
//! | `u8` | which key |
//! | `u64` | pass id, the owner's epoch in its high half |
//! | `u64` | user |
//! | `u64` | concert |
//! | `i64` | when it ends whatever happens, in microseconds of the ledger's time |
//! | 16 | the first half of HMAC-SHA256 over all of that |
//!
//! Half of the HMAC, because a pass travels with every click, and a forger has to ask a server about each of the 2^128
//! tries. A good signature says that the gate once gave this pass; whether it still lives only the owner knows.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::gate::Pass;
use engine::{ConcertId, PassId, Time, UserId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

#[cfg(test)]
mod tests;

const VERSION: u8 = 1;
const SIGNED: usize = 34;
const TAG: usize = 16;
const BYTES: usize = SIGNED + TAG;

/// Characters of a pass.
pub const PASS_LENGTH: usize = (BYTES * 8).div_ceil(6);

/// What separates a key that is derived from a secret from everything else that the secret is for.
const PURPOSE: &[u8] = b"hotseat: passes, key 0";

/// A secret and its number, which travels with what it signs.
#[derive(Clone, PartialEq, Eq)]
pub struct PassKey {
    pub id: u8,
    pub secret: Vec<u8>,
}

impl PassKey {
    /// Key 0, made of a secret that is there anyway. Whoever knows the key cannot tell the secret.
    #[must_use]
    pub fn derived(secret: &[u8]) -> Self {
        let secret = keyed(secret).chain_update(PURPOSE).finalize().into_bytes().to_vec();
        Self { id: 0, secret }
    }
}

impl std::fmt::Debug for PassKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.id)
    }
}

/// What a pass with a good signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub pass: PassId,
    pub user: UserId,
    pub concert: ConcertId,
    pub ends_at: Time,
}

/// There is no key that every node of the cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("passes cannot be signed: with auth.public_key, gate.keys must be set, the same on all nodes")]
pub struct NoPassKey;

/// Signs and checks passes. Cheap to clone.
#[derive(Clone)]
pub struct Passes(Arc<[Key]>);

struct Key {
    id: u8,
    /// Has taken the secret in already: a check is two blocks of SHA-256.
    mac: Hmac<Sha256>,
}

impl Passes {
    /// The first key signs, all check. Without any no pass is good.
    #[must_use]
    pub fn new(keys: &[PassKey]) -> Self {
        Self(keys.iter().map(|key| Key { id: key.id, mac: keyed(&key.secret) }).collect())
    }

    /// Whether there is a key, for whoever is about to switch a gate on.
    ///
    /// # Errors
    /// There is none.
    pub fn can_sign(&self) -> Result<(), NoPassKey> {
        self.signing().map(|_| ())
    }

    /// The pass as its user gets it.
    ///
    /// # Errors
    /// There is no key.
    pub fn sign(&self, concert: ConcertId, user: UserId, pass: Pass) -> Result<String, NoPassKey> {
        let key = self.signing()?;
        let shown = Shown { pass: pass.id, user, concert, ends_at: pass.ends_at };
        let mut bytes = [0; BYTES];
        bytes[..SIGNED].copy_from_slice(&shown.signed(key.id));
        let tag = key.mac.clone().chain_update(&bytes[..SIGNED]).finalize().into_bytes();
        bytes[SIGNED..].copy_from_slice(&tag[..TAG]);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a pass says, if it is one of ours that has not ended at `now`. Some 130 ns, and no call.
    #[must_use]
    pub fn read(&self, text: &str, now: Time) -> Option<Shown> {
        if text.len() != PASS_LENGTH {
            return None;
        }
        let mut bytes = [0; BYTES];
        // One byte of room more than there is: the length was looked at above.
        URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok().filter(|length| *length == BYTES)?;
        let (signed, tag) = bytes.split_at(SIGNED);
        let key = self.0.iter().find(|key| signed[0] == VERSION && key.id == signed[1])?;
        key.mac.clone().chain_update(signed).verify_truncated_left(tag).ok()?;
        let word = |at: usize| signed[at..at + 8].iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        let shown = Shown {
            pass: PassId(word(2)),
            user: UserId(word(10)),
            concert: ConcertId(word(18)),
            ends_at: Time(word(26).cast_signed()),
        };
        (shown.ends_at > now).then_some(shown)
    }

    /// The pass, if it is good at `now` for this concert and this user; without a user, for whoever it was given to.
    #[must_use]
    pub fn check(&self, text: &str, now: Time, concert: ConcertId, user: Option<UserId>) -> Option<PassId> {
        self.read(text, now).filter(|shown| shown.is_for(concert, user)).map(|shown| shown.pass)
    }

    fn signing(&self) -> Result<&Key, NoPassKey> {
        self.0.first().ok_or(NoPassKey)
    }
}

impl Shown {
    /// Whether it opens this concert to this user, or to whoever it was given to.
    #[must_use]
    pub fn is_for(&self, concert: ConcertId, user: Option<UserId>) -> bool {
        self.concert == concert && user.is_none_or(|user| user == self.user)
    }

    fn signed(&self, key: u8) -> [u8; SIGNED] {
        let mut bytes = [0; SIGNED];
        bytes[..2].copy_from_slice(&[VERSION, key]);
        let words = [self.pass.0, self.user.0, self.concert.0, self.ends_at.0.cast_unsigned()];
        for (place, word) in bytes[2..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

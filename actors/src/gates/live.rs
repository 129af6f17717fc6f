//! The passes that open a concert's sale: written by its gate, read by the shard that decides.
//!
//! A gate and its shard are two actors, so that a flood of the one leaves the other alone. This is what they share. The
//! gate writes what it tells, and a command is decided by what stands here then: a pass that was given back is dead at
//! once. What a command says of a pass (it was used, its user has bought) goes to the gate as a message, and not for
//! every click: the gate hears of a pass again when an eighth of its TTL is over.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::gate::{Pass, Settings};
use engine::{PassId, Span, Time, UserId};
use ractor::ActorRef;

use super::actor::Message;
use crate::lock::lock;

/// The told passes of one gate, for as long as its actor lives.
#[derive(Debug)]
pub struct LivePasses {
    actor: ActorRef<Message>,
    /// How much of a pass's life goes by before its gate hears again that it is used.
    every: Span,
    /// How long a pass lives at most.
    max_age: Span,
    /// Whether the mirror follows: nobody else could go on from here otherwise.
    is_mirrored: AtomicBool,
    passes: Mutex<HashMap<UserId, Live>>,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    pass: Pass,
    /// When the gate last heard that it was used.
    told_at: Time,
}

impl LivePasses {
    pub fn new(actor: ActorRef<Message>, settings: &Settings) -> Self {
        let (is_mirrored, passes) = Default::default();
        let Settings { pass_ttl, pass_max_age: max_age, .. } = *settings;
        Self { actor, every: Span(pass_ttl.0 / 8), max_age, is_mirrored, passes }
    }

    /// The gate says whether its mirror follows.
    pub fn set_mirrored(&self, is_mirrored: bool) {
        self.is_mirrored.store(is_mirrored, Ordering::Relaxed);
    }

    /// Whether another owner would find everybody in line.
    pub fn is_mirrored(&self) -> bool {
        self.is_mirrored.load(Ordering::Relaxed)
    }

    /// The gate has told a pass.
    pub fn tell(&self, now: Time, user: UserId, pass: Pass) {
        lock(&self.passes).insert(user, Live { pass, told_at: now });
    }

    /// The gate has heard that it was used. One that its user has bought with meanwhile stays dead.
    pub fn renew(&self, now: Time, user: UserId, pass: Pass) {
        if let Some(live) = lock(&self.passes).get_mut(&user).filter(|live| live.pass.id == pass.id) {
            *live = Live { pass, told_at: now };
        }
    }

    /// The pass is dead.
    pub fn end(&self, user: UserId, pass: PassId) {
        let mut passes = lock(&self.passes);
        if passes.get(&user).is_some_and(|live| live.pass.id == pass) {
            passes.remove(&user);
        }
    }

    /// Whether this pass of this user opens the sale at `now`. If so, that counts as use.
    pub fn admits(&self, now: Time, user: UserId, pass: PassId) -> bool {
        let mut passes = lock(&self.passes);
        let Some(live) = passes.get_mut(&user) else { return false };
        if live.pass.id != pass || live.pass.expires_at <= now {
            return false;
        }
        if now.since(live.told_at) >= self.every {
            live.told_at = now;
            drop(passes);
            // A gate that is gone is restored with a full TTL for everybody.
            let _lives = self.actor.send_message(Message::Used { user, pass });
        }
        true
    }

    /// Its user has bought at `at`: the pass with which they did is dead from now on. A purchase is told again by every
    /// retry, and by then its user may be inside with another.
    pub fn bought(&self, user: UserId, at: Time) {
        let mut passes = lock(&self.passes);
        let Some(live) = passes.get(&user).filter(|live| live.pass.ends_at - self.max_age <= at) else {
            return;
        };
        let pass = live.pass.id;
        passes.remove(&user);
        drop(passes);
        // A gate that is gone gives it back as soon as it runs out.
        let _lives = self.actor.send_message(Message::Bought { user, pass });
    }
}

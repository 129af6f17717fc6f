//! The mirror in Redis: it survives the process and the machine.
//!
//! Of each option there are `mirror:{7}`, a hash of the epoch and the op where the copy stands; `seats:{7}`,
//! a sorted set of its seats by the time at which their soft locks run out; and `seat:{7}:12`, a soft lock as
//! JSON, which Redis forgets by itself. The set says what counts: a value that it does not list is nothing.
//! The braces keep one option in one slot of a cluster. Every write is one script, which checks (epoch, op)
//! first, so that it may be lost, late, doubled or reordered.

use std::fmt::Write as _;
use std::time::Duration;

use actors::ports::{Mirror, MirrorAnswer, MirrorBatch, MirrorError};
use async_trait::async_trait;
use engine::{Epoch, MirrorOp, OptionId, SeatNo, SoftLock, Span, Time, UserId};
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use serde::Deserialize;

use self::link::Link;
use self::script::Script;
use crate::redis_url::RedisUrl;

mod gate;
mod link;
mod script;

/// Soft locks written or read by one script: about a millisecond in which Redis answers nobody else.
const PART: usize = 500;

/// Parts sent at once. In between others get their turn.
const PARTS_IN_FLIGHT: usize = 8;

/// Soft locks and gates in Redis 7, alone, behind sentinels or as a cluster.
#[derive(Debug)]
pub struct RedisMirror {
    link: Link,
    apply: Script,
    rebuild: Script,
    take_over: Script,
    read: Script,
    gates: gate::Scripts,
}

/// The value of a seat's key. The instants only count as differences: Redis says how long is left.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    user_id: u64,
    first_at: i64,
    expires_at: i64,
}

impl RedisMirror {
    /// Connects when it is first asked for something, and again after each failure.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            link: Link::new(url),
            apply: Script::new(include_str!("redis/apply.lua")),
            rebuild: Script::new(include_str!("redis/rebuild.lua")),
            take_over: Script::new(include_str!("redis/take_over.lua")),
            read: Script::new(include_str!("redis/read.lua")),
            gates: gate::Scripts::new(),
        }
    }

    fn answer(&self, answer: RedisResult<Value>) -> Result<i64, MirrorError> {
        match answer {
            Ok(Value::Int(number)) => Ok(number),
            Ok(other) => Err(self.link.error(format_args!("a script answered {other:?}"))),
            Err(error) => Err(self.link.error(error)),
        }
    }

    /// What the scripts say about (epoch, op).
    fn verdict(&self, answer: RedisResult<Value>) -> Result<MirrorAnswer, MirrorError> {
        Ok(match self.answer(answer)? {
            1.. => MirrorAnswer::Applied,
            0 => MirrorAnswer::Gap,
            _ => MirrorAnswer::Fenced,
        })
    }

    /// Sends the parts of a rebuild, each made when its turn comes; the last one makes it whole.
    async fn rebuild_in(
        &self,
        mut parts: impl Iterator<Item = Cmd> + Send,
    ) -> Result<MirrorAnswer, MirrorError> {
        loop {
            let some: Vec<Cmd> = parts.by_ref().take(PARTS_IN_FLIGHT).collect();
            if some.is_empty() {
                // Every part arrived and yet they were never complete: something wiped them on the way.
                return Ok(MirrorAnswer::Gap);
            }
            for answer in self.link.send(some).await? {
                match self.answer(answer)? {
                    2 => {}
                    1 => return Ok(MirrorAnswer::Applied),
                    0 => return Ok(MirrorAnswer::Gap),
                    _ => return Ok(MirrorAnswer::Fenced),
                }
            }
        }
    }

    /// Reads the soft locks of these seats, in parts.
    async fn read(
        &self,
        option: OptionId,
        seats: &[Vec<u8>],
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        let keys = Keys::of(option);
        let parts: Vec<Cmd> = seats
            .chunks(PART)
            .map(|part| {
                let mut command = self.read.with_text(&[&keys.mirror]);
                command.arg(&keys.seat);
                part.iter().for_each(|seat| _ = command.arg(seat));
                command
            })
            .collect();
        let mut locks = Vec::with_capacity(seats.len());
        for parts in parts.chunks(PARTS_IN_FLIGHT) {
            for answer in self.link.send(parts.to_vec()).await? {
                let found = answer.map_err(|error| self.link.error(error))?;
                self.collect(option, found, now, &mut locks)?;
            }
        }
        Ok(locks)
    }

    fn collect(
        &self,
        option: OptionId,
        found: Value,
        now: Time,
        locks: &mut Vec<SoftLock>,
    ) -> Result<(), MirrorError> {
        let wrong = |what: &dyn std::fmt::Display| {
            self.link.error(format_args!(
                "a soft lock of option {option} is not as this version writes it: {what}"
            ))
        };
        let found: Vec<(u32, Vec<u8>, i64)> =
            redis::from_redis_value(found).map_err(|error| wrong(&error))?;
        for (seat, value, left) in found {
            let stored: Stored = serde_json::from_slice(&value).map_err(|error| wrong(&error))?;
            // -1: somebody took its end away.
            let Some(left) = left.checked_mul(1_000).filter(|left| *left > 0) else { continue };
            let expires_at = now + Span(left);
            locks.push(SoftLock {
                option,
                seat: SeatNo(seat),
                user: UserId(stored.user_id),
                first_at: expires_at - Span(stored.expires_at.saturating_sub(stored.first_at)),
                expires_at,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Mirror for RedisMirror {
    async fn ping(&self) -> Result<(), MirrorError> {
        self.link.ping().await
    }

    async fn apply(&self, batches: &[MirrorBatch]) -> Vec<Result<MirrorAnswer, MirrorError>> {
        let commands =
            batches.iter().map(|batch| fill(self.apply.by_hash(&Keys::of(batch.option).both()), batch));
        let mut answers = match self.link.send(commands.collect()).await {
            Ok(answers) => answers,
            Err(error) => return vec![Err(error); batches.len()],
        };
        // A Redis that does not know the script has been restarted or has failed over. The same batch with the
        // text finds out what else it does not know.
        let unknown: Vec<usize> = (0..answers.len()).filter(|place| is_unknown(&answers[*place])).collect();
        if !unknown.is_empty() {
            let again = unknown.iter().map(|place| &batches[*place]);
            let again = again
                .map(|batch| fill(self.apply.with_text(&Keys::of(batch.option).both()), batch))
                .collect();
            match self.link.send(again).await {
                Ok(said) => unknown.iter().zip(said).for_each(|(place, answer)| answers[*place] = answer),
                Err(error) => return vec![Err(error); batches.len()],
            }
        }
        answers.into_iter().map(|answer| self.verdict(answer)).collect()
    }

    async fn rebuild(
        &self,
        option: OptionId,
        epoch: Epoch,
        op: u64,
        now: Time,
        locks: &[SoftLock],
    ) -> Result<MirrorAnswer, MirrorError> {
        let keys = Keys::of(option);
        let gathered = format!("seats:{{{option}}}:{epoch}.{op}");
        let part = |part: &[SoftLock]| {
            let mut command = self.rebuild.with_text(&[&keys.mirror, &keys.seats, &gathered]);
            command.arg(epoch.0).arg(op).arg(locks.len()).arg(&keys.seat);
            part.iter().for_each(|lock| add(&mut command, lock, epoch, now));
            command
        };
        let parts: Vec<Cmd> =
            if locks.is_empty() { vec![part(&[])] } else { locks.chunks(PART).map(part).collect() };
        self.rebuild_in(parts.into_iter()).await
    }

    async fn take_over(
        &self,
        option: OptionId,
        epoch: Epoch,
        now: Time,
    ) -> Result<Vec<SoftLock>, MirrorError> {
        let mut command = self.take_over.with_text(&Keys::of(option).both());
        command.arg(epoch.0).arg(now.0);
        let answer = self.link.send(vec![command]).await?.pop();
        match answer.unwrap_or(Ok(Value::Nil)).map_err(|error| self.link.error(error))? {
            Value::Int(_) => Ok(Vec::new()),
            Value::Array(seats) => {
                let seats = redis::from_redis_value::<Vec<Vec<u8>>>(Value::Array(seats));
                self.read(option, &seats.map_err(|error| self.link.error(error))?, now).await
            }
            Value::BulkString(owner) => {
                let owner = String::from_utf8_lossy(&owner);
                Err(MirrorError(format!("option {option} belongs to epoch {owner} by now")))
            }
            other => Err(self.link.error(format_args!("a script answered {other:?}"))),
        }
    }

    /// The runtime's timers tick by the millisecond: this is one round a tick.
    fn spacing(&self) -> Duration {
        Duration::from_micros(500)
    }
}

/// Where an option's copy is.
struct Keys {
    mirror: String,
    seats: String,
    /// Before a seat's number.
    seat: String,
}

impl Keys {
    fn of(option: OptionId) -> Self {
        Self {
            mirror: format!("mirror:{{{option}}}"),
            seats: format!("seats:{{{option}}}"),
            seat: format!("seat:{{{option}}}:"),
        }
    }

    fn both(&self) -> [&str; 2] {
        [&self.mirror, &self.seats]
    }
}

/// The arguments of `apply.lua`.
fn fill(mut command: Cmd, batch: &MirrorBatch) -> Cmd {
    let locks = || {
        batch.changes.iter().filter_map(|change| match change {
            MirrorOp::Lock(lock) => Some(lock),
            MirrorOp::Unlock { .. } => None,
        })
    };
    command.arg(batch.epoch.0).arg(batch.previous).arg(batch.op).arg(batch.now.0);
    command.arg(Keys::of(batch.option).seat).arg(locks().count());
    locks().for_each(|lock| add(&mut command, lock, batch.epoch, batch.now));
    for change in &batch.changes {
        if let MirrorOp::Unlock { seat, .. } = change {
            command.arg(seat.0);
        }
    }
    command
}

/// Seat, expiry, milliseconds left, value.
fn add(command: &mut Cmd, lock: &SoftLock, epoch: Epoch, now: Time) {
    let left = lock.expires_at.since(now).0.max(0).unsigned_abs().div_ceil(1_000).max(1);
    let mut value = String::with_capacity(96);
    let written = write!(
        value,
        "{{\"userId\":{},\"firstAt\":{},\"expiresAt\":{},\"epoch\":{epoch}}}",
        lock.user, lock.first_at.0, lock.expires_at.0
    );
    debug_assert!(written.is_ok(), "a string takes everything");
    command.arg(lock.seat.0).arg(lock.expires_at.0).arg(left).arg(value);
}

fn is_unknown(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Whether the connection is not worth keeping: a primary that became a replica answers too.
fn is_fatal(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::NoScript | ServerErrorKind::ResponseError) | ErrorKind::Extension
    )
}

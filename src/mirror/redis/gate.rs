//! The copies of gates in Redis.
//!
//! Of each concert there are `gate:{7}`, a hash of the epoch and the op where the copy stands, the next turn and the
//! draw; `waiting-queue:{7}`, a sorted set of who waits, by turn; `active-users:{7}`, a sorted set of who has a pass, by
//! the time at which it ends whatever happens; and `active-user:{7}:42`, a pass as JSON, which Redis forgets by itself. The
//! set says what counts: a pass that it does not list is nothing. Pass ids are text in JSON: they may be beyond 2^53.

use std::fmt::Write as _;

use actors::gates::ports::{GateBatch, GateMirror};
use actors::ports::{MirrorAnswer, MirrorError};
use async_trait::async_trait;
use engine::gate::{Draw, KeptPass, Snapshot};
use engine::{ConcertId, Epoch, PassId, Time, Turn, UserId};
use redis::{Cmd, FromRedisValue, RedisResult, Value};
use serde::Deserialize;

use self::batch::Sum;
use super::script::Script;
use super::{PART, PARTS_IN_FLIGHT, RedisMirror, is_unknown};

mod batch;

/// People in line written or read at once: well below a millisecond in which Redis answers nobody else, and as many as go
/// over the wire, [`PARTS_IN_FLIGHT`] times, long before the answer counts as late.
const LINE_PART: usize = 1_000;

#[derive(Debug)]
pub(super) struct Scripts {
    apply: Script,
    rebuild: Script,
    take_over: Script,
}

/// The value of a pass's key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    pass_id: String,
    turn: u32,
    ends_at: i64,
}

/// What a take-over says: next turn, draw, how many wait, how many passes.
type Found = (u32, String, usize, usize);

impl Scripts {
    pub fn new() -> Self {
        Self {
            apply: Script::new(include_str!("gate_apply.lua")),
            rebuild: Script::new(include_str!("gate_rebuild.lua")),
            take_over: Script::new(include_str!("gate_take_over.lua")),
        }
    }
}

#[async_trait]
impl GateMirror for RedisMirror {
    async fn apply(&self, batch: &GateBatch) -> Result<MirrorAnswer, MirrorError> {
        let (keys, sum) = (Keys::of(batch.concert), Sum::of(&batch.changes));
        let say = |command| fill(command, &keys, batch, &sum);
        let mut answer = self.ask(say(self.gates.apply.by_hash(&keys.all()))).await?;
        // A Redis that does not know the script has been restarted or has failed over. The same batch with the
        // text finds out what else it does not know.
        if is_unknown(&answer) {
            answer = self.ask(say(self.gates.apply.with_text(&keys.all()))).await?;
        }
        self.verdict(answer)
    }

    async fn rebuild(
        &self,
        concert: ConcertId,
        epoch: Epoch,
        op: u64,
        now: Time,
        snapshot: &Snapshot,
    ) -> Result<MirrorAnswer, MirrorError> {
        let keys = Keys::of(concert);
        let gathered = [&keys.waiting, &keys.passes].map(|key| format!("{key}:{epoch}.{op}"));
        let all = [&keys.gate, &keys.waiting, &keys.passes, &gathered[0], &gathered[1]].map(String::as_str);
        let part = |(waiting, passes): (&[(Turn, UserId)], &[KeptPass])| {
            let mut command = self.gates.rebuild.with_text(&all);
            command.arg(epoch.0).arg(op).arg(snapshot.next.0).arg(written(snapshot.draw));
            command.arg(snapshot.waiting.len()).arg(snapshot.passes.len()).arg(&keys.pass).arg(waiting.len());
            waiting.iter().for_each(|(turn, user)| _ = command.arg(turn.0).arg(user.0));
            passes.iter().for_each(|pass| add(&mut command, pass, epoch, now));
            command
        };
        let waiting = snapshot.waiting.chunks(LINE_PART).map(|waiting| (waiting, &[][..]));
        let mut parts: Vec<_> =
            waiting.chain(snapshot.passes.chunks(PART).map(|part| (&[][..], part))).collect();
        if parts.is_empty() {
            parts.push((&[], &[]));
        }
        self.rebuild_in(parts.into_iter().map(part)).await
    }

    async fn take_over(&self, concert: ConcertId, epoch: Epoch, now: Time) -> Result<Snapshot, MirrorError> {
        let keys = Keys::of(concert);
        let mut command = self.gates.take_over.with_text(&keys.all());
        command.arg(epoch.0);
        let answer = self.ask(command).await?.map_err(|error| self.link.error(error))?;
        if let Value::BulkString(owner) = answer {
            let owner = String::from_utf8_lossy(&owner);
            return Err(MirrorError(format!(
                "the gate of concert {concert} belongs to epoch {owner} by now"
            )));
        }
        let (next, draw, waiting, passes): Found = self.understood(concert, answer)?;
        let draw = read_draw(&draw).ok_or_else(|| self.wrong(concert, format_args!("a draw {draw:?}")))?;
        let snapshot = Snapshot {
            next: Turn(next),
            draw,
            waiting: self.read_line(&keys, concert, waiting).await?,
            passes: self.read_passes(&keys, concert, passes, now).await?,
        };
        // Whatever was wiped, or taken over by somebody else, while it was read is not the copy any more.
        let mut stands = redis::cmd("HGET");
        stands.arg(&keys.gate).arg("epoch");
        let stands = self.ask(stands).await?.map_err(|error| self.link.error(error))?;
        if self.understood::<Option<u64>>(concert, stands)? != Some(epoch.0) {
            return Err(self
                .link
                .error(format_args!("the gate of concert {concert} changed while it was read")));
        }
        Ok(snapshot)
    }

    async fn ping(&self) -> Result<(), MirrorError> {
        self.link.ping().await
    }
}

impl RedisMirror {
    async fn ask(&self, command: Cmd) -> Result<RedisResult<Value>, MirrorError> {
        Ok(self.link.send(vec![command]).await?.pop().unwrap_or(Ok(Value::Nil)))
    }

    fn wrong(&self, concert: ConcertId, what: impl std::fmt::Display) -> MirrorError {
        self.link
            .error(format_args!("the gate of concert {concert} is not as this version writes it: {what}"))
    }

    fn understood<T: FromRedisValue>(&self, concert: ConcertId, value: Value) -> Result<T, MirrorError> {
        redis::from_redis_value(value).map_err(|error| self.wrong(concert, error))
    }

    /// The first `count` members of a sorted set, in its order, in parts. Nobody writes meanwhile: lower epochs are fenced
    /// off, and this one's owner waits for the answer.
    async fn read_set<T: FromRedisValue>(
        &self,
        concert: ConcertId,
        key: &str,
        count: usize,
        scores: bool,
    ) -> Result<Vec<T>, MirrorError> {
        let mut members = Vec::with_capacity(count);
        let starts: Vec<usize> = (0..count).step_by(LINE_PART).collect();
        let part = |start: &usize| {
            let mut command = redis::cmd("ZRANGE");
            command.arg(key).arg(*start).arg((start + LINE_PART).min(count) - 1);
            if scores {
                command.arg("WITHSCORES");
            }
            command
        };
        for starts in starts.chunks(PARTS_IN_FLIGHT) {
            for answer in self.link.send(starts.iter().map(part).collect()).await? {
                let found = answer.map_err(|error| self.link.error(error))?;
                members.append(&mut self.understood(concert, found)?);
            }
        }
        if members.len() != count {
            let found = members.len();
            return Err(self.wrong(concert, format_args!("{key} had {count} members, and now {found}")));
        }
        Ok(members)
    }

    /// Who waits, by turn.
    async fn read_line(
        &self,
        keys: &Keys,
        concert: ConcertId,
        count: usize,
    ) -> Result<Vec<(Turn, UserId)>, MirrorError> {
        let found: Vec<(u64, u32)> = self.read_set(concert, &keys.waiting, count, true).await?;
        Ok(found.into_iter().map(|(user, turn)| (Turn(turn), UserId(user))).collect())
    }

    /// The passes that live, by user.
    async fn read_passes(
        &self,
        keys: &Keys,
        concert: ConcertId,
        count: usize,
        now: Time,
    ) -> Result<Vec<KeptPass>, MirrorError> {
        let mut users: Vec<u64> = self.read_set(concert, &keys.passes, count, false).await?;
        users.sort_unstable();
        let mut passes = Vec::with_capacity(users.len());
        let parts: Vec<&[u64]> = users.chunks(PART).collect();
        let values = |users: &&[u64]| {
            let mut command = redis::cmd("MGET");
            users.iter().for_each(|user| _ = command.arg(format!("{}{user}", keys.pass)));
            command
        };
        for parts in parts.chunks(PARTS_IN_FLIGHT) {
            let answers = self.link.send(parts.iter().map(values).collect()).await?;
            for (users, answer) in parts.iter().zip(answers) {
                let found = answer.map_err(|error| self.link.error(error))?;
                let values: Vec<Option<Vec<u8>>> = self.understood(concert, found)?;
                for (user, value) in users.iter().zip(values) {
                    // None: Redis has forgotten it, so that it has ended.
                    let Some(value) = value else { continue };
                    let pass = read_pass(UserId(*user), &value).map_err(|what| self.wrong(concert, what))?;
                    passes.extend(Some(pass).filter(|pass| pass.ends_at > now));
                }
            }
        }
        Ok(passes)
    }
}

/// Where a gate's copy is.
struct Keys {
    gate: String,
    waiting: String,
    passes: String,
    /// Before a user's id.
    pass: String,
}

impl Keys {
    fn of(concert: ConcertId) -> Self {
        Self {
            gate: format!("gate:{{{concert}}}"),
            waiting: format!("waiting-queue:{{{concert}}}"),
            passes: format!("active-users:{{{concert}}}"),
            pass: format!("active-user:{{{concert}}}:"),
        }
    }

    fn all(&self) -> [&str; 3] {
        [&self.gate, &self.waiting, &self.passes]
    }
}

/// The arguments of `gate_apply.lua`.
fn fill(mut command: Cmd, keys: &Keys, batch: &GateBatch, sum: &Sum) -> Cmd {
    command.arg(batch.epoch.0).arg(batch.previous).arg(batch.op).arg(batch.now.0).arg(&keys.pass);
    command.arg(sum.next.0).arg(sum.draw.map(written).unwrap_or_default());
    command.arg(sum.left.len()).arg(sum.joined.len()).arg(sum.ended.len()).arg(sum.admitted.len());
    for (user, turn) in &sum.left {
        command.arg(user.0).arg(turn.map(|turn| turn.to_string()).unwrap_or_default());
    }
    for (user, turn) in &sum.joined {
        command.arg(turn.0).arg(user.0);
    }
    for (user, pass) in &sum.ended {
        command.arg(user.0).arg(pass.map(|pass| pass.to_string()).unwrap_or_default());
    }
    sum.admitted.iter().for_each(|pass| add(&mut command, pass, batch.epoch, batch.now));
    command
}

/// User, end, milliseconds left, value.
fn add(command: &mut Cmd, pass: &KeptPass, epoch: Epoch, now: Time) {
    let left = pass.ends_at.since(now).0.max(0).unsigned_abs().div_ceil(1_000).max(1);
    let mut value = String::with_capacity(96);
    let written = write!(
        value,
        "{{\"passId\":\"{}\",\"turn\":{},\"endsAt\":{},\"epoch\":{epoch}}}",
        pass.id, pass.turn, pass.ends_at.0
    );
    debug_assert!(written.is_ok(), "a string takes everything");
    command.arg(pass.user.0).arg(pass.ends_at.0).arg(left).arg(value);
}

fn read_pass(user: UserId, value: &[u8]) -> Result<KeptPass, String> {
    let stored: Stored = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let id = stored.pass_id.parse().map_err(|_| format!("a pass {:?}", stored.pass_id))?;
    Ok(KeptPass { user, turn: Turn(stored.turn), id: PassId(id), ends_at: Time(stored.ends_at) })
}

/// A draw as the field `draw` has it.
fn written(draw: Draw) -> String {
    match draw {
        Draw::Due => "due".to_owned(),
        Draw::Frozen { first, upto } => format!("frozen:{first}:{upto}"),
        Draw::Done => "done".to_owned(),
    }
}

fn read_draw(written: &str) -> Option<Draw> {
    match written {
        "due" => Some(Draw::Due),
        "done" => Some(Draw::Done),
        frozen => {
            let (first, upto) = frozen.strip_prefix("frozen:")?.split_once(':')?;
            Some(Draw::Frozen { first: Turn(first.parse().ok()?), upto: Turn(upto.parse().ok()?) })
        }
    }
}

//! What a socket may do, and when it has to go: a machine without sockets, shards or clocks of its own. Frames and
//! the time go in, [`Action`]s come out.

use std::time::Duration;

use actors::feed::Position;
use engine::{Caller, ConcertId, OptionId, Refusal, UserId};
use tokio::time::Instant;

use super::bucket::{Bucket, Rate};
use super::message::{self, GateWish, Id, Message, Op, Wish};
use super::passbook::Passbook;
use crate::http::auth::{Identity, Tokens};
use crate::http::error::Problem;
use crate::http::queue::Form;
use crate::pass::Shown;

#[cfg(test)]
mod tests;

/// How long a socket may say neither who it is nor what it watches.
pub const SILENCE: Duration = Duration::from_secs(5);

/// Mistakes that are forgiven: ten, and one more every five seconds.
const MISTAKES: Rate = Rate { per_second: 0.2, brim: 10.0 };

/// Gates that one socket may follow. Each tells its user alone, so each costs what a whole connection's events cost, and
/// nobody waits for many concerts at once.
const QUEUES: usize = 4;

/// What an operator may tune.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Options that one socket may watch.
    pub max_watches: usize,
    /// Messages that one socket may send in a second, for long; twice as many at once.
    pub messages_per_second: u16,
}

/// What the shell is to do, in this order.
#[derive(Debug)]
pub enum Action {
    Ok(Id),
    No(Id, Problem),
    /// From now on it is this user's socket.
    Follow(UserId),
    /// Begin to watch, or begin anew. The answer is the shell's: it knows which options there are.
    Watch {
        id: Id,
        option: OptionId,
        since: Option<Position>,
    },
    Unwatch(OptionId),
    /// Ask the option's shard.
    Click(Click),
    /// Ask the concert's gate.
    Gate {
        id: Id,
        user: UserId,
        concert: ConcertId,
        wish: GateWish,
    },
    /// Begin to follow a gate, or begin anew. The answer is the shell's: it knows which concerts there are.
    Queue {
        id: Id,
        user: UserId,
        concert: ConcertId,
        form: Form,
    },
    Unqueue(ConcertId),
    /// Say so and close. Nothing comes after it.
    Bye(Reason),
}

/// A command on its way to the shard.
#[derive(Debug)]
pub struct Click {
    pub id: Id,
    pub caller: Caller,
    pub option: OptionId,
    pub wish: Wish,
}

/// Why a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Neither a token nor a watch within [`SILENCE`].
    Silent,
    TokenEnded,
    /// An option was watched that needs a pass, and there is none any more.
    PassEnded,
    RateLimited,
    BadFrames,
    TooLarge,
    NotUtf8,
    ProtocolError,
    TooManyWatches,
    TooManyQueues,
    Shutdown,
}

impl Reason {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "SILENT",
            Self::TokenEnded => "TOKEN_ENDED",
            Self::PassEnded => "PASS_ENDED",
            Self::RateLimited => "RATE_LIMITED",
            Self::BadFrames => "BAD_FRAMES",
            Self::TooLarge => "TOO_LARGE",
            Self::NotUtf8 => "NOT_UTF8",
            Self::ProtocolError => "PROTOCOL_ERROR",
            Self::TooManyWatches => "TOO_MANY_WATCHES",
            Self::TooManyQueues => "TOO_MANY_QUEUES",
            Self::Shutdown => "SHUTDOWN",
        }
    }

    /// Of RFC 6455 §7.4.1: a policy, unless there is something better.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Shutdown => 1001,
            Self::ProtocolError => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Silent
            | Self::TokenEnded
            | Self::PassEnded
            | Self::RateLimited
            | Self::BadFrames
            | Self::TooManyWatches
            | Self::TooManyQueues => 1008,
        }
    }
}

/// A frame, or what came instead of one.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    Text(&'a str),
    Binary,
    /// Ping or pong.
    Control,
}

/// One socket's rights and wrongs.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    user: Option<Proof>,
    passes: Passbook,
    watches: Vec<OptionId>,
    queues: Vec<ConcertId>,
    silent_until: Option<Instant>,
    messages: Bucket,
    mistakes: Bucket,
}

/// Who it is, and for how long that is proven.
#[derive(Clone, Copy, Debug)]
struct Proof {
    caller: Caller,
    /// Looks at every concert without a pass.
    is_operator: bool,
    ends: Instant,
}

/// What a session checks proofs with.
pub struct Checks<'a> {
    pub tokens: &'a Tokens,
    /// What a pass says that is good, and until when.
    pub pass: &'a dyn Fn(&str) -> Option<(Shown, Instant)>,
}

impl Session {
    /// `identity` is of the token in the request's header, if there was one, and `passes` came with it.
    pub fn new(now: Instant, limits: Limits, identity: Option<&Identity>, passes: Passbook) -> Self {
        let user = identity.map(|identity| Proof::new(now, identity));
        Self {
            limits,
            user,
            passes,
            watches: Vec::new(),
            queues: Vec::new(),
            silent_until: user.is_none().then(|| now + SILENCE),
            messages: Bucket::new(now, limits.rate()),
            mistakes: Bucket::new(now, MISTAKES),
        }
    }

    /// When [`Session::tick`] has something to say, if nothing happens before.
    pub fn due(&self) -> Option<Instant> {
        let ends = self.user.map(|proof| proof.ends);
        [self.silent_until, ends].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Option<Reason> {
        if self.user.is_some_and(|proof| proof.ends <= now) {
            return Some(Reason::TokenEnded);
        }
        if self.silent_until.is_some_and(|until| until <= now) {
            self.silent_until = None;
            return (self.user.is_none() && self.watches.is_empty()).then_some(Reason::Silent);
        }
        None
    }

    /// The server has given its user a pass.
    pub fn take_pass(&mut self, shown: Shown, ends: Instant) {
        self.passes.put(shown, ends);
    }

    pub fn passes(&self) -> &Passbook {
        &self.passes
    }

    /// Until when seats of a gated concert may be watched; `None`: for as long as the socket is open.
    ///
    /// # Errors
    /// No pass that was shown is good for it, or not any more.
    pub fn may_watch(&self, now: Instant, concert: ConcertId) -> Result<Option<Instant>, Refusal> {
        if self.user.is_some_and(|proof| proof.is_operator) {
            return Ok(None);
        }
        let user = self.user.map(|proof| proof.caller.user);
        let found = self.passes.find(concert, user).filter(|(_, ends)| *ends > now);
        found.map(|(_, ends)| Some(ends)).ok_or(Refusal::PassRequired)
    }

    /// Adds what a frame leads to. After a [`Action::Bye`] nothing more is to be received.
    pub fn receive(
        &mut self,
        now: Instant,
        frame: Frame<'_>,
        checks: &Checks<'_>,
        actions: &mut Vec<Action>,
    ) {
        let messages = match frame {
            Frame::Control => Ok(Vec::new()),
            Frame::Text(text) => message::read(text),
            Frame::Binary => Err(Problem::malformed("", "Messages are sent as text.")),
        };
        let messages = messages.unwrap_or_else(|problem| vec![Err((Id::default(), problem))]);
        let count = u16::try_from(messages.len().max(1)).unwrap_or(u16::MAX);
        if !self.messages.take(now, self.limits.rate(), count.into()) {
            return actions.push(Action::Bye(Reason::RateLimited));
        }
        for message in messages {
            let done = match message {
                Ok(message) => self.perform(now, message, checks, actions),
                Err((id, problem @ Problem::Malformed { .. })) => self.mistake(now, id, problem, actions),
                Err((id, problem)) => {
                    actions.push(Action::No(id, problem));
                    Ok(())
                }
            };
            if let Err(reason) = done {
                return actions.push(Action::Bye(reason));
            }
        }
    }

    /// The shell found that it cannot be watched.
    pub fn is_not_watched(&mut self, option: OptionId) {
        self.watches.retain(|watched| *watched != option);
    }

    /// The shell found that it cannot be followed.
    pub fn is_not_queued(&mut self, concert: ConcertId) {
        self.queues.retain(|queue| *queue != concert);
    }

    fn perform(
        &mut self,
        now: Instant,
        Message { id, op }: Message,
        checks: &Checks<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Reason> {
        match op {
            Op::Ping => actions.push(Action::Ok(id)),
            Op::Auth { token } => match checks.tokens.check(&token) {
                Ok(identity) => self.authenticate(now, id, &identity, actions),
                Err(problem) => self.mistake(now, id, problem, actions)?,
            },
            Op::Pass { pass } => match (checks.pass)(&pass) {
                Some((shown, ends)) => {
                    self.passes.put(shown, ends);
                    actions.push(Action::Ok(id));
                }
                None => self.mistake(now, id, Refusal::PassRequired.into(), actions)?,
            },
            Op::Watch { option, since } => {
                if !self.watches.contains(&option) {
                    if self.watches.len() == self.limits.max_watches {
                        return Err(Reason::TooManyWatches);
                    }
                    self.watches.push(option);
                }
                actions.push(Action::Watch { id, option, since });
            }
            Op::Unwatch { option } => {
                self.is_not_watched(option);
                actions.extend([Action::Unwatch(option), Action::Ok(id)]);
            }
            Op::Click { option, wish } => match self.user {
                Some(Proof { caller, .. }) => {
                    actions.push(Action::Click(Click { id, caller, option, wish }));
                }
                None => actions.push(stranger(id)),
            },
            Op::Gate { concert, wish } => match self.user {
                Some(Proof { caller: Caller { user, .. }, .. }) => {
                    actions.push(Action::Gate { id, user, concert, wish });
                }
                None => actions.push(stranger(id)),
            },
            Op::Queue { concert, form } => match self.user {
                Some(Proof { caller: Caller { user, .. }, .. }) => {
                    if !self.queues.contains(&concert) {
                        if self.queues.len() == QUEUES {
                            return Err(Reason::TooManyQueues);
                        }
                        self.queues.push(concert);
                    }
                    actions.push(Action::Queue { id, user, concert, form });
                }
                None => actions.push(stranger(id)),
            },
            Op::Unqueue { concert } => {
                self.is_not_queued(concert);
                actions.extend([Action::Unqueue(concert), Action::Ok(id)]);
            }
        }
        Ok(())
    }

    /// The first token says whose socket it is; a later one of the same user prolongs that.
    fn authenticate(&mut self, now: Instant, id: Id, identity: &Identity, actions: &mut Vec<Action>) {
        let is_other = self.user.is_some_and(|proof| proof.caller.user != identity.user);
        if is_other {
            let why = "The socket is another user's; open a new one.";
            return actions.push(Action::No(id, Problem::Forbidden(why)));
        }
        // What an operator watches needs no pass, and would go on.
        if self.user.is_some_and(|proof| proof.is_operator) && !identity.is_operator() {
            let why = "The socket is an operator's; open a new one to be less.";
            return actions.push(Action::No(id, Problem::Forbidden(why)));
        }
        if self.user.is_none() {
            actions.push(Action::Follow(identity.user));
        }
        self.user = Some(Proof::new(now, identity));
        actions.push(Action::Ok(id));
    }

    fn mistake(
        &mut self,
        now: Instant,
        id: Id,
        problem: Problem,
        actions: &mut Vec<Action>,
    ) -> Result<(), Reason> {
        actions.push(Action::No(id, problem));
        if self.mistakes.take(now, MISTAKES, 1.0) { Ok(()) } else { Err(Reason::BadFrames) }
    }
}

/// What a stranger hears who asks for something of their own.
fn stranger(id: Id) -> Action {
    let why = "Send a token first: {\"op\":\"auth\",\"token\":…}.";
    Action::No(id, Problem::Unauthenticated { presented: false, why })
}

impl Limits {
    fn rate(self) -> Rate {
        let per_second = f32::from(self.messages_per_second);
        Rate { per_second, brim: 2.0 * per_second }
    }
}

impl Proof {
    fn new(now: Instant, identity: &Identity) -> Self {
        Self {
            caller: identity.caller(),
            is_operator: identity.is_operator(),
            ends: now + identity.remaining(),
        }
    }
}

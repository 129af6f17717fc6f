//! A user, over HTTP or over a socket.
//!
//! Clicks and holds go the way that was asked for; what a socket does not know (maps, payments) goes over HTTP. In an
//! open loop nothing is asked twice: a server that cannot decide is a failure there. Where a run must go on, the same
//! request is sent again, with the same key, until it is answered with yes or no; each attempt that failed is recorded.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::frames::Position;
use crate::http::{BINARY, Connection, Request};
use crate::recorder::{Op, Sample, Tape, Verdict};
use crate::target::{Introduced, Tokens};
use crate::wire::{Problem, Reservation, SeatMap, Selection, numbers};
use crate::ws::{Command, Socket};

/// Pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How clicks travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    Http,
    Ws,
}

/// Whether a run asks again, and how often it did. One for all sessions of a run.
#[derive(Debug, Default)]
pub struct Patience {
    /// How long a lost server is waited for; zero is not at all.
    pub survive: Duration,
    /// Whether a busy server is asked again.
    pub insists: bool,
    /// Start nothing new.
    pub stop: AtomicBool,
    pub lost: AtomicU64,
    pub busy: AtomicU64,
    pub replays: AtomicU64,
}

/// Why an answer never came.
#[derive(Debug)]
pub enum Broken {
    /// The run was stopped while the server was away or busy; whether the request happened is not known.
    Stopped,
    Failed(anyhow::Error),
}

/// A yes or a no, and when.
#[derive(Debug)]
pub struct Reply<T> {
    pub sent: Instant,
    pub answered: Instant,
    pub said: Result<T, Problem>,
}

/// One connection, and whoever uses it at the moment.
pub struct Session {
    patience: Arc<Patience>,
    connection: Connection,
    tokens: Tokens,
    payment_token: Arc<str>,
    option: u64,
    via: Via,
    /// Opened when it is needed.
    socket: Option<Socket>,
    token: Arc<str>,
    seats: String,
    selections: String,
    holds: String,
    /// Where attempts are recorded that come to nothing.
    tape: Option<Tape>,
}

/// What a user asks. Keys are idempotency keys.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Look,
    Changes {
        since: Position,
    },
    Select {
        seats: &'a [u32],
    },
    Best {
        party: u32,
    },
    Release {
        seats: &'a [u32],
    },
    ReleaseAll,
    Hold {
        seats: &'a [u32],
        key: &'a str,
    },
    Confirm {
        reservation: &'a str,
        key: &'a str,
    },
    Cancel {
        reservation: &'a str,
        key: &'a str,
    },
    /// Anybody's, as the payment service sees it.
    Read {
        reservation: &'a str,
    },
}

impl From<anyhow::Error> for Broken {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Broken> for anyhow::Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Failed(error) => error,
            Broken::Stopped => anyhow::anyhow!("stopped"),
        }
    }
}

impl<T> Reply<T> {
    /// For the recorder.
    pub fn sample(&self, op: Op, due: Instant) -> Sample<'_> {
        let verdict = match &self.said {
            Ok(_) => Verdict::Granted,
            Err(problem) if problem.is_decision() => Verdict::Refused(&problem.code),
            Err(problem) => Verdict::Failed(&problem.code),
        };
        Sample { op, due, sent: self.sent, answered: self.answered, verdict }
    }

    fn map<U>(self, convert: impl FnOnce(T) -> Result<U, Broken>) -> Result<Reply<U>, Broken> {
        let Self { sent, answered, said } = self;
        let said = match said {
            Ok(value) => Ok(convert(value)?),
            Err(problem) => Err(problem),
        };
        Ok(Reply { sent, answered, said })
    }
}

impl Patience {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Session {
    pub fn new(of: &Introduced, via: Via, patience: Arc<Patience>) -> Self {
        let option = of.option;
        Self {
            patience,
            connection: Connection::new(of.target.clone()),
            tokens: of.tokens.clone(),
            payment_token: of.payment_token.clone(),
            option,
            via,
            socket: None,
            token: "".into(),
            seats: format!("/api/v1/options/{option}/seats"),
            selections: format!("/api/v1/options/{option}/selections"),
            holds: format!("/api/v1/options/{option}/holds"),
            tape: None,
        }
    }

    /// Attempts that bring no answer, or are made again, are recorded here.
    pub fn record_on(&mut self, tape: Tape) {
        self.tape = Some(tape);
    }

    /// From here on another user asks.
    pub async fn become_user(&mut self, user: u64) -> Result<(), Broken> {
        let mut pause = PAUSE_MIN;
        let lost_at = Instant::now();
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        loop {
            match self.arrive(user).await {
                Ok(()) => return Ok(()),
                Err(error) if lost_at.elapsed() >= self.patience.survive => {
                    return Err(Broken::Failed(error));
                }
                Err(_) if self.patience.stopped() => return Err(Broken::Stopped),
                Err(_) => wait(&mut pause, None).await,
            }
        }
    }

    async fn arrive(&mut self, user: u64) -> anyhow::Result<()> {
        self.token = self.tokens.of(&mut self.connection, user, "USER").await?;
        if self.via == Via::Ws {
            self.socket().await?;
        }
        Ok(())
    }

    /// The seats of the option.
    pub async fn look(&mut self) -> Result<Reply<SeatMap>, Broken> {
        self.ask(Ask::Look).await?.map(|body| {
            let not_a_map = "what the server sent for the seats is no seat map of version 1";
            Ok(SeatMap::decode(&body).context(not_a_map)?)
        })
    }

    /// What changed since a position: a frame of the feed.
    pub async fn changes(&mut self, since: Position) -> Result<Reply<Bytes>, Broken> {
        self.ask(Ask::Changes { since }).await
    }

    pub async fn select(&mut self, seats: &[u32]) -> Result<Reply<()>, Broken> {
        self.ask(Ask::Select { seats }).await?.map(|_| Ok(()))
    }

    /// Seats of the server's choice.
    pub async fn select_best(&mut self, party: u32) -> Result<Reply<Vec<u32>>, Broken> {
        let reply = self.ask(Ask::Best { party }).await?;
        reply.map(|body| Ok(numbers(&json::<Selection>(&body)?.seats)))
    }

    pub async fn release(&mut self, seats: &[u32]) -> Result<Reply<()>, Broken> {
        self.ask(Ask::Release { seats }).await?.map(|_| Ok(()))
    }

    /// Everything that the user has selected.
    pub async fn release_all(&mut self) -> Result<Reply<()>, Broken> {
        self.ask(Ask::ReleaseAll).await?.map(|_| Ok(()))
    }

    pub async fn hold(&mut self, seats: &[u32]) -> Result<Reply<Reservation>, Broken> {
        let key = new_key();
        self.ask(Ask::Hold { seats, key: &key }).await?.map(|body| Ok(json(&body)?))
    }

    /// The payment service says that the money is there.
    pub async fn confirm(&mut self, reservation: &str) -> Result<Reply<Reservation>, Broken> {
        let key = new_key();
        self.ask(Ask::Confirm { reservation, key: &key }).await?.map(|body| Ok(json(&body)?))
    }

    pub async fn cancel(&mut self, reservation: &str) -> Result<Reply<Reservation>, Broken> {
        let key = new_key();
        self.ask(Ask::Cancel { reservation, key: &key }).await?.map(|body| Ok(json(&body)?))
    }

    /// A reservation, as the payment service sees it.
    pub async fn reservation(&mut self, reservation: &str) -> Result<Reply<Reservation>, Broken> {
        self.ask(Ask::Read { reservation }).await?.map(|body| Ok(json(&body)?))
    }

    /// Until there is an answer that says yes or no, as far as the run's patience goes. `sent` is of the first attempt:
    /// it may have been the one that was decided.
    async fn ask(&mut self, ask: Ask<'_>) -> Result<Reply<Bytes>, Broken> {
        let (mut sent, mut lost_at, mut pause) = (None, None, PAUSE_MIN);
        loop {
            let now = Instant::now();
            let first_sent = *sent.get_or_insert(now);
            let retry_after = match self.attempt(ask).await {
                Ok((reply, retry_after)) => {
                    let problem = reply.said.as_ref().err().filter(|problem| problem.is_undecided());
                    let (Some(problem), true) = (problem, self.patience.insists) else {
                        return Ok(Reply { sent: first_sent.min(reply.sent), ..reply });
                    };
                    lost_at = None;
                    self.patience.busy.fetch_add(1, Ordering::Relaxed);
                    self.record(ask.op(), now, reply.answered, &problem.code);
                    retry_after
                }
                Err(error) => {
                    self.patience.lost.fetch_add(1, Ordering::Relaxed);
                    self.record(ask.op(), now, Instant::now(), "no answer");
                    if lost_at.get_or_insert(now).elapsed() >= self.patience.survive {
                        return Err(Broken::Failed(error));
                    }
                    None
                }
            };
            if self.patience.stopped() {
                return Err(Broken::Stopped);
            }
            wait(&mut pause, retry_after).await;
        }
    }

    fn record(&self, op: Op, sent: Instant, answered: Instant, why: &str) {
        if let Some(tape) = &self.tape {
            tape.record(&Sample { op, due: sent, sent, answered, verdict: Verdict::Failed(why) });
        }
    }

    async fn attempt(&mut self, ask: Ask<'_>) -> anyhow::Result<(Reply<Bytes>, Option<Duration>)> {
        match ask.command().filter(|_| self.via == Via::Ws) {
            Some(command) => Ok((self.say(command).await?, None)),
            None => self.exchange(ask).await,
        }
    }

    async fn say(&mut self, command: Command<'_>) -> anyhow::Result<Reply<Bytes>> {
        let option = self.option;
        let answer = self.socket().await?.call(option, command).await;
        // A socket that broke is opened again by the next one who needs it.
        let answer = answer.inspect_err(|_| self.socket = None)?;
        Ok(Reply { sent: answer.sent, answered: answer.answered, said: answer.result })
    }

    async fn socket(&mut self) -> anyhow::Result<&mut Socket> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open(self.connection.target().authority(), &self.token).await?,
        };
        Ok(self.socket.insert(socket))
    }

    async fn exchange(&mut self, ask: Ask<'_>) -> anyhow::Result<(Reply<Bytes>, Option<Duration>)> {
        let (mine, payment) = (Some(&*self.token), Some(&*self.payment_token));
        let (method, token) = match ask {
            Ask::Look | Ask::Changes { .. } => ("GET", None),
            Ask::Read { .. } => ("GET", payment),
            Ask::Confirm { .. } => ("POST", payment),
            Ask::Release { .. } | Ask::ReleaseAll => ("DELETE", mine),
            Ask::Select { .. } | Ask::Best { .. } | Ask::Hold { .. } | Ask::Cancel { .. } => ("POST", mine),
        };
        let reservation = |id: &str, then: &str| Cow::Owned(format!("/api/v1/reservations/{id}{then}"));
        let path: Cow<'_, str> = match ask {
            Ask::Look => (&*self.seats).into(),
            Ask::Changes { since } => format!("{}?since={since}", self.seats).into(),
            Ask::Hold { .. } => (&*self.holds).into(),
            Ask::Confirm { reservation: id, .. } => reservation(id, "/confirm"),
            Ask::Cancel { reservation: id, .. } => reservation(id, "/cancel"),
            Ask::Read { reservation: id } => reservation(id, ""),
            _ => (&*self.selections).into(),
        };
        let body = match ask {
            Ask::Select { seats } | Ask::Release { seats } | Ask::Hold { seats, .. } => {
                format!(r#"{{"seats":{seats:?}}}"#)
            }
            Ask::Best { party } => format!(r#"{{"best":{{"party":{party}}}}}"#),
            _ => String::new(),
        };
        let key = match ask {
            Ask::Hold { key, .. } | Ask::Confirm { key, .. } | Ask::Cancel { key, .. } => Some(key),
            _ => None,
        };
        let accept = matches!(ask, Ask::Look | Ask::Changes { .. }).then_some(BINARY);
        let request = Request { method, path: &path, token, key, accept, body: &body };
        let answer = self.connection.call(&request).await?;
        if answer.replayed {
            self.patience.replays.fetch_add(1, Ordering::Relaxed);
        }
        let said =
            if answer.is_success() { Ok(answer.body) } else { Err(problem(answer.status, &answer.body)) };
        Ok((Reply { sent: answer.sent, answered: answer.answered, said }, answer.retry_after))
    }
}

impl<'a> Ask<'a> {
    fn op(self) -> Op {
        match self {
            Self::Look | Self::Read { .. } => Op::Look,
            Self::Changes { .. } => Op::Changes,
            Self::Select { .. } => Op::Select,
            Self::Best { .. } => Op::Best,
            Self::Release { .. } | Self::ReleaseAll => Op::Release,
            Self::Hold { .. } => Op::Hold,
            Self::Confirm { .. } => Op::Confirm,
            Self::Cancel { .. } => Op::Cancel,
        }
    }

    /// What a socket knows.
    fn command(self) -> Option<Command<'a>> {
        match self {
            Self::Select { seats } => Some(Command::Select { seats }),
            Self::Best { party } => Some(Command::Best { party }),
            Self::Release { seats } => Some(Command::Release { seats }),
            Self::Hold { seats, key } => Some(Command::Hold { seats, key }),
            _ => None,
        }
    }
}

/// Which every attempt repeats.
fn new_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

async fn wait(pause: &mut Duration, at_most: Option<Duration>) {
    sleep((*pause).min(at_most.unwrap_or(PAUSE_MAX))).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
}

fn json<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body)
        .with_context(|| format!("not what hotseat answers: {:.200}", String::from_utf8_lossy(body)))
}

/// A refusal that is no problem document, as a proxy's, is one by its status.
fn problem(status: u16, body: &[u8]) -> Problem {
    let nameless = |_| Problem {
        code: format!("HTTP_{status}"),
        detail: String::from_utf8_lossy(body).chars().take(200).collect(),
        ..Problem::default()
    };
    Problem { status, ..serde_json::from_slice(body).unwrap_or_else(nameless) }
}

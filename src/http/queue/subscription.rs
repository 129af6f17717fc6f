//! What one who waits hears, over whichever wire: from the gate's news and answers to events.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use actors::gates::{Following, GateAsk, GateEvent, Place};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::gate::{Bitmap, Pass, PassEnd, Standing};
use engine::{PassId, Turn};
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::AtGate;
use super::view::{PlaceView, QueueView};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::sse::KEEP_ALIVE_EVERY;

/// Over how long those who must all ask anew do so: a hundred thousand come as 50 in a millisecond.
const SPREAD_MS: u64 = 2_000;

/// How soon somebody asks again whom the gate could not answer, or who seems to be out of the line: before that the
/// pass may come that explains it.
const AGAIN: Duration = Duration::from_secs(1);

/// In which form somebody hears where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The rank, when it changes.
    #[default]
    Ranks,
    /// The ticks themselves, to count by oneself.
    Ticks,
}

/// One event.
#[derive(Debug)]
pub(crate) enum Told {
    /// How it stands; what was told before is void.
    Init(QueueView),
    Rank(Place),
    Active(QueueView),
    Ended(PassEnd),
    Rejected(QueueView),
    /// The client's own block, for the view or the tick that comes next.
    Block(Box<Bitmap>),
    View(Bytes),
    Tick(Bytes),
    KeepAlive,
}

impl Told {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "INIT",
            Self::Rank(_) => "RANK_UPDATE",
            Self::Active(_) => "ACTIVE",
            Self::Ended(_) => "ENDED",
            Self::Rejected(_) => "REJECTED",
            Self::Block(_) => "BLOCK",
            Self::View(_) => "VIEW",
            Self::Tick(_) => "TICK",
            Self::KeepAlive => "KEEPALIVE",
        }
    }

    /// The pass with which the client may click from now on, signed.
    pub fn pass(&self) -> Option<&str> {
        match self {
            Self::Init(view) | Self::Active(view) => view.pass(),
            _ => None,
        }
    }

    /// The event's data: a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Ended {
            why: &'static str,
        }
        #[derive(Serialize)]
        struct Encoded {
            bytes: String,
        }
        let written = match self {
            Self::Init(view) | Self::Active(view) | Self::Rejected(view) => serde_json::to_writer(out, view),
            Self::Rank(place) => serde_json::to_writer(out, &PlaceView::new(*place)),
            Self::Ended(why) => serde_json::to_writer(out, &Ended { why: why.name() }),
            Self::Block(bitmap) => {
                let bytes: Vec<u8> = bitmap.0.iter().flat_map(|word| word.to_le_bytes()).collect();
                serde_json::to_writer(out, &Encoded { bytes: STANDARD.encode(bytes) })
            }
            Self::View(bytes) | Self::Tick(bytes) => {
                serde_json::to_writer(out, &Encoded { bytes: STANDARD.encode(bytes) })
            }
            Self::KeepAlive => {
                out.extend_from_slice(b"{}");
                Ok(())
            }
        };
        written.expect("a Vec takes every byte");
    }
}

/// What the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Waiting { turn: Turn, ahead: Option<u32> },
    Active(PassId),
    Free,
    Rejected,
    Absent,
}

impl Known {
    const fn of(standing: &Standing) -> Self {
        match *standing {
            Standing::Waiting { turn, ahead, .. } => Self::Waiting { turn, ahead },
            Standing::Active(pass) => Self::Active(pass.id),
            Standing::Free => Self::Free,
            Standing::Rejected => Self::Rejected,
            Standing::Absent => Self::Absent,
        }
    }
}

/// Somebody who listens at a gate, and counts as being there while they do.
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    at: AtGate,
    form: Form,
    following: Following,
    /// `None`: nothing was told yet.
    known: Option<Known>,
    /// When the gate is to be asked how it stands.
    ask_at: Option<Instant>,
    /// It is to be asked because the turn is not in the line.
    is_missing: bool,
    pending: VecDeque<Told>,
}

impl Subscription {
    pub fn new(shared: Arc<Shared>, at: AtGate, form: Form) -> Self {
        let following = shared.edge.handle.gates().follow(at.shard, at.concert, at.user);
        Self {
            shared,
            at,
            form,
            following,
            known: None,
            ask_at: None,
            is_missing: false,
            pending: VecDeque::new(),
        }
    }

    /// The next event, after [`KEEP_ALIVE_EVERY`] at the latest. Cancel-safe.
    pub async fn next(&mut self) -> Told {
        match timeout(KEEP_ALIVE_EVERY, self.next_told()).await {
            Ok(told) => told,
            Err(_) => {
                // Nothing tells somebody who is not in line that they have joined elsewhere.
                if self.known == Some(Known::Absent) {
                    self.ask_at = Some(Instant::now());
                }
                Told::KeepAlive
            }
        }
    }

    async fn next_told(&mut self) -> Told {
        loop {
            if let Some(told) = self.pending.pop_front() {
                if self.pending.is_empty() {
                    // Hundreds of thousands keep theirs.
                    self.pending = VecDeque::new();
                }
                return told;
            }
            let ask_at = self.ask_at;
            tokio::select! {
                biased;
                event = self.following.next() => self.hear(event),
                () = until(ask_at) => {
                    let ask = GateAsk::Status(self.at.user);
                    // Boxed: whoever waits has no room for a question that is rarely asked.
                    let said = Box::pin(self.shared.raw_standing(self.at, ask)).await;
                    self.learn(said);
                }
            }
        }
    }

    fn hear(&mut self, event: GateEvent) {
        match event {
            // The first who come have asked for it themselves, each in their own moment.
            GateEvent::Anew if self.known.is_none() => self.ask_at = Some(Instant::now()),
            GateEvent::Anew => {
                self.ask_at = Some(Instant::now() + self.spread());
                self.is_missing = false;
            }
            GateEvent::Moved => self.moved(),
            GateEvent::Admitted { pass, durable } => {
                if self.known != Some(Known::Active(pass.id)) {
                    self.admitted(pass, durable);
                }
            }
            GateEvent::Ended { pass, why } => {
                if self.known == Some(Known::Active(pass)) {
                    self.known = Some(Known::Absent);
                    self.pending.push_back(Told::Ended(why));
                }
            }
        }
    }

    fn admitted(&mut self, pass: Pass, durable: bool) {
        match self.shared.queue_view(self.at, Standing::Active(pass), durable) {
            Ok(view) => {
                self.following.waits_in(None, None);
                self.known = Some(Known::Active(pass.id));
                self.pending.push_back(Told::Active(view));
            }
            Err(problem) => self.failed(&problem),
        }
    }

    fn moved(&mut self) {
        let Some(Known::Waiting { turn, ahead: Some(before) }) = self.known else { return };
        let Some(place) = self.following.place() else {
            // Just joined; or admitted, and the pass comes; or left in another tab.
            if self.ask_at.is_none() {
                self.ask_at = Some(Instant::now() + AGAIN + self.spread());
                self.is_missing = true;
            }
            return;
        };
        if std::mem::take(&mut self.is_missing) {
            self.ask_at = None;
        }
        if self.form == Form::Ticks {
            self.tell_ticks();
        } else if place.ahead < before {
            self.pending.push_back(Told::Rank(place));
        }
        self.known = Some(Known::Waiting { turn, ahead: Some(place.ahead.min(before)) });
    }

    fn tell_ticks(&mut self) {
        if let Some((tick, is_view, block)) = self.following.ticks() {
            self.pending.extend(block.map(|bitmap| Told::Block(Box::new(bitmap))));
            self.pending.push_back(if is_view { Told::View(tick) } else { Told::Tick(tick) });
        }
    }

    fn learn(&mut self, said: Result<(Standing, bool), Problem>) {
        let read = said.and_then(|(standing, durable)| {
            Ok((standing, self.shared.queue_view(self.at, standing, durable)?))
        });
        let (standing, view) = match read {
            Ok(read) => read,
            Err(problem) => return self.failed(&problem),
        };
        (self.ask_at, self.is_missing) = (None, false);
        let (turn, ahead) = match standing {
            Standing::Waiting { turn, ahead, .. } => (Some(turn), ahead),
            _ => (None, None),
        };
        self.following.waits_in(turn, ahead);
        let mut now = Known::of(&standing);
        let told = news(self.known, &mut now, standing, view);
        self.known = Some(now);
        self.pending.extend(told.filter(|told| self.form == Form::Ranks || !matches!(told, Told::Rank(_))));
        if self.form == Form::Ticks && turn.is_some() {
            self.tell_ticks();
        }
    }

    /// The gate, or this node, could not say how it stands.
    fn failed(&mut self, problem: &Problem) {
        if let Problem::Internal(why) = problem {
            tracing::error!(concert = %self.at.concert, why, "a subscriber was not answered");
        }
        self.ask_at = Some(Instant::now() + AGAIN + self.spread());
    }

    /// The same for the same user, so that two tabs ask together and a crowd does not.
    fn spread(&self) -> Duration {
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        hasher.write_u64(self.at.user.0);
        Duration::from_millis(hasher.finish() % SPREAD_MS)
    }
}

/// What of an answer the client does not know. In its turn a rank does not rise: who is told less keeps the better.
fn news(before: Option<Known>, now: &mut Known, standing: Standing, view: QueueView) -> Option<Told> {
    match (before, standing) {
        (Some(before), _) if before == *now => None,
        (
            Some(Known::Waiting { turn: before, ahead: Some(known) }),
            Standing::Waiting { turn, ahead: Some(ahead), eta },
        ) if before == turn => {
            *now = Known::Waiting { turn, ahead: Some(ahead.min(known)) };
            (ahead < known).then_some(Told::Rank(Place { ahead, eta }))
        }
        (Some(_), Standing::Active(_)) => Some(Told::Active(view)),
        (Some(_), Standing::Rejected) => Some(Told::Rejected(view)),
        _ => Some(Told::Init(view)),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use engine::gate::Eta;
    use engine::{ConcertId, Span, Time};
    use serde_json::{Value, json};

    use super::*;

    fn waiting(turn: u32, ahead: Option<u32>) -> Standing {
        let eta = ahead.map(|_| Eta { low: Span::from_secs(1), high: Span::from_secs(2) });
        Standing::Waiting { turn: Turn(turn), ahead, eta }
    }

    fn active(pass: u64) -> Standing {
        Standing::Active(Pass { id: PassId(pass), expires_at: Time(0), ends_at: Time(1) })
    }

    /// What somebody hears who is answered these, one after the other.
    fn heard(standings: &[Standing]) -> Vec<String> {
        let mut known = None;
        let mut heard = Vec::new();
        for standing in standings {
            let mut now = Known::of(standing);
            let view = QueueView::new(ConcertId(7), *standing, true, None);
            if let Some(told) = news(known, &mut now, *standing, view) {
                let mut data = Vec::new();
                told.write(&mut data);
                let data: Value = serde_json::from_slice(&data).unwrap();
                let rank = data.get("rank").map_or(String::new(), |rank| format!(" {rank}"));
                heard.push(format!("{}{rank}", told.name()));
            }
            known = Some(now);
        }
        heard
    }

    #[test]
    fn only_what_is_new_is_told_and_a_rank_never_rises() {
        let rows: [(&[Standing], &[&str]); 9] = [
            (&[waiting(5, Some(4)), waiting(5, Some(4))], &["INIT 5"]),
            (&[waiting(5, Some(4)), waiting(5, Some(2)), waiting(5, Some(3))], &["INIT 5", "RANK_UPDATE 3"]),
            // The draw gives ranks, and a lost line other turns.
            (&[waiting(5, None), waiting(9, Some(4))], &["INIT", "INIT 5"]),
            (&[waiting(5, Some(4)), waiting(9, Some(8))], &["INIT 5", "INIT 9"]),
            (&[waiting(5, Some(0)), active(1), active(1), active(2)], &["INIT 1", "ACTIVE", "ACTIVE"]),
            (&[active(1), Standing::Absent], &["INIT", "INIT"]),
            (&[waiting(5, Some(4)), Standing::Rejected, Standing::Rejected], &["INIT 5", "REJECTED"]),
            (&[Standing::Rejected], &["INIT"]),
            (&[Standing::Free, Standing::Free, Standing::Absent], &["INIT", "INIT"]),
        ];
        for (standings, expected) in rows {
            assert_eq!(heard(standings), expected, "{standings:?}");
        }
    }

    #[test]
    fn the_data_of_an_event_is_an_object() {
        let data = |told: Told| {
            let mut data = Vec::new();
            told.write(&mut data);
            serde_json::from_slice::<Value>(&data).unwrap()
        };
        assert_eq!(data(Told::Rank(Place { ahead: 3, eta: None })), json!({"rank": 4, "ahead": 3}));
        assert_eq!(data(Told::Ended(PassEnd::Expired)), json!({"why": "EXPIRED"}));
        assert_eq!(data(Told::Tick(Bytes::from_static(&[1, 0x90]))), json!({"bytes": "AZA="}));
        assert_eq!(data(Told::KeepAlive), json!({}));
        let mut bitmap = Box::new(Bitmap::default());
        bitmap.set(8);
        let block = data(Told::Block(bitmap));
        let bytes = STANDARD.decode(block["bytes"].as_str().unwrap()).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (512, 0, 1), "turn 8 is bit 0 of byte 1");
    }
}

//! How it stands with somebody, as clients read it.

use std::time::Duration;

use actors::gates::Place;
use engine::ConcertId;
use engine::gate::{Eta, Left, Standing};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::wire::Instant;

/// Who waits asks again after so many seconds at most.
const POLL_AT_MOST: u64 = 30;

/// Turns that pass in a second, as far as a poll is concerned, before anybody knows.
const UNKNOWN_PACE: u32 = 200;

const MICROS: i64 = 1_000_000;

/// How it stands with somebody at a concert's gate. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = QueueStatus)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueueView {
    concert_id: u64,
    /// WAITING, ACTIVE (may enter; without a `pass` where the concert has no waiting room), REJECTED (sold out) or NONE.
    #[schema(example = "WAITING")]
    pub(super) status: &'static str,
    /// Where in the order of joining; it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    #[serde(flatten)]
    place: Option<PlaceView>,
    /// To be shown as `Hotseat-Pass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    /// When the pass ends unless it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pass_expires_at: Option<Instant>,
    /// `false`: a crash of the server now would forget it. Left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
}

/// Where in the line somebody is. Before a presale's draw nobody is anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = QueuePlace)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlaceView {
    /// One more than `ahead`; it never rises.
    rank: u32,
    ahead: u32,
    /// Between how many seconds from now it will be my turn, nine times out of ten.
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_seconds: Option<[u64; 2]>,
}

/// What there was to leave.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QueueLeft)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeftView {
    concert_id: u64,
    #[schema(example = "NONE")]
    status: &'static str,
    /// LINE, SALE or NOTHING.
    #[schema(example = "LINE")]
    left: &'static str,
    /// `false`: a crash of the server now would bring it back. Left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
}

impl QueueView {
    /// `pass` is what an active user shows.
    pub fn new(concert: ConcertId, standing: Standing, durable: bool, pass: Option<String>) -> Self {
        let mut view = Self {
            concert_id: concert.0,
            status: standing.name(),
            turn: None,
            place: None,
            pass,
            pass_expires_at: None,
            durable: (!durable).then_some(false),
        };
        match standing {
            Standing::Waiting { turn, ahead, eta } => {
                view.turn = Some(turn.0);
                view.place = ahead.map(|ahead| PlaceView::new(Place { ahead, eta }));
            }
            Standing::Active(pass) => {
                view.pass_expires_at = Some(Instant(pass.expires_at));
            }
            Standing::Free | Standing::Rejected | Standing::Absent => {}
        }
        view
    }

    /// The pass, signed.
    pub fn pass(&self) -> Option<&str> {
        self.pass.as_deref()
    }

    /// After how many seconds whoever waits should ask again: when a quarter of what the wait will at least be is over.
    /// Who asked no more often than this was heard of three times in `grace`, and is no ghost when one poll is lost.
    pub fn poll_after(&self, grace: Duration) -> Option<u64> {
        if self.status != "WAITING" {
            return None;
        }
        let most = POLL_AT_MOST.min(grace.as_secs() / 3).max(1);
        Some(match &self.place {
            None => most,
            Some(PlaceView { eta_seconds: Some([low, _]), .. }) => (low / 4).clamp(1, most),
            // Nobody knows yet how fast the line will move: whoever is near the front asks soon.
            Some(PlaceView { ahead, .. }) => u64::from(ahead / UNKNOWN_PACE).clamp(1, most),
        })
    }
}

impl PlaceView {
    pub fn new(place: Place) -> Self {
        Self { rank: place.ahead.saturating_add(1), ahead: place.ahead, eta_seconds: place.eta.map(seconds) }
    }
}

/// Whole seconds; the range does not get narrower.
fn seconds(eta: Eta) -> [u64; 2] {
    let low = eta.low.0 / MICROS;
    let high = eta.high.0.saturating_add(MICROS - 1) / MICROS;
    [low, high].map(|seconds| u64::try_from(seconds).unwrap_or(0))
}

impl LeftView {
    pub fn new(concert: ConcertId, left: Left, durable: bool) -> Self {
        let left = match left {
            Left::Line => "LINE",
            Left::Sale => "SALE",
            Left::Nothing => "NOTHING",
        };
        Self {
            concert_id: concert.0,
            status: Standing::Absent.name(),
            left,
            durable: (!durable).then_some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::gate::Pass;
    use engine::{PassId, Span, Time, Turn};
    use serde_json::{Value, json};

    use super::*;

    fn view(standing: Standing, durable: bool) -> QueueView {
        let pass = matches!(standing, Standing::Active(_)).then(|| "signed".to_owned());
        QueueView::new(ConcertId(7), standing, durable, pass)
    }

    fn body(standing: Standing, durable: bool) -> Value {
        serde_json::to_value(view(standing, durable)).unwrap()
    }

    fn waiting(ahead: Option<u32>, eta: Option<(i64, i64)>) -> Standing {
        let eta = eta.map(|(low, high)| Eta { low: Span::from_millis(low), high: Span::from_millis(high) });
        Standing::Waiting { turn: Turn(40_312), ahead, eta }
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let pass = Pass { id: PassId(9), expires_at: Time(1_000_000), ends_at: Time(2_000_000) };
        let rows = [
            (
                body(waiting(Some(1_200), Some((110_900, 139_100))), true),
                json!({"concertId": 7, "status": "WAITING", "turn": 40_312, "rank": 1_201, "ahead": 1_200,
                    "etaSeconds": [110, 140]}),
            ),
            (
                body(waiting(Some(0), None), true),
                json!({"concertId": 7, "status": "WAITING", "turn": 40_312, "rank": 1, "ahead": 0}),
            ),
            (
                body(waiting(None, None), false),
                json!({"concertId": 7, "status": "WAITING", "turn": 40_312, "durable": false}),
            ),
            (
                body(Standing::Active(pass), true),
                json!({"concertId": 7, "status": "ACTIVE", "pass": "signed",
                    "passExpiresAt": "1970-01-01T00:00:01Z"}),
            ),
            (body(Standing::Free, true), json!({"concertId": 7, "status": "ACTIVE"})),
            (body(Standing::Rejected, true), json!({"concertId": 7, "status": "REJECTED"})),
            (body(Standing::Absent, true), json!({"concertId": 7, "status": "NONE"})),
        ];
        for (body, expected) in rows {
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn who_waits_is_told_when_to_ask_again_and_never_becomes_a_ghost_by_it() {
        let after = |eta, grace| view(waiting(Some(1), eta), true).poll_after(Duration::from_secs(grace));
        // (least wait in ms, grace in s, seconds until the next poll)
        let rows = [(0, 60, 1), (3_999, 60, 1), (40_000, 60, 10), (3_600_000, 60, 20), (3_600_000, 600, 30)];
        for (low, grace, expected) in rows {
            assert_eq!(after(Some((low, 2 * low)), grace), Some(expected), "{low} ms, grace {grace} s");
        }
        // Nobody knows how fast the line moves: (ahead, seconds).
        for (ahead, expected) in [(0, 1), (399, 1), (1_500, 7), (200_000, 20)] {
            let unknown = view(waiting(Some(ahead), None), true).poll_after(Duration::from_secs(60));
            assert_eq!(unknown, Some(expected), "{ahead} ahead");
        }
        assert_eq!(
            view(waiting(None, None), true).poll_after(Duration::from_secs(60)),
            Some(20),
            "a presale"
        );
        assert_eq!(after(Some((60_000, 60_000)), 2), Some(1), "a very short grace");
        assert_eq!(view(Standing::Absent, true).poll_after(Duration::from_secs(60)), None);
    }
}

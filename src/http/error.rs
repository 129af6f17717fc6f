//! What a request is told when it is refused: RFC 9457 problems with a stable `code`.
//!
//! A handler returns a [`Problem`]; what surrounds the handler ([`super::around`]) renders it, because only
//! there the request id is known. `docs/api.md` lists the codes.

use std::borrow::Cow;
use std::time::Duration;

use actors::ops::OpsError;
use actors::ports::LedgerError;
use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine::gate::PolicyFault;
use engine::limits::{GATE_PASSES, GATE_PER_SECOND};
use engine::{Refusal, SeatList, Unavailable};

use super::unready::Unready;
use super::wire::{Conflict, ProblemBody, ReservationView};

/// Seconds after which a client may try again what found no server ready.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Everything that can be wrong with a request, or with the server that should answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The engine's verdict.
    Refused(Refusal),
    /// No shard or no ledger that could decide now.
    Unavailable(Unavailable),
    /// The same, where something else is to be said of it.
    Undecided(Unavailable, &'static str),
    /// No token, or one that proves nothing. `presented` says which, for the challenge.
    Unauthenticated { presented: bool, why: &'static str },
    /// The token's role may not do this.
    Forbidden(&'static str),
    /// No such route, or nothing of that name.
    NotFound(&'static str),
    /// The concert has no draw, or none that waits for this.
    NoDraw(&'static str),
    /// Who asks is not among a draw's entrants.
    NoEntry(&'static str),
    /// The route exists, the method does not. The response keeps its `Allow`.
    MethodNotAllowed,
    /// The request cannot be read. The pointer names the place: a JSON pointer (RFC 6901) into the body, or
    /// `/headers/NAME`, `/path/NAME`, `/query/NAME`.
    Malformed { pointer: String, detail: String },
    /// More bytes in the body than the route reads.
    TooLarge { limit: usize },
    /// An import that contradicts what is there already.
    ImportRefused(String),
    /// Some parts of a block clash; the others are blocked.
    BlockedInPart { blocked: Vec<ReservationView>, conflicts: Vec<Conflict> },
    /// How an operator wants a gate to be makes no sense, or not now.
    GateRefused(PolicyFault),
    /// More joins than the door of a waiting room takes, in all, from one address or of one user.
    RateLimited { retry_after: Duration },
    /// What gates need is not configured.
    Unready(Unready),
    /// What an operator asked of the cluster cannot be done now, or not at all.
    Cluster(OpsError),
    /// A bug of ours, or data that this version cannot read. The text is for the log, never for the client.
    Internal(String),
}

impl Problem {
    #[must_use]
    pub fn malformed(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Malformed { pointer: pointer.into(), detail: detail.into() }
    }

    /// The stable code of the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable(unavailable) | Self::Undecided(unavailable, _) => unavailable.code(),
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::NoDraw(_) => "NO_DRAW",
            Self::NoEntry(_) => "NO_ENTRY",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Malformed { .. } => "MALFORMED",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::ImportRefused(_) => "IMPORT_REFUSED",
            Self::BlockedInPart { .. } => "SEAT_TAKEN",
            Self::GateRefused(fault) => fault.code(),
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::Unready(unready) => unready.code(),
            Self::Cluster(error) => cluster_code(error),
            Self::Internal(_) => "INTERNAL",
        }
    }

    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::OptionUnknown | Refusal::ReservationUnknown => StatusCode::NOT_FOUND,
                Refusal::PassRequired => StatusCode::FORBIDDEN,
                Refusal::SeatsInvalid => StatusCode::UNPROCESSABLE_ENTITY,
                Refusal::RequestReused
                | Refusal::OptionClosed
                | Refusal::LimitReached
                | Refusal::SelectTooLong
                | Refusal::SeatTaken(_)
                | Refusal::NotSelected(_)
                | Refusal::NoSeatsTogether { .. }
                | Refusal::HoldExpired
                | Refusal::ReservationState(_) => StatusCode::CONFLICT,
            },
            Self::Unavailable(_) | Self::Undecided(..) | Self::Unready(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NoDraw(_) | Self::NoEntry(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Cluster(OpsError::ShardUnknown { .. } | OpsError::NodeUnknown { .. }) => {
                StatusCode::NOT_FOUND
            }
            Self::GateRefused(PolicyFault::RanksTold | PolicyFault::DrawUnderWay) => StatusCode::CONFLICT,
            Self::GateRefused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::ImportRefused(_) | Self::BlockedInPart { .. } | Self::Cluster(_) => StatusCode::CONFLICT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One short sentence that is the same for every problem of the code.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal_title(refusal),
            Self::Unavailable(what) | Self::Undecided(what, _) => match what {
                Unavailable::Overloaded => "The server has more to do than it can",
                Unavailable::Ledger => "The ledger has not answered",
            },
            Self::Unauthenticated { .. } => "A valid token is needed",
            Self::Forbidden(_) => "The token does not allow this",
            Self::NotFound(_) => "There is nothing here",
            Self::NoDraw(_) => "There is no such draw",
            Self::NoEntry(_) => "You are not in the draw",
            Self::MethodNotAllowed => "The route does not know this method",
            Self::Malformed { .. } => "The request cannot be read",
            Self::TooLarge { .. } => "The body is too large",
            Self::ImportRefused(_) => "The import contradicts the catalogue",
            Self::BlockedInPart { .. } => "A seat is taken",
            Self::RateLimited { .. } => "There are too many at the door",
            Self::Unready(_) => "There can be no waiting rooms yet",
            Self::Cluster(OpsError::ShardUnknown { .. } | OpsError::NodeUnknown { .. }) => {
                "There is nothing here"
            }
            Self::GateRefused(_) => "The waiting room cannot be set so",
            Self::Cluster(_) => "The cluster cannot do this now",
            Self::Internal(_) => "The server failed",
        }
    }

    fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::Refused(refusal) => refusal_detail(refusal),
            Self::Unavailable(Unavailable::Overloaded) => "Nothing was decided; try again.".into(),
            Self::Unavailable(Unavailable::Ledger) => {
                "What was asked may still happen; the same request with the same Idempotency-Key learns it."
                    .into()
            }
            Self::Unauthenticated { why, .. } => (*why).into(),
            Self::Forbidden(why)
            | Self::NotFound(why)
            | Self::NoDraw(why)
            | Self::NoEntry(why)
            | Self::Undecided(_, why) => (*why).into(),
            Self::MethodNotAllowed => "The Allow header names the methods of this route.".into(),
            Self::Malformed { detail, .. } => detail.as_str().into(),
            Self::TooLarge { limit } => format!("This route reads at most {limit} bytes.").into(),
            Self::ImportRefused(why) => why.as_str().into(),
            Self::BlockedInPart { .. } => {
                "Each eight seats are blocked together or not at all: `blocked` names those that are, `conflicts` \
                 those that clash."
                    .into()
            }
            Self::GateRefused(fault) => fault_detail(*fault),
            Self::RateLimited { .. } => "Nothing was decided; come again after Retry-After.".into(),
            Self::Unready(unready) => sentence(&unready.to_string()).into(),
            Self::Cluster(error) => sentence(&error.to_string()).into(),
            Self::Internal(_) => "The log knows more under this request id.".into(),
        }
    }

    fn conflicts(&self) -> Option<Vec<Conflict>> {
        match self {
            Self::Refused(Refusal::SeatTaken(conflicts)) => Some(
                conflicts
                    .iter()
                    .map(|(seat, state)| Conflict { seat_no: seat.0, state: state.name() })
                    .collect(),
            ),
            Self::BlockedInPart { conflicts, .. } => Some(conflicts.clone()),
            _ => None,
        }
    }

    fn blocked(&self) -> &[ReservationView] {
        match self {
            Self::BlockedInPart { blocked, .. } => blocked,
            _ => &[],
        }
    }

    /// The body, with the request's id.
    #[must_use]
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let (longest, state, pointer) = match self {
            Self::Refused(Refusal::NoSeatsTogether { longest }) => (Some(*longest), None, None),
            Self::Refused(Refusal::ReservationState(status)) => (None, Some(status.name()), None),
            Self::Malformed { pointer, .. } => (None, None, Some(pointer.as_str())),
            _ => (None, None, None),
        };
        let body = ProblemBody {
            r#type: format!("urn:hotseat:problem:{}", self.code()),
            title: self.title(),
            status: self.status().as_u16(),
            detail: &self.detail(),
            code: self.code(),
            request_id,
            conflicts: self.conflicts(),
            blocked: self.blocked(),
            longest,
            state,
            pointer,
        };
        serde_json::to_vec(&body).expect("strings and numbers serialize")
    }

    /// The whole answer. `blank` brings headers that must stay, such as `Allow`.
    #[must_use]
    pub fn render(&self, request_id: &str, blank: &Response) -> Response {
        let mut response = Response::new(Body::from(self.body(request_id)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::Unavailable(_) | Self::Undecided(..) => {
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            Self::RateLimited { retry_after } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(*retry_after)));
            }
            Self::Unauthenticated { presented: false, .. } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"hotseat\""));
            }
            Self::Unauthenticated { presented: true, .. } => {
                let challenge = "Bearer realm=\"hotseat\", error=\"invalid_token\"";
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            _ => {}
        }
        if let Some(allow) = blank.headers().get(ALLOW) {
            headers.insert(ALLOW, allow.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    /// A blank answer that carries the problem, for the surrounding to render.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(Box::new(self));
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unavailable(why) => {
                tracing::warn!(%why, "a read found the ledger unavailable");
                Self::Unavailable(Unavailable::Ledger)
            }
            corrupt @ LedgerError::Corrupt(_) => Self::Internal(corrupt.to_string()),
        }
    }
}

impl From<OpsError> for Problem {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Unavailable(why) => LedgerError::Unavailable(why).into(),
            OpsError::Corrupt(why) => LedgerError::Corrupt(why).into(),
            refused => Self::Cluster(refused),
        }
    }
}

impl From<crate::catalogue::CatalogueError> for Problem {
    fn from(error: crate::catalogue::CatalogueError) -> Self {
        use crate::catalogue::CatalogueError;
        match error {
            CatalogueError::Unavailable(why) => {
                tracing::warn!(%why, "the catalogue is unavailable");
                Self::Unavailable(Unavailable::Ledger)
            }
            CatalogueError::Refused(why) => Self::ImportRefused(why),
            corrupt @ CatalogueError::Corrupt(_) => Self::Internal(corrupt.to_string()),
        }
    }
}

const fn cluster_code(error: &OpsError) -> &'static str {
    match error {
        OpsError::ShardUnknown { .. } | OpsError::NodeUnknown { .. } => "NOT_FOUND",
        OpsError::NodeDraining(_) => "NODE_DRAINING",
        OpsError::NodeSilent(_)
        | OpsError::OwnerSilent { .. }
        | OpsError::NotAsked { .. }
        | OpsError::Unsure { .. } => "NODE_SILENT",
        OpsError::AlreadyMoving { .. } | OpsError::Spreading(_) => "ALREADY_MOVING",
        OpsError::AlreadyThere { .. } => "ALREADY_THERE",
        OpsError::NotServing(_) => "SHARD_NOT_SERVING",
        OpsError::Alone | OpsError::Nowhere => "ALONE",
        // These become problems of the ledger and of ours.
        OpsError::Unavailable(_) => "LEDGER_UNAVAILABLE",
        OpsError::Corrupt(_) => "INTERNAL",
    }
}

fn fault_detail(fault: PolicyFault) -> Cow<'static, str> {
    match fault {
        PolicyFault::RateOutOfBounds => {
            format!("`perSecond` is 1 to {GATE_PER_SECOND}; to let nobody in there is `paused`.").into()
        }
        PolicyFault::CeilingOutOfBounds => format!("`maxActive` is 1 to {GATE_PASSES}.").into(),
        PolicyFault::NoBound => {
            "Say `perSecond`, `maxActive` or both; a waiting room that lets everybody in is `off`.".into()
        }
        PolicyFault::OpeningMissing => "A draw needs `opensAt`, when it is drawn.".into(),
        PolicyFault::RanksTold => "People wait who know their rank: a draw would take it from them.".into(),
        PolicyFault::DrawUnderWay => {
            "Who takes part in the draw is settled, and it is not drawn yet: neither mode nor opening may change."
                .into()
        }
    }
}

/// At least one: `Retry-After` knows no less, and nobody shall come again before the time.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0 || duration.is_zero())
}

/// An error's text, as a client reads it.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

const fn refusal_title(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::OptionUnknown => "There is no such option",
        Refusal::RequestReused => "The idempotency key belongs to another request",
        Refusal::PassRequired => "A pass of the waiting room is needed",
        Refusal::OptionClosed => "The option is not on sale",
        Refusal::SeatsInvalid => "These are no seats to ask for",
        Refusal::LimitReached => "The limit per user is reached",
        Refusal::SelectTooLong => "The seat was selected for too long",
        Refusal::SeatTaken(_) => "A seat is taken",
        Refusal::NotSelected(_) => "A seat is not selected by you",
        Refusal::NoSeatsTogether { .. } => "There are not so many seats together",
        Refusal::ReservationUnknown => "There is no such reservation",
        Refusal::HoldExpired => "The hold has expired",
        Refusal::ReservationState(_) => "The reservation's state does not allow this",
    }
}

fn refusal_detail(refusal: &Refusal) -> Cow<'static, str> {
    match refusal {
        Refusal::OptionUnknown => "No option has this id.".into(),
        Refusal::RequestReused => {
            "The key was used with other content; send a new key for a new request.".into()
        }
        Refusal::PassRequired => "The pass is missing, expired, given back or another user's.".into(),
        Refusal::OptionClosed => "It is not on sale yet, or an admin has closed it.".into(),
        Refusal::SeatsInvalid => {
            format!("Name 1 to {} seats of the option's plan, each once.", engine::limits::SEATS_PER_COMMAND)
                .into()
        }
        Refusal::LimitReached => {
            "Release seats or end a reservation of this concert before asking for more.".into()
        }
        Refusal::SelectTooLong => "It was given back, and is refused to you for some seconds.".into(),
        Refusal::SeatTaken(_) => "None of the seats was selected; `conflicts` names those that clash.".into(),
        Refusal::NotSelected(seats) if seats.is_empty() => {
            "Select the seats first, and hold them before the selection runs out.".into()
        }
        Refusal::NotSelected(seats) => {
            format!("Seats {} are not selected by you, or no longer.", numbers(seats)).into()
        }
        Refusal::NoSeatsTogether { longest } => {
            format!("The longest run of free seats that fits the wish has {longest}.").into()
        }
        Refusal::ReservationUnknown => "No reservation of yours has this id.".into(),
        Refusal::HoldExpired => "Its seats are free again.".into(),
        Refusal::ReservationState(status) => format!("It is {}.", status.name()).into(),
    }
}

fn numbers(seats: &SeatList) -> String {
    let numbers: Vec<String> = seats.iter().map(|seat| seat.to_string()).collect();
    numbers.join(", ")
}

#[cfg(test)]
mod tests {
    use engine::outcome::Conflicts;
    use engine::{SeatNo, SeatState, Status};

    use super::*;
    use crate::pass::NoPassKey;

    fn body(problem: &Problem) -> serde_json::Value {
        serde_json::from_slice(&problem.body("r-1")).unwrap()
    }

    #[test]
    fn every_refusal_has_the_status_of_the_protocol() {
        let rows: [(Refusal, u16); 13] = [
            (Refusal::OptionUnknown, 404),
            (Refusal::RequestReused, 409),
            (Refusal::PassRequired, 403),
            (Refusal::OptionClosed, 409),
            (Refusal::SeatsInvalid, 422),
            (Refusal::LimitReached, 409),
            (Refusal::SelectTooLong, 409),
            (Refusal::SeatTaken(Conflicts::default()), 409),
            (Refusal::NotSelected(SeatList::default()), 409),
            (Refusal::NoSeatsTogether { longest: 3 }, 409),
            (Refusal::ReservationUnknown, 404),
            (Refusal::HoldExpired, 409),
            (Refusal::ReservationState(Status::Expired), 409),
        ];
        for (number, (refusal, status)) in (1..).zip(rows) {
            assert_eq!(refusal.number(), number);
            let problem = Problem::from(refusal);
            assert_eq!(problem.status().as_u16(), status, "{}", problem.code());
            let body = body(&problem);
            assert_eq!(body["status"], status);
            assert_eq!(body["code"], problem.code());
            assert_eq!(body["requestId"], "r-1");
        }
    }

    #[test]
    fn what_a_problem_knows_more_is_in_its_body() {
        let mut conflicts = Conflicts::default();
        conflicts.push(SeatNo(4), SeatState::Hold);
        let taken = body(&Refusal::SeatTaken(conflicts).into());
        assert_eq!(taken["conflicts"], serde_json::json!([{"seatNo": 4, "state": "HOLD"}]));
        assert_eq!(body(&Refusal::NoSeatsTogether { longest: 3 }.into())["longest"], 3);
        assert_eq!(body(&Refusal::ReservationState(Status::Paying).into())["state"], "PAYING");
        assert_eq!(body(&Problem::malformed("/seats/0", "no"))["pointer"], "/seats/0");
        assert_eq!(body(&Problem::MethodNotAllowed).get("pointer"), None);
    }

    #[test]
    fn whoever_is_one_too_many_hears_when_to_come_again() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (90_000, "90")] {
            let limited = Problem::RateLimited { retry_after: Duration::from_millis(millis) };
            let answer = limited.render("r-1", &Response::new(Body::empty()));
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()[RETRY_AFTER], seconds);
            assert_eq!(body(&limited)["code"], "RATE_LIMITED");
        }
        let missing = body(&NoPassKey.into());
        assert_eq!((&missing["code"], &missing["status"]), (&"PASS_KEY_MISSING".into(), &503.into()));
    }

    #[test]
    fn an_internal_error_tells_the_client_nothing() {
        let text = String::from_utf8(Problem::Internal("secret path".into()).body("r-1")).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
}

//! From a handler to the shard that decides, and back.

use std::sync::Arc;

use actors::handle::Ask;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use engine::{Command, Granted, OptionId, Outcome, PassId, Refusal, RequestKey, Reservation, ShardId};
use serde::Serialize;
use tokio::time::Instant;

use super::Shared;
use super::auth::Identity;
use super::error::Problem;
use super::extract::option_number;
use super::wire::ReservationView;
use crate::catalogue::directory::OptionEntry;

const REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");

/// What a shard granted, and whether it is the first answer to the key again.
pub(super) struct Verdict {
    pub granted: Granted,
    pub replayed: bool,
}

impl Shared {
    /// Asks the shard. A refusal or an unavailability is the problem it is.
    pub(super) async fn ask(
        &self,
        shard: ShardId,
        identity: &Identity,
        key: Option<RequestKey>,
        command: Command,
    ) -> Result<Verdict, Problem> {
        self.ask_with(shard, identity, None, key, command).await
    }

    /// The same for what is sold, with the pass that was shown for it.
    pub(super) async fn ask_with(
        &self,
        shard: ShardId,
        identity: &Identity,
        pass: Option<PassId>,
        key: Option<RequestKey>,
        command: Command,
    ) -> Result<Verdict, Problem> {
        let settings = &self.edge.settings;
        let wait =
            if command.reaches_ledger() { settings.ledger_ack_timeout } else { settings.click_timeout };
        let ask = Ask { caller: identity.caller(), key, pass, command };
        let answer = self.edge.handle.ask(shard, ask, Instant::now() + wait).await;
        match answer.outcome {
            Outcome::Granted(granted) => Ok(Verdict { granted, replayed: answer.replayed }),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Unavailable(unavailable) => Err(unavailable.into()),
        }
    }

    /// What the catalogue knows of an option.
    pub fn option(&self, option: OptionId) -> Result<Arc<OptionEntry>, Problem> {
        self.edge.directory.option(option).ok_or(Problem::Refused(Refusal::OptionUnknown))
    }

    /// The option of a public id. Ids beyond 32 bits are well-formed, and no option has one.
    pub fn option_of(&self, id: u64) -> Result<Arc<OptionEntry>, Problem> {
        let option = u32::try_from(id).map_err(|_| Problem::Refused(Refusal::OptionUnknown))?;
        self.option(OptionId(option))
    }

    /// A reservation as clients see it.
    pub fn reservation_view(&self, reservation: &Reservation) -> Result<ReservationView, Problem> {
        // Options are never removed, so a reservation whose option is unknown is a bug.
        let entry = self.edge.directory.option(reservation.option).ok_or_else(|| {
            Problem::Internal(format!(
                "option {} of a reservation is not in the directory",
                reservation.option
            ))
        })?;
        Ok(ReservationView::new(reservation, &entry))
    }
}

impl Verdict {
    /// The reservation that the command left.
    pub fn reservation(&self) -> Result<&Reservation, Problem> {
        match &self.granted {
            Granted::Reserved { reservation, .. } => Ok(reservation),
            other => Err(unexpected(other)),
        }
    }

    /// An answer with this body, marked when it is a replay.
    pub fn respond(&self, status: StatusCode, body: &impl Serialize) -> Response {
        let mut response = json(status, body);
        mark_replay(&mut response, self.replayed);
        response
    }
}

/// Says that this is the first answer to the key again.
pub(super) fn mark_replay(response: &mut Response, replayed: bool) {
    if replayed {
        response.headers_mut().insert(REPLAY, HeaderValue::from_static("true"));
    }
}

/// The shard granted something else than what was asked: a bug.
pub(crate) fn unexpected(granted: &Granted) -> Problem {
    Problem::Internal(format!("the shard granted something else: {granted:?}"))
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, body).expect("strings, numbers and lists serialize");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The option that `{optionId}` names, as the catalogue knows it.
pub(super) struct OptionPath(pub Arc<OptionEntry>);

impl FromRequestParts<Arc<Shared>> for OptionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        shared.option_of(option_number(parts, shared).await?).map(Self)
    }
}

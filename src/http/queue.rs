//! The waiting room of a concert, for those who wait: join, see how it stands, leave; and `subscribe`, which tells it.

use std::sync::Arc;
use std::time::Duration;

use actors::gates::{GateAsk, GateSaid};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use engine::gate::Standing;
use engine::ids::PUBLIC_ID_MAX;
use engine::{ConcertId, ShardId, UserId};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::subscription::{Form, Subscription, Told};
pub(crate) use self::view::{LeftView, QueueView};
use super::Shared;
use super::ask::json;
use super::auth::Identity;
use super::error::Problem;
use super::extract::{Json, NoBody, Query, public_id};
use super::proxies::ClientAddress;
use super::wire::ProblemBody;

pub(super) mod subscribe;
mod subscription;
mod view;

/// Which concert.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QueueQuery {
    /// The concert.
    #[param(value_type = u64, required = true)]
    concert_id: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JoinRequest {
    concert_id: u64,
}

/// Why a gate has not answered: other than a click, what it was asked may be done by then.
const UNHEARD: &str =
    "It may have been done all the same. Ask how it stands; to ask for it again does no harm.";

/// A gate, and who asks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtGate {
    pub shard: ShardId,
    pub concert: ConcertId,
    pub user: UserId,
}

/// Wait in line for a concert's sale. Asked again, also from another tab: the same turn. Of a concert that has no waiting
/// room, or is sold out, the status says so; nobody is refused.
#[utoipa::path(post, path = "/api/v1/waiting-queue/join", tag = "waiting room", operation_id = "joinQueue",
    request_body(content = JoinRequest, example = json!({"concertId": 7})),
    responses(
        (status = 200, description = "How it stands now. WAITING brings `Retry-After`, when to ask for the status",
            body = QueueView, examples(
                ("waiting" = (value = json!({"concertId": 7, "status": "WAITING", "turn": 40312, "rank": 1201,
                    "ahead": 1200, "etaSeconds": [110, 140]}))),
                ("admitted" = (value = json!({"concertId": 7, "status": "ACTIVE", "pass": "…",
                    "passExpiresAt": "2027-05-01T10:05:00Z"}))),
                ("no waiting room" = (value = json!({"concertId": 7, "status": "ACTIVE"}))),
                ("sold out" = (value = json!({"concertId": 7, "status": "REJECTED"}))))),
        (status = 404, description = "NOT_FOUND: no such concert", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 429, description = "RATE_LIMITED: too many joins, of all, of the address or of the user; come again after \
            `Retry-After`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: you may be in line all the same; ask again after `Retry-After`, \
            for the status or to join, which does no harm", body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn join(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    client: ClientAddress,
    Json(wanted): Json<JoinRequest>,
) -> Result<Response, Problem> {
    answer_join(&shared, &identity, client, &wanted).await
}

/// The handler behind the extractors; the express lane of [`super::site`] comes in here.
pub(super) async fn answer_join(
    shared: &Shared,
    identity: &Identity,
    client: ClientAddress,
    wanted: &JoinRequest,
) -> Result<Response, Problem> {
    let concert = concert_id_of(wanted.concert_id, "/concertId")?;
    let at = shared.at_gate(concert, identity.user)?;
    shared.edge.budget.admit(client, at.user)?;
    shared.standing(at, GateAsk::Join(at.user)).await.map(|view| view.respond(shared))
}

/// How it stands with me. Whoever asks at least every `gate.grace` counts as being there.
#[utoipa::path(get, path = "/api/v1/waiting-queue/status", tag = "waiting room", operation_id = "queueStatus",
    params(QueueQuery),
    responses(
        (status = 200, description = "How it stands now. WAITING brings `Retry-After`, when to ask again",
            body = QueueView, example = json!({"concertId": 7, "status": "WAITING", "turn": 40312, "rank": 1201,
                "ahead": 1200, "etaSeconds": [110, 140]})),
        (status = 404, description = "NOT_FOUND: no such concert", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: ask again after `Retry-After`", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    Query(query): Query<QueueQuery>,
) -> Result<Response, Problem> {
    answer_status(&shared, &identity, &query).await
}

/// The handler behind the extractors; the express lane of [`super::site`] comes in here.
pub(super) async fn answer_status(
    shared: &Shared,
    identity: &Identity,
    query: &QueueQuery,
) -> Result<Response, Problem> {
    let at = shared.at_gate(query.concert()?, identity.user)?;
    shared.standing(at, GateAsk::Status(at.user)).await.map(|view| view.respond(shared))
}

/// Out of the line, or out of the sale: the turn is gone, and a pass is given back at once.
#[utoipa::path(delete, path = "/api/v1/waiting-queue/leave", tag = "waiting room", operation_id = "leaveQueue",
    params(QueueQuery),
    responses(
        (status = 200, description = "`left` says what there was to leave; asked again: NOTHING", body = LeftView,
            example = json!({"concertId": 7, "status": "NONE", "left": "LINE"})),
        (status = 404, description = "NOT_FOUND: no such concert", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 503, description = "OVERLOADED: you may have left all the same; ask for the status, or to leave \
            again, which does no harm", body = ProblemBody, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn leave(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    Query(query): Query<QueueQuery>,
    _no_body: NoBody,
) -> Result<Response, Problem> {
    let at = shared.at_gate(query.concert()?, identity.user)?;
    Ok(json(StatusCode::OK, &shared.leave_gate(at).await?))
}

impl QueueQuery {
    fn concert(&self) -> Result<ConcertId, Problem> {
        read_concert(self.concert_id.as_deref())
    }
}

fn read_concert(text: Option<&str>) -> Result<ConcertId, Problem> {
    public_id(text.unwrap_or(""), "/query/concertId").map(ConcertId)
}

/// A concert's id, as JSON has it.
///
/// # Errors
/// `MALFORMED` at `pointer`.
pub(crate) fn concert_id_of(number: u64, pointer: &str) -> Result<ConcertId, Problem> {
    if (1..=PUBLIC_ID_MAX).contains(&number) {
        Ok(ConcertId(number))
    } else {
        Err(Problem::malformed(pointer, "An id is an integer from 1 to 9007199254740991."))
    }
}

impl Shared {
    /// # Errors
    /// There is no such concert.
    pub(crate) fn at_gate(&self, concert: ConcertId, user: UserId) -> Result<AtGate, Problem> {
        Ok(AtGate { shard: self.concert(concert)?.shard, concert, user })
    }

    /// Asks a gate for an answer that is a standing: a join or a status.
    pub(crate) async fn standing(&self, at: AtGate, ask: GateAsk) -> Result<QueueView, Problem> {
        let (standing, durable) = self.raw_standing(at, ask).await?;
        self.queue_view(at, standing, durable)
    }

    async fn raw_standing(&self, at: AtGate, ask: GateAsk) -> Result<(Standing, bool), Problem> {
        match self.ask_gate(at.shard, at.concert, ask, self.edge.settings.click_timeout).await? {
            GateSaid::Standing { standing, durable } => Ok((standing, durable)),
            other => Err(odd(&other)),
        }
    }

    pub(crate) async fn leave_gate(&self, at: AtGate) -> Result<LeftView, Problem> {
        let ask = GateAsk::Leave(at.user);
        match self.ask_gate(at.shard, at.concert, ask, self.edge.settings.click_timeout).await? {
            GateSaid::Left { left, durable } => Ok(LeftView::new(at.concert, left, durable)),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn ask_gate(
        &self,
        shard: ShardId,
        concert: ConcertId,
        ask: GateAsk,
        patience: Duration,
    ) -> Result<GateSaid, Problem> {
        let asked = self.edge.handle.gates().ask(shard, concert, ask, Instant::now() + patience).await;
        asked.map_err(|what| Problem::Undecided(what, UNHEARD))
    }

    fn queue_view(&self, at: AtGate, standing: Standing, durable: bool) -> Result<QueueView, Problem> {
        let signed = match standing {
            Standing::Active(pass) => Some(self.edge.passes.sign(at.concert, at.user, pass)),
            _ => None,
        };
        let signed = signed.transpose().map_err(Problem::from)?;
        Ok(QueueView::new(at.concert, standing, durable, signed))
    }
}

impl QueueView {
    fn respond(&self, shared: &Shared) -> Response {
        let mut response = json(StatusCode::OK, self);
        // It is one user's, and may carry a pass.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.poll_after(shared.edge.settings.gate_grace) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A gate answered another question: a bug.
pub(super) fn odd(said: &GateSaid) -> Problem {
    Problem::Internal(format!("the gate said something else: {said:?}"))
}

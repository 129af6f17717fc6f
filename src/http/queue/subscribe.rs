//! The line as server-sent events.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Version;
use axum::response::Response;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::read_concert;
use super::subscription::{Form, Subscription, Told};
use crate::http::Shared;
use crate::http::auth::Identity;
use crate::http::error::Problem;
use crate::http::extract::Query;
use crate::http::sse::{Source, respond};
use crate::http::watch::Connection;
use crate::http::wire::ProblemBody;

/// Which concert, and in which form.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct SubscribeQuery {
    /// The concert.
    #[param(value_type = u64, required = true)]
    concert_id: Option<String>,
    /// `ranks`, as when it is left out, or `ticks`: the client counts its rank itself.
    #[param(example = "ranks")]
    form: Option<String>,
}

/// How it stands with me, and every change, as server-sent events: `INIT`, `RANK_UPDATE`, `ACTIVE`, `ENDED`, `REJECTED`,
/// `KEEPALIVE`; with `form=ticks` `TICK`, `VIEW` and `BLOCK` instead of `RANK_UPDATE`. The token travels in its header, as
/// everywhere, so a browser reads the stream with `fetch`: its `EventSource` cannot send one.
#[utoipa::path(get, path = "/api/v1/waiting-queue/subscribe", tag = "waiting room", operation_id = "subscribeQueue",
    params(SubscribeQuery),
    responses(
        (status = 200, description = "Events without end; whoever reads them counts as being there", body = String,
            content_type = "text/event-stream"),
        (status = 404, description = "NOT_FOUND: no such concert", body = ProblemBody,
            content_type = "application/problem+json")),
    security(("token" = [])))]
pub(in crate::http) async fn subscribe(
    State(shared): State<Arc<Shared>>,
    identity: Identity,
    version: Version,
    Query(query): Query<SubscribeQuery>,
    connection: Option<Extension<Connection>>,
) -> Result<Response, Problem> {
    let form = Form::read(query.form.as_deref(), "/query/form")?;
    let at = shared.at_gate(read_concert(query.concert_id.as_deref())?, identity.user)?;
    let stalled = shared.edge.metrics.viewers_stalled();
    let queue = Queue {
        ending: shared.edge.shutdown.clone(),
        ends: Instant::now() + identity.remaining(),
        subscription: Subscription::new(shared, at, form),
    };
    let connection = connection.map(|Extension(connection)| connection);
    Ok(respond(queue, version, connection, stalled))
}

impl Form {
    /// # Errors
    /// `MALFORMED` at `pointer`.
    pub(crate) fn read(text: Option<&str>, pointer: &str) -> Result<Self, Problem> {
        match text {
            None | Some("ranks") => Ok(Self::Ranks),
            Some("ticks") => Ok(Self::Ticks),
            Some(_) => Err(Problem::malformed(pointer, "A form is \"ranks\" or \"ticks\".")),
        }
    }
}

/// A subscription that ends with its token and with the server.
pub(in crate::http) struct Queue {
    subscription: Subscription,
    /// Looked at with each event: a stream outlives its token by a keep-alive at most, and has no timer for it.
    ends: Instant,
    ending: CancellationToken,
}

impl Source for Queue {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ends <= Instant::now() {
            return None;
        }
        tokio::select! {
            biased;
            () = self.ending.cancelled() => None,
            told = self.subscription.next() => Some(event(&told)),
        }
    }
}

fn event(told: &Told) -> Bytes {
    let mut out = format!("event: {}\ndata: ", told.name()).into_bytes();
    told.write(&mut out);
    out.extend_from_slice(b"\n\n");
    out.into()
}

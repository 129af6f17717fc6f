//! Where a request shows its pass, and what that opens on this node.
//!
//! Clicks bring a pass along, and the owner of the concert decides: here only its signature, its hard end, its concert and
//! its user are looked at, and a bad one is as good as none. What is read (seats, events, feeds) opens to a pass that is
//! good in these, on any node; whether it still lives nobody is asked.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use engine::{ConcertId, PassId, Refusal, UserId};
use tokio::time::Instant;

use super::auth::Identity;
use super::error::Problem;
use super::{Edge, Shared};
use crate::catalogue::directory::OptionEntry;
use crate::pass::Shown;

/// What carries a pass.
pub(crate) const PASS: HeaderName = HeaderName::from_static("hotseat-pass");

/// What was shown as `Hotseat-Pass`. Whether it is a pass nobody has looked at yet.
pub(super) struct PassHeader(pub Option<HeaderValue>);

impl<S: Sync> FromRequestParts<S> for PassHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parts.headers.get(PASS).cloned()))
    }
}

impl Identity {
    /// Whether it runs the sale, and looks at it without standing in line.
    pub(crate) const fn is_operator(&self) -> bool {
        matches!(self.role, super::auth::Role::Admin | super::auth::Role::Ops)
    }
}

impl Edge {
    /// What a pass says that is good in itself, and when it ends.
    pub(crate) fn shown(&self, pass: &[u8]) -> Option<(Shown, Instant)> {
        let now = self.handle.now();
        let shown = self.passes.read(std::str::from_utf8(pass).ok()?, now)?;
        let left = u64::try_from(shown.ends_at.since(now).0).ok()?;
        Some((shown, Instant::now() + std::time::Duration::from_micros(left)))
    }
}

impl Shared {
    /// The pass that goes to the owner with a click.
    pub(super) fn pass_for(
        &self,
        shown: Option<&HeaderValue>,
        concert: ConcertId,
        user: UserId,
    ) -> Option<PassId> {
        let (shown, _) = self.edge.shown(shown?.as_bytes())?;
        shown.is_for(concert, Some(user)).then_some(shown.pass)
    }

    /// Whether seats of an option may be looked at, and until when; `None`: for as long as one likes. Of a concert without
    /// a gate everybody may, and of others whoever shows a pass, their own where they say who they are. Operators need
    /// none.
    ///
    /// # Errors
    /// `PASS_REQUIRED`; `UNAUTHENTICATED` where a token was sent that proves nothing.
    pub(super) fn may_look(
        &self,
        entry: &OptionEntry,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Option<Instant>, Problem> {
        if !entry.gated {
            return Ok(None);
        }
        let identity =
            if headers.contains_key(AUTHORIZATION) { Some(Identity::of(headers, self)?) } else { None };
        if identity.as_ref().is_some_and(Identity::is_operator) {
            return Ok(None);
        }
        let user = identity.map(|identity| identity.user);
        let candidates = [headers.get(PASS).map(HeaderValue::as_bytes), query.map(str::as_bytes)];
        let mut shown = candidates.into_iter().flatten().filter_map(|pass| self.edge.shown(pass));
        let good = shown.find(|(shown, _)| shown.is_for(entry.concert, user));
        good.map(|(_, ends)| Some(ends)).ok_or(Problem::Refused(Refusal::PassRequired))
    }
}

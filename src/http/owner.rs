//! What a request is about, and so whose answer it gets: `Hotseat-Owner` names the node, whichever one answers.

use std::sync::Arc;

use actors::Handle;
use actors::handle::ShardStatus;
use axum::http::{HeaderValue, Uri};
use engine::{ConcertId, OptionId, ReservationId};

use crate::catalogue::directory::Directory;

/// What one node owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Option(OptionId),
    Concert(ConcertId),
}

/// How a route names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Option,
    /// Its id ends with its option.
    Reservation,
    Concert,
    ConcertInQuery,
}

/// The routes about something that one node owns, by how they begin.
const OWNED: [(&str, Named); 8] = [
    ("/api/v1/options/", Named::Option),
    ("/api/v1/reservations/", Named::Reservation),
    ("/api/v1/route", Named::ConcertInQuery),
    ("/api/v1/waiting-queue/", Named::ConcertInQuery),
    ("/admin/v1/options/", Named::Option),
    ("/admin/v1/blocks/", Named::Reservation),
    ("/admin/v1/concerts/", Named::Concert),
    ("/admin/v1/gates/", Named::Concert),
];

/// Where in its requests a route says what they are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    begins: &'static str,
    named: Named,
}

impl Place {
    /// `None`: nobody owns what that path is about.
    pub fn of(path: &str) -> Option<Self> {
        let (begins, named) = OWNED.into_iter().find(|(begins, _)| path.starts_with(begins))?;
        Some(Self { begins, named })
    }

    /// `None`: what is there is no id.
    pub fn read(self, uri: &Uri) -> Option<Thing> {
        let rest = uri.path().strip_prefix(self.begins)?;
        let id = rest.split('/').next()?;
        match self.named {
            Named::Option => id.parse().ok().map(|id| Thing::Option(OptionId(id))),
            Named::Reservation => {
                let id = uuid::Uuid::parse_str(id).ok()?;
                Some(Thing::Option(ReservationId(id.as_u128()).option()))
            }
            Named::Concert => id.parse().ok().map(|id| Thing::Concert(ConcertId(id))),
            Named::ConcertInQuery => {
                let id = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("concertId="))?;
                id.parse().ok().map(|id| Thing::Concert(ConcertId(id)))
            }
        }
    }
}

/// Says where the owner of something is reached; `None` while nobody owns it.
pub(super) type OwnerOf = Arc<dyn Fn(Thing) -> Option<HeaderValue> + Send + Sync>;

/// As this node knows it, which is reached at `me` itself.
pub(super) fn owners(handle: Handle, directory: Arc<Directory>, me: &str) -> OwnerOf {
    let me = HeaderValue::from_str(me).ok();
    Arc::new(move |thing| {
        let shard = match thing {
            Thing::Option(option) => directory.shard_of(option)?,
            Thing::Concert(concert) => directory.concert(concert)?.shard,
        };
        match handle.status(shard)? {
            ShardStatus::Serving(_) => me.clone(),
            ShardStatus::Elsewhere(_, owner) => HeaderValue::from_str(&owner.public_url).ok(),
            ShardStatus::Starting | ShardStatus::Stopped => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_what_it_is_about() {
        let option = |id| Some(Thing::Option(OptionId(id)));
        let concert = |id| Some(Thing::Concert(ConcertId(id)));
        let rows = [
            ("/api/v1/options/7/seats?since=1.2", option(7)),
            ("/api/v1/options/7/selections", option(7)),
            ("/api/v1/options/x/seats", None),
            ("/api/v1/reservations/01900000-0000-7000-8000-000000000009/confirm", option(9)),
            ("/api/v1/reservations/9", None),
            ("/admin/v1/blocks/01900000-0000-7000-8000-00000000000a", option(10)),
            ("/admin/v1/options/3/status", option(3)),
            ("/admin/v1/concerts/9007199254740991/policy", concert(9_007_199_254_740_991)),
            ("/api/v1/route?concertId=4", concert(4)),
            ("/api/v1/waiting-queue/subscribe?form=ticks&concertId=4", concert(4)),
            ("/api/v1/waiting-queue/join", None),
            ("/admin/v1/gates/4/history", concert(4)),
            ("/api/v1/route", None),
            ("/api/v1/concerts/4", None),
            ("/admin/v1/shards", None),
        ];
        for (uri, expected) in rows {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(Place::of(uri.path()).and_then(|place| place.read(&uri)), expected, "{uri}");
        }
    }
}

//! Who takes part, and how each is started.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::Context as _;

use crate::baseline::Idea;
use crate::servers::{BaselineServer, HotseatServer, Postgres, Redis};
use crate::target::{Introduced, Target, Tokens};

const WAIT: Duration = Duration::from_secs(10);

/// A way of selling seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Baseline(Idea),
    /// Its ledger in PostgreSQL, its soft locks mirrored in Redis.
    Hotseat,
    /// Its ledger in PostgreSQL, its soft locks in its own memory alone.
    HotseatAlone,
}

/// One that was started.
pub struct Running {
    pub contender: Contender,
    pub at: Introduced,
    /// The first seat that no sale has had yet.
    pub unsold: Arc<AtomicU32>,
    server: Server,
}

enum Server {
    Baseline(BaselineServer),
    Hotseat(HotseatServer),
}

impl Contender {
    pub fn all() -> Vec<Self> {
        let baselines = Idea::ALL.into_iter().map(Self::Baseline);
        baselines.chain([Self::Hotseat, Self::HotseatAlone]).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline(idea) => idea.name(),
            Self::Hotseat => "hotseat",
            Self::HotseatAlone => "hotseat (no Redis)",
        }
    }

    pub fn sentence(self) -> &'static str {
        match self {
            Self::Baseline(idea) => idea.sentence(),
            Self::Hotseat => {
                "Decides in memory; a mirror of soft locks in Redis, a ledger of sales in PostgreSQL."
            }
            Self::HotseatAlone => "The same, with the mirror in its own memory: a crash forgets soft locks.",
        }
    }

    pub fn is_hotseat(self) -> bool {
        !matches!(self, Self::Baseline(_))
    }
}

impl FromStr for Contender {
    type Err = String;

    /// As they are named in the table; `hotseat-alone` is easier to type.
    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::all();
        let text = if text == "hotseat-alone" { Self::HotseatAlone.name() } else { text };
        all.iter().copied().find(|contender| contender.name() == text).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|contender| contender.name()).collect();
            format!(
                "{text:?} does not take part; these do: {}, hotseat-alone",
                names[..names.len() - 1].join(", ")
            )
        })
    }
}

/// Where the contenders keep things.
pub struct Stores {
    pub postgres: Postgres,
    pub redis: Redis,
}

impl Stores {
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self { postgres: Postgres::start()?, redis: Redis::start()? })
    }

    pub fn pids(&self) -> Vec<u32> {
        [self.postgres.pids(), self.redis.pids()].concat()
    }
}

impl Running {
    /// In databases of its own.
    pub async fn start(
        contender: Contender,
        binary: Option<&Path>,
        stores: &Stores,
        seats: u32,
    ) -> anyhow::Result<Self> {
        let Stores { postgres, redis } = stores;
        let server = match contender {
            Contender::Baseline(idea) => {
                Server::Baseline(BaselineServer::start(idea, postgres, redis, seats)?)
            }
            Contender::Hotseat | Contender::HotseatAlone => {
                let ledger = postgres.database()?;
                let mirror = (contender == Contender::Hotseat).then(|| redis.database());
                Server::Hotseat(HotseatServer::start(binary, Some(&ledger), mirror.as_deref(), seats)?)
            }
        };
        let (url, option) = match &server {
            Server::Baseline(server) => (server.url(), 1),
            Server::Hotseat(server) => (server.url(), server.option()),
        };
        let target: Target = url.parse().map_err(anyhow::Error::msg).context("the address of a server")?;
        let at = target.introduce(Tokens::Dev, Some(option), WAIT).await?;
        Ok(Self { contender, at, unsold: Arc::default(), server })
    }

    pub fn version(&self) -> Option<&str> {
        match &self.server {
            Server::Baseline(_) => None,
            Server::Hotseat(server) => Some(server.version()),
        }
    }

    pub fn pids(&self) -> Vec<u32> {
        match &self.server {
            Server::Baseline(server) => server.pids(),
            Server::Hotseat(server) => server.pids(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_are_found_by_their_names() {
        for contender in Contender::all() {
            assert_eq!(contender.name().parse(), Ok(contender));
        }
        assert_eq!("hotseat-alone".parse(), Ok(Contender::HotseatAlone));
        let error = "mysql".parse::<Contender>().unwrap_err();
        assert!(error.contains("pessimistic, ") && error.ends_with("hotseat, hotseat-alone"), "{error}");
    }
}

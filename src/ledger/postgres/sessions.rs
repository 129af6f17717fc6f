//! A few connections for one purpose. One whose reply was not read to its end is closed hard, never used again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connect::{Connector, Session};
use super::error::{Failed, is_alive_after};
use crate::lock::lock;

pub(super) struct Sessions {
    connector: Arc<Connector>,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Session>>>,
}

/// A connection in use. Dropped, it is closed, unless it was kept before.
pub(super) struct InUse {
    session: Option<Session>,
    connector: Arc<Connector>,
    idle: Arc<Mutex<Vec<Session>>>,
    /// It had been idle: the server may have closed it meanwhile.
    pub was_idle: bool,
    _place: OwnedSemaphorePermit,
}

impl InUse {
    pub(super) fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is only taken by keep")
    }

    /// The work on it is done. Where every reply was read, somebody else may use it.
    pub(super) fn finish<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, Failed> {
        if let Some(session) = self.session.take() {
            match &answer {
                Err(error) if !is_alive_after(error) => self.connector.has_ended(&session),
                _ => lock(&self.idle).push(session),
            }
        }
        answer.map_err(Failed::Sql)
    }
}

impl Sessions {
    pub(super) fn new(connector: Arc<Connector>, places: usize) -> Self {
        Self { connector, places: Arc::new(Semaphore::new(places)), idle: Arc::default() }
    }

    /// Waits for its turn, and connects where no connection is left.
    pub(super) async fn take(&self) -> Result<InUse, Failed> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| Failed::Closed)?;
        let known = lock(&self.idle).pop().filter(|session| self.connector.is_current(session));
        let was_idle = known.is_some();
        let session = match known {
            Some(session) => session,
            None => self.connector.connect().await.map_err(Failed::Connect)?,
        };
        let (connector, idle) = (self.connector.clone(), self.idle.clone());
        Ok(InUse { session: Some(session), connector, idle, was_idle, _place: place })
    }

    /// Takes nobody on any more, and says good-bye to the server.
    pub(super) async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *lock(&self.idle));
        for session in idle {
            if let Err(error) = session.connection.close().await {
                tracing::debug!(%error, "a connection to the ledger was not closed cleanly");
            }
        }
    }
}

pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    timeout(patience, work).await.unwrap_or(Err(Failed::TimedOut(patience)))
}

/// `once!(sessions, patience, session => work)`: some work on a connection.
macro_rules! once {
    ($sessions:expr, $patience:expr, $session:ident => $work:expr) => {
        $crate::ledger::postgres::sessions::within($patience, async {
            let mut used = $sessions.take().await?;
            let $session = used.session();
            let answer: Result<_, sqlx::Error> = async { $work }.await;
            used.finish(answer)
        })
    };
}
pub(super) use once;

/// The same for work that may be done twice: again on a new connection where the server had closed the one at
/// hand. (A macro, because a closure that lends a session is not known to be `Send`.)
macro_rules! ask {
    ($sessions:expr, $patience:expr, $session:ident => $work:expr) => {
        $crate::ledger::postgres::sessions::within($patience, async {
            loop {
                let mut used = $sessions.take().await?;
                let was_idle = used.was_idle;
                let $session = used.session();
                let answer: Result<_, sqlx::Error> = async { $work }.await;
                match used.finish(answer) {
                    Err($crate::ledger::postgres::error::Failed::Sql(error))
                        if was_idle && !$crate::ledger::postgres::error::is_alive_after(&error) => {}
                    answer => break answer,
                }
            }
        })
    };
}
pub(super) use ask;

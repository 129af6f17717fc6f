//! A start whose ledger is not there yet: it says so, listens for `/readyz` alone, and tries again.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bind;
use super::ledger::may_pass;
use crate::config::Config;
use crate::http::{serve, waiting_site};

/// The pause after a failed attempt doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Tries `open` until it succeeds. Only what may pass by itself is waited for: a server that starts, fails over or is
/// being repaired.
///
/// # Errors
/// What does not pass, at once; and the ops listener's, which is needed to say why it is waited.
pub(super) async fn until_open<T, F>(config: &Config, open: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let first = match open().await {
        Err(error) if may_pass(&error) => error,
        done => return done,
    };
    let (say, why) = watch::channel(sentence(&first));
    let ops = bind(config.server.ops_listen, "server.ops_listen")?;
    let is_over = CancellationToken::new();
    let listener = tokio::spawn(serve(ops, waiting_site(why), is_over.clone()));
    let mut pause = BACK_OFF.0;
    let mut error = first;
    let done = loop {
        tracing::warn!(error = sentence(&error), "not ready; will try again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF.1);
        match open().await {
            Err(again) if may_pass(&again) => error = again,
            done => break done,
        }
        say.send_replace(sentence(&error));
    };
    // The port is free for the real listener when this one has ended.
    is_over.cancel();
    let _ended = listener.await;
    done
}

fn sentence(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

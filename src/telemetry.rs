//! Logs, on standard error: for people or for machines.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Starts the logs of this process. Colours only on a terminal, and never with `NO_COLOR`.
///
/// # Errors
/// The level cannot be parsed, or logs were started before.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_ansi(false);
            logs.finish().with(filter_fn(may_be_logged)).try_init()
        }
        // Left alone on a terminal, the subscriber looks at NO_COLOR by itself.
        LogFormat::Pretty if std::io::stderr().is_terminal() => {
            logs.finish().with(filter_fn(may_be_logged)).try_init()
        }
        LogFormat::Pretty => logs.with_ansi(false).finish().with(filter_fn(may_be_logged)).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs: {error}"))?;
    log_panics();
    Ok(())
}

/// Below info, `ractor_cluster` logs what nodes say to each other, whatever the level that is asked for.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("ractor_cluster") || *metadata.level() <= Level::INFO
}

/// A panic is a bug: it goes to the logs, where somebody looks, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("(no message)");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(place, %backtrace, "panic: {what}");
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::{Context, Layer};

    use super::*;

    /// The targets of what gets through.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let metadata = event.metadata();
            self.0.lock().unwrap().push(format!("{} {}", metadata.level(), metadata.target()));
        }
    }

    #[test]
    fn what_nodes_say_to_each_other_is_not_logged() {
        let seen = Seen::default();
        let logs = tracing_subscriber::registry().with(seen.clone()).with(filter_fn(may_be_logged));
        tracing::subscriber::with_default(logs, || {
            tracing::debug!(target: "ractor_cluster::net::session", "SEND");
            tracing::info!(target: "ractor_cluster::net::session", "opened");
            tracing::debug!(target: "hotseat::cluster", "ours");
        });
        let seen = seen.0.lock().unwrap();
        assert_eq!(*seen, ["INFO ractor_cluster::net::session", "DEBUG hotseat::cluster"]);
    }
}

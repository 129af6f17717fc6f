//! Logs, on standard error: for people or for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts the logs of this process. Colours only on a terminal, and never with `NO_COLOR`.
///
/// # Errors
/// The level cannot be parsed, or logs were started before.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => logs.json().flatten_event(true).with_ansi(false).try_init(),
        // Left alone on a terminal, the subscriber looks at NO_COLOR by itself.
        LogFormat::Pretty if std::io::stderr().is_terminal() => logs.try_init(),
        LogFormat::Pretty => logs.with_ansi(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs: {error}"))?;
    log_panics();
    Ok(())
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

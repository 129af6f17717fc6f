//! The gate as its operator has it: set before the run, read while it lasts, off after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::crowd::Crowd;
use super::order::Within;
use super::windows::Reading;
use super::wire::Gate;
use crate::http::{Answer, Connection, Request};
use crate::lock::lock;
use crate::target::Introduced;

/// Its counters are read so often.
const EVERY: Duration = Duration::from_millis(250);
/// An operator's id, beside the payment service's.
const OPERATOR: u64 = (1 << 52) + 1;

/// How a gate lets people in.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub per_second: Option<u32>,
    pub max_active: Option<u32>,
}

pub async fn operator(at: &Introduced) -> anyhow::Result<Arc<str>> {
    at.tokens.of(&mut Connection::new(at.target.clone()), OPERATOR, "ADMIN").await
}

/// Opens it.
///
/// # Errors
/// Somebody waits there, the server takes no such bounds, or has no gates.
pub async fn open(at: &Introduced, admin: &str, bounds: Bounds) -> anyhow::Result<()> {
    let mut connection = Connection::new(at.target.clone());
    let path = path(at);
    let answer = connection.call(&Request { token: Some(admin), ..Request::get(&path) }).await?;
    let found: Gate = granted(&answer)?.json()?;
    // A gate that is off keeps its line, which would be let in first; passes of an earlier run harm nobody.
    if found.waiting > 0 || found.state != "off" && found.active > 0 {
        bail!(
            "{} wait at the gate of concert {}, and {} are inside: it is in use (state \"closed\" sends away who waits)",
            found.waiting,
            at.concert,
            found.active
        );
    }
    let Bounds { per_second, max_active } = bounds;
    let body = json!({"state": "open", "mode": "fifo", "perSecond": per_second, "maxActive": max_active});
    set(&mut connection, &path, admin, &body.to_string()).await
}

/// Sends away who waits still, as when a run was broken off: the next one would find them. Then everybody may enter again.
///
/// # Errors
/// No answer, or no.
pub async fn off(at: &Introduced, admin: &str) -> anyhow::Result<()> {
    let (mut connection, path) = (Connection::new(at.target.clone()), path(at));
    set(&mut connection, &path, admin, r#"{"state":"closed"}"#).await?;
    set(&mut connection, &path, admin, r#"{"state":"off"}"#).await
}

async fn set(connection: &mut Connection, path: &str, admin: &str, body: &str) -> anyhow::Result<()> {
    let answer = connection.call(&Request::put(path, Some(admin), body)).await?;
    granted(&answer).map(|_| ())
}

fn granted(answer: &Answer) -> anyhow::Result<&Answer> {
    if answer.is_success() {
        return Ok(answer);
    }
    bail!("the gate cannot be used: {} {:.200}", answer.status, String::from_utf8_lossy(&answer.body))
}

fn path(at: &Introduced) -> String {
    format!("/admin/v1/gates/{}", at.concert)
}

/// Reads the counters until it is dropped. What cannot be read is left out.
pub async fn read(crowd: Arc<Crowd>, admin: Arc<str>) {
    let mut connection = Connection::new(crowd.at.target.clone());
    let path = path(&crowd.at);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        let request = Request { token: Some(&admin), ..Request::get(&path) };
        let Ok(answer) = connection.call(&request).await else { continue };
        let Ok(gate) = answer.json::<Gate>() else { continue };
        let at = Within { from: crowd.nanos(sent), to: crowd.nanos(answer.answered) };
        let Gate { admitted, waiting, active, .. } = gate;
        lock(&crowd.readings).push(Reading { at, admitted, waiting, active });
    }
}

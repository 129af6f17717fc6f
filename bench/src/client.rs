//! One HTTP/1.1 connection that is kept alive, and what is done when it breaks or the server is busy.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::wire::Problem;

/// Nothing that a healthy server does takes this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// `http://HOST:PORT`.
#[derive(Clone, Debug)]
pub struct Target {
    authority: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
        let root = matches!(uri.path(), "" | "/") && uri.query().is_none();
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) if root => {
                Ok(Self { authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)) })
            }
            (Some("https"), _) => Err("TLS is not spoken here; use the server's plain listener".to_owned()),
            _ => Err("expected http://HOST:PORT".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// What all connections of a run share.
pub struct Shared {
    pub target: Target,
    /// How long a lost server is waited for; zero is not at all.
    pub survive: Duration,
    /// Set by Ctrl-C and by the time limit: start nothing new.
    pub stop: AtomicBool,
    pub connections_lost: AtomicU64,
    /// Answers that said: not now.
    pub busy: AtomicU64,
    pub replays: AtomicU64,
}

impl Shared {
    pub fn new(target: Target, survive: Duration) -> Self {
        Self {
            target,
            survive,
            stop: AtomicBool::new(false),
            connections_lost: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            replays: AtomicU64::new(0),
        }
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A request, kept so that it can be sent again.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub method: Method,
    pub path: String,
    pub token: Option<&'a str>,
    pub key: Option<String>,
    pub accept: &'static str,
    pub body: Bytes,
}

impl<'a> Call<'a> {
    pub fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            token: None,
            key: None,
            accept: "application/json",
            body: Bytes::new(),
        }
    }

    pub fn post(path: String, token: Option<&'a str>, body: &serde_json::Value) -> Self {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        Self { method: Method::POST, token, body, ..Self::get(path) }
    }

    /// With an idempotency key of its own, which every attempt repeats.
    pub fn keyed(self) -> Self {
        Self { key: Some(uuid::Uuid::new_v4().to_string()), ..self }
    }
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
    /// How long the last attempt took.
    pub took: Duration,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).with_context(|| {
            let text = String::from_utf8_lossy(&self.body);
            format!("not what hotseat answers: {} {:.200}", self.status, text)
        })
    }

    /// The problem of a refusal, `None` for a success.
    pub fn problem(&self) -> anyhow::Result<Option<Problem>> {
        if self.status.is_success() { Ok(None) } else { self.json().map(Some) }
    }
}

/// Why an answer never came.
#[derive(Debug)]
pub enum Broken {
    /// The run was stopped while the server was away or busy; whether the request happened is not known.
    Stopped,
    Failed(anyhow::Error),
}

pub struct Connection<'a> {
    shared: &'a Shared,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Whether the sender has brought an answer. Such a connection may be closed by a server that was idle
    /// for too long, which says nothing about the server.
    used: bool,
}

impl<'a> Connection<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        Self { shared, sender: None, used: false }
    }

    /// Sends until there is an answer that says yes or no. A busy server is asked again, a lost one for as long
    /// as the run may survive; every attempt is the same request with the same key.
    pub async fn call(&mut self, call: &Call<'_>) -> Result<Answer, Broken> {
        let mut lost_at = None;
        let mut pause = PAUSE_MIN;
        loop {
            let attempt = self.attempt(call).await;
            match attempt {
                Ok((answer, retry_after)) if is_busy(answer.status) => {
                    lost_at = None;
                    self.shared.busy.fetch_add(1, Ordering::Relaxed);
                    pause = pause.min(retry_after.unwrap_or(PAUSE_MAX));
                }
                Ok((answer, _)) => return Ok(answer),
                Err(_) if std::mem::take(&mut self.used) => {
                    self.sender = None;
                    continue;
                }
                Err(error) => {
                    self.sender = None;
                    self.shared.connections_lost.fetch_add(1, Ordering::Relaxed);
                    let since = *lost_at.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.shared.survive {
                        return Err(Broken::Failed(error));
                    }
                }
            }
            if self.shared.stopped() {
                return Err(Broken::Stopped);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&mut self, call: &Call<'_>) -> anyhow::Result<(Answer, Option<Duration>)> {
        let target = &self.shared.target;
        let sender = match &mut self.sender {
            Some(sender) => sender,
            empty => empty.insert(connect(target).await?),
        };
        let started = Instant::now();
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(HOST, &target.authority)
            .header(ACCEPT, call.accept);
        if let Some(token) = call.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(call.body.clone()))?;
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            anyhow::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        let response = timeout(ANSWER_TIMEOUT, exchange)
            .await
            .with_context(|| format!("{target} did not answer {} within {ANSWER_TIMEOUT:?}", call.path))?
            .with_context(|| format!("{target} broke the connection"))?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if header("idempotent-replay") == Some("true") {
            self.shared.replays.fetch_add(1, Ordering::Relaxed);
        }
        let retry_after =
            header(RETRY_AFTER.as_str()).and_then(|value| value.parse().ok()).map(Duration::from_secs);
        let (status, took) = (response.status(), started.elapsed());
        self.used = true;
        Ok((Answer { status, body: response.into_body(), took }, retry_after))
    }
}

/// 503 and 429 promise that the same request may be sent again.
fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

async fn connect(target: &Target) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&target.authority)).await {
        Ok(stream) => {
            stream.with_context(|| format!("cannot reach {target}; is `hotseat serve` running?"))?
        }
        Err(_) => bail!("{target} did not accept a connection within {CONNECT_TIMEOUT:?}"),
    };
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its errors reach the sender as well.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_http_root() {
        let display = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(display("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(display("http://localhost/"), Ok("http://localhost:80".to_owned()));
        assert_eq!(display("http://[::1]:9"), Ok("http://[::1]:9".to_owned()));
        for text in ["https://127.0.0.1", "127.0.0.1:8080", "http://a/b", "ftp://a", ""] {
            assert!(display(text).is_err(), "{text}");
        }
    }
}

//! The server that runs on a data directory, as `import` and `audit` talk to it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::run_file::RunFile;

/// A listener on this machine answers a SYN at once or never.
const CONNECT: Duration = Duration::from_secs(2);

/// The largest plan takes seconds to read on a busy server.
const ANSWER: Duration = Duration::from_secs(120);

/// A server that was found by its `run.json` and answers.
pub(super) struct Server {
    run: RunFile,
    /// Host and port of its ops listener.
    address: String,
}

/// What the edge says when it refuses.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: Option<String>,
}

/// The server lives, but cannot say now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(String);

impl Server {
    /// The server of a data directory; `None` where none runs, also where one was killed and left its `run.json`.
    ///
    /// # Errors
    /// There is something at its address that does not answer as our server.
    pub(super) async fn find(data: &Path) -> anyhow::Result<Option<Self>> {
        let run = RunFile::read(data).with_context(|| {
            format!("{}/run.json cannot be read; remove it if no server runs", data.display())
        })?;
        let Some(run) = run else { return Ok(None) };
        let address = run.ops_url.strip_prefix("http://").context("run.json names no http URL")?.to_owned();
        let server = Self { run, address };
        match timeout(CONNECT, TcpStream::connect(&server.address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(None),
            Ok(Err(error)) => return Err(error).context(format!("the server at {}", server.address)),
            Err(_) => bail!("the server at {} does not accept connections", server.address),
        }
        // A killed server's port may have gone to somebody else, who does not know the token.
        let (status, _) = server.send(Method::GET, "/admin/v1/audit/memory", Bytes::new()).await?;
        Ok((status != StatusCode::UNAUTHORIZED && status != StatusCode::NOT_FOUND).then_some(server))
    }

    pub(super) fn pid(&self) -> u32 {
        self.run.pid
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// As [`Server::post`]; [`Unanswered`] where the server cannot say now.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        self.success(self.send(Method::GET, path, Bytes::new()).await?)
    }

    /// Sends JSON and gets JSON.
    ///
    /// # Errors
    /// No answer, or a refusal with what the server says about it.
    pub(super) async fn post(&self, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        self.success(self.send(Method::POST, path, body).await?)
    }

    /// As [`Server::post`], with the other verb.
    ///
    /// # Errors
    /// As [`Server::post`].
    pub(super) async fn put(&self, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        self.success(self.send(Method::PUT, path, body).await?)
    }

    fn success(&self, (status, answer): (StatusCode, Bytes)) -> anyhow::Result<Bytes> {
        if status.is_success() {
            return Ok(answer);
        }
        let said = match serde_json::from_slice::<Problem>(&answer) {
            Ok(problem) => format!("{}: {}", problem.code, problem.detail.unwrap_or_default()),
            Err(_) => status.to_string(),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(Unanswered(said).into());
        }
        bail!("the running server (pid {}) refused: {said}", self.run.pid)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.run.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        exchange(&self.address, request).await
    }
}

/// What anybody may read at an `http://` URL.
///
/// # Errors
/// No answer, or none with what is there.
pub(super) async fn fetch(url: &str) -> anyhow::Result<Bytes> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let host = uri.authority().with_context(|| format!("{url} names no server"))?.as_str();
    let address = if uri.port().is_some() { host.to_owned() } else { format!("{host}:80") };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().uri(path).header(header::HOST, host).body(Full::new(Bytes::new()))?;
    let (status, answer) = exchange(&address, request).await?;
    if status.is_success() {
        return Ok(answer);
    }
    match serde_json::from_slice::<Problem>(&answer) {
        Ok(problem) => bail!("{url}: {}: {}", problem.code, problem.detail.unwrap_or_default()),
        Err(_) => bail!("{url}: {status}"),
    }
}

async fn exchange(address: &str, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let answer = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer; what goes wrong shows in the request.
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        anyhow::Ok((head.status, body.collect().await?.to_bytes()))
    };
    timeout(ANSWER, answer)
        .await
        .with_context(|| format!("the server at {address} does not answer"))?
        .with_context(|| format!("the server at {address}"))
}

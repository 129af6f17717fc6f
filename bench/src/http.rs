//! One HTTP/1.1 connection that is kept alive, with as little of the processor as a client can do with: it shares the
//! machine with the server that it measures.
//!
//! A request is encoded once into a buffer that stays; of an answer only the headers that matter are read, and its
//! body is cut out of the buffer that it came in.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use crate::target::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing that a healthy server does takes this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most answers are smaller; the map of a stadium grows the buffer once.
const READ_BUFFER: usize = 8 * 1024;
/// No seat map is larger: it would be 256 million seats.
const BODY_MAX: usize = 64 * 1024 * 1024;
const HEADERS_MAX: usize = 32;

const JSON: &str = "application/json";
pub const BINARY: &str = "application/octet-stream";

#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub method: &'static str,
    pub path: &'a str,
    pub token: Option<&'a str>,
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// JSON unless something else is named.
    pub accept: Option<&'static str>,
    /// JSON, or nothing.
    pub body: &'a str,
}

impl<'a> Request<'a> {
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, ..Self::default() }
    }

    pub fn post(path: &'a str, token: Option<&'a str>, body: &'a str) -> Self {
        Self { method: "POST", path, token, body, ..Self::default() }
    }

    pub fn put(path: &'a str, token: Option<&'a str>, body: &'a str) -> Self {
        Self { method: "PUT", path, token, body, ..Self::default() }
    }

    pub fn delete(path: &'a str, token: Option<&'a str>) -> Self {
        Self { method: "DELETE", path, token, ..Self::default() }
    }

    fn encode(&self, authority: &str, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let Self { method, path, body, .. } = self;
        let accept = self.accept.unwrap_or(JSON);
        write!(into, "{method} {path} HTTP/1.1\r\nhost: {authority}\r\naccept: {accept}\r\n")?;
        if let Some(token) = self.token {
            write!(into, "authorization: Bearer {token}\r\n")?;
        }
        if let Some(key) = self.key {
            write!(into, "idempotency-key: {key}\r\n")?;
        }
        if !body.is_empty() {
            write!(into, "content-type: {JSON}\r\ncontent-length: {}\r\n", body.len())?;
        } else if *method == "POST" {
            into.extend_from_slice(b"content-length: 0\r\n");
        }
        into.extend_from_slice(b"\r\n");
        into.extend_from_slice(body.as_bytes());
        Ok(())
    }
}

/// What the server said.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// It had said so before: the first answer to the idempotency key.
    pub replayed: bool,
    pub body: Bytes,
    /// Bytes of the request and of the answer.
    pub wire: u64,
    /// Where it took two attempts, of the first.
    pub sent: Instant,
    pub answered: Instant,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).with_context(|| {
            let text = String::from_utf8_lossy(&self.body);
            format!("not what hotseat answers: {} {:.200}", self.status, text)
        })
    }
}

/// Nothing is open before the first request, nor after an error.
pub struct Connection {
    target: Target,
    open: Option<Open>,
    request: Vec<u8>,
    /// One timer for all requests: it is set anew only when it rings, not for each of them.
    patience: Pin<Box<Sleep>>,
}

struct Open {
    stream: TcpStream,
    received: BytesMut,
    /// Whether it has brought an answer. Such a connection may be closed by a server that was idle for too long,
    /// which says nothing about the server.
    used: bool,
}

impl Connection {
    pub fn new(target: Target) -> Self {
        Self { target, open: None, request: Vec::new(), patience: Box::pin(sleep(ANSWER_TIMEOUT)) }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The server cannot be reached, is silent, or speaks something else. Whether the request happened is then not
    /// known.
    pub async fn call(&mut self, request: &Request<'_>) -> anyhow::Result<Answer> {
        request.encode(self.target.authority(), &mut self.request)?;
        let sent = Instant::now();
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => Open::new(&self.target).await?,
            };
            let exchange = open.exchange(&self.request, sent);
            match patiently(&mut self.patience, sent, exchange).await {
                Ok((answer, keep_alive)) => {
                    open.used = true;
                    self.open = keep_alive.then_some(open);
                    return Ok(answer);
                }
                // Nothing of an answer came: once more, on a connection that is new.
                Err(error) if open.used && open.received.is_empty() && is_broken(&error) => {}
                Err(error) => {
                    let Request { method, path, .. } = request;
                    return Err(
                        anyhow!(error).context(format!("{}: no answer to {method} {path}", self.target))
                    );
                }
            }
        }
    }
}

fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// Until the answer has taken too long.
async fn patiently<T>(
    patience: &mut Pin<Box<Sleep>>,
    since: Instant,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = patience.as_mut() => {
                let until = since + ANSWER_TIMEOUT;
                if Instant::now() >= until {
                    return Err(io::Error::new(ErrorKind::TimedOut, format!("none within {ANSWER_TIMEOUT:?}")));
                }
                patience.as_mut().reset(until.into());
            }
        }
    }
}

impl Open {
    async fn new(target: &Target) -> anyhow::Result<Self> {
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(target.authority())).await {
            Ok(stream) => {
                stream.with_context(|| format!("cannot reach {target}; is `hotseat serve` running?"))?
            }
            Err(_) => bail!("{target} did not accept a connection within {CONNECT_TIMEOUT:?}"),
        };
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: BytesMut::with_capacity(READ_BUFFER), used: false })
    }

    /// The answer, and whether the connection may be used again.
    async fn exchange(&mut self, request: &[u8], sent: Instant) -> io::Result<(Answer, bool)> {
        self.stream.write_all(request).await?;
        let head = loop {
            self.receive(READ_BUFFER).await?;
            if let Some(head) = Head::read(&self.received)? {
                break head;
            }
        };
        let end = head.length + head.body;
        while self.received.len() < end {
            self.receive(end - self.received.len()).await?;
        }
        let answered = Instant::now();
        let Head { status, retry_after, replayed, keep_alive, .. } = head;
        let wire = (request.len() + end) as u64;
        let body = self.received.split_to(end).freeze().slice(head.length..);
        // More than was asked for belongs to nothing.
        let keep_alive = keep_alive && self.received.is_empty();
        Ok((Answer { status, retry_after, replayed, body, wire, sent, answered }, keep_alive))
    }

    async fn receive(&mut self, room: usize) -> io::Result<()> {
        self.received.reserve(room);
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(())
    }
}

/// The head of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Of the head itself.
    length: usize,
    body: usize,
    retry_after: Option<Duration>,
    replayed: bool,
    keep_alive: bool,
}

impl Head {
    /// `None` when it is not all there yet.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(invalid(format_args!("what was answered is no HTTP: {error}"))),
        };
        let status = response.code.unwrap_or_default();
        let mut head = Self { status, length, body: 0, retry_after: None, replayed: false, keep_alive: true };
        let mut body = None;
        for header in response.headers.iter() {
            let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                body = Some(value.parse().map_err(|_| invalid(format_args!("content-length: {value}")))?);
            } else if is("transfer-encoding") {
                return Err(invalid(format_args!("transfer-encoding: {value}; only content-length is read")));
            } else if is("connection") {
                head.keep_alive = !value.eq_ignore_ascii_case("close");
            } else if is("retry-after") {
                head.retry_after = value.parse().ok().map(Duration::from_secs);
            } else if is("idempotent-replay") {
                head.replayed = value == "true";
            }
        }
        head.body = match (status, body) {
            (..200, _) => return Err(invalid(format_args!("an interim answer, {status}"))),
            (204 | 304, _) => 0,
            (_, Some(body)) if body <= BODY_MAX => body,
            (_, Some(body)) => return Err(invalid(format_args!("a body of {body} bytes"))),
            (_, None) => return Err(invalid(format_args!("{status} without a content-length"))),
        };
        Ok(Some(head))
    }
}

fn invalid(what: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_request_is_what_the_standard_says() {
        let mut bytes = Vec::new();
        let encoded = |request: Request<'_>, bytes: &mut Vec<u8>| {
            request.encode("a:1", bytes).unwrap();
            String::from_utf8(bytes.clone()).unwrap()
        };
        assert_eq!(
            encoded(Request::get("/x"), &mut bytes),
            "GET /x HTTP/1.1\r\nhost: a:1\r\naccept: application/json\r\n\r\n"
        );
        let full = Request { key: Some("k"), ..Request::post("/y", Some("t"), "{}") };
        assert_eq!(
            encoded(full, &mut bytes),
            "POST /y HTTP/1.1\r\nhost: a:1\r\naccept: application/json\r\nauthorization: Bearer t\r\n\
             idempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
        assert!(encoded(Request::post("/z", None, ""), &mut bytes).ends_with("content-length: 0\r\n\r\n"));
    }

    #[test]
    fn heads_are_read_or_refused() {
        let read = |text: &str| Head::read(text.replace('|', "\r\n").as_bytes());
        let head = read("HTTP/1.1 503 Busy|Retry-After: 2|Content-Length: 5|connection: Close||hello");
        let head = head.unwrap().unwrap();
        assert_eq!((head.status, head.body, head.keep_alive), (503, 5, false));
        assert_eq!(head.retry_after, Some(Duration::from_secs(2)));
        let head = read("HTTP/1.1 200 OK|idempotent-replay: true|content-length: 0||").unwrap().unwrap();
        assert!(head.replayed && head.keep_alive);
        assert_eq!(read("HTTP/1.1 204 No Content||").unwrap().unwrap().body, 0);
        assert!(read("HTTP/1.1 200 OK|content-le").unwrap().is_none());
        for text in [
            "SSH-2.0-OpenSSH_9.2||",
            "HTTP/1.1 200 OK||",
            "HTTP/1.1 200 OK|content-length: x||",
            "HTTP/1.1 200 OK|content-length: 99999999999||",
            "HTTP/1.1 200 OK|transfer-encoding: chunked||",
            "HTTP/1.1 100 Continue||",
        ] {
            assert_eq!(read(text).unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
        }
    }

    /// A server that answers each connection with the next of these texts, in pieces of a few bytes, and closes it.
    async fn server(answers: &'static [&'static str]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_buf(&mut Vec::with_capacity(1_024)).await.unwrap();
                for piece in answer.as_bytes().chunks(7) {
                    stream.write_all(piece).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        Connection::new(format!("http://{authority}").parse().unwrap())
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together_and_a_closed_connection_is_opened_again() {
        const ANSWERS: [&str; 2] = [
            "HTTP/1.1 201 Created\r\ncontent-length: 11\r\n\r\nhello world",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ];
        let mut connection = server(&ANSWERS).await;
        let answer = connection.call(&Request::get("/")).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (201, &b"hello world"[..]));
        // The server has closed meanwhile, which nobody said.
        assert_eq!(connection.call(&Request::get("/")).await.unwrap().status, 200);
        assert!(connection.open.is_none());
    }

    #[tokio::test]
    async fn half_an_answer_is_an_error() {
        let mut connection = server(&["HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello"]).await;
        let error = connection.call(&Request::get("/x")).await.unwrap_err();
        assert!(
            format!("{error:#}").ends_with("no answer to GET /x: the server closed the connection"),
            "{error:#}"
        );
        let mut nobody = Connection::new("http://127.0.0.1:1".parse().unwrap());
        let error = nobody.call(&Request::get("/")).await.unwrap_err();
        assert!(error.to_string().contains("is `hotseat serve` running?"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
        let mut patience = Box::pin(sleep(Duration::ZERO));
        let work = std::future::pending::<io::Result<()>>();
        let since = Instant::now().checked_sub(ANSWER_TIMEOUT).unwrap();
        let error = patiently(&mut patience, since, work).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

//! One WebSocket: commands and their answers. Viewers read their feed with less: see [`crate::feed`].

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::wire::Problem;

/// Answers are small, and the library's own buffers are 128 KiB for each socket.
const READ_BUFFER: usize = 2_048;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing that a healthy server does takes this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a user wants of an option's seats.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    Select { seats: &'a [u32] },
    Best { party: u32 },
    Release { seats: &'a [u32] },
    Hold { seats: &'a [u32], key: &'a str },
}

/// What the server said to one command.
#[derive(Debug)]
pub struct Answer {
    pub sent: Instant,
    pub answered: Instant,
    /// The message of a yes, which has the body that HTTP would have had.
    pub result: Result<Bytes, Problem>,
}

pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    last_id: u64,
}

/// What every message of the server has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    ev: Cow<'a, str>,
    id: Option<u64>,
    #[serde(default, borrow)]
    reason: Option<Cow<'a, str>>,
}

impl Socket {
    /// `authority` is `HOST:PORT`.
    ///
    /// # Errors
    /// Nobody listens there, or whoever does speaks no WebSocket, or does not know the token.
    pub async fn open(authority: &str, token: &str) -> anyhow::Result<Self> {
        let mut request = format!("ws://{authority}/api/v1/ws").into_client_request()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("a token has only characters that a header may have")?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        let opening = async {
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            // Without a buffer for writing, every message is sent at once.
            let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(0);
            client_async_with_config(request, stream, Some(config)).await
        };
        let (stream, _) = timeout(CONNECT_TIMEOUT, opening)
            .await
            .with_context(|| format!("{authority} did not open a socket within {CONNECT_TIMEOUT:?}"))?
            .map_err(refused)
            .with_context(|| format!("cannot open a socket to {authority}"))?;
        Ok(Self { stream, last_id: 0 })
    }

    /// Asks and waits. Answers to what was given up are passed over, and so is what the user's other sockets did.
    ///
    /// # Errors
    /// The server closed the socket, or does not answer.
    pub async fn call(&mut self, option: u64, command: Command<'_>) -> anyhow::Result<Answer> {
        self.last_id += 1;
        let text = encode(option, self.last_id, command);
        let sent = Instant::now();
        self.say(text).await?;
        let (answered, result) = timeout(ANSWER_TIMEOUT, self.answer(self.last_id))
            .await
            .with_context(|| format!("the server did not answer within {ANSWER_TIMEOUT:?}"))??;
        Ok(Answer { sent, answered, result })
    }

    /// Says goodbye and does not wait for the answer.
    pub async fn close(mut self) {
        // Whoever cannot be told has gone already.
        let _ = self.stream.close(None).await;
    }

    async fn say(&mut self, text: String) -> anyhow::Result<()> {
        self.stream.send(Message::text(text)).await.context("the server closed the socket")
    }

    /// Any message. Pings are answered underneath.
    async fn receive(&mut self) -> anyhow::Result<Message> {
        match self.stream.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                bail!("the server closed the socket: {} {}", u16::from(frame.code), frame.reason)
            }
            Some(Ok(Message::Close(None)) | Err(WsError::ConnectionClosed)) | None => {
                bail!("the server closed the socket")
            }
            Some(message) => message.context("the server broke the socket"),
        }
    }

    async fn answer(&mut self, id: u64) -> anyhow::Result<(Instant, Result<Bytes, Problem>)> {
        loop {
            let Message::Text(text) = self.receive().await? else { continue };
            let answered = Instant::now();
            let head = read(&text)?;
            match &*head.ev {
                "ok" if head.id == Some(id) => return Ok((answered, Ok(text.into()))),
                "no" if head.id == Some(id) => return Ok((answered, Err(problem(&text)?))),
                _ => {}
            }
        }
    }
}

fn encode(option: u64, id: u64, command: Command<'_>) -> String {
    let (op, wanted) = match command {
        Command::Select { seats } => ("select", format!(r#""seats":{seats:?}"#)),
        Command::Best { party } => ("select", format!(r#""best":{{"party":{party}}}"#)),
        Command::Release { seats } => ("release", format!(r#""seats":{seats:?}"#)),
        Command::Hold { seats, key } => ("hold", format!(r#""key":"{key}","seats":{seats:?}"#)),
    };
    format!(r#"{{"op":"{op}","id":{id},"option":{option},{wanted}}}"#)
}

/// A `bye` is an error that says why.
fn read(text: &Utf8Bytes) -> anyhow::Result<Head<'_>> {
    let head: Head<'_> = serde_json::from_str(text)
        .with_context(|| format!("not what hotseat says on a socket: {:.200}", text.as_str()))?;
    if head.ev == "bye" {
        bail!("the server said goodbye: {}", head.reason.as_deref().unwrap_or("no reason given"));
    }
    Ok(head)
}

fn problem(text: &Utf8Bytes) -> anyhow::Result<Problem> {
    serde_json::from_str(text).with_context(|| format!("a refusal without a reason: {:.200}", text.as_str()))
}

/// What to do where the opening was refused.
fn refused(error: WsError) -> anyhow::Error {
    match error {
        WsError::Http(response) if response.status() == 401 => {
            anyhow::anyhow!("the server does not accept the token (401)")
        }
        WsError::Http(response) => {
            anyhow::anyhow!("the server answered {} instead of opening one", response.status())
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_the_documents_say() {
        let seats = &[3, 4][..];
        for (command, expected) in [
            (Command::Select { seats }, r#"{"op":"select","id":7,"option":3,"seats":[3, 4]}"#),
            (Command::Best { party: 2 }, r#"{"op":"select","id":7,"option":3,"best":{"party":2}}"#),
            (Command::Release { seats }, r#"{"op":"release","id":7,"option":3,"seats":[3, 4]}"#),
            (
                Command::Hold { seats, key: "k" },
                r#"{"op":"hold","id":7,"option":3,"key":"k","seats":[3, 4]}"#,
            ),
        ] {
            assert_eq!(encode(3, 7, command), expected);
        }
    }

    /// A server that opens one socket, reads one message and says what it is told to.
    async fn server(says: Vec<Message>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio_tungstenite::accept_async(stream).await.unwrap();
            stream.next().await.unwrap().unwrap();
            for message in says {
                stream.send(message).await.unwrap();
            }
        });
        authority
    }

    #[tokio::test]
    async fn answers_are_matched_by_id() {
        let says = [
            r#"{"ev":"mine","option":7,"seats":[3],"expiresAt":null}"#,
            r#"{"ev":"ok","id":99}"#,
            r#"{"ev":"no","code":"MALFORMED"}"#,
            r#"{"ev":"no","id":1,"code":"SEAT_TAKEN","conflicts":[{"seatNo":4,"label":"A 5"}]}"#,
            r#"{"ev":"ok","id":2,"seats":[{"seatNo":3,"label":"A 4"}]}"#,
        ];
        let mut socket = Socket::open(&server(says.map(Message::text).to_vec()).await, "t").await.unwrap();
        let no = socket.call(7, Command::Select { seats: &[4] }).await.unwrap();
        assert_eq!(no.result.unwrap_err().conflicts[0].seat_no, 4);
        let yes = socket.call(7, Command::Select { seats: &[3] }).await.unwrap();
        assert!(yes.sent <= yes.answered && yes.result.unwrap().ends_with(br#""label":"A 4"}]}"#));
        assert!(socket.call(7, Command::Best { party: 1 }).await.is_err(), "the server has gone");
    }

    #[tokio::test]
    async fn a_goodbye_instead_of_an_answer_is_told() {
        let says = vec![Message::text(r#"{"ev":"bye","reason":"SHUTDOWN","retryAfterMs":5}"#)];
        let mut socket = Socket::open(&server(says).await, "t").await.unwrap();
        let error = socket.call(7, Command::Best { party: 1 }).await.unwrap_err();
        assert_eq!(error.to_string(), "the server said goodbye: SHUTDOWN");
    }

    #[test]
    fn a_goodbye_is_an_error_with_its_reason() {
        let head = |text: &'static str| read(&Utf8Bytes::from_static(text)).map(|head| head.id);
        assert_eq!(head(r#"{"ev":"ok","id":4,"seats":[]}"#).unwrap(), Some(4));
        assert_eq!(head(r#"{"ev":"mine","option":7,"seats":[]}"#).unwrap(), None);
        let error = head(r#"{"ev":"bye","reason":"RATE_LIMITED","retryAfterMs":1000}"#).unwrap_err();
        assert_eq!(error.to_string(), "the server said goodbye: RATE_LIMITED");
        assert!(head("[]").is_err());
    }
}

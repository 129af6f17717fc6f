//! A client of sockets that waits with patience and complains loudly.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Ws {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What was read while something else was waited for.
    passed: VecDeque<Value>,
}

/// How a socket ended.
#[derive(Debug, PartialEq)]
pub struct End {
    pub reason: String,
    pub retry_after_ms: u64,
    /// Of the close frame; 0 when there was none.
    pub code: u16,
}

impl Ws {
    /// Opens a socket with these headers beside the usual.
    pub async fn try_open(address: &str, headers: &[(&str, &str)]) -> Result<(Self, Response), Error> {
        Self::try_open_at(address, "", headers).await
    }

    /// The same with a query.
    pub async fn try_open_at(
        address: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Self, Response), Error> {
        let mut request = format!("ws://{address}/api/v1/ws{query}").into_client_request().unwrap();
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (stream, response) = timeout(PATIENCE, connect_async(request)).await.unwrap()?;
        Ok((Self { stream, passed: VecDeque::new() }, response))
    }

    /// A stranger's socket.
    pub async fn open(address: &str) -> Self {
        Self::try_open(address, &[]).await.unwrap().0
    }

    /// A stranger's socket that takes next to nothing off the wire by itself.
    pub async fn open_narrow(address: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = MaybeTlsStream::Plain(socket.connect(address.parse().unwrap()).await.unwrap());
        let (stream, _) = client_async(format!("ws://{address}/api/v1/ws"), stream).await.unwrap();
        Self { stream, passed: VecDeque::new() }
    }

    /// A user's socket, by the token in the request.
    pub async fn with_token(address: &str, token: &str) -> Self {
        let authorization = format!("Bearer {token}");
        Self::try_open(address, &[("Authorization", &authorization)]).await.unwrap().0
    }

    pub async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        timeout(PATIENCE, self.stream.send(message)).await.unwrap().unwrap();
    }

    pub async fn message(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.stream.next()).await.expect("nothing came")
    }

    /// The next JSON message.
    pub async fn next(&mut self) -> Value {
        if let Some(passed) = self.passed.pop_front() {
            return passed;
        }
        self.read().await
    }

    async fn read(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// The next message for which this holds; the others stay to be read.
    pub async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.passed.iter().position(&wanted) {
            return self.passed.remove(place).unwrap();
        }
        loop {
            let message = self.read().await;
            if wanted(&message) {
                return message;
            }
            self.passed.push_back(message);
        }
    }

    pub async fn event(&mut self, event: &str) -> Value {
        self.find(|message| message["ev"] == event).await
    }

    /// Sends a message under an id and waits for its answer.
    pub async fn ask(&mut self, id: &str, mut message: Value) -> Value {
        message["id"] = json!(id);
        self.send(&message).await;
        self.answer(id).await
    }

    pub async fn answer(&mut self, id: &str) -> Value {
        self.find(|message| message["id"] == id).await
    }

    /// What the server's goodbye says; everything before it is passed over.
    pub async fn end(mut self) -> End {
        let mut end = End { reason: String::new(), retry_after_ms: 0, code: 0 };
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["ev"] == "bye" {
                        end.reason = message["reason"].as_str().unwrap().to_owned();
                        end.retry_after_ms = message["retryAfterMs"].as_u64().unwrap();
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    end.code = frame.map_or(0, |frame| frame.code.into());
                    return end;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return end,
            }
        }
    }

    /// Waits for the goodbye and compares it.
    pub async fn ends_with(self, reason: &str, code: u16) {
        let end = self.end().await;
        assert_eq!((end.reason.as_str(), end.code), (reason, code));
    }
}

/// Selecting seats of option 1.
pub fn select(seats: &[u32]) -> Value {
    json!({"op": "select", "option": 1, "seats": seats})
}

pub fn release(seats: &[u32]) -> Value {
    json!({"op": "release", "option": 1, "seats": seats})
}

pub fn hold(key: &str, seats: &[u32]) -> Value {
    json!({"op": "hold", "option": 1, "key": key, "seats": seats})
}

pub fn watch() -> Value {
    json!({"op": "watch", "option": 1})
}

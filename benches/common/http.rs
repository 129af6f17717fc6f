//! HTTP for benchmarks: a client that does as little as it can, and a server with nothing behind it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A connection that does no more than a load generator in C would.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        for _ in 0..1_000 {
            if let Ok(stream) = TcpStream::connect(address).await {
                stream.set_nodelay(true).expect("TCP knows TCP_NODELAY");
                return Self { stream, buffer: vec![0; 64 * 1024] };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{address} does not answer");
    }

    /// Sends a request and reads the answer; its head and body, which the buffer holds until the next.
    pub async fn exchange(&mut self, request: &[u8]) -> &str {
        self.stream.write_all(request).await.expect("the server reads");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let text = str::from_utf8(&self.buffer[..filled]).expect("the answer is UTF-8");
            if text.find("\r\n\r\n").is_some_and(|end| filled >= end + 4 + length(&text[..end])) {
                break;
            }
        }
        str::from_utf8(&self.buffer[..filled]).expect("checked above")
    }
}

fn length(head: &str) -> usize {
    let value = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// A token for development.
pub async fn token(connection: &mut Connection, user: u32, role: &str) -> String {
    let body = format!("{{\"userId\":{user},\"role\":\"{role}\"}}");
    let answer = connection.exchange(&post("/api/v1/dev/token", "none", &body)).await;
    let token = answer.split_once("\"token\":\"").and_then(|(_, rest)| rest.split('"').next());
    token.unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

pub fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Axum alone.
pub async fn serve(address: &str, router: axum::Router) {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).expect("TCP knows TCP_NODELAY");
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            let builder = hyper::server::conn::http1::Builder::new();
            // A client that leaves is no news.
            let _ = builder.serve_connection(io, service).await;
        });
    }
}

//! A WebSocket client for benchmarks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// As little of a WebSocket client as answers need.
pub struct Socket {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Socket {
    pub async fn open(address: &str, token: Option<&str>, subprotocol: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("TCP knows TCP_NODELAY");
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let protocol =
            subprotocol.map(|name| format!("sec-websocket-protocol: {name}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /api/v1/ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{token}{protocol}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the server answers"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self { stream, buffer: vec![0; 64 * 1024], filled: 0 }
    }

    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(&masked(0x81, text.as_bytes())).await.expect("the server reads");
    }

    /// The payload of the next frame.
    pub async fn frame(&mut self) -> Vec<u8> {
        loop {
            if let Some((head, length)) = frame_of(&self.buffer[..self.filled]) {
                let payload = self.buffer[head..head + length].to_vec();
                self.forget(head + length);
                return payload;
            }
            self.read().await;
        }
    }

    /// Reads until there were so many answers, all of them granted.
    pub async fn answers(&mut self, wanted: u32) {
        let mut seen = 0;
        while seen < wanted {
            self.read().await;
            let mut at = 0;
            while let Some((head, length)) = frame_of(&self.buffer[at..self.filled]) {
                let text = &self.buffer[at + head..at + head + length];
                seen += u32::from(text.starts_with(b"{\"ev\":\"ok\""));
                assert!(!text.starts_with(b"{\"ev\":\"no\""), "{}", String::from_utf8_lossy(text));
                at += head + length;
            }
            self.forget(at);
        }
    }

    async fn read(&mut self) {
        let read = self.stream.read(&mut self.buffer[self.filled..]).await.expect("the server answers");
        assert!(read > 0, "the server closed the socket");
        self.filled += read;
    }

    fn forget(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}

/// The lengths of the first frame's head and payload, if it is there as a whole.
pub fn frame_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= head + length).then_some((head, length))
}

/// A client's frame. The mask is not zero, so that the server has it to take off.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..126), _) => frame.push(0x80 | short),
        (_, long) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&long.expect("a short frame").to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub async fn token(address: &str, user: u32) -> String {
    let body = format!("{{\"userId\":{user},\"role\":\"USER\"}}");
    let request = format!(
        "POST /api/v1/dev/token HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the server answers");
    let token = answer.split_once("\"token\":\"").and_then(|(_, rest)| rest.split('"').next());
    token.unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

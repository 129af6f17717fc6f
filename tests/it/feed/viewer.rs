//! A viewer who takes the protocol at its word: a frame that does not fit what it has is a failure.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a viewer knows: a position and each seat's state, 0 to 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub at: String,
    pub seats: Vec<u8>,
}

impl Known {
    /// Applies a frame in its JSON form and says which it was.
    pub fn apply(&mut self, frame: &Value) -> String {
        let text =
            |key: &str| frame[key].as_str().unwrap_or_else(|| panic!("no {key} in {frame}")).to_owned();
        let event = text("ev");
        if event == "snapshot" {
            let map = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text("map")).unwrap();
            *self = Self::of_map(&map);
            assert_eq!(self.at, text("at"));
            return event;
        }
        assert!(["changes", "continues"].contains(&event.as_str()), "{frame}");
        assert_eq!(self.at, text("from"), "a gap: {frame}");
        self.at = text("to");
        let same_epoch = text("from").split('.').next() == self.at.split('.').next();
        assert_eq!(event == "changes", same_epoch, "{frame}");
        for change in frame["set"].as_array().unwrap() {
            let number = |place: usize| change[place].as_u64().unwrap();
            self.seats[usize::try_from(number(0)).unwrap()] = u8::try_from(number(1)).unwrap();
        }
        event
    }

    /// Of a compact map.
    pub fn of_map(map: &[u8]) -> Self {
        let number = |at: usize| u64::from_le_bytes(map[at..at + 8].try_into().unwrap());
        assert_eq!(map[..2], [1, 2]);
        let seats = u32::from_le_bytes(map[18..22].try_into().unwrap()) as usize;
        let state = |seat: usize| map[22 + seat / 4] >> (2 * (seat % 4)) & 3;
        Self { at: format!("{}.{}", number(2), number(10)), seats: (0..seats).map(state).collect() }
    }
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
    pub retry: String,
}

/// A stream of events, read by hand from its socket.
pub struct Events {
    socket: TcpStream,
    pub head: String,
    /// Bytes of chunks, then of events, not understood yet.
    raw: Vec<u8>,
    text: Vec<u8>,
    is_over: bool,
}

impl Events {
    /// Asks and reads the head.
    pub async fn open(url: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut events = Self::ask(url, path, headers, None).await;
        while !events.raw.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(events.read().await > 0, "the connection ended in the head");
        }
        let end = events.raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        events.head = String::from_utf8(events.raw.drain(..end).collect()).unwrap().to_ascii_lowercase();
        events
    }

    /// Asks and reads nothing. `receive` bounds what the kernel takes in the meantime.
    pub async fn ask(url: &str, path: &str, headers: &[(&str, &str)], receive: Option<u32>) -> Self {
        let host = url.strip_prefix("http://").unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut socket = socket.connect(host.parse().unwrap()).await.unwrap();
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all((request + "\r\n").as_bytes()).await.unwrap();
        Self { socket, head: String::new(), raw: Vec::new(), text: Vec::new(), is_over: false }
    }

    /// The next event that says something; `None` at an end as HTTP wants it. Panics where it just breaks off.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.any().await?;
            if event.retry.is_empty() && event.name != "keepalive" {
                return Some(event);
            }
        }
    }

    /// The next event.
    pub async fn any(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let text = String::from_utf8(self.text.drain(..end + 2).collect()).unwrap();
                return Some(event(&text));
            }
            if self.is_over {
                assert!(self.text.is_empty(), "half an event");
                return None;
            }
            if !self.take_chunk() {
                let read = timeout(PATIENCE, self.read()).await.expect("an event comes");
                assert!(read > 0, "the stream broke off");
            }
        }
    }

    /// The next frame, applied. Its kind.
    pub async fn follow(&mut self, known: &mut Known) -> String {
        let event = self.next().await.expect("the stream goes on");
        let applied = known.apply(&serde_json::from_str(&event.data).unwrap());
        assert_eq!((event.name.as_str(), event.id.as_str()), (applied.as_str(), known.at.as_str()));
        applied
    }

    /// Follows until a seat has a state.
    pub async fn follow_until(&mut self, known: &mut Known, seat: usize, state: u8) {
        while known.seats.get(seat) != Some(&state) {
            self.follow(known).await;
        }
    }

    async fn read(&mut self) -> usize {
        self.socket.read_buf(&mut self.raw).await.unwrap()
    }

    /// Moves one chunk, if there is a whole one.
    fn take_chunk(&mut self) -> bool {
        let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") else { return false };
        let size = std::str::from_utf8(&self.raw[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("no chunk: {size:?}"));
        if self.raw.len() < line + 2 + size + 2 {
            return false;
        }
        self.text.extend_from_slice(&self.raw[line + 2..line + 2 + size]);
        self.raw.drain(..line + 2 + size + 2);
        self.is_over = size == 0;
        true
    }
}

fn event(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = value.to_owned(),
            "data" => event.data = value.to_owned(),
            "retry" => event.retry = value.to_owned(),
            _ => panic!("an unknown field: {line:?}"),
        }
    }
    event
}

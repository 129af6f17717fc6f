//! A server that does nothing, to measure the generator with.
//!
//! It reads requests and answers each with something well-formed that was made beforehand: what is late against it, the
//! generator was late with.

use std::net::TcpListener as StdListener;
use std::thread;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::target::Target;

const SEATS: u32 = 100_000;

/// Starts it in a thread of its own, for as long as this process lives.
///
/// # Errors
/// There is no free port or no thread.
pub fn start() -> anyhow::Result<Target> {
    let listener = StdListener::bind("127.0.0.1:0").context("a port for the null server")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name("null".to_owned()).spawn(move || runtime.block_on(serve(listener)))?;
    format!("http://{address}").parse().map_err(anyhow::Error::msg)
}

async fn serve(listener: StdListener) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let answers: &'static Answers = Box::leak(Box::new(Answers::new()));
    while let Ok((stream, _)) = listener.accept().await {
        // A client that leaves is no news.
        tokio::spawn(async move { drop(answer(stream, answers).await) });
    }
}

async fn answer(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(4_096);
    loop {
        while let Some(length) = request_length(&input) {
            stream.write_all(answers.to(&input[..length])).await?;
            input.drain(..length);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// With its body; `None` while it is not all there.
fn request_length(input: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(input).ok()? else { return None };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = length.and_then(|length| std::str::from_utf8(length.value).ok()?.parse::<usize>().ok());
    let all = head + body.unwrap_or(0);
    (input.len() >= all).then_some(all)
}

/// Made once.
struct Answers {
    token: Vec<u8>,
    concerts: Vec<u8>,
    options: Vec<u8>,
    document: Vec<u8>,
    map: Vec<u8>,
    selection: Vec<u8>,
    released: Vec<u8>,
    reservation: Vec<u8>,
    confirmed: Vec<u8>,
    none: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let reservation = |status| {
            format!(
                r#"{{"reservationId":"00000000-0000-7000-8000-000000000001","status":"{status}","optionId":1,"seats":[{{"seatNo":0,"label":"A-1"}}]}}"#
            )
        };
        let json = |status, body: &str| render(status, "application/json", body.as_bytes());
        let mut map = vec![1, 2];
        map.extend([0; 16]);
        map.extend(SEATS.to_le_bytes());
        map.resize(map.len() + (SEATS as usize).div_ceil(4), 0);
        Self {
            token: json("200 OK", r#"{"token":"null"}"#),
            concerts: json("200 OK", r#"{"items":[{"concertId":1}],"nextCursor":null}"#),
            options: json(
                "200 OK",
                &format!(r#"{{"items":[{{"optionId":1,"seatCount":{SEATS}}}],"nextCursor":null}}"#),
            ),
            document: json("200 OK", r#"{"info":{"title":"null server","version":"1"}}"#),
            map: render("200 OK", "application/octet-stream", &map),
            selection: json(
                "201 Created",
                r#"{"optionId":1,"seats":[{"seatNo":0,"label":"A-1"}],"expiresAt":"2027-05-01T10:00:30Z"}"#,
            ),
            released: json("200 OK", r#"{"optionId":1,"released":[]}"#),
            reservation: json("201 Created", &reservation("HOLD")),
            confirmed: json("200 OK", &reservation("CONFIRMED")),
            none: json("404 Not Found", r#"{"code":"NOT_FOUND","status":404}"#),
        }
    }

    fn to(&self, request: &[u8]) -> &[u8] {
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let has = |part: &[u8]| line.windows(part.len()).any(|window| window == part);
        if line.starts_with(b"DELETE") {
            &self.released
        } else if has(b"/selections") {
            &self.selection
        } else if has(b"/holds") {
            &self.reservation
        } else if has(b"/reservations/") {
            &self.confirmed
        } else if has(b"/seats") {
            &self.map
        } else if has(b"/dev/token") {
            &self.token
        } else if has(b"/openapi.json") {
            &self.document
        } else if has(b"/options") {
            &self.options
        } else if has(b"/concerts") {
            &self.concerts
        } else if has(b"/reservations") {
            &self.released
        } else {
            &self.none
        }
    }
}

fn render(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_when_it_is_all_there() {
        let request = b"POST /api/v1/options/1/holds HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        for end in 0..request.len() - 3 {
            assert_eq!(request_length(&request[..end]), None, "{end}");
        }
        assert_eq!(request_length(request), Some(request.len() - 3));
        let answers = Answers::new();
        assert!(answers.to(request).starts_with(b"HTTP/1.1 201"));
        assert!(answers.to(b"GET /nowhere HTTP/1.1\r\n").starts_with(b"HTTP/1.1 404"));
    }
}

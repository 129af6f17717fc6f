//! Server-sent events, of which only the positions are read.

use anyhow::{Context, bail, ensure};

use super::{Cut, What};
use crate::frames::{Frame, Position};

/// Digits of a chunk's length, and what ends its line.
const LENGTH_MAX: usize = 10;

pub fn opening(authority: &str, option: u64) -> String {
    format!(
        "GET /api/v1/options/{option}/events HTTP/1.1\r\nhost: {authority}\r\naccept: text/event-stream\r\n\r\n"
    )
}

/// The first event, when it is there as a whole: a chunk of the answer's body.
pub fn cut(bytes: &[u8]) -> anyhow::Result<Option<Cut>> {
    let Some(digits) = bytes.iter().take(LENGTH_MAX).position(|byte| *byte == b'\r') else {
        ensure!(bytes.len() < LENGTH_MAX, "the events do not come in chunks");
        return Ok(None);
    };
    let length = std::str::from_utf8(&bytes[..digits]).ok();
    let length = length.and_then(|length| usize::from_str_radix(length, 16).ok());
    let length = length.context("the events do not come in chunks")?;
    ensure!(length > 0, "the server ended the feed");
    ensure!(length < super::MESSAGE_MAX, "an event that is too long");
    let start = digits + 2;
    let content = start..start + length;
    let Some(event) = bytes.get(content.clone()).filter(|_| bytes.len() >= content.end + 2) else {
        return Ok(None);
    };
    let body = event.strip_suffix(b"\n\n").context("an event in pieces")?;
    ensure!(!body.windows(2).any(|end| end == b"\n\n"), "two events in one chunk");
    let what = if field(body, b"data: ").is_some() && field(body, b"id: ").is_some() {
        What::Frame
    } else {
        What::Other
    };
    Ok(Some(Cut { what, length: content.end + 2, content }))
}

/// Without its seats.
pub fn frame(event: &[u8]) -> anyhow::Result<Frame<'static>> {
    let to = field(event, b"id: ").and_then(position).context("an event without a position")?;
    match field(event, b"event: ") {
        Some(b"snapshot") => Ok(Frame::Map { at: to, seats: 0, packed: &[] }),
        Some(b"changes" | b"continues") => {
            let data = field(event, b"data: ").unwrap_or_default();
            let from = after(data, b"\"from\":\"").and_then(|rest| rest.split(|byte| *byte == b'"').next());
            let from = from.and_then(position).context("changes from nowhere")?;
            Ok(Frame::Changes { from, to, set: &[] })
        }
        other => bail!("an unknown event {:?}", String::from_utf8_lossy(other.unwrap_or_default())),
    }
}

fn field<'a>(event: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))
}

fn after<'a>(bytes: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let place = bytes.windows(what.len()).position(|window| window == what)?;
    Some(&bytes[place + what.len()..])
}

fn position(text: &[u8]) -> Option<Position> {
    let (epoch, seq) = std::str::from_utf8(text).ok()?.split_once('.')?;
    Some(Position { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(event: &str) -> Vec<u8> {
        format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
    }

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    #[test]
    fn frames_are_read_by_their_positions() {
        for (event, expected) in [
            (
                "event: snapshot\nid: 3.1042\ndata: {\"ev\":\"snapshot\",\"option\":7,\"at\":\"3.1042\",\"map\":\"AQ==\"}\n\n",
                Frame::Map { at: at(3, 1_042), seats: 0, packed: &[] },
            ),
            (
                "event: changes\nid: 3.1042\ndata: {\"from\":\"3.1040\",\"to\":\"3.1042\",\"set\":[[3,1]]}\n\n",
                Frame::Changes { from: at(3, 1_040), to: at(3, 1_042), set: &[] },
            ),
            (
                "event: continues\nid: 4.1\ndata: {\"from\":\"3.1050\",\"to\":\"4.1\",\"set\":[]}\n\n",
                Frame::Changes { from: at(3, 1_050), to: at(4, 1), set: &[] },
            ),
        ] {
            let bytes = chunk(event);
            for length in 0..bytes.len() {
                assert_eq!(cut(&bytes[..length]).unwrap(), None);
            }
            let found = cut(&[&bytes[..], b"d"].concat()).unwrap().unwrap();
            assert_eq!((found.what, found.length), (What::Frame, bytes.len()));
            assert_eq!(frame(&bytes[found.content]).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_frame_is_skipped_or_refused() {
        for event in ["retry: 1059\n\n", "event: keepalive\ndata:\n\n", ": hello\n\n"] {
            assert_eq!(cut(&chunk(event)).unwrap().unwrap().what, What::Other, "{event}");
        }
        for bytes in [&b"0\r\n\r\n"[..], b"x\r\n", b"retry: 1059\n\n", b"fffffffff\r\n", b"2\r\nab\r\n"] {
            assert!(cut(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        for event in
            ["event: other\nid: 3.1\ndata: {}", "event: changes\nid: 3.1\ndata: {}", "event: changes"]
        {
            assert!(frame(event.as_bytes()).is_err(), "{event}");
        }
    }
}

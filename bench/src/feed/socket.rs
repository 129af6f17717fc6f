//! Frames of a WebSocket (RFC 6455): what a server sends, and the little that a viewer says.

use anyhow::{Context, bail, ensure};

use super::{Cut, What};
use crate::frames::Frame;

pub const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
pub const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Any would do: the mask protects intermediaries from browsers, and here is neither.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// The key is the one of RFC 6455 §1.3.
pub fn opening(authority: &str) -> String {
    format!(
        "GET /api/v1/ws HTTP/1.1\r\nhost: {authority}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: hotseat.bin.1\r\n\r\n"
    )
}

/// A short frame of a client.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    // Nothing that is said here is longer.
    let payload = &payload[..payload.len().min(125)];
    let length = u8::try_from(payload.len()).unwrap_or(0);
    let mut frame = vec![FINAL | opcode, MASKED | length];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The first message, when it is there as a whole.
pub fn cut(bytes: &[u8]) -> anyhow::Result<Option<Cut>> {
    let Some((opcode, head, length)) = head(bytes)? else { return Ok(None) };
    let content = head..head + length;
    let Some(payload) = bytes.get(content.clone()) else { return Ok(None) };
    let what = match opcode {
        BINARY => What::Frame,
        TEXT => {
            heed(payload)?;
            What::Other
        }
        PING => What::Ping,
        CLOSE => bail!("the server closed the feed"),
        _ => What::Other,
    };
    Ok(Some(Cut { what, length: content.end, content }))
}

pub fn frame(content: &[u8], watched: u64) -> anyhow::Result<Frame<'_>> {
    let (option, frame) =
        Frame::read_of_option(content).context("what the server sent is no frame of the feed")?;
    ensure!(u64::from(option) == watched, "the feed of option {option}, which nobody watches");
    Ok(frame)
}

/// Opcode, length of the head and of the payload.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(u8, usize, usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    ensure!(first & 0xf0 == FINAL, "a message in pieces, which this server does not send");
    ensure!(second & MASKED == 0, "a masked frame, which no server may send");
    let (head, length) = match second & 0x7f {
        126 => (4, rest.first_chunk().map(|length| u64::from(u16::from_be_bytes(*length)))),
        127 => (10, rest.first_chunk().map(|length| u64::from_be_bytes(*length))),
        length => (2, Some(u64::from(length))),
    };
    let Some(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length < super::MESSAGE_MAX);
    let length = length.context("a message that is too long")?;
    Ok(Some((first & 0x0f, head, length)))
}

/// A viewer asks for one thing, so that a refusal is of that.
fn heed(text: &[u8]) -> anyhow::Result<()> {
    let message: serde_json::Value =
        serde_json::from_slice(text).context("what the server said is no JSON")?;
    let of = |field: &str| message[field].as_str().unwrap_or_default();
    match of("ev") {
        "no" => bail!("the option cannot be watched: {} {}", of("code"), of("detail")),
        "bye" => bail!("the server said goodbye: {}", of("reason")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Position;

    fn encoded(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let mut frame = vec![FINAL | opcode];
        match length {
            ..126 => frame.push(u8::try_from(length).unwrap()),
            126..65_536 => frame.extend([&[126][..], &u16::try_from(length).unwrap().to_be_bytes()].concat()),
            _ => frame.extend([&[127][..], &(length as u64).to_be_bytes()].concat()),
        }
        frame.extend(payload);
        frame
    }

    fn changes(count: u32) -> Vec<u8> {
        let mut payload = 7u32.to_le_bytes().to_vec();
        payload.extend([1, 0x82]);
        payload.extend([3u64, 1, 2].iter().flat_map(|number| number.to_le_bytes()));
        payload.extend(count.to_le_bytes());
        payload.extend((0..count).flat_map(|seat| (seat << 2 | 1).to_le_bytes()));
        payload
    }

    #[test]
    fn messages_are_cut_off_when_they_are_whole() {
        for count in [0, 1, 50, 30_000] {
            let payload = changes(count);
            let bytes = encoded(BINARY, &payload);
            for length in [0, 1, 2, 3, 9, bytes.len() - 1] {
                assert_eq!(cut(&bytes[..length.min(bytes.len() - 1)]).unwrap(), None);
            }
            let two = [&bytes[..], &bytes[..5]].concat();
            let Cut { what, content, length } = cut(&two).unwrap().unwrap();
            assert_eq!((what, length), (What::Frame, bytes.len()));
            let found = frame(&two[content], 7).unwrap();
            assert_eq!((found.to(), found.states().count()), (Position { epoch: 3, seq: 2 }, count as usize));
        }
    }

    #[test]
    fn what_else_is_said() {
        let said = |opcode, payload: &str| match cut(&encoded(opcode, payload.as_bytes())) {
            Ok(cut) => format!("{:?}", cut.unwrap().what),
            Err(error) => error.to_string(),
        };
        for (opcode, payload, expected) in [
            (TEXT, r#"{"ev":"ok"}"#, "Other"),
            (PONG, "", "Other"),
            (PING, "?", "Ping"),
            (CLOSE, "", "the server closed the feed"),
            (TEXT, r#"{"ev":"bye","reason":"SHUTDOWN"}"#, "the server said goodbye: SHUTDOWN"),
            (
                TEXT,
                r#"{"ev":"no","code":"OPTION_UNKNOWN","detail":"There is none."}"#,
                "the option cannot be watched: OPTION_UNKNOWN There is none.",
            ),
        ] {
            assert_eq!(said(opcode, payload), expected);
        }
        assert!(cut(&[0x02, 0]).is_err(), "a piece");
        assert!(cut(&[0x82, 0x80, 0, 0, 0, 0]).is_err(), "masked");
        assert!(cut(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]).is_err(), "too long");
        assert!(frame(b"?", 7).is_err(), "no frame");
        assert!(frame(&changes(0), 8).is_err(), "another option");
    }

    #[test]
    fn a_client_masks() {
        // RFC 6455 §5.7, with another mask.
        let frame = masked(TEXT, b"Hello");
        assert_eq!(frame[..6], [0x81, 0x85, 0x5a, 0xa5, 0x3c, 0xc3]);
        let plain: Vec<u8> = frame[6..].iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(plain, b"Hello");
    }
}

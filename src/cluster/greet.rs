//! The first bytes of a connection between nodes: what it is for, and who is at the other end.
//!
//! Both sides of the control plane say who they are before anything else is made of the connection, so that a node
//! recognises itself, a second way to the same peer is not opened, and noise is turned away. A node that starts asks
//! so who answers at an address ([`who_answers`]).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::link;
use super::tls::{self, Plane, Tls};
use crate::config::peers::Place;

/// What every HTTP/2 client says first; as long as a greeting.
pub const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version of the greeting is its last byte.
const MAGIC: [u8; 8] = *b"hotseat\x01";

/// Says, after both greetings, that the connection is meant to stay.
const STAY: u8 = 1;

/// What the first bytes of an accepted connection ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Requests over HTTP/2; the preface is read.
    Data,
    /// A session with this node.
    Control(u128),
    Noise,
}

impl First {
    #[must_use]
    pub fn of(bytes: &[u8; 24]) -> Self {
        if *bytes == PREFACE {
            return Self::Data;
        }
        match bytes.split_first_chunk::<8>() {
            Some((magic, id)) if *magic == MAGIC => {
                id.try_into().map_or(Self::Noise, |id| Self::Control(u128::from_be_bytes(id)))
            }
            _ => Self::Noise,
        }
    }
}

fn greeting(id: u128) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// Both byte streams of a connection, whatever carries them.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// The accepting side, which has read the other's greeting. Whether the connection is meant to stay.
pub(super) async fn answer(io: &mut impl Io, me: u128) -> io::Result<bool> {
    io.write_all(&greeting(me)).await?;
    io.flush().await?;
    let mut byte = [0];
    Ok(io.read(&mut byte).await? == 1 && byte[0] == STAY)
}

/// The dialling side. Who is at the other end.
pub(super) async fn greet(io: &mut impl Io, me: u128) -> io::Result<u128> {
    io.write_all(&greeting(me)).await?;
    io.flush().await?;
    let mut bytes = [0; 24];
    io.read_exact(&mut bytes).await?;
    match First::of(&bytes) {
        First::Control(id) => Ok(id),
        First::Data | First::Noise => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there is no node of hotseat"))
        }
    }
}

/// The dialling side wants to keep the connection.
pub(super) async fn stay(io: &mut impl Io) -> io::Result<()> {
    io.write_all(&[STAY]).await?;
    io.flush().await
}

/// Who is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The node with this id.
    Node(u128),
    /// The machine says that nothing listens there.
    Refused,
    /// Nothing that proves anything: no answer in time, or one that is no node's.
    Unclear,
}

/// Asks who answers at an address, before this node listens itself. `me` is told to whoever does.
pub async fn who_answers(place: &Place, tls: Option<&Tls>, me: u128, within: Duration) -> Presence {
    let ask = async {
        let stream = tokio::net::TcpStream::connect((place.host.as_str(), place.port)).await?;
        link::tune(&stream)?;
        let mut io = tls::connect(stream, &place.host, tls, Plane::Control).await?;
        greet(&mut io, me).await
    };
    match timeout(within, ask).await {
        Ok(Ok(id)) => Presence::Node(id),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Presence::Refused,
        Ok(Err(_)) | Err(_) => Presence::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_a_connection_is_for() {
        let id = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
        assert_eq!(
            &greeting(id),
            b"hotseat\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
        );
        assert_eq!(First::of(&greeting(id)), First::Control(id));
        assert_eq!(First::of(&PREFACE), First::Data);
        assert_eq!(First::of(b"hotseat\x020123456789abcdef"), First::Noise);
        assert_eq!(First::of(b"GET /healthz HTTP/1.1\r\nH"), First::Noise);
    }

    #[tokio::test]
    async fn both_sides_learn_who_the_other_is() {
        let (mut here, mut there) = tokio::io::duplex(64);
        let accepting = tokio::spawn(async move {
            let mut bytes = [0; 24];
            there.read_exact(&mut bytes).await.unwrap();
            (First::of(&bytes), answer(&mut there, 2).await.unwrap())
        });
        assert_eq!(greet(&mut here, 1).await.unwrap(), 2);
        stay(&mut here).await.unwrap();
        assert_eq!(accepting.await.unwrap(), (First::Control(1), true));

        let (mut here, mut there) = tokio::io::duplex(64);
        let accepting = tokio::spawn(async move { answer(&mut there, 2).await });
        assert_eq!(greet(&mut here, 1).await.unwrap(), 2);
        drop(here);
        assert!(!accepting.await.unwrap().unwrap(), "who only asks does not stay");
    }

    #[tokio::test]
    async fn another_server_is_no_node() {
        let (mut here, mut there) = tokio::io::duplex(64);
        there.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        assert_eq!(
            greet(&mut here, 1).await.unwrap_err().to_string(),
            "what answers there is no node of hotseat"
        );
    }
}

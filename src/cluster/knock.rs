//! Knocking at the doors of a node that seems to be dead. What it proves, [`engine::lease::Evidence`] says.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use engine::lease::Knock;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::peers::Place;

/// How long one knock may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where peers, who reach this node at `peer_url`, can knock at a listener of it that is bound so; nothing where only
/// its own machine can.
#[must_use]
pub fn knocked_at(bound: SocketAddr, peer_url: &str) -> String {
    let peer = Place::parse(peer_url);
    if bound.ip().is_unspecified() {
        return peer.map_or_else(String::new, |peer| Place { port: bound.port(), ..peer }.to_string());
    }
    let is_private = bound.ip().is_loopback() && !peer.is_some_and(|peer| peer.is_loopback());
    if is_private { String::new() } else { bound.to_string() }
}

/// Connects to `HOST:PORT`, and hangs up.
pub(super) async fn knock(at: &str) -> Knock {
    if at.is_empty() {
        return Knock::Private;
    }
    let Some(Place { host, port }) = Place::parse(at) else { return Knock::Silent };
    match timeout(PATIENCE, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Knock::Answered,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Knock::Refused,
        Ok(Err(_)) | Err(_) => Knock::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_knock_where_they_can() {
        for (bound, peer_url, expected) in [
            ("0.0.0.0:8081", "10.0.0.1:7400", "10.0.0.1:8081"),
            ("[::]:8081", "east-1:7400", "east-1:8081"),
            ("0.0.0.0:8081", "127.0.0.1:7400", "127.0.0.1:8081"),
            ("10.0.0.2:8081", "10.0.0.1:7400", "10.0.0.2:8081"),
            ("127.0.0.1:8081", "127.0.0.1:7400", "127.0.0.1:8081"),
            ("[::1]:8081", "localhost:7400", "[::1]:8081"),
            ("127.0.0.1:8081", "10.0.0.1:7400", ""),
            ("127.0.0.1:8081", "east-1:7400", ""),
            ("0.0.0.0:8081", "nowhere", ""),
        ] {
            assert_eq!(knocked_at(bound.parse().unwrap(), peer_url), expected, "{bound} at {peer_url}");
        }
    }

    #[tokio::test]
    async fn a_machine_says_whether_somebody_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        assert_eq!(knock(&at).await, Knock::Answered);
        drop(listener);
        assert_eq!(knock(&at).await, Knock::Refused);
        assert_eq!(knock("").await, Knock::Private);
        assert_eq!(knock("no.such.name.invalid:1").await, Knock::Silent);
        assert_eq!(knock("no address").await, Knock::Silent);
    }
}

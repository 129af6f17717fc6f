//! Dialers: one for each address of `cluster.peers`, for as long as it is configured.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use ractor_cluster::NodeServerMessage;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::greet::{self, Io};
use super::link;
use super::node::Node;
use super::tls::{self, Plane, Tls};
use crate::config::peers::{Peer, Place};

/// The pause after a failed attempt doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long an attempt may take until the peer has said who it is.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How often a name's addresses are looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

/// What dialers need.
#[derive(Clone)]
pub(super) struct Dialers {
    pub node: Arc<Node>,
    pub server: ActorRef<NodeServerMessage>,
    pub tls: Option<Tls>,
}

/// What is dialled.
#[derive(Clone, Debug)]
struct Target {
    /// As members show it.
    address: String,
    place: Place,
    /// One of the addresses of `place`, where it is a name with several.
    one: Option<SocketAddr>,
}

/// Who was met.
enum Met {
    Myself,
    /// Somebody that this node has a session with.
    Known(u128),
    New(u128, Box<dyn Io>),
}

impl Dialers {
    /// Dials every peer until the node ends.
    pub fn start(&self, peers: &[Peer]) {
        for peer in peers {
            match peer {
                Peer::Node(place) => {
                    let target = Target { address: place.to_string(), place: place.clone(), one: None };
                    self.spawn(target, self.node.ending.clone());
                }
                Peer::Names(place) => {
                    let (dialers, place) = (self.clone(), place.clone());
                    self.node.tasks.spawn(async move {
                        tokio::select! {
                            () = dialers.node.ending.cancelled() => {}
                            () = dialers.look_up(&place) => {}
                        }
                    });
                }
            }
        }
    }

    fn spawn(&self, target: Target, stop: CancellationToken) {
        let dialers = self.clone();
        self.node.note(|book| book.look_for(&target.address));
        self.node.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = dialers.dial(&target) => {}
            }
        });
    }

    /// Keeps a dialer for each address that the name has.
    async fn look_up(&self, place: &Place) {
        let name = format!("dns:{place}");
        let mut dialled: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
        self.node.note(|book| book.look_for(&name));
        loop {
            match lookup_host((place.host.as_str(), place.port)).await.map(Iterator::collect::<Vec<_>>) {
                Ok(found) if !found.is_empty() => {
                    self.node.note(|book| book.stop_looking(&name));
                    dialled.retain(|address, stop| {
                        let stays = found.contains(address);
                        if !stays {
                            stop.cancel();
                            self.node.note(|book| book.stop_looking(&address.to_string()));
                        }
                        stays
                    });
                    for one in found {
                        dialled.entry(one).or_insert_with(|| {
                            let stop = self.node.ending.child_token();
                            let target =
                                Target { address: one.to_string(), place: place.clone(), one: Some(one) };
                            self.spawn(target, stop.clone());
                            stop
                        });
                    }
                }
                // Whoever was found before is still dialled: a name server that is away ends nothing.
                Ok(_) => self.failed(&name, "the name has no address"),
                Err(error) => self.failed(&name, &error.to_string()),
            }
            tokio::time::sleep(LOOK_UP).await;
        }
    }

    /// Sees to it that there is a session with whoever is at an address. Returns when that is this node.
    async fn dial(&self, target: &Target) {
        let mut back_off = BackOff::default();
        loop {
            match self.attempt(target).await {
                Ok(Met::Myself) => {
                    self.node.note(|book| book.met(&target.address, book.me().id));
                    return;
                }
                Ok(Met::Known(id)) => {
                    self.node.note(|book| book.met(&target.address, id));
                    self.node.until_unreachable(id).await;
                    back_off = BackOff::default();
                }
                Ok(Met::New(id, io)) => {
                    self.node.note(|book| book.met(&target.address, id));
                    let link = self.node.open(&self.server, io, &target.address, id, false);
                    link.over().await;
                    // One that lost against the peer's own leaves a session behind.
                    self.node.until_unreachable(id).await;
                    if link.is_welcomed() {
                        back_off = BackOff::default();
                    }
                }
                Err(error) => self.failed(&target.address, &error.to_string()),
            }
            tokio::time::sleep(back_off.pause(uuid::Uuid::new_v4().as_bytes()[0])).await;
        }
    }

    fn failed(&self, address: &str, why: &str) {
        if self.node.note(|book| book.not_met(address, why)) {
            tracing::info!(address, "no peer could be reached: {why}; will try again");
        } else {
            tracing::debug!(address, "no peer could be reached: {why}");
        }
    }

    async fn attempt(&self, target: &Target) -> io::Result<Met> {
        let me = self.node.me().id;
        let attempt = async {
            let stream = match target.one {
                Some(one) => TcpStream::connect(one).await?,
                None => TcpStream::connect((target.place.host.as_str(), target.place.port)).await?,
            };
            link::tune(&stream)?;
            let mut io = tls::connect(stream, &target.place.host, self.tls.as_ref(), Plane::Control).await?;
            let id = greet::greet(&mut io, me).await?;
            if id == me {
                return Ok(Met::Myself);
            }
            if self.node.session(id).is_some() {
                return Ok(Met::Known(id));
            }
            greet::stay(&mut io).await?;
            Ok(Met::New(id, io))
        };
        let in_time = timeout(ATTEMPT, attempt).await;
        in_time.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")))
    }
}

/// How long to wait before the next attempt.
#[derive(Debug, Default)]
struct BackOff {
    failures: u32,
}

impl BackOff {
    /// `random` spreads the attempts of nodes that failed together, from half the pause to all of it.
    fn pause(&mut self, random: u8) -> Duration {
        let pause = BACK_OFF.0.saturating_mul(2_u32.saturating_pow(self.failures)).min(BACK_OFF.1);
        self.failures += 1;
        pause / 2 + pause / 2 * u32::from(random) / u32::from(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_spread() {
        let mut back_off = BackOff::default();
        let pauses = [255, 255, 0, 255, 255, 255, 255, 0].map(|random| back_off.pause(random).as_millis());
        assert_eq!(pauses, [100, 200, 200, 800, 1_600, 3_200, 5_000, 2_500]);
        for _ in 0..100 {
            back_off.pause(0);
        }
        assert_eq!(back_off.pause(255), BACK_OFF.1);
    }
}

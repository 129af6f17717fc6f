//! Where the other nodes are, as it is written in `cluster.peers`. Pure.

use std::net::{IpAddr, SocketAddr};

/// What a list looks like, for messages.
pub const PEERS: &str =
    "HOST:PORT or \"dns:NAME:PORT\" with spaces between, such as \"10.0.0.1:7400 10.0.0.2:7400\"";

/// What an address of a peer looks like, for messages.
pub const PEER: &str = "HOST:PORT, such as \"10.0.0.1:7400\"";

/// Something that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// A name or an IP address, without brackets. A certificate is for this.
    pub host: String,
    pub port: u16,
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One node.
    Node(Place),
    /// A node at every address that the name has.
    Names(Place),
}

impl Peer {
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::Node(place) | Self::Names(place) => place,
        }
    }
}

impl Place {
    /// Reads `HOST:PORT`, with brackets around an IPv6 address; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() > 0)
                .then(|| Self { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let is_label = |label: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.len() <= 63 && label.chars().all(legal)
        };
        // An IPv4 address with a slip in it is no name.
        let is_number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
        let is_name = host.len() <= 253 && host.split('.').all(is_label) && !is_number;
        is_name.then(|| Self { host: host.to_owned(), port })
    }

    /// Whether it cannot be another machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Reads a list.
///
/// # Errors
/// The first entry that is none.
pub fn parse(text: &str) -> Result<Vec<Peer>, String> {
    text.split_whitespace()
        .map(|entry| {
            let peer = match entry.strip_prefix("dns:") {
                Some(name) => Place::parse(name).filter(|place| !is_address(place)).map(Peer::Names),
                None => Place::parse(entry).map(Peer::Node),
            };
            peer.ok_or_else(|| entry.to_owned())
        })
        .collect()
}

fn is_address(place: &Place) -> bool {
    place.host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_a_host_and_a_port() {
        for (text, expected, is_loopback) in [
            ("10.0.0.1:7400", Some("10.0.0.1:7400"), false),
            ("127.0.0.1:7400", Some("127.0.0.1:7400"), true),
            ("[::1]:7400", Some("[::1]:7400"), true),
            ("[2001:db8::1]:7400", Some("[2001:db8::1]:7400"), false),
            ("localhost:1", Some("localhost:1"), true),
            ("node-1.hotseat.svc:65535", Some("node-1.hotseat.svc:65535"), false),
            ("node-1", None, false),
            ("node-1:", None, false),
            (":7400", None, false),
            ("node-1:0", None, false),
            ("127.0.0.1:0", None, false),
            ("node-1:65536", None, false),
            ("10.0.0.300:7400", None, false),
            ("http://node-1:7400", None, false),
            ("node..1:7400", None, false),
            ("::1:7400", None, false),
        ] {
            let place = Place::parse(text);
            assert_eq!(place.as_ref().map(ToString::to_string).as_deref(), expected, "{text:?}");
            assert_eq!(place.is_some_and(|place| place.is_loopback()), is_loopback, "{text:?}");
        }
    }

    #[test]
    fn a_list_has_nodes_and_names() {
        let place = |host: &str| Place { host: host.to_owned(), port: 7_400 };
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(
            parse(" 10.0.0.1:7400  dns:hotseat.svc:7400 "),
            Ok(vec![Peer::Node(place("10.0.0.1")), Peer::Names(place("hotseat.svc"))])
        );
        assert_eq!(parse("10.0.0.1:7400,10.0.0.2:7400"), Err("10.0.0.1:7400,10.0.0.2:7400".to_owned()));
        assert_eq!(parse("dns:10.0.0.1:7400"), Err("dns:10.0.0.1:7400".to_owned()));
    }
}

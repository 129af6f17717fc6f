//! Whose address a client has: its own, or what a proxy that is trusted says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use ipnet::IpNet;

use super::Shared;
use super::error::Problem;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// What [`Proxies::parse`] reads, for messages.
pub const NETWORKS: &str =
    "IP addresses and networks with spaces between, such as \"10.0.0.5 172.16.0.0/12 fd00::/8\"";

/// The proxies that are believed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// Reads a list.
    ///
    /// # Errors
    /// The first entry that is neither an address nor a network.
    pub fn parse(text: &str) -> Result<Self, String> {
        let network = |entry: &str| {
            let address = entry.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            address.or_else(|_| entry.parse().map(canonical)).map_err(|_| entry.to_owned())
        };
        text.split_whitespace().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// The client of a request that came from `peer`, if proxies tell: the rightmost address of `X-Forwarded-For` that is no proxy's. What
    /// stands further left may be made up. Where something that is no address is in the way, the proxy that said so
    /// stands for its clients.
    fn forwarded(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = None;
        if !self.are(peer) {
            return client;
        }
        // Several headers are one list.
        let lists = headers.get_all(FORWARDED_FOR).iter().rev();
        for entry in lists.flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b',')) {
            let Some(address) = std::str::from_utf8(entry).ok().and_then(|text| address(text.trim())) else {
                return client;
            };
            client = Some(address);
            if !self.are(address) {
                return client;
            }
        }
        client
    }

    fn are(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Addresses of version 4 are asked about as such, however they are written.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let mapped = match network {
        IpNet::V6(network) => {
            network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(MAPPED_BITS))
        }
        IpNet::V4(_) => None,
    };
    let shorter = mapped.and_then(|(address, len)| IpNet::new(address.into(), len).ok());
    shorter.unwrap_or(network)
}

/// An address as proxies write it: with a port or without, an IPv6 one in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|place| place.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Who a request's connection is from: among the extensions of requests to join a waiting room and to open a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub IpAddr);

/// Where whoever sent a request is, also through proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// On this machine, by the connection itself: nobody can say so in a header.
    Here,
    Elsewhere(IpAddr),
}

impl FromRequestParts<Arc<Shared>> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let Some(Peer(peer)) = parts.extensions.get() else {
            return Err(Problem::Internal("the listener tells no peer for this path".to_owned()));
        };
        Ok(Self::of(*peer, &parts.headers, &shared.edge.settings.trusted_proxies))
    }
}

impl ClientAddress {
    /// Who sent a request with these headers over a connection from `peer`.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &Proxies) -> Self {
        let peer = peer.to_canonical();
        match trusted.forwarded(peer, headers) {
            Some(address) => Self::Elsewhere(address),
            None if peer.is_loopback() => Self::Here,
            None => Self::Elsewhere(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match ClientAddress::of(peer.parse().unwrap(), &headers, &Proxies::parse(trusted).unwrap()) {
            ClientAddress::Here => "here".to_owned(),
            ClientAddress::Elsewhere(address) => address.to_string(),
        }
    }

    #[test]
    fn nobody_is_believed_who_is_not_listed() {
        assert_eq!(client("", "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.0/8", "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("", "::ffff:192.0.2.1", &[]), "192.0.2.1");
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_proxy() {
        let rows: [(&[&str], &str); 15] = [
            (&[], "10.0.0.5"),
            (&["198.51.100.7"], "198.51.100.7"),
            (&["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (&["1.2.3.4,198.51.100.7 , 10.0.0.9,10.1.1.1"], "198.51.100.7"),
            (&["198.51.100.7", "10.0.0.9"], "198.51.100.7"),
            (&["198.51.100.7, 192.0.2.9", "10.0.0.9"], "192.0.2.9"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, ::ffff:10.0.0.9"], "198.51.100.7"),
            // All are proxies: the first of them asks for itself.
            (&["10.0.0.7, 10.0.0.9"], "10.0.0.7"),
            (&["198.51.100.7, unknown, 10.0.0.9"], "10.0.0.9"),
            (&["198.51.100.7, "], "10.0.0.5"),
        ];
        for (forwarded, expected) in rows {
            assert_eq!(client("10.0.0.0/8 fd00::/8", "10.0.0.5", forwarded), expected, "{forwarded:?}");
        }
        assert_eq!(client("fd00::/8", "fd00::1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(client("10.0.0.5", "::ffff:10.0.0.5", &["192.0.2.1\u{e9}"]), "10.0.0.5");
    }

    #[test]
    fn nobody_else_is_here() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"] {
            assert_eq!(client("", peer, &["198.51.100.7"]), "here", "{peer}: a proxy that nobody named");
            assert_eq!(client("10.0.0.0/8", peer, &[]), "here");
            assert_eq!(client("127.0.0.0/8 ::1", peer, &[]), "here");
            assert_eq!(client("127.0.0.0/8 ::1", peer, &["198.51.100.7"]), "198.51.100.7");
            assert_eq!(client("127.0.0.0/8 ::1", peer, &["127.0.0.1"]), "127.0.0.1");
        }
        assert_eq!(client("10.0.0.0/8", "10.0.0.5", &["127.0.0.1"]), "127.0.0.1");
    }

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_version_4() {
        for network in ["::ffff:10.0.0.0/104", "::ffff:10.1.2.3/104", "::ffff:0.0.0.0/96"] {
            assert_eq!(client(network, "10.0.0.5", &["198.51.100.7"]), "198.51.100.7", "{network}");
        }
        assert_eq!(client("::ffff:10.0.0.0/104", "11.0.0.5", &["198.51.100.7"]), "11.0.0.5");
    }

    #[test]
    fn a_list_has_addresses_and_networks() {
        for text in ["", "10.0.0.5", " 10.0.0.0/8  ::1 fd00::/8 "] {
            assert!(Proxies::parse(text).is_ok(), "{text:?}");
        }
        for wrong in ["10.0.0.0/33", "10.0.0.0/", "nginx", "10.0.0.5:80", "10.0.0.5,10.0.0.6", "::1/129"] {
            assert_eq!(Proxies::parse(&format!("::1 {wrong}")).unwrap_err(), wrong);
        }
    }
}

//! What happens between nodes, one case after the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hotseat::cluster::{Plane, Presence, Tls, TlsFiles, who_answers};
use hotseat::config::peers::Place;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use tempfile::TempDir;

use super::child::{Config, Order};
use super::nodes::{Node, cluster, config, ports};
use super::tls::Authority;

pub const ALL: [(&str, fn()); 15] = [
    ("nodes_see_each_other", nodes_see_each_other),
    ("a_killed_node_is_gone_with_evidence", a_killed_node_is_gone_with_evidence),
    ("a_paused_node_is_silent_and_comes_back", a_paused_node_is_silent_and_comes_back),
    ("a_node_that_ends_says_farewell", a_node_that_ends_says_farewell),
    ("what_a_node_says_arrives_at_once", what_a_node_says_arrives_at_once),
    ("requests_are_answered_and_bounded", requests_are_answered_and_bounded),
    ("strangers_are_refused_with_a_sentence", strangers_are_refused_with_a_sentence),
    ("a_name_is_as_many_nodes_as_it_has_addresses", a_name_is_as_many_nodes_as_it_has_addresses),
    ("who_answers_at_an_address", who_answers_at_an_address),
    ("two_nodes_of_one_name", two_nodes_of_one_name),
    ("silence_and_noise_hold_nobody_up", silence_and_noise_hold_nobody_up),
    ("requests_over_http_2_reach_the_router", requests_over_http_2_reach_the_router),
    ("tls_lets_in_whom_it_should", tls_lets_in_whom_it_should),
    ("tls_files_that_are_none_are_named", tls_files_that_are_none_are_named),
    ("renewed_certificates_are_shown_without_a_start", renewed_certificates_are_shown_without_a_start),
];

const UP: &str = "Up";

fn no_tls(_: usize) -> Option<[PathBuf; 3]> {
    None
}

fn all_up(nodes: &[Node]) {
    for node in nodes {
        for peer in nodes.iter().filter(|peer| peer.config.id != node.config.id) {
            node.sees(&peer.config.node, UP);
        }
    }
}

fn nodes_see_each_other() {
    let mut nodes = cluster::<3>(no_tls);
    let started = Instant::now();
    all_up(&nodes);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let at = nodes[1].config.listen.to_string();
    let is_known = nodes[0].sees_that("b", |b| {
        b["id"] == 2 && b["peerUrl"] == *at && b["publicUrl"] == "http://b" && b["shards"][0][1] == 2
    });
    assert!(is_known < Duration::from_secs(2));
    // Nobody dials itself for ever, and two that dialled each other keep one session.
    thread::sleep(Duration::from_secs(2));
    for node in &nodes {
        node.logs("a peer is there", 2);
        assert_eq!(node.states("a").len() + node.states("b").len() + node.states("c").len(), 2);
    }
    nodes[0].order(&Order::Metrics);
    let metrics = nodes[0].says("metrics");
    assert!(metrics.as_str().unwrap().contains("hotseat_peer_up{node=\"b\"} 1"), "{metrics}");
}

fn a_killed_node_is_gone_with_evidence() {
    let mut nodes = cluster::<3>(no_tls);
    all_up(&nodes);
    let killed = nodes.pop().unwrap();
    let again = Config { id: 33, ..killed.config.clone() };
    drop(killed);
    for node in &nodes {
        let took =
            node.sees_that("c", |c| c["state"].as_str().is_some_and(|state| state.starts_with("Gone(")));
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(node.states("b").len() + node.states("a").len(), 1);
    }
    nodes[0].order(&Order::Metrics);
    let metrics = nodes[0].says("metrics");
    assert!(metrics.as_str().unwrap().contains("hotseat_peer_up{node=\"c\"} 0"), "{metrics}");
    let again = Node::start(again);
    for node in &nodes {
        node.sees_that("c", |c| c["state"] == UP && c["id"] == 33);
        assert_eq!(node.states("c"), [UP]);
        again.sees(&node.config.node, UP);
    }
}

fn a_paused_node_is_silent_and_comes_back() {
    let nodes = cluster::<3>(no_tls);
    all_up(&nodes);
    nodes[2].pause();
    let took = nodes[0].sees("c", "Silent");
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    nodes[1].sees("c", "Silent");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(
        (nodes[0].states("c"), nodes[0].states("b")),
        (vec!["Silent".to_owned()], vec![UP.to_owned()])
    );
    nodes[2].signal(Signal::SIGCONT);
    all_up(&nodes);
}

fn a_node_that_ends_says_farewell() {
    let mut nodes = cluster::<2>(no_tls);
    all_up(&nodes);
    nodes[1].order(&Order::End);
    nodes[0].sees("b", "Gone(Left)");
    nodes[1].wait();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(nodes[0].states("b"), ["Gone(Left)"]);
}

fn what_a_node_says_arrives_at_once() {
    let mut nodes = cluster::<3>(no_tls);
    all_up(&nodes);
    for round in 1..=3 {
        nodes[0].order(&Order::Say { draining: true, away: true, shards: vec![(5, round)] });
        let started = Instant::now();
        for node in &nodes[1..] {
            node.sees_that("a", |a| a["draining"] == true && a["away"] == true && a["shards"][0][1] == round);
        }
        // Beats would need a second now and then.
        assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    nodes[0].order(&Order::Hint { shard: 17 });
    for node in &nodes[1..] {
        assert_eq!(node.says("hint"), 17);
    }
}

fn requests_are_answered_and_bounded() {
    let mut nodes = cluster::<2>(no_tls);
    all_up(&nodes);
    nodes[0].order(&Order::Ask { node: 2 });
    let asked = nodes[0].says("asked");
    let moved = "id: 3, shard: 17, from: \"1\", to: \"9\", stage: Moving, since: 5, eta: None";
    assert_eq!(asked, format!("Ok(Moves([ShardMove {{ {moved} }}]))"));
    nodes[0].order(&Order::Flood { node: 2, count: 1_100 });
    assert_eq!(nodes[0].says("flooded"), serde_json::json!([1_024, 76]));
    let mut nodes = nodes.into_iter();
    let mut first = nodes.next().unwrap();
    drop(nodes);
    first.sees_that("b", |b| b["state"] != UP);
    first.order(&Order::Ask { node: 2 });
    first.sees_that("b", |_| true);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(first.says("asked"), "Err(Away)");
}

/// `b` is different, and both hear why they do not work together; `c` is not bothered.
fn refused(different: impl Fn(Config) -> Config, why: &str) {
    let [a, b, c] = ports::<3>();
    let nodes = [
        Node::start(config("a", 1, a, &[a, b, c])),
        Node::start(different(config("b", 2, b, &[a, b, c]))),
        Node::start(config("c", 3, c, &[a, c])),
    ];
    let is_refused = |member: &serde_json::Value| {
        let state = member["state"].as_str().unwrap_or_default();
        state.starts_with("Refused(") && state.contains(why)
    };
    nodes[0].sees_that("b", is_refused);
    nodes[1].sees_that("a", is_refused);
    nodes[0].sees("c", UP);
    // It is tried again and again, and said once.
    thread::sleep(Duration::from_secs(2));
    nodes[0].logs("a peer is refused", 1);
    nodes[0].sees_that("b", is_refused);
}

fn strangers_are_refused_with_a_sentence() {
    refused(
        |config| Config { cluster: 2, ..config },
        "belongs to another cluster (its ledger is another one): give it the ledger.url of this cluster",
    );
    refused(
        |config| Config { protocol: (2, 3), ..config },
        "speaks protocol 2 at least, the node a (version ",
    );
}

fn two_nodes_of_one_name() {
    let [a, b, twin] = ports::<3>();
    let first = [Node::start(config("a", 1, a, &[a, b])), Node::start(config("b", 2, b, &[a, b]))];
    all_up(&first);
    let twin = Node::start(config("b", 3, twin, &[a]));
    let why = "two nodes are called b, one at ";
    first[0].sees_that("b", |b| b["id"] == 3 && b["state"].as_str().is_some_and(|state| state.contains(why)));
    twin.sees_that("a", |a| a["state"].as_str().is_some_and(|state| state.contains(why)));
    first[0].sees_that("b", |b| b["id"] == 2 && b["state"] == UP);
    assert_eq!(first[1].states("a"), [UP]);
}

fn a_name_is_as_many_nodes_as_it_has_addresses() {
    let [a, b] = ports::<2>();
    let first = Node::start(config("a", 1, a, &[]));
    let peers = format!("dns:localhost:{} dns:nobody.invalid:7400", a.port());
    let mut second = Node::start(Config { peers, ..config("b", 2, b, &[]) });
    second.sees("a", UP);
    first.sees("b", UP);
    second.misses("dns:nobody.invalid:7400", "");
    second.order(&Order::End);
    second.wait();
    first.sees("b", "Gone(Left)");
}

fn who_answers_at_an_address() {
    let [a, b, c] = ports::<3>();
    let node = Node::start(config("a", 1, a, &[]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |address: SocketAddr| {
        let place = Place::parse(&address.to_string()).unwrap();
        runtime.block_on(who_answers(&place, None, 9, Duration::from_secs(1)))
    };
    assert_eq!(ask(a), Presence::Node(1));
    assert_eq!(ask(b), Presence::Refused);
    let _silent = std::net::TcpListener::bind(c).unwrap();
    assert_eq!(ask(c), Presence::Unclear);
    node.pause();
    assert_eq!(ask(a), Presence::Unclear);
    node.signal(Signal::SIGCONT);
    assert_eq!(ask(a), Presence::Node(1));
    assert!(node.states("").is_empty());
    node.logs("refused", 0);
}

fn silence_and_noise_hold_nobody_up() {
    let [a, b] = ports::<2>();
    let first = Node::start(config("a", 1, a, &[a, b]));
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(a).unwrap()).collect();
    for noise in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4_096], &[0; 64], b"hotseat\x01short"] {
        TcpStream::connect(a).unwrap().write_all(noise).unwrap();
    }
    // Noise behind a flawless greeting is ractor's to survive.
    let mut greeted = TcpStream::connect(a).unwrap();
    greeted.write_all(b"hotseat\x010123456789abcdef").unwrap();
    greeted.read_exact(&mut [0; 24]).unwrap();
    greeted.write_all(&[[1; 1].as_slice(), &[0xfe; 1_000]].concat()).unwrap();
    let mut greeted = TcpStream::connect(a).unwrap();
    greeted.write_all(b"hotseat\x010123456789abcdef").unwrap();
    greeted.read_exact(&mut [0; 24]).unwrap();
    greeted.write_all(&[[1; 1].as_slice(), &8_u64.to_be_bytes(), &[0xfe; 8]].concat()).unwrap();

    let started = Instant::now();
    let second = Node::start(config("b", 2, b, &[a]));
    second.sees("a", UP);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    first.sees("b", UP);
    // The silent are given up.
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
    assert_eq!((first.states("b"), second.states("a")), (vec![UP.to_owned()], vec![UP.to_owned()]));
}

/// What `/who` answers over HTTP/2 by prior knowledge.
fn who(address: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        match tls {
            None => who_over(TokioIo::new(stream)).await,
            Some(tls) => {
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await;
                who_over(TokioIo::new(stream.map_err(|error| error.to_string())?)).await
            }
        }
    })
}

async fn who_over<I>(io: I) -> Result<String, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = hyper::Request::get("http://node/who").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn requests_over_http_2_reach_the_router() {
    let nodes = cluster::<2>(no_tls);
    all_up(&nodes);
    for node in &nodes {
        assert_eq!(who(node.config.listen, None), Ok(node.config.node.clone()));
    }
    assert_eq!((nodes[0].states("b"), nodes[1].states("a")), (vec![UP.to_owned()], vec![UP.to_owned()]));
}

fn tls_lets_in_whom_it_should() {
    let dir = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let files = ["a", "b"].map(|name| ours.node(dir.path(), name, "127.0.0.1"));
    let nodes = cluster::<2>(|n| Some(files[n].clone()));
    all_up(&nodes);

    let data = |[ca, cert, key]: [PathBuf; 3]| {
        let tls = Tls::read(&TlsFiles { ca, cert, key }).unwrap();
        tls.client(Plane::Data)
    };
    let at = nodes[0].config.listen;
    assert_eq!(who(at, Some(data(files[1].clone()))), Ok("a".to_owned()));
    // Without TLS, and with a certificate for another machine.
    assert!(who(at, None).is_err());
    let elsewhere = ours.node(dir.path(), "elsewhere", "10.9.9.9");
    assert!(who(at, Some(data(elsewhere.clone()))).is_err());

    let theirs = Authority::new("theirs").node(dir.path(), "theirs", "127.0.0.1");
    let mixed = [files[0][0].clone(), theirs[1].clone(), theirs[2].clone()];
    assert!(who(at, Some(data(mixed.clone()))).is_err());
    for (node, id, files) in [("d", 4, theirs), ("e", 5, mixed), ("f", 6, elsewhere)] {
        let [listen] = ports::<1>();
        let refused = Node::start(Config { tls: Some(files), ..config(node, id, listen, &[at, listen]) });
        refused.misses(&at.to_string(), "");
        thread::sleep(Duration::from_secs(1));
        assert!(refused.states("a").is_empty() && nodes[0].states(node).is_empty(), "{node}");
    }
    nodes[0].logs("a connection to cluster.listen was refused", 1);
    assert_eq!((nodes[0].states("b"), nodes[1].states("a")), (vec![UP.to_owned()], vec![UP.to_owned()]));
    nodes[1].signal(Signal::SIGKILL);
    nodes[0].sees_that("b", |b| b["state"].as_str().is_some_and(|state| state.starts_with("Gone(")));
}

fn renewed_certificates_are_shown_without_a_start() {
    let dir = TempDir::new().unwrap();
    let files = Authority::new("old").node(dir.path(), "a", "127.0.0.1");
    let renewed = Authority::new("new").node(dir.path(), "renewed", "127.0.0.1");
    let [listen] = ports::<1>();
    let node = Node::start(Config { tls: Some(files.clone()), ..config("a", 1, listen, &[listen]) });
    let data = |[ca, cert, key]: &[PathBuf; 3]| {
        let files = TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
        Tls::read(&files).unwrap().client(Plane::Data)
    };
    let old = data(&files);
    assert_eq!(who(listen, Some(old.clone())), Ok("a".to_owned()));

    // Half of a new set is none: the node goes on with what it has.
    std::fs::copy(&renewed[1], &files[1]).unwrap();
    node.logs("the certificates read before are used on", 1);
    assert_eq!(who(listen, Some(old.clone())), Ok("a".to_owned()));

    std::fs::copy(&renewed[0], &files[0]).unwrap();
    std::fs::copy(&renewed[2], &files[2]).unwrap();
    node.logs("the certificates between nodes were read again", 1);
    assert_eq!(who(listen, Some(data(&renewed))), Ok("a".to_owned()));
    assert!(who(listen, Some(old)).is_err());
}

fn tls_files_that_are_none_are_named() {
    let dir = TempDir::new().unwrap();
    let [ca, cert, key] = Authority::new("ours").node(dir.path(), "a", "127.0.0.1");
    let other = Authority::new("ours").node(dir.path(), "b", "127.0.0.1")[2].clone();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let missing = dir.path().join("missing.pem");
    for (files, file, expected) in [
        ([missing.clone(), cert.clone(), key.clone()], &missing, "cluster.tls_ca: FILE: it cannot be read: "),
        (
            [ca.clone(), empty.clone(), key.clone()],
            &empty,
            "cluster.tls_cert: FILE: there is no certificate in it",
        ),
        (
            [ca.clone(), cert.clone(), cert.clone()],
            &cert,
            "cluster.tls_key: FILE: there is no private key in it",
        ),
        (
            [ca, cert.clone(), other.clone()],
            &other,
            "cluster.tls_key: FILE: it does not go with the certificate ",
        ),
    ] {
        let [listen] = ports::<1>();
        let node = Node::start(Config { tls: Some(files), ..config("a", 1, listen, &[listen]) });
        let failed = node.says("failed");
        let said = failed.as_str().unwrap().replace(&file.display().to_string(), "FILE");
        assert!(said.starts_with(expected), "{said}");
    }
}

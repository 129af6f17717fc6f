//! The real nginx with `deploy/nginx.conf`, in front of somebody who writes down what he is asked.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::json;
use servers::{Nginx, free_port};

use super::{NODES, read};
use crate::support::{Place, Server, request};

/// Its text with other addresses, and the port it listens on. `nodes` are `HOST:PORT`.
pub fn configuration(nodes: &[&str; 3]) -> (String, u16) {
    let (text, port, _) = moved(nodes);
    (text, port)
}

/// The same, with the port that tells whether it lives.
fn moved(nodes: &[&str; 3]) -> (String, u16, u16) {
    let mut text = read("deploy/nginx.conf");
    let (port, health) = (free_port(), free_port());
    let mut replace = |from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    };
    for (name, address) in NODES.iter().zip(nodes) {
        // An address need not be looked up, and older versions do not know the word.
        replace(&format!("server {name}:8080 resolve "), &format!("server {address} "));
    }
    replace("listen 8080 ", &format!("listen 127.0.0.1:{port} "));
    replace(&format!("listen 127.0.0.1:{};", Door::HEALTH), &format!("listen 127.0.0.1:{health};"));
    (text, port, health)
}

/// nginx in front of one address, as often as there are nodes.
pub struct Door {
    _nginx: Nginx,
    url: String,
    pub health: String,
}

impl Door {
    /// Where it tells its container that it lives.
    pub const HEALTH: u16 = 8082;

    pub fn open(address: &str) -> Self {
        let (text, port, health) = moved(&[address; 3]);
        let url = |port| format!("http://127.0.0.1:{port}");
        Self { _nginx: Nginx::start(&text, port), url: url(port), health: url(health) }
    }
}

/// Reads requests, sends each of its heads on, and answers all alike; with nothing it hangs up.
fn scribe(answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heads, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if heads.send(head(&mut stream)).is_err() {
                return;
            }
            // nginx may have gone already.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, receiver)
}

fn head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    // What is left unread would reset the connection, and the answer with it.
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
    head
}

const RESERVATION: &str = "/api/v1/reservations/01890000-0000-7000-8000-000000000007";

/// Who hangs up may have done what he was asked: only what may be done twice goes to the next one.
#[test]
fn nginx_asks_again_what_may_be_done_twice() {
    let rows = [
        ("GET", "/api/v1/options/1/seats", "", 3),
        ("GET", "/api/v1/options/1/events", "", 3),
        ("DELETE", "/api/v1/options/1/selections", "", 3),
        ("POST", "/api/v1/options/1/selections", "", 1),
        ("POST", "/api/v1/options/1/holds", "", 3),
        ("POST", &format!("{RESERVATION}/paying"), "", 3),
        ("POST", &format!("{RESERVATION}/confirm"), "", 3),
        ("POST", &format!("{RESERVATION}/cancel"), "", 3),
        ("POST", &format!("{RESERVATION}/refund"), "", 3),
        ("POST", "/admin/v1/imports", "", 1),
        ("POST", "/admin/v1/options/1/blocks", "", 1),
        // A node's own word is passed on.
        (
            "GET",
            "/api/v1/options/1/seats",
            "HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            1,
        ),
        (
            "POST",
            "/api/v1/options/1/holds",
            "HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            1,
        ),
    ];
    for (method, path, answer, times) in rows {
        let (address, heads) = scribe(answer);
        let door = Door::open(&address);
        let answered = request(method, &format!("{}{path}", door.url), &[], Some(&json!({"seats": [1]})));
        assert_eq!(answered.unwrap().status, 503, "{method} {path}");
        let asked: Vec<String> = heads.try_iter().collect();
        assert_eq!(asked.len(), times, "{method} {path}: {asked:?}");
        assert!(
            asked.iter().all(|head| head.starts_with(&format!("{method} {path} HTTP/1.1\r\n"))),
            "{asked:?}"
        );
    }
}

#[test]
fn nginx_says_who_the_client_is_and_whom_it_asked() {
    let (address, heads) = scribe("HTTP/1.1 204 X\r\nConnection: close\r\n\r\n");
    let door = Door::open(&address);
    let made_up = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("Authorization", "Bearer abc"),
    ];
    request("GET", &format!("{}/api/v1/concerts?limit=1", door.url), &made_up, None).unwrap();
    let asked = heads.recv_timeout(Duration::from_secs(10)).unwrap();
    let has = |line: &str| asked.lines().any(|found| found.eq_ignore_ascii_case(line));
    let host = door.url.strip_prefix("http://").unwrap();
    assert!(has(&format!("Host: {host}")) && has("X-Forwarded-For: 127.0.0.1"), "{asked}");
    assert!(has("Authorization: Bearer abc") && !asked.contains("192.0.2.1"), "{asked}");
    // The connection to the node outlives the client's.
    assert!(!asked.to_ascii_lowercase().contains("connection: close"), "{asked}");
}

/// A node gives tokens to its own machine only; that somebody else asks through nginx, it sees.
#[test]
fn a_node_sees_that_it_is_asked_through_nginx() {
    let place = Place::new();
    let server = Server::start(&place.data, &["--demo"]);
    let door = Door::open(server.api.strip_prefix("http://").unwrap());
    let ask = |api: &str| {
        request("POST", &format!("{api}/api/v1/dev/token"), &[], Some(&json!({"userId": 7}))).unwrap()
    };
    assert_eq!(ask(&server.api).status, 200);
    assert_eq!(ask(&door.url).status, 403);
    server.stop();
}

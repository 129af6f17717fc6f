//! What cannot begin says why, in words for whoever typed it, and ends with 2.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use crate::support::{HALL, Ran, Server, among_others, run, run_at};

#[track_caller]
fn check(ran: Ran, words: &[&str]) {
    let said = ran.refused();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn a_target_that_is_not_there_or_is_something_else() {
    let _others = among_others();
    check(run(&["--url", "http://127.0.0.1:1"]), &["cannot reach http://127.0.0.1:1", "hotseat serve"]);
    check(run(&["--url", "https://127.0.0.1"]), &["TLS is not spoken"]);
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "220 mail.example.com ESMTP\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _read = stream.read(&mut [0; 1_024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let said = run(&["toggle", "--url", &url]).refused();
        assert!(said.contains("look like hotseat") || said.contains("no HTTP"), "{said}");
        other.join().unwrap();
    }
}

#[test]
fn a_server_that_does_not_let_us_in_or_has_nothing_for_us() {
    let _others = among_others();
    let server = Server::start();
    let wrong = "a secret that this server does not have";
    check(run_at(&server, &["toggle", "--secret", wrong]), &["does not take our tokens", "auth.secret"]);
    check(run_at(&server, &["toggle", "--option", "99"]), &["no option 99"]);
    check(run_at(&server, &["rush", "--repeat", "2"]), &["sold out once"]);
    check(
        run_at(&server, &["fanout", "--option", HALL, "--connections", "64"]),
        &["50 free seats", "fewer --connections"],
    );
}

#[test]
fn numbers_that_are_none() {
    let _others = among_others();
    for args in [
        &["toggle", "--rate", "fast"][..],
        &["toggle", "--rate", "0"],
        &["toggle", "--party", "9"],
        &["rush", "--zipf", "-1"],
        &["rush", "--abandon", "1"],
        &["toggle", "--time", "5"],
        &["toggle", "--connections", "0"],
        &["compare", "--only", "mysql"],
        &["capacity", "--objective", "p99"],
    ] {
        run(args).refused();
    }
    check(run(&["toggle", "--null", "--rate", "1e7", "--time", "60s"]), &["arrivals"]);
}

#[test]
fn too_few_files_say_how_to_have_more() {
    let _others = among_others();
    let bench = env!("CARGO_BIN_EXE_hotseat-bench");
    let script = format!("ulimit -n 128; exec {bench} toggle --null --connections 200");
    check(Ran::of(Command::new("sh").args(["-c", &script])), &["400 connections", "ulimit -n 464"]);
}

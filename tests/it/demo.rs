//! `serve --demo`, as a newcomer meets it.

use std::process::Command;

use serde_json::Value;

use crate::support::{Place, Server};

/// Runs what the demo printed, each line in a shell of its own.
fn paste(lines: &[String]) -> Vec<Value> {
    let answer = |line: &String| {
        let ran = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
    };
    lines.iter().map(answer).collect()
}

fn curls(printed: &str) -> Vec<String> {
    printed.lines().filter(|line| line.starts_with("curl ")).map(str::to_owned).collect()
}

#[test]
fn the_printed_lines_buy_two_seats() {
    let place = Place::new();
    let mut server = Server::start(&place.data, &["--demo"]);
    let printed = server.printed("/confirm");
    assert!(printed.contains(&server.api) && printed.contains(&server.ops), "{printed}");
    let lines = curls(&printed);
    assert_eq!(lines.len(), 4, "{printed}");

    let [seats, selected, held, confirmed] = paste(&lines).try_into().unwrap();
    assert_eq!(seats["counts"]["available"], 50);
    assert_eq!(selected["seats"][1]["seatNo"], 1);
    assert_eq!(held["status"], "HOLD");
    assert_eq!(confirmed["status"], "CONFIRMED");
    assert_eq!(confirmed["reservationId"], held["reservationId"]);

    // Pasted again: the seats are sold, and the sale stays what it is.
    let [seats, selected, held, confirmed] = paste(&lines).try_into().unwrap();
    assert_eq!(seats["counts"]["confirmed"], 2);
    assert_eq!(selected["code"], "SEAT_TAKEN");
    assert_eq!(held["code"], "SEAT_TAKEN");
    assert_eq!(confirmed["status"], "CONFIRMED");
    server.stop();

    // Started again, the directory is served as it is, and the printed lines buy the next seats.
    let mut server = Server::start(&place.data, &["--demo"]);
    let concerts = server.get("/api/v1/concerts").json();
    assert_eq!(concerts["items"].as_array().unwrap().len(), 3, "{concerts}");
    let api = server.api.clone();
    let printed = server.printed(&format!("{api}/api/v1/reservations/"));
    let lines: Vec<String> = curls(&printed).into_iter().filter(|line| line.contains(&api)).collect();
    let [seats, selected, _, confirmed] = paste(&lines).try_into().unwrap();
    assert_eq!(seats["counts"]["confirmed"], 2);
    assert_eq!(selected["seats"][0]["seatNo"], 2);
    assert_eq!(confirmed["status"], "CONFIRMED");
    server.stop();
}

//! Every load in a small form, with its audit.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{ARENA, HALL, Ran, Server, among_others, bench, report, run, run_at};

#[test]
fn every_load_passes_its_audit_and_the_hall_is_sold_once() {
    let _others = among_others();
    let server = Server::start();
    let small =
        ["--connections", "8", "--warm-up", "200ms", "--time", "1500ms", "--rate", "200", "--option", ARENA];
    let loads: [&[&str]; 8] = [
        &["toggle"],
        &["toggle", "--via", "ws", "--party", "4"],
        &["hotseat"],
        &["hotseat", "--via", "ws"],
        &["mixed"],
        &["mixed", "--via", "ws"],
        &["fanout", "--viewers", "50"],
        &["fanout", "--viewers", "50", "--feed", "sse"],
    ];
    for load in loads {
        let out = run_at(&server, &[load, &small].concat()).passed();
        assert!(out.contains("none of"), "the refusals were judged: {out}");
    }
    for rate in ["poisson:50", "max"] {
        let arena = rate == "max";
        let option = if arena { ARENA } else { HALL };
        let via = if arena { "http" } else { "ws" };
        let sale = ["rush", "--option", option, "--connections", "8", "--rate", rate, "--via", via];
        let out = run_at(&server, &sale).passed();
        assert!(out.contains("seats are sold") && out.contains("sold is paid"), "{out}");
    }
    let again = run_at(&server, &["--option", HALL]).refused();
    assert!(again.contains("sold out already"), "{again}");
}

#[test]
fn a_run_can_be_repeated_and_leaves_a_report() {
    let _others = among_others();
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let args = ["toggle", "--repeat", "2", "--rate", "ramp:50..200", "--time", "1s", "--warm-up", "200ms"];
    run_at(&server, &[&args[..], &["--out", out]].concat()).passed();
    let written = report(dir.path());
    let runs = written["scenarios"][0]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert_eq!(run["offered"], 125, "{run}");
        assert_eq!((&run["answered"], &run["dropped"]), (&run["offered"], &0.into()), "{run}");
    }
    let names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for ending in [".hgrm", ".svg", "report.html"] {
        assert!(names.iter().any(|name| name.ends_with(ending)), "{names:?}");
    }
}

#[test]
fn the_generator_shows_its_own_error() {
    let _others = among_others();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let ran =
        run(&["toggle", "--null", "--rate", "1000", "--time", "1s", "--warm-up", "200ms", "--out", out]);
    // Whether it was on time depends on the machine; that it says so does not.
    assert!(matches!(ran.code, Some(0 | 1)) && ran.out.contains("schedule error"), "{ran:?}");
    let run = &report(dir.path())["scenarios"][0]["runs"][0];
    assert_eq!(run["answered"], 1_000);
    let error = &run["generator"]["scheduleError"];
    assert!(error["count"].as_u64() >= Some(1_000) && error["p99"].as_f64() > Some(0.0), "{error}");
}

#[test]
fn who_presses_ctrl_c_sees_what_was_measured() {
    let _others = among_others();
    let server = Server::start();
    let args = ["toggle", "--url", &server.url, "--wait", "60s", "--rate", "100", "--time", "60s"];
    let process = bench(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(process.id().try_into().unwrap());
    thread::sleep(Duration::from_secs(4));
    kill(pid, Signal::SIGINT).unwrap();
    let output = process.wait_with_output().unwrap();
    let ran = Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.out.contains("select") && ran.out.contains("PASSED"), "{ran:?}");
}

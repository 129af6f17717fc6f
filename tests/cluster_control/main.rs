//! The control plane between real processes: ractor's registries are global, so that every node needs a process of its
//! own. The parent runs the cases; each node is this program again, told by its first argument who to be.

#![allow(clippy::unwrap_used, reason = "clippy knows tests only by their harness")]

mod cases;
mod child;
mod nodes;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(node) = arguments.first().and_then(|first| first.strip_prefix(child::FLAG)) {
        child::run(node);
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&str> = wanted(&arguments).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted));
    let cases = cases::ALL.iter().filter(|(name, _)| is_wanted(name));
    if arguments.iter().any(|argument| argument == "--list") {
        cases.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let failed: Vec<&str> =
        cases.filter(|(name, case)| !passes(name, *case)).map(|(name, _)| *name).collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// The names among what `cargo test` hands on; the rest is for the usual harness.
fn wanted(arguments: &[String]) -> impl Iterator<Item = &str> {
    let mut is_value = false;
    arguments.iter().map(String::as_str).filter(move |argument| {
        let is_name = !is_value && !argument.starts_with('-');
        is_value = matches!(*argument, "--skip" | "--test-threads" | "--color" | "--format" | "-Z");
        is_name
    })
}

/// One after the other: they measure how long a node takes to notice, and the machine is shared.
fn passes(name: &str, case: fn()) -> bool {
    let passed = std::panic::catch_unwind(case).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}

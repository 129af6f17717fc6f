//! Who may know whom: packages by their manifests, modules by the paths they name.

use super::tokens::{identifiers, is_inside, paths};
use super::{Tree, rust};

/// A package, the packages of ours it may depend on, and crates it must not.
struct Package {
    manifest: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

/// A foreign client: it knows nothing of ours, not even for its tests.
const BENCH: &str = "bench/Cargo.toml";

/// Starts real servers: for tests and benchmarks only.
const SERVERS: &str = "servers";

const PACKAGES: [Package; 4] = [
    Package { manifest: "engine/Cargo.toml", ours: &[], never: &[] },
    Package {
        manifest: "actors/Cargo.toml",
        ours: &["engine"],
        never: &["axum", "hyper", "sqlx", "redis", "serde_json"],
    },
    Package { manifest: "Cargo.toml", ours: &["engine", "actors"], never: &[] },
    Package { manifest: BENCH, ours: &[], never: &["engine", "actors", "hotseat"] },
];

pub fn packages(tree: &Tree) -> Vec<String> {
    let workspace = manifest(tree, "Cargo.toml");
    let mut found = Vec::new();
    for package in PACKAGES {
        let place = package.manifest;
        let table = manifest(tree, place);
        for (kind, name, dependency) in dependencies(&table) {
            let shared = &workspace["workspace"]["dependencies"].get(name);
            let of_workspace = dependency.get("workspace").is_some();
            let path = dependency
                .get("path")
                .or_else(|| shared.filter(|_| of_workspace).and_then(|dependency| dependency.get("path")));
            let for_tests = kind == "dev-dependencies" && place != BENCH && name == SERVERS;
            if path.is_some() && !package.ours.contains(&name) && !for_tests {
                found.push(format!("{place}: depends on {name}, which is ours"));
            }
            if kind == "dependencies" && package.never.contains(&name) {
                found.push(format!("{place}: depends on {name}"));
            }
            if kind == "dependencies" && place == "engine/Cargo.toml" {
                found.push(format!("{place}: the engine depends on nothing, but on {name}"));
            }
        }
    }
    found
}

fn manifest(tree: &Tree, place: &str) -> toml::Value {
    let text = tree.get(place).unwrap_or_else(|| panic!("{place} is missing"));
    toml::Value::Table(text.parse().unwrap_or_else(|error| panic!("{place}: {error}")))
}

/// Dependencies of every kind, also those of one target.
fn dependencies(table: &toml::Value) -> Vec<(&str, &str, &toml::Value)> {
    let mut found = Vec::new();
    let targets = table.get("target").and_then(toml::Value::as_table);
    let tables = std::iter::once(table).chain(targets.into_iter().flat_map(|targets| targets.values()));
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(kind).and_then(toml::Value::as_table);
            found.extend(
                entries.into_iter().flatten().map(|(name, dependency)| (kind, name.as_str(), dependency)),
            );
        }
    }
    found
}

const EDGE: [&str; 3] = ["crate::http", "crate::ws", "crate::sse"];
const ADAPTERS: [&str; 3] = ["crate::ledger", "crate::mirror", "crate::cluster"];
const DRIVERS: [&str; 2] = ["sqlx", "redis"];

/// Files that begin with one of `folders` name nothing inside `never`.
struct Arrow {
    folders: &'static [&'static str],
    never: &'static [&'static [&'static str]],
}

const ARROWS: [Arrow; 5] = [
    Arrow { folders: &["src/http", "src/ws", "src/sse"], never: &[&ADAPTERS, &DRIVERS, &["crate::app"]] },
    Arrow { folders: &["src/ledger", "src/mirror", "src/cluster"], never: &[&EDGE, &["axum", "crate::app"]] },
    Arrow { folders: &["src/catalogue", "src/audit"], never: &[&EDGE, &ADAPTERS, &DRIVERS] },
    Arrow { folders: &["actors/src"], never: &[&DRIVERS, &["axum", "hyper"]] },
    Arrow { folders: &["bench/"], never: &[&["engine", "actors", "hotseat"]] },
];

/// A file called `tests.rs` may bring the real adapter instead of a mock.
pub fn modules(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for arrow in ARROWS {
        for (file, text) in rust(tree, arrow.folders).filter(|(file, _)| !file.ends_with("/tests.rs")) {
            let named = paths(file, text);
            for never in arrow.never.iter().copied().flatten() {
                // A crate is named by a path through it; a lone word may be anything.
                let wrong = named.iter().find(|path| is_inside(path, never) && path.contains("::"));
                found.extend(wrong.map(|path| format!("{file}: names {path}")));
            }
        }
    }
    for (file, text) in rust(tree, &["src/"]).filter(|(file, _)| !is_composition(file)) {
        let named = paths(file, text);
        let names =
            |group: &[&str]| named.iter().any(|path| group.iter().any(|module| is_inside(path, module)));
        if names(&EDGE) && names(&ADAPTERS) {
            found.push(format!("{file}: names edge and adapters together, which is src/app.rs's business"));
        }
    }
    found
}

fn is_composition(file: &str) -> bool {
    file == "src/app.rs" || file.starts_with("src/app/")
}

/// The program around the simulator measures and prints; the engine and the simulator do not.
pub fn engine_is_pure(tree: &Tree) -> Vec<String> {
    const NEVER: [&str; 8] = [
        "std::time::Instant",
        "std::time::SystemTime",
        "std::net",
        "std::fs",
        "std::env",
        "std::thread",
        "std::io",
        "std::process",
    ];
    let mut found = Vec::new();
    for (file, text) in rust(tree, &["engine/src/"]).filter(|(file, _)| !file.starts_with("engine/src/bin/"))
    {
        let simulator = file.starts_with("engine/src/sim");
        for path in paths(file, text) {
            if NEVER.iter().any(|never| is_inside(&path, never)) {
                found.push(format!("{file}: names {path}"));
            }
            if !simulator && is_inside(&path, "crate::sim") {
                found.push(format!("{file}: the rules know the simulator ({path})"));
            }
        }
    }
    found
}

/// `src/config.rs` reads the environment; everything else is told. `env!` is the compiler's.
pub fn environment(tree: &Tree) -> Vec<String> {
    const READS: [&str; 7] =
        ["var", "var_os", "vars", "vars_os", "from_default_env", "try_from_default_env", "Env"];
    let mut found = Vec::new();
    let files = rust(tree, &["src/", "actors/src/", "engine/src/"]);
    for (file, text) in files.filter(|(file, _)| !file.starts_with("src/config")) {
        for path in paths(file, text) {
            let parts: Vec<&str> = path.split("::").collect();
            let of_env = parts.iter().any(|part| matches!(*part, "env" | "providers"));
            if parts.last().is_some_and(|last| READS.contains(last) && (of_env || last.contains("_env"))) {
                found.push(format!("{file}: {path}"));
            }
        }
        if identifiers(file, text).windows(2).any(|pair| pair[0] == "arg" && pair[1] == "env") {
            found.push(format!("{file}: an argument that reads the environment"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree_of;
    use super::*;

    fn manifests(engine: &str, actors: &str, bench: &str) -> Tree {
        let root = "[workspace.dependencies]\nengine = { path = \"engine\" }\nactors = { path = \"actors\" }\n\
                    servers = { path = \"tests/servers\" }\ntokio = \"1\"\n[dependencies]\nengine.workspace = true\nactors.workspace = true\n";
        [("Cargo.toml", root), ("engine/Cargo.toml", engine), ("actors/Cargo.toml", actors)]
            .into_iter()
            .chain([("bench/Cargo.toml", bench)])
            .map(|(place, text)| (place.to_owned(), text.to_owned()))
            .collect()
    }

    fn check_packages(engine: &str, actors: &str, bench: &str, violations: usize) {
        let found = packages(&manifests(engine, actors, bench));
        assert_eq!(found.len(), violations, "{found:?}");
    }

    #[test]
    fn a_dependency_against_the_arrows_is_found() {
        let uses_engine = "[dependencies]\nengine.workspace = true";
        check_packages("", uses_engine, "[dependencies]\ntokio.workspace = true", 0);
        check_packages("[dependencies]\ntokio.workspace = true", "", "", 1);
        check_packages("[dev-dependencies]\nproptest = \"1\"", "", "", 0);
        check_packages("[dev-dependencies]\nactors.workspace = true", "", "", 1);
        check_packages("", "[dev-dependencies]\nservers.workspace = true", "", 0);
        check_packages("", "[dependencies]\nservers.workspace = true", "", 1);
        check_packages("", "", "[dev-dependencies]\nservers.workspace = true", 1);
        check_packages("", "[dependencies]\nsqlx = \"0.9\"", "", 1);
        check_packages("", "[target.'cfg(unix)'.dependencies]\nredis = \"1\"", "", 1);
        check_packages("", "", "[dependencies]\nwire = { path = \"../wire\" }", 1);
        check_packages("", "", "[dev-dependencies]\nengine.workspace = true", 1);
    }

    fn check(rule: fn(&Tree) -> Vec<String>, file: &str, text: &str, violations: usize) {
        let found = rule(&tree_of(file, text));
        assert_eq!(found.len(), violations, "{file}: {text}\n{found:?}");
    }

    #[test]
    fn a_module_that_knows_too_much_is_found() {
        check(modules, "src/http/seats.rs", "use crate::ledger::sqlite::SqliteLedger;", 1);
        check(modules, "src/http/seats.rs", "use crate::{catalogue, mirror::local};", 1);
        check(modules, "src/http/seats.rs", "fn f(e: sqlx::Error) {}", 1);
        check(modules, "src/http/seats.rs", "use actors::ports::Ledger; fn f(ledger: u8) {}", 0);
        check(modules, "src/ledger/sqlite.rs", "use super::super::http::wire;", 1);
        check(modules, "src/mirror/local.rs", "use axum::Json;", 1);
        check(modules, "src/audit/tests.rs", "use crate::ledger::sqlite;", 0);
        check(modules, "src/audit/mod.rs", "use crate::ledger::sqlite;", 1);
        check(modules, "src/cli/import.rs", "use crate::ledger::sqlite; use crate::http::wire;", 1);
        check(modules, "src/app.rs", "use crate::ledger::sqlite; use crate::http::wire;", 0);
        check(modules, "actors/src/writer.rs", "use sqlx::Row;", 1);
        check(modules, "bench/src/main.rs", "use hotseat::http::wire;", 1);
    }

    #[test]
    fn an_engine_that_looks_around_is_found() {
        check(engine_is_pure, "engine/src/shard.rs", "use std::time::{Duration, Instant};", 1);
        check(engine_is_pure, "engine/src/sim/world.rs", "fn f() { std::fs::read(a); }", 1);
        check(engine_is_pure, "engine/src/shard.rs", "use crate::sim::prng;", 1);
        check(engine_is_pure, "engine/src/lib.rs", "pub mod sim; pub use sim_time::X;", 0);
        check(engine_is_pure, "engine/src/bin/sim.rs", "use std::time::Instant;", 0);
    }

    #[test]
    fn a_second_reader_of_the_environment_is_found() {
        check(environment, "src/app.rs", "fn f() { std::env::var(\"A\"); }", 1);
        check(environment, "src/telemetry.rs", "use std::env; fn f() { env::var_os(\"A\"); }", 1);
        check(environment, "src/telemetry.rs", "fn f() { EnvFilter::from_default_env(); }", 1);
        check(environment, "src/cli/mod.rs", "struct A { #[arg(env = \"A\")] a: u8 }", 1);
        check(environment, "src/config.rs", "fn f() { std::env::var(\"A\"); }", 0);
        check(environment, "src/app.rs", "fn f() { env!(\"A\"); std::env::args(); }", 0);
    }
}

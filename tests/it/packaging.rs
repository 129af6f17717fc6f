//! `docker-compose.yml`, `Dockerfile` and what `deploy/` has for them, held against the binary and the documents. No
//! container is built here, for want of Docker. What is checked: that each node's environment is a valid configuration
//! that hands out no tokens; that secrets have no default; that names, ports, images and versions agree; that the
//! image's health check, run as it stands, tells a ready server from one that is gone; that the documents name
//! services and commands that exist; that the same processes with the same settings sell on this machine
//! ([`together`]) behind the real nginx ([`door`]), and have the metrics that dashboard and alarms name ([`alarms`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use self::yaml::parse;
use crate::support::{Place, Ran, Server, hotseat, run};

mod alarms;
mod door;
mod together;
mod yaml;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const NODES: [&str; 3] = ["hotseat-1", "hotseat-2", "hotseat-3"];

/// What whoever starts the containers makes up.
const SECRETS: [&str; 3] = ["GRAFANA_PASSWORD", "HOTSEAT_AUTH_SECRET", "POSTGRES_PASSWORD"];

fn read(name: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{name}")).unwrap()
}

fn compose() -> Value {
    parse(&read("docker-compose.yml"))
}

fn services() -> serde_json::Map<String, Value> {
    compose()["services"].as_object().unwrap().clone()
}

/// The instructions of the Dockerfile, by stage, with continued lines joined.
fn dockerfile() -> Vec<Vec<(String, String)>> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let mut stages = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        let stage: &mut Vec<(String, String)> = stages.last_mut().expect("FROM comes first");
        stage.push((instruction.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// The instructions of this name in the image that is run.
fn image(instruction: &str) -> Vec<String> {
    let last = dockerfile().pop().unwrap();
    last.into_iter().filter(|(name, _)| name == instruction).map(|(_, rest)| rest).collect()
}

/// What compose would put for `${NAME:?why}`; every other way to name a variable is refused.
fn substituted(text: &str) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        let (name, why) = variable.split_once(":?").unwrap_or_else(|| panic!("{variable} has a default"));
        assert!(why.len() > 20, "{name}: {why:?} does not say how to make one");
        assert!(SECRETS.contains(&name), "{name} is in no document");
        result.push_str("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        result.push_str(rest);
    }
    result
}

/// The environment of a node in its container: the image's, then compose's.
fn environment(node: &str) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for line in image("ENV") {
        for setting in line.split_whitespace() {
            let (name, value) = setting.split_once('=').unwrap();
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    for (name, value) in services()[node]["environment"].as_object().unwrap() {
        environment.insert(name.clone(), substituted(value.as_str().unwrap()));
    }
    environment
}

#[test]
fn the_containers_environment_is_a_valid_configuration() {
    for node in NODES {
        let said = Ran::of(hotseat().arg("check-config").envs(environment(node)).output().unwrap()).success();
        for line in [
            "server.listen = \"0.0.0.0:8080\"  (environment variable HOTSEAT_SERVER_LISTEN)",
            "node.data = \"/var/lib/hotseat\"  (environment variable HOTSEAT_NODE_DATA)",
            "auth.secret = (kept secret)  (environment variable HOTSEAT_AUTH_SECRET)",
            &format!("cluster.tls_key = \"/etc/hotseat/certificates/{node}.key\"  (environment variable"),
        ] {
            assert!(said.contains(line), "no {line} in\n{said}");
        }
        assert!(!said.contains("dev_tokens"), "tokens for whoever asks:\n{said}");
        assert!(!said.contains("confirm_role"), "{said}");
    }
}

/// Nodes differ in what they are called, and in nothing else.
#[test]
fn the_nodes_are_alike() {
    let all = services();
    let named = |node: &str| {
        let mut has = all[node].clone();
        // It names all of them, and `the_nodes_lead_to_what_is_there` reads it.
        has["environment"].as_object_mut().unwrap().remove("HOTSEAT_CLUSTER_PEERS").unwrap();
        has.to_string().replace(node, "NODE")
    };
    for node in &NODES[1..] {
        assert_eq!(named(node), named(NODES[0]));
    }
}

#[test]
fn secrets_have_no_default() {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for (service, has) in services() {
        for (name, value) in has["environment"].as_object().into_iter().flatten() {
            // `substituted` refuses every other form.
            let value = value.as_str().unwrap();
            substituted(value);
            let secret = ["SECRET", "PASSWORD"].iter().any(|word| name.contains(word));
            assert!(!secret || value.starts_with("${"), "{service}: {name} is written down");
            found.extend(SECRETS.into_iter().filter(|secret| value.contains(&format!("${{{secret}:?"))));
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), SECRETS);
}

/// README's line makes exactly the secrets that compose wants, for nobody else to read.
#[test]
fn the_readme_makes_the_secrets() {
    let readme = read("README.md");
    let line = readme.lines().find(|line| line.ends_with("> .env)")).expect("a line that makes .env");
    assert!(read("docker-compose.yml").contains(line), "docker-compose.yml says it otherwise");
    let place = tempfile::tempdir().unwrap();
    let made = Command::new("bash").args(["-euc", line]).current_dir(place.path()).status().unwrap();
    assert!(made.success(), "{line}");
    let file = place.path().join(".env");
    let text = fs::read_to_string(&file).unwrap();
    let mut made: Vec<&str> = text
        .lines()
        .map(|line| line.split_once('=').filter(|(_, secret)| secret.len() >= 32).unwrap().0)
        .collect();
    made.sort_unstable();
    assert_eq!(made, SECRETS);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o77,
        0
    );
    for ignore in [".gitignore", ".dockerignore"] {
        assert!(read(ignore).lines().any(|line| line.trim_start_matches('/') == ".env"), "{ignore}");
    }
}

#[test]
fn names_ports_and_images_agree() {
    let services = services();
    let images = [
        ("certificates", "hotseat"),
        ("grafana", "grafana/grafana:13.2.3"),
        ("hotseat-1", "hotseat"),
        ("hotseat-2", "hotseat"),
        ("hotseat-3", "hotseat"),
        ("nginx", "nginx:1.30"),
        ("postgres", "postgres:16"),
        ("prometheus", "prom/prometheus:v3.13.3"),
        ("redis", "redis:7"),
    ];
    let found: Vec<_> =
        services.iter().map(|(name, has)| (name.as_str(), has["image"].as_str().unwrap())).collect();
    assert_eq!(found, images);
    let readme = read("README.md");
    for what in ["PostgreSQL 16", "Redis 7", "nginx 1.30", "Prometheus 3.13", "Grafana 13"] {
        assert!(readme.contains(what), "README.md does not say {what}");
    }
    for (name, has) in &services {
        let once = name == "certificates";
        assert!(once || has["restart"] == "unless-stopped", "{name} stays down");
        let check = image("HEALTHCHECK").len() == 1 && has["image"] == "hotseat";
        assert!(once || check || has["healthcheck"]["test"][0] == "CMD", "{name} has no health check");
        assert_eq!((&has["read_only"], &has["cap_drop"]), (&json!("true"), &json!(["ALL"])), "{name}");
        assert_eq!(has["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        for (other, after) in has["depends_on"].as_object().into_iter().flatten() {
            let wanted =
                if other == "certificates" { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(after["condition"], wanted, "{name} after {other}");
            assert!(services.contains_key(other), "{name} after {other}");
        }
    }
    // To this machine only; and nobody is asked on a port of an operator.
    let ports: BTreeMap<&str, &Value> = services
        .iter()
        .filter(|(_, has)| !has["ports"].is_null())
        .map(|(name, has)| (name.as_str(), &has["ports"]))
        .collect();
    let expected = [("grafana", 3000), ("nginx", 8080), ("prometheus", 9090)]
        .map(|(name, port)| (name, json!([format!("127.0.0.1:{port}:{port}")])));
    assert_eq!(ports, expected.iter().map(|(name, ports)| (*name, ports)).collect());
    for (_, port) in &expected {
        let port = port[0].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        assert!(readme.contains(&format!("http://localhost:{port}")), "README.md does not name port {port}");
    }
}

#[test]
fn the_nodes_lead_to_what_is_there() {
    let services = services();
    let listen = image("EXPOSE").remove(0);
    for node in NODES {
        let environment = environment(node);
        for (key, expected) in [
            ("HOTSEAT_NODE_NAME", node.to_owned()),
            ("HOTSEAT_SERVER_LISTEN", format!("0.0.0.0:{listen}")),
            ("HOTSEAT_NODE_PUBLIC_URL", format!("http://{node}:{listen}")),
            ("HOTSEAT_CLUSTER_PEER_URL", format!("{node}:7400")),
            ("HOTSEAT_CLUSTER_PEERS", NODES.map(|node| format!("{node}:7400")).join(" ")),
        ] {
            assert_eq!(environment[key], expected, "{node}: {key}");
        }
        for (key, service, port) in
            [("HOTSEAT_LEDGER_URL", "postgres", 5432), ("HOTSEAT_MIRROR_URL", "redis", 6379)]
        {
            let host = format!("{service}:{port}");
            assert!(environment[key].contains(&host), "{key} does not lead to {host}");
            assert!(services[service]["networks"][0] == "back" && services[node]["networks"][1] == "back");
        }
        let made = services["certificates"]["entrypoint"].as_array().unwrap();
        assert!(made.contains(&json!(node)), "no certificate for {node}");
        let data = &environment["HOTSEAT_NODE_DATA"];
        assert_eq!(image("VOLUME"), [data.as_str()]);
        assert_eq!(services[node]["volumes"][0], format!("{node}:{data}"));
        assert_eq!(seconds(&services[node]["stop_grace_period"]), 15);
        assert!(
            seconds(&services[node]["stop_grace_period"])
                > hotseat::config::Config::default().shutdown.grace.as_secs()
        );
    }
}

fn seconds(span: &Value) -> u64 {
    let text = span.as_str().unwrap();
    text.strip_suffix('s').unwrap_or_else(|| panic!("{text}: not in seconds")).parse().unwrap()
}

/// What is mounted from here is here, and what is kept is declared.
#[test]
fn volumes_lead_somewhere() {
    let compose = compose();
    for (name, has) in services() {
        for volume in has["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let there = match source.strip_prefix("./") {
                Some(path) => {
                    Path::new(ROOT).join(path).exists() && volume.as_str().unwrap().ends_with(":ro")
                }
                None => compose["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(there, "{name}: {volume}");
        }
    }
}

#[test]
fn the_image_is_built_by_our_rust_and_runs_as_nobody() {
    let stages = dockerfile();
    let from: Vec<&str> = stages.iter().map(|stage| stage[0].1.as_str()).collect();
    let manifest = read("Cargo.toml");
    let rust =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert_eq!(from, [format!("rust:{rust}-slim-bookworm AS build").as_str(), "debian:bookworm-slim"]);
    let user: u32 = image("USER")[0].parse().unwrap();
    assert!(user >= 1_000);
    assert!(image("RUN")[0].contains(&format!("--uid {user} ")));
    assert_eq!(
        (image("ENTRYPOINT"), image("CMD")),
        (vec!["[\"hotseat\"]".to_owned()], vec!["[\"serve\"]".to_owned()])
    );
    // Nothing that the build reads is kept out of it, and neither secrets nor gigabytes get in.
    let ignored = read(".dockerignore");
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    for kept_out in [".git", "target", "hotseat-data", ".env", "certificates"] {
        assert!(ignored.contains(&kept_out));
    }
    for needed in [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "engine",
        "actors",
        "bench",
        "benches",
        "tests",
        "migrations",
        "scripts",
    ] {
        assert!(!ignored.contains(&needed), "{needed}");
    }
    for script in image("COPY").iter().filter_map(|copy| copy.strip_prefix("scripts/")) {
        let name = script.split(' ').next().unwrap();
        assert!(Path::new(ROOT).join("scripts").join(name).exists(), "{name}");
        assert_eq!(services()["certificates"]["entrypoint"][0], name);
    }
}

#[test]
fn the_health_check_tells_a_ready_server_from_one_that_is_gone() {
    let place = Place::new();
    let server = Server::start(&place.data, &[]);
    let check = image("HEALTHCHECK").remove(0);
    let command: Vec<String> = serde_json::from_str(check.split_once("CMD ").unwrap().1).unwrap();
    // Inside, a node's listener for everybody is its listener for itself as well.
    let ops = environment(NODES[0])["HOTSEAT_SERVER_OPS_LISTEN"].replace("0.0.0.0:", "127.0.0.1/");
    let healthy = |server: &str| {
        let args: Vec<String> = command.iter().map(|arg| arg.replace(&ops, server)).collect();
        assert_ne!(args, command, "the check does not ask {ops}");
        Command::new(&args[0]).args(&args[1..]).output().unwrap().status.success()
    };
    let address = server.ops.strip_prefix("http://").unwrap().replace(':', "/");
    let public = server.api.strip_prefix("http://").unwrap().replace(':', "/");
    assert!(healthy(&address));
    assert!(!healthy(&public), "that listener has no /readyz");
    server.stop();
    assert!(!healthy(&address));
}

/// `docker compose exec SERVICE hotseat COMMAND` in every document, and in the files' own comments.
#[test]
fn documents_name_services_and_commands_that_exist() {
    let services = services();
    let mut found = 0;
    let mut names = vec!["README.md".to_owned(), "docker-compose.yml".to_owned()];
    let docs = fs::read_dir(format!("{ROOT}/docs")).unwrap();
    names.extend(docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap())));
    for name in names.iter().filter(|name| name.contains('.')) {
        for line in read(name).lines() {
            let Some((_, rest)) = line.split_once("docker compose exec ") else { continue };
            let words: Vec<&str> = rest.trim_start_matches("-T ").split_whitespace().collect();
            assert!(services.contains_key(words[0].trim_end_matches('`')), "{name}: {line}");
            if words[1] == "hotseat" {
                let words = words[2..].iter().map(|word| word.trim_end_matches('`'));
                let command = words.take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
                run(&command.chain(["--help"]).collect::<Vec<_>>()).success();
                found += 1;
            }
        }
    }
    assert!(found >= 3, "only {found}");
}

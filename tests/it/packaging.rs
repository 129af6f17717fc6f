//! `docker-compose.yml` and `Dockerfile`, held against the binary and the documents. No container is built here, for
//! want of Docker. What is checked: that the environment is a valid configuration, which sells when its addresses are
//! this machine's, and hands out no tokens; that secrets have no default; that names, ports, images and versions agree; that
//! the image's health check, run as it stands, tells a ready server from one that is gone; that the documents name
//! services and commands that exist.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use servers::{Postgres, Redis, free_port};

use self::yaml::parse;
use crate::support::{Place, Ran, Server, hotseat, request, run};

mod yaml;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(name: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{name}")).unwrap()
}

fn compose() -> Value {
    parse(&read("docker-compose.yml"))
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
        result.push_str(match name {
            "HOTSEAT_AUTH_SECRET" => "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
            "POSTGRES_PASSWORD" => "0123456789abcdef",
            name => panic!("{name} is in no document"),
        });
        result.push_str(rest);
    }
    result
}

/// The environment of the hotseat in its container: the image's, then compose's.
fn environment() -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for line in image("ENV") {
        for setting in line.split_whitespace() {
            let (name, value) = setting.split_once('=').unwrap();
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    for (name, value) in compose()["services"]["hotseat"]["environment"].as_object().unwrap() {
        environment.insert(name.clone(), substituted(value.as_str().unwrap()));
    }
    environment
}

#[test]
fn the_containers_environment_is_a_valid_configuration() {
    let said = Ran::of(hotseat().arg("check-config").envs(environment()).output().unwrap()).success();
    for line in [
        "server.listen = \"0.0.0.0:8080\"  (environment variable HOTSEAT_SERVER_LISTEN)",
        "node.data = \"/var/lib/hotseat\"  (environment variable HOTSEAT_NODE_DATA)",
        "auth.secret = (kept secret)  (environment variable HOTSEAT_AUTH_SECRET)",
    ] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
    assert!(!said.contains("dev_tokens"), "tokens for whoever asks:\n{said}");
    assert!(!said.contains("confirm_role"), "{said}");
}

/// The same settings on this machine: other addresses, and nothing else.
#[test]
fn the_containers_environment_sells() {
    let (postgres, redis, place) = (Postgres::shared(), Redis::start(), Place::new());
    let mut environment = environment();
    let port = free_port();
    for (key, value) in [
        ("HOTSEAT_LEDGER_URL", postgres.database()),
        ("HOTSEAT_MIRROR_URL", redis.url()),
        ("HOTSEAT_SERVER_LISTEN", format!("0.0.0.0:{port}")),
        ("HOTSEAT_NODE_PUBLIC_URL", format!("http://127.0.0.1:{port}")),
        ("HOTSEAT_SERVER_OPS_LISTEN", "127.0.0.1:0".to_owned()),
        ("HOTSEAT_NODE_DATA", place.data.to_str().unwrap().to_owned()),
    ] {
        assert!(environment.insert(key.to_owned(), value).is_some(), "{key} is in no file");
    }
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let exec = |args: &[&str]| {
        Ran::of(hotseat().args(args).envs(environment.iter().copied()).output().unwrap()).success()
    };
    let mut server = Server::start_in(&place.data, &["serve"], &environment);
    let plan = place.file("hall.json", r#"{"sections":[{"code":"A","capacity":10}]}"#);
    exec(&["import", &plan, "--concert", "Hall", "--at", "2027-05-01T19:00:00Z"]);
    server.until(|server| server.get("/api/v1/options/1/seats").status == 200);
    let token = exec(&["token", "--user", "7", "--role", "USER"]);
    assert_eq!(server.hold(1, &[0], token.trim(), "k").status, 201);
    assert!(exec(&["audit"]).contains("no differences"));
    let dev = request("POST", &format!("{}/api/v1/dev/token", server.api), &[], Some(&json!({"userId": 7})));
    assert_eq!(dev.unwrap().status, 404, "tokens for whoever asks");
    server.stop();
}

#[test]
fn secrets_have_no_default() {
    let compose = compose();
    for (service, variable) in [("hotseat", "HOTSEAT_AUTH_SECRET"), ("postgres", "POSTGRES_PASSWORD")] {
        let value = compose["services"][service]["environment"][variable].as_str().unwrap();
        assert!(value.starts_with(&format!("${{{variable}:?")), "{value}");
    }
    // `substituted` refuses every other form.
    let environments = compose["services"].as_object().unwrap().values();
    for value in
        environments.filter_map(|service| service["environment"].as_object()).flat_map(|e| e.values())
    {
        substituted(value.as_str().unwrap());
    }
}

#[test]
fn names_ports_and_images_agree() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["hotseat", "postgres", "redis"]);
    assert_eq!(
        (&services["postgres"]["image"], &services["redis"]["image"]),
        (&json!("postgres:16"), &json!("redis:7"))
    );
    let hotseat = &services["hotseat"];
    for (service, after) in hotseat["depends_on"].as_object().unwrap() {
        assert_eq!(after["condition"], "service_healthy");
        let check = &services[service]["healthcheck"];
        assert_eq!(check["test"][0], "CMD", "{service}: {check}");
    }
    let environment = environment();
    for (key, service, port) in
        [("HOTSEAT_LEDGER_URL", "postgres", 5432), ("HOTSEAT_MIRROR_URL", "redis", 6379)]
    {
        let host = format!("{service}:{port}");
        assert!(environment[key].contains(&host), "{key} does not lead to {host}");
    }
    // Only the public listener is published, and to this machine only.
    let listen = environment["HOTSEAT_SERVER_LISTEN"].strip_prefix("0.0.0.0:").unwrap();
    assert_eq!(hotseat["ports"], json!([format!("127.0.0.1:{listen}:{listen}")]));
    assert_eq!(image("EXPOSE"), [listen]);
    assert_eq!(environment["HOTSEAT_NODE_PUBLIC_URL"], format!("http://localhost:{listen}"));
    assert!(
        services.values().filter(|service| *service != hotseat).all(|service| service["ports"].is_null())
    );
    // What is kept is kept in a volume, and the volumes are declared.
    let data = &environment["HOTSEAT_NODE_DATA"];
    assert_eq!(image("VOLUME"), [data.as_str()]);
    assert_eq!(hotseat["volumes"], json!([format!("hotseat-data:{data}")]));
    for volume in services.values().filter_map(|service| service["volumes"][0].as_str()) {
        let name = volume.split(':').next().unwrap();
        assert!(compose["volumes"].as_object().unwrap().contains_key(name), "{volume}");
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
    for kept_out in [".git", "target", "hotseat-data"] {
        assert!(ignored.contains(&kept_out));
    }
    for needed in
        ["Cargo.toml", "Cargo.lock", "src", "engine", "actors", "bench", "benches", "tests", "migrations"]
    {
        assert!(!ignored.contains(&needed), "{needed}");
    }
}

#[test]
fn the_health_check_tells_a_ready_server_from_one_that_is_gone() {
    let place = Place::new();
    let server = Server::start(&place.data, &[]);
    let check = image("HEALTHCHECK").remove(0);
    let command: Vec<String> = serde_json::from_str(check.split_once("CMD ").unwrap().1).unwrap();
    let ops = environment()["HOTSEAT_SERVER_OPS_LISTEN"].replace(':', "/");
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
    let services = compose()["services"].as_object().unwrap().clone();
    let mut found = 0;
    let mut names = vec!["README.md".to_owned(), "docker-compose.yml".to_owned()];
    let docs = fs::read_dir(format!("{ROOT}/docs")).unwrap();
    names.extend(docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap())));
    for name in names.iter().filter(|name| name.contains('.')) {
        for line in read(name).lines() {
            let Some((_, rest)) = line.split_once("docker compose exec ") else { continue };
            let words: Vec<&str> = rest.trim_start_matches("-T ").split_whitespace().collect();
            assert!(services.contains_key(words[0]), "{name}: {line}");
            if words[1] == "hotseat" {
                let command = words[2].trim_end_matches('`');
                run(&[command, "--help"]).success();
                found += 1;
            }
        }
    }
    assert!(found >= 3, "only {found}");
    let readme = read("README.md");
    for part in ["HOTSEAT_AUTH_SECRET=$(openssl rand -hex 32)", "POSTGRES_PASSWORD=$(openssl rand -hex 16)"] {
        assert!(readme.contains(part), "README.md does not set {part}");
    }
}

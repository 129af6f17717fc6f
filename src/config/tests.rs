use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::layers::{Changed, keys, load_from};
use super::*;

/// Writes a file and loads it with an environment; what is wrong, line by line.
fn load_text(text: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Loaded, String> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cluster.toml");
    std::fs::write(&path, text).unwrap();
    let flags = Flags { config: Some(path.clone()), ..flags.clone() };
    load_from(&flags, variables(environment))
        .map_err(|problems| problems.to_string().replace(&path.display().to_string(), "FILE"))
}

fn variables(environment: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    environment.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
}

fn check_errors(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        match load_text(text, &[], &Flags::default()) {
            Ok(_) => panic!("{text:?} was accepted"),
            Err(found) => assert_eq!(&found, expected, "for {text:?}"),
        }
    }
}

#[test]
fn cluster_toml_is_complete_and_at_the_defaults() {
    let text = include_str!("../../cluster.toml");
    let written: toml::Table = text.parse().unwrap();
    assert_eq!(written, toml::Table::try_from(Config::default()).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(lines[n - 1].starts_with('#'), "no comment above {line}");
        }
    }
    let loaded = load_text(text, &[], &Flags::default()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.changed, []);
}

#[test]
fn the_engine_has_the_same_defaults() {
    assert_eq!(Config::default().engine(), engine::Settings::default());
    assert_eq!(Config::default().gate_settings(), engine::gate::Settings::default());
}

/// A legal value of every key that is not its default.
const OTHERS: [(&str, &str); 56] = [
    ("node.name", "east-1"),
    ("node.public_url", "https://seats.example.com"),
    ("node.data", "/var/lib/hotseat"),
    ("server.listen", "127.0.0.1:9090"),
    ("server.ops_listen", "[::1]:9091"),
    ("ledger.ack_timeout", "3s"),
    ("ledger.durability", "relaxed"),
    ("cluster.shards", "4096"),
    ("cluster.lease_ttl", "6s"),
    ("cluster.lease_renew", "2s"),
    ("cluster.lease_margin", "500ms"),
    ("cluster.listen", "127.0.0.1:7400"),
    ("cluster.peer_url", "localhost:7400"),
    ("cluster.peers", "localhost:7400 127.0.0.1:7401"),
    ("cluster.tls_ca", "/etc/hotseat/ca.pem"),
    ("cluster.tls_cert", "/etc/hotseat/node.pem"),
    ("cluster.tls_key", "/etc/hotseat/node.key"),
    ("rebalance.interval", "1m"),
    ("rebalance.at_once", "8"),
    ("select.ttl", "45s"),
    ("select.max_age", "10m"),
    ("hold.ttl", "2m"),
    ("paying.ttl", "10m"),
    ("idempotency.horizon", "1h"),
    ("sales.confirm_role", "ADMIN"),
    ("sales.reservations_per_user", "12"),
    ("auth.secret", "0123456789abcdef0123456789abcdef"),
    ("auth.public_key", "/etc/hotseat/issuer.pem"),
    ("auth.issuer", "https://login.example.com"),
    ("auth.dev_tokens", "true"),
    ("gate.pass_ttl", "2m"),
    ("gate.pass_max_age", "1h"),
    ("gate.grace", "30s"),
    ("gate.ghost_ttl", "5m"),
    ("gate.tick", "1s"),
    ("gate.restore_timeout", "10s"),
    ("gate.keys", "7:0123456789abcdef0123456789abcdef"),
    ("gate.joins_per_second", "5000/s burst 10000"),
    ("gate.joins_per_ip", "10/s burst 100"),
    ("gate.joins_per_user", "2/s burst 5"),
    ("gate.beacon_genesis", "2023-08-23T15:09:27Z"),
    ("gate.beacon_period", "3s"),
    ("edge.click_timeout", "1s"),
    ("edge.trusted_proxies", "10.0.0.0/8 ::1"),
    ("feed.tick", "100ms"),
    ("mirror.url", "redis://cache"),
    ("ws.origins", "https://seats.example.com http://localhost:3000"),
    ("ws.send_buffer", "65536"),
    ("ws.stall_timeout", "5s"),
    ("ws.max_watches", "32"),
    ("ws.messages_per_second", "100"),
    ("mirror.restore_timeout", "300ms"),
    ("shutdown.grace", "30s"),
    ("log.format", "json"),
    ("log.level", "info,hotseat::http=debug"),
    ("ledger.url", "postgres://db.example.com:5433/hotseat"),
];

fn variable(key: &str) -> String {
    format!("HOTSEAT_{}", key.replace('.', "_").to_uppercase())
}

/// What a key is not legal without.
fn companions(key: &str) -> Vec<(String, &'static str)> {
    let needs: &[&str] = match key {
        // Whoever has peers shares a ledger with them.
        "cluster.listen" => &["ledger.url"],
        "cluster.peers" => &["cluster.listen", "ledger.url"],
        "cluster.tls_ca" | "cluster.tls_cert" | "cluster.tls_key" => {
            &["cluster.tls_ca", "cluster.tls_cert", "cluster.tls_key"]
        }
        "gate.beacon_genesis" | "gate.beacon_period" => &["gate.beacon_genesis", "gate.beacon_period"],
        _ => &[],
    };
    let others = OTHERS.iter().filter(|(other, _)| needs.contains(other) && *other != key);
    others.map(|(other, value)| (variable(other), *value)).collect()
}

#[test]
fn every_key_can_come_from_the_environment() {
    for (key, _) in keys() {
        let name = variable(&key);
        let source = format!("environment variable {name}");
        let needed = companions(&key);
        let needed = || needed.iter().map(|(name, value)| (name.as_str(), *value));
        let load = |value| {
            let all: Vec<_> = needed().chain([(name.as_str(), value)]).collect();
            load_from(&Flags::default(), variables(&all))
        };
        let (_, other) = OTHERS.iter().find(|(known, _)| *known == key).expect(&key);
        let loaded = load(other).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.changed.len(), 1 + needed().count(), "{key}: {:?}", loaded.changed);
        let said = loaded.changed.iter().find(|changed| changed.key == key);
        let Changed { key: changed, value, source: by } = said.expect(&key);
        assert_eq!((changed, by), (&key, &source));
        let secret = key == "auth.secret" || key == "gate.keys";
        assert!(if secret { value == "(kept secret)" } else { value.trim_matches('"') == *other }, "{value}");
    }
}

#[test]
fn the_later_layer_wins() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\nops_listen = \"127.0.0.1:2\"\n[hold]\nttl = \"1m\"\n";
    let environment =
        [("HOTSEAT_SERVER_LISTEN", "127.0.0.1:3"), ("HOTSEAT_SERVER_OPS_LISTEN", "127.0.0.1:4")];
    let flags = Flags { listen: Some("127.0.0.1:5".parse().unwrap()), ..Flags::default() };
    let config = load_text(text, &environment, &flags).unwrap().config;
    assert_eq!(config.server.listen.port(), 5);
    assert_eq!(config.server.ops_listen.port(), 4);
    assert_eq!(config.hold.ttl, Duration::from_secs(60));
    assert_eq!(config.paying.ttl, Duration::from_secs(300));
}

#[test]
fn the_demo_hands_out_tokens_and_lets_buyers_confirm() {
    let flags = Flags { demo: true, data: Some(PathBuf::from("d")), ..Flags::default() };
    let config = load_text("[auth]\ndev_tokens = false\n", &[], &flags).unwrap().config;
    assert!(config.auth.dev_tokens);
    assert_eq!(config.sales.confirm_role, Role::User);
    assert_eq!(config.node.data, Path::new("d"));
}

#[test]
fn addresses_of_ledgers_are_refused_without_their_password() {
    check_errors(&[
        (
            "[ledger]\nurl = \"mysql://me:hunter2@db/x\"",
            "FILE: ledger.url: expected \"sqlite:\" (the embedded ledger in node.data) or \
             \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\", found \"mysql://db/x\"",
        ),
        (
            "[ledger]\nurl = \"postgres://db/x\"\ndurability = \"relaxed\"",
            "FILE: ledger.durability: expected \"full\" with PostgreSQL, whose own settings say what a commit \
             survives, found \"relaxed\"",
        ),
    ]);
}

#[test]
fn a_cluster_is_private_or_secret() {
    let tls = "a file: peers that are not all on loopback talk TLS with certificates on both sides";
    let three = "all three of cluster.tls_ca, cluster.tls_cert and cluster.tls_key, or none";
    check_errors(&[
        (
            "[cluster]\nlisten = \"node-1:7400\"",
            &format!("FILE: cluster.listen: expected {}, found \"node-1:7400\"", text::ADDRESS),
        ),
        (
            "[cluster]\nlisten = \"127.0.0.1:7400\"\npeers = \"127.0.0.1:7400 http://x\"",
            &format!("FILE: cluster.peers: expected {}, found \"http://x\"", peers::PEERS),
        ),
        (
            "[cluster]\npeers = \"127.0.0.1:7400\"",
            "default: cluster.listen: expected an address for the peers of cluster.peers, found nothing",
        ),
        (
            "[cluster]\nlisten = \"127.0.0.1:7400\"\npeer_url = \"127.0.0.1\"",
            &format!("FILE: cluster.peer_url: expected {}, found \"127.0.0.1\"", peers::PEER),
        ),
        (
            "[cluster]\nlisten = \"10.0.0.1:7400\"",
            &format!("default: cluster.tls_ca: expected {tls}, found nothing"),
        ),
        (
            "[cluster]\nlisten = \"127.0.0.1:7400\"\npeers = \"dns:hotseat.svc:7400\"",
            &format!("default: cluster.tls_ca: expected {tls}, found nothing"),
        ),
        (
            "[cluster]\ntls_ca = \"ca.pem\"\ntls_key = \"node.key\"",
            &format!("default: cluster.tls_cert: expected {three}, found nothing"),
        ),
        (
            "[cluster]\nlisten = \"0.0.0.0:7400\"\ntls_ca = \"a\"\ntls_cert = \"b\"\ntls_key = \"c\"",
            "default: cluster.peer_url: expected the address that peers dial, where cluster.listen is 0.0.0.0:7400, \
             found nothing",
        ),
        (
            "[cluster]\nlisten = \"127.0.0.1:7400\"",
            "default: ledger.url: expected a PostgreSQL that all nodes share, since cluster.listen is set, found the \
             embedded ledger, which is one node's",
        ),
        (
            "[rebalance]\nat_once = 0",
            "FILE: rebalance.at_once: expected a whole number from 1 to 64, found 0",
        ),
    ]);
}

#[test]
fn what_gates_may_not_be_is_refused() {
    let keys = format!("FILE: gate.keys: expected {}, found something else", super::gate::KEYS);
    let secret = "0123456789abcdef0123456789abcdef";
    let key = |text: String| format!("[gate]\nkeys = \"{text}\"");
    for text in [
        secret.to_owned(),
        "1:hunter2".to_owned(),
        format!("256:{secret}"),
        format!("+1:{secret}"),
        format!("1:{secret} 1:x{secret}"),
    ] {
        check_errors(&[(&key(text), &keys)]);
    }
    let period = "a duration from 1s to 24h together with gate.beacon_genesis, and 0s without";
    check_errors(&[
        ("[gate]\ntick = \"50ms\"", "FILE: gate.tick: expected a duration from 100ms to 10s, found 50ms"),
        (
            "[gate]\npass_ttl = \"1h\"",
            "default: gate.pass_max_age: expected at least gate.pass_ttl (1h), found 30m",
        ),
        ("[gate]\nghost_ttl = \"30s\"", "FILE: gate.ghost_ttl: expected at least gate.grace (1m), found 30s"),
        (
            "[gate]\njoins_per_ip = \"50\"",
            &format!("FILE: gate.joins_per_ip: expected {}, found \"50\"", text::RATE),
        ),
        ("[gate]\nbeacon_period = \"3s\"", &format!("FILE: gate.beacon_period: expected {period}, found 3s")),
        (
            "[gate]\nbeacon_genesis = \"2023-08-23T15:09:27Z\"",
            &format!("default: gate.beacon_period: expected {period}, found 0s"),
        ),
        (
            "[gate]\nbeacon_genesis = \"1692803367\"",
            &format!("FILE: gate.beacon_genesis: expected {}, found \"1692803367\"", super::gate::GENESIS),
        ),
        (
            "[edge]\ntrusted_proxies = \"10.0.0.0/8 10.0.0.0/33\"",
            &format!(
                "FILE: edge.trusted_proxies: expected {}, found \"10.0.0.0/33\"",
                crate::http::proxies::NETWORKS
            ),
        ),
    ]);
}

#[test]
fn the_first_pass_key_signs_and_a_beacon_has_two_numbers() {
    let secret = "0123456789abcdef0123456789abcdef";
    let text = format!(
        "[gate]\nkeys = \" 7:{secret}  0:x:{secret} \"\nbeacon_genesis = \"2023-08-23T15:09:27Z\"\nbeacon_period = \"3s\""
    );
    let gate = load_text(&text, &[], &Flags::default()).unwrap().config.gate;
    let keys: Vec<_> = gate.pass_keys().into_iter().map(|key| (key.id, key.secret)).collect();
    assert_eq!(keys, [(7, secret.as_bytes().to_vec()), (0, format!("x:{secret}").into_bytes())]);
    let beacon = gate.beacon().unwrap();
    assert_eq!((beacon.genesis.0, beacon.period.0), (1_692_803_367_000_000, 3_000_000));
    assert_eq!(Gate::default().beacon(), None);
}

#[test]
fn what_sockets_may_not_be_is_refused() {
    check_errors(&[
        (
            "[ws]\norigins = \"https://a.example https://b.example/path\"",
            "FILE: ws.origins: expected origins with spaces between, such as \"https://seats.example.com\", or \"*\", \
             found \"https://b.example/path\"",
        ),
        ("[ws]\nsend_buffer = 100", "FILE: ws.send_buffer: expected 16384 to 16777216 bytes, found 100"),
        ("[ws]\nmax_watches = 0", "FILE: ws.max_watches: expected a whole number from 1 to 1000, found 0"),
        (
            "[ws]\nmessages_per_second = 70000",
            "FILE: ws.messages_per_second: expected a whole number from 1 to 65535, found the number 70000",
        ),
    ]);
}

#[test]
fn wrong_files_are_refused_by_key() {
    check_errors(&[
        ("[hold]\nttl = 300", &format!("FILE: hold.ttl: expected {}, found the number 300", text::DURATION)),
        ("[hold]\nttl = \"300\"", &format!("FILE: hold.ttl: expected {}, found \"300\"", text::DURATION)),
        ("[hold]\nttl = \"0s\"", "FILE: hold.ttl: expected a duration from 1s to 168h, found 0s"),
        ("[hold]\ntttl = \"1s\"", "FILE: hold.tttl: there is no such key; did you mean hold.ttl?"),
        ("[holds]\nttl = \"1s\"", "FILE: holds: there is no such section; did you mean hold?"),
        ("hold = 5", "FILE: hold: expected a section, [hold], found the number 5"),
        (
            "[server]\nlisten = \"localhost\"",
            &format!("FILE: server.listen: expected {}, found \"localhost\"", text::ADDRESS),
        ),
        (
            "[server]\nlisten = 8080",
            &format!("FILE: server.listen: expected {}, found the number 8080", text::ADDRESS),
        ),
        (
            "[server]\nops_listen = \"127.0.0.1:8080\"",
            "FILE: server.ops_listen: expected another address than server.listen, found 127.0.0.1:8080",
        ),
        (
            "[cluster]\nshards = 70000",
            "FILE: cluster.shards: expected a whole number from 1 to 4096, found the number 70000",
        ),
        ("[cluster]\nshards = 0", "FILE: cluster.shards: expected a whole number from 1 to 4096, found 0"),
        (
            "[cluster]\nshards = -1",
            "FILE: cluster.shards: expected a whole number from 1 to 4096, found the number -1",
        ),
        (
            "[cluster]\nlease_renew = \"4s\"",
            "FILE: cluster.lease_renew: expected less than cluster.lease_ttl - cluster.lease_margin (4s), found 4s",
        ),
        ("[select]\nttl = \"6m\"", "default: select.max_age: expected at least select.ttl (6m), found 5m"),
        (
            "[idempotency]\nhorizon = \"59s\"",
            "FILE: idempotency.horizon: expected a duration from 1m to 24h, found 59s",
        ),
        ("[auth]\ndev_tokens = \"yes\"", "FILE: auth.dev_tokens: expected true or false, found \"yes\""),
        (
            "[auth]\nsecret = \"hunter2\"",
            "FILE: auth.secret: expected at least 32 bytes, or nothing for a random one, found 7 bytes",
        ),
        ("[auth]\nsecret = 31337", "FILE: auth.secret: expected a string, found something else"),
        ("[log]\nformat = \"xml\"", "FILE: log.format: expected \"pretty\" or \"json\", found \"xml\""),
        (
            "[mirror]\nurl = \"redis+sentinel://:hunter2@x\"",
            "FILE: mirror.url: expected \"local:\" (inside this process), \"redis://HOST:PORT/DB\", \
             \"redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB\" or \"redis+cluster://HOST:PORT,HOST:PORT\", \
             USER:PASSWORD@ before the hosts, rediss for TLS, found no name of a service behind the sentinels",
        ),
        (
            "[node]\npublic_url = \"seats.example.com\"",
            "FILE: node.public_url: expected an http or https URL without a path, such as \
             \"https://seats.example.com\", found \"seats.example.com\"",
        ),
        (
            "[sales]\nconfirm_role = \"OPS\"",
            "FILE: sales.confirm_role: expected \"PAYMENT\" or \"ADMIN\" (or \"USER\" with auth.dev_tokens), found \"OPS\"",
        ),
    ]);
}

#[test]
fn every_problem_is_told_at_once() {
    let found =
        load_text("[hold]\nttl = \"0s\"\n[select]\nttl = \"9h\"\n", &[], &Flags::default()).unwrap_err();
    assert_eq!(found.lines().count(), 3, "{found}");
    let found = load_text("[hold]\na = 1\nb = 2\n[c]\n", &[], &Flags::default()).unwrap_err();
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn a_file_that_is_no_configuration() {
    let found = load_text("[hold\n", &[], &Flags::default()).unwrap_err();
    assert!(found.starts_with("FILE: not TOML: ") && found.contains("line 1"), "{found}");
    let flags = Flags { config: Some(PathBuf::from("/nowhere/x.toml")), ..Flags::default() };
    let found = load_from(&flags, variables(&[])).unwrap_err().to_string();
    assert!(found.starts_with("/nowhere/x.toml: the configuration file cannot be read: "), "{found}");
}

#[test]
fn wrong_variables_are_refused_by_name() {
    let load = |environment: &[(&str, &str)]| {
        load_from(&Flags::default(), variables(environment)).unwrap_err().to_string()
    };
    assert_eq!(
        load(&[("HOTSEAT_HOLD_TLL", "1s")]),
        "environment variable HOTSEAT_HOLD_TLL: there is no such setting; did you mean HOTSEAT_HOLD_TTL?"
    );
    assert_eq!(
        load(&[("HOTSEAT_CLUSTER_SHARDS", "many")]),
        "environment variable HOTSEAT_CLUSTER_SHARDS: cluster.shards: expected a whole number from 1 to 4096, \
         found \"many\""
    );
    assert_eq!(
        load(&[("HOTSEAT_AUTH_DEV_TOKENS", "1")]),
        "environment variable HOTSEAT_AUTH_DEV_TOKENS: auth.dev_tokens: expected true or false, found \"1\""
    );
    // Of other programs.
    assert!(load_from(&Flags::default(), variables(&[("HOTSEATS", "1"), ("PATH", "/bin")])).is_ok());
}

#[test]
fn what_is_for_loopback_stays_there() {
    let open = Flags { listen: Some("0.0.0.0:8080".parse().unwrap()), ..Flags::default() };
    let ops_open = Flags { ops_listen: Some("192.0.2.1:8081".parse().unwrap()), ..Flags::default() };
    let built_in = format!("[auth]\nsecret = {:?}\n", crate::http::auth::BUILT_IN_SECRET);
    for (text, flags, expected) in [
        ("[auth]\ndev_tokens = true", &open, Some("auth.dev_tokens")),
        ("[auth]\ndev_tokens = true", &ops_open, Some("auth.dev_tokens")),
        ("", &Flags { demo: true, ..open.clone() }, Some("auth.dev_tokens")),
        (&built_in, &open, Some("auth.secret")),
        ("[sales]\nconfirm_role = \"USER\"", &Flags::default(), Some("sales.confirm_role")),
        (&built_in, &Flags::default(), None),
        ("", &open, None),
        ("[auth]\ndev_tokens = true", &Flags::default(), None),
    ] {
        let found = load_text(text, &[], flags).err();
        assert_eq!(found.is_some(), expected.is_some(), "{text:?}: {found:?}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}

//! What watches the nodes: that Prometheus scrapes them, that every metric and label which the alarms and the dashboard
//! name is one that running nodes have, and that each alarm leads to its section of the runbook.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::together::Together;
use super::yaml::parse;
use super::{NODES, environment, read, services};
use crate::support::{request, until};

const DASHBOARD: &str = "deploy/grafana/dashboards/hotseat.json";

/// Prometheus sets it.
const INSTANCE: &str = "instance";

/// Label names and values of one series.
type Labels = BTreeMap<String, String>;

/// Every series of every metric, as the nodes expose them.
fn exposed(together: &Together) -> BTreeMap<String, Vec<Labels>> {
    let mut exposed = BTreeMap::<_, Vec<_>>::new();
    for server in together.servers() {
        let page = request("GET", &format!("{}/metrics", server.ops), &[], None).unwrap();
        let page = String::from_utf8(page.body).unwrap();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let labels =
                labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
            exposed.entry(name.to_owned()).or_default().push(labels.collect());
        }
    }
    exposed
}

/// The alarms, by name.
fn alerts() -> BTreeMap<String, Value> {
    let file = parse(&read("deploy/alerts.yml"));
    let groups = file["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule.clone())).collect()
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// What a query says of a metric.
struct Named<'a> {
    metric: &'a str,
    /// Label, and the values of which each must exist; none where the matcher is no list of words.
    matchers: Vec<(&'a str, Vec<&'a str>)>,
}

/// Our metrics in a query.
fn named(query: &str) -> Vec<Named<'_>> {
    let begins = query.match_indices("hotseat_").map(|(at, _)| &query[at..]);
    begins
        .map(|text| {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
            let (metric, rest) = text.split_at(end);
            let inside = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
            let matchers = inside.split(',').filter(|matcher| !matcher.is_empty()).map(matcher);
            Named { metric, matchers: matchers.collect() }
        })
        .collect()
}

fn matcher(text: &str) -> (&str, Vec<&str>) {
    let (label, rest) = text.split_at(text.find(['=', '!']).unwrap());
    let (operator, value) = rest.split_at(rest.find('"').unwrap());
    let value = value.trim_matches('"');
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let words = match operator {
        "=" => vec![value],
        "=~" => value.split('|').filter(is_word).collect(),
        _ => Vec::new(),
    };
    (label, words)
}

/// Labels in `by (…)` of a query, and in `{{…}}` of a text about what comes out.
fn grouped<'a>(query: &'a str, texts: &[&'a str]) -> Vec<&'a str> {
    let by = query.split("by (").skip(1).flat_map(|rest| rest.split_once(')').unwrap().0.split(", "));
    let texts = texts.iter().flat_map(|text| text.split("{{").skip(1));
    let texts = texts.map(|rest| rest.split_once("}}").unwrap().0.trim().trim_start_matches("$labels."));
    by.chain(texts).filter(|label| *label != INSTANCE && *label != "$value").collect()
}

#[track_caller]
fn check(query: &str, texts: &[&str], exposed: &BTreeMap<String, Vec<Labels>>) {
    let mut labels = BTreeSet::new();
    for Named { metric, matchers } in named(query) {
        let series = exposed.get(metric).unwrap_or_else(|| panic!("{query}: no node has {metric}"));
        labels.extend(series.iter().flat_map(|labels| labels.keys().map(String::as_str)));
        for (label, values) in matchers {
            assert!(
                series.iter().any(|labels| labels.contains_key(label)),
                "{query}: {metric} has no {label}"
            );
            for value in values {
                let found = series.iter().any(|labels| labels.get(label).is_some_and(|found| found == value));
                assert!(found, "{query}: no {metric} has {label}={value}");
            }
        }
    }
    // Queries of Prometheus's own series have labels of its own.
    for label in grouped(query, texts).iter().filter(|_| !labels.is_empty()) {
        assert!(labels.contains(label), "{query}: nothing in it has the label {label}");
    }
}

#[test]
fn every_metric_that_is_watched_exists() {
    let together = Together::start();
    let token = together.token(7);
    for seat in 0..3 {
        assert_eq!(together.click("/api/v1/options/1/selections", &token, seat).status, 201);
        assert_eq!(together.click("/api/v1/options/1/holds", &token, seat).status, 201);
    }
    together.exec(1, &["gate", "set", "1", "paused", "--per-second", "5"]);
    // A node knows its peers a moment after its start.
    until(|| exposed(&together).get("hotseat_peer_up").is_some_and(|peers| peers.len() == 6));
    let exposed = exposed(&together);
    let mut queries = 0;
    for rule in alerts().values() {
        check(rule["expr"].as_str().unwrap(), &[rule["annotations"]["summary"].as_str().unwrap()], &exposed);
    }
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            check(target["expr"].as_str().unwrap(), &[target["legendFormat"].as_str().unwrap()], &exposed);
            queries += 1;
        }
    }
    assert!(queries > 30, "only {queries}");
}

#[test]
fn a_query_that_names_what_is_not_there_is_found() {
    let labels =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let series = vec![labels(&[("op", "hold"), ("code", "OK")]), labels(&[("op", "select"), ("code", "OK")])];
    let exposed = BTreeMap::from([("hotseat_commands_total".to_owned(), series)]);
    check(
        "sum by (code) (rate(hotseat_commands_total{op=~\"select|hold\"}[1m])) > 0",
        &["{{code}}"],
        &exposed,
    );
    check("up == 0", &["{{ $labels.job }}"], &exposed);
    for (query, text) in [
        ("hotseat_command_total", ""),
        ("hotseat_commands_total{kind=\"hold\"}", ""),
        ("hotseat_commands_total{op=\"confirm\"}", ""),
        ("hotseat_commands_total{op=~\"hold|confirm\"}", ""),
        ("sum by (node) (hotseat_commands_total)", ""),
        ("hotseat_commands_total", "{{node}}"),
    ] {
        let checked = std::panic::catch_unwind(|| check(query, &[text], &exposed));
        assert!(checked.is_err(), "{query} {text}");
    }
}

/// The table of the runbook and the rules name the same alarms, and lead to the same sections. That these exist,
/// `tests/tidy` knows.
#[test]
fn every_alarm_has_its_section() {
    let runbook = read("docs/runbook.md");
    let rows = runbook.lines().filter_map(|line| line.strip_prefix("| [")?.split_once("](#"));
    let told: BTreeMap<String, String> =
        rows.map(|(name, rest)| (name.to_owned(), rest.split_once(')').unwrap().0.to_owned())).collect();
    let section = |rule: &Value| {
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        runbook.strip_prefix("docs/runbook.md#").unwrap().to_owned()
    };
    let rules: BTreeMap<String, String> =
        alerts().iter().map(|(name, rule)| (name.clone(), section(rule))).collect();
    assert_eq!(told, rules);
    let shards = hotseat::config::Config::default().cluster.shards;
    for node in NODES {
        assert!(!environment(node).contains_key("HOTSEAT_CLUSTER_SHARDS"));
    }
    assert_eq!(alerts()["ShardsWithoutOwner"]["expr"], format!("sum(hotseat_shards_owned) < {shards}"));
}

#[test]
fn prometheus_scrapes_every_node_and_grafana_asks_prometheus() {
    let (prometheus, services) = (parse(&read("deploy/prometheus.yml")), services());
    let targets = NODES.map(|node| {
        let ops = environment(node)["HOTSEAT_SERVER_OPS_LISTEN"].clone();
        format!("{node}:{}", ops.strip_prefix("0.0.0.0:").unwrap())
    });
    let scrape = &prometheus["scrape_configs"][0];
    assert_eq!(scrape["static_configs"][0]["targets"], json!(targets));
    let mounted = |service: &str, place: &str| {
        let volumes = services[service]["volumes"].as_array().unwrap();
        volumes.iter().any(|volume| volume.as_str().unwrap().contains(&format!(":{place}:ro")))
    };
    for file in prometheus["rule_files"].as_array().unwrap().iter().chain([&json!("prometheus.yml")]) {
        assert!(mounted("prometheus", &format!("/etc/prometheus/{}", file.as_str().unwrap())), "{file}");
    }
    let folder = "deploy/grafana/provisioning";
    let source = &parse(&read(&format!("{folder}/datasources/prometheus.yml")))["datasources"][0];
    let port = services["prometheus"]["ports"][0].as_str().unwrap().rsplit(':').next().unwrap();
    assert_eq!(source["url"], format!("http://prometheus:{port}"));
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    let provider = &parse(&read(&format!("{folder}/dashboards/hotseat.yml")))["providers"][0];
    let place = provider["options"]["path"].as_str().unwrap();
    assert!(mounted("grafana", place) && mounted("grafana", "/etc/grafana/provisioning"));
    let home = &services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home, &format!("{place}/hotseat.json"));
    for (network, name) in [("back", "prometheus"), ("back", "grafana")] {
        assert_eq!(services[name]["networks"], json!([network]), "{name}");
    }
    for panel in panels().iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"], json!({"type": source["type"], "uid": source["uid"]}), "{panel}");
    }
}

/// Panels are told apart, have a place of their own, and ask something.
#[test]
fn the_dashboard_is_one() {
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "{title} lies on another");
            }
        }
        match panel["type"].as_str().unwrap() {
            "row" => assert_eq!(panel["collapsed"], false),
            "stat" | "table" | "timeseries" => {
                let targets = panel["targets"].as_array().unwrap();
                let names: BTreeSet<&str> =
                    targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
                assert!(!targets.is_empty() && names.len() == targets.len(), "{title}");
            }
            other => panic!("{title}: {other}"),
        }
    }
}

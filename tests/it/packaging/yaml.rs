//! As much of YAML as our files use: maps and lists by indentation, plain and quoted scalars, lists in JSON, anchors and
//! merges of maps. Everything else panics: better a test that wants to be taught than one that has misread.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

pub fn parse(text: &str) -> Value {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .map(|line| (line.len() - line.trim_start().len(), line.trim()));
    let mut reader = Reader { lines: lines.collect(), anchors: BTreeMap::new() };
    let value = reader.block(0);
    assert!(reader.lines.is_empty(), "{:?}", reader.lines);
    value
}

struct Reader<'a> {
    /// Indentation and text of what is not read yet.
    lines: VecDeque<(usize, &'a str)>,
    anchors: BTreeMap<&'a str, Value>,
}

impl<'a> Reader<'a> {
    /// The lines that are indented by exactly `indent`, with what hangs below them.
    fn block(&mut self, indent: usize) -> Value {
        let is_list = self.lines[0].1.starts_with("- ");
        let (mut map, mut list, mut merged) = (Map::new(), Vec::new(), Map::new());
        while let Some(&(depth, line)) = self.lines.front().filter(|(depth, _)| *depth >= indent) {
            assert_eq!((depth, line.starts_with("- ")), (indent, is_list), "{line}");
            self.lines.pop_front();
            if let Some(item) = line.strip_prefix("- ") {
                list.push(self.item(indent + 2, item));
                continue;
            }
            let (key, text) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
            if key == "<<" {
                let name = text.trim().strip_prefix('*').unwrap_or_else(|| panic!("no anchor: {line}"));
                merged = self.anchors[name].as_object().unwrap().clone();
                continue;
            }
            let value = self.value(indent, text.trim());
            assert!(map.insert(key.to_owned(), value).is_none(), "{key} twice");
        }
        merged.append(&mut map);
        if is_list { Value::Array(list) } else { Value::Object(merged) }
    }

    /// A scalar, or a map whose first line stands behind the dash.
    fn item(&mut self, indent: usize, text: &'a str) -> Value {
        let key = text
            .split_once(':')
            .filter(|(key, rest)| is_name(key) && (rest.is_empty() || rest.starts_with(' ')));
        if key.is_none() {
            return scalar(text);
        }
        self.lines.push_front((indent, text));
        self.block(indent)
    }

    /// What stands behind a key, or below it.
    fn value(&mut self, indent: usize, text: &'a str) -> Value {
        let anchor = text.strip_prefix('&').filter(|name| is_name(name));
        if !text.is_empty() && anchor.is_none() {
            return scalar(text);
        }
        let value = match self.lines.front() {
            Some(&(deeper, _)) if deeper > indent => self.block(deeper),
            _ => Value::Null,
        };
        if let Some(name) = anchor {
            self.anchors.insert(name, value.clone());
        }
        value
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

fn scalar(text: &str) -> Value {
    if text.starts_with(['"', '[']) {
        return serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let special = |c: char| "'{}&*|>%@`#".contains(c);
    assert!(!text.starts_with(special) && !text.contains(": ") && !text.contains(" #"), "{text}");
    Value::String(text.to_owned())
}

#[test]
fn it_reads_what_it_knows_and_nothing_else() {
    let text = "# a\nmap:\n  plain: some text\n  none:\n  list:\n    - \"a: b\"\n    - c\n  json: [\"a\", 1]\nlast: 7s\n";
    let expected = serde_json::json!({
        "map": {"plain": "some text", "none": null, "list": ["a: b", "c"], "json": ["a", 1]}, "last": "7s"
    });
    assert_eq!(parse(text), expected);
    let text = "all: &all\n  a: 1\n  b: 2\none:\n  <<: *all\n  b: 3\nrows:\n  - c: d\n    e:\n      - f:8080\n  - c: g\n";
    let expected = serde_json::json!({
        "all": {"a": "1", "b": "2"}, "one": {"a": "1", "b": "3"}, "rows": [{"c": "d", "e": ["f:8080"]}, {"c": "g"}]
    });
    assert_eq!(parse(text), expected);
    for wrong in [
        "a: {b: c}",
        "a: |",
        "a: 'b'",
        "a: b # c",
        "a:\n    b: c\n  d: e",
        "- a\nb: c",
        "a: 1\na: 2",
        "<<: *b",
    ] {
        assert!(std::panic::catch_unwind(|| parse(wrong)).is_err(), "{wrong}");
    }
}

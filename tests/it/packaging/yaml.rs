//! As much of YAML as our compose file uses: maps and lists by indentation, plain and quoted scalars, lists in JSON.
//! Everything else panics: better a test that wants to be taught than one that has misread.

use serde_json::{Map, Value};

pub fn parse(text: &str) -> Value {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
        .map(|line| (line.len() - line.trim_start().len(), line.trim()))
        .collect();
    let mut rest = lines.as_slice();
    let value = block(&mut rest, 0);
    assert!(rest.is_empty(), "{rest:?}");
    value
}

/// The lines that are indented by exactly `indent`, with what hangs below them.
fn block(lines: &mut &[(usize, &str)], indent: usize) -> Value {
    let is_list = lines[0].1.starts_with("- ");
    let (mut map, mut list) = (Map::new(), Vec::new());
    while let Some(&(depth, line)) = lines.first().filter(|(depth, _)| *depth >= indent) {
        assert_eq!((depth, line.starts_with("- ")), (indent, is_list), "{line}");
        *lines = &lines[1..];
        if let Some(item) = line.strip_prefix("- ") {
            list.push(scalar(item));
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
        let value = match (value.trim(), lines.first()) {
            ("", Some(&(deeper, _))) if deeper > indent => block(lines, deeper),
            ("", _) => Value::Null,
            (text, _) => scalar(text),
        };
        assert!(map.insert(key.to_owned(), value).is_none(), "{key} twice");
    }
    if is_list { Value::Array(list) } else { Value::Object(map) }
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
    for wrong in
        ["a: {b: c}", "a: |", "a: 'b'", "a: b # c", "a:\n    b: c\n  d: e", "- a\nb: c", "a: 1\na: 2"]
    {
        assert!(std::panic::catch_unwind(|| parse(wrong)).is_err(), "{wrong}");
    }
}

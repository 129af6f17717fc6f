//! Rust read as tokens, so that comments, strings and macros neither hide nor fake a name.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Every path a file names, `use` groups multiplied out: `use a::{b, c::d}` is `a::b` and `a::c::d`.
/// `self` and `super` at the front are resolved against the file's own module.
pub fn paths(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(stream(file, text), &[], &mut found);
    let module = module_of(file);
    found.into_iter().map(|path| resolve(&module, path).join("::")).collect()
}

/// Every identifier of a file, once per place.
pub fn identifiers(file: &str, text: &str) -> Vec<String> {
    paths(file, text)
        .into_iter()
        .flat_map(|path| path.split("::").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Whether `path` is `prefix` or something inside it.
pub fn is_inside(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn stream(file: &str, text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| panic!("{file} is not Rust: {error}"))
}

fn walk(tokens: TokenStream, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    let mut colons = 2;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    flush(&mut path, &[], found);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                let inside_use = colons == 2 && group.delimiter() == Delimiter::Brace;
                if inside_use {
                    walk(group.stream(), &path, found);
                } else {
                    flush(&mut path, prefix, found);
                    walk(group.stream(), &[], found);
                }
                path = prefix.to_vec();
                colons = 2;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                flush(&mut path, prefix, found);
                colons = 2;
            }
        }
    }
    flush(&mut path, prefix, found);
}

fn flush(path: &mut Vec<String>, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let done = std::mem::replace(path, prefix.to_vec());
    if done.len() > prefix.len() {
        found.push(done);
    }
}

/// `src/http/seats.rs` is `crate::http::seats`; files outside `src` are their own root.
fn module_of(file: &str) -> Vec<String> {
    let inside = file.split_once("src/").map_or("", |(_, inside)| inside).trim_end_matches(".rs");
    std::iter::once("crate")
        .chain(inside.split('/').filter(|part| !part.is_empty() && !matches!(*part, "mod" | "lib" | "main")))
        .map(str::to_owned)
        .collect()
}

fn resolve(module: &[String], path: Vec<String>) -> Vec<String> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path.first().map(String::as_str) {
        Some("self") if path.len() > 1 => [module, &path[1..]].concat(),
        Some("super") => [&module[..module.len().saturating_sub(ups).max(1)], &path[ups..]].concat(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str, expected: &[&str]) {
        let found = paths(file, text);
        for path in expected {
            assert!(found.iter().any(|f| f == path), "{path} is not in {found:?} of {text}");
        }
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        check(
            "src/a.rs",
            "use crate::ledger::sqlite::SqliteLedger;",
            &["crate::ledger::sqlite::SqliteLedger"],
        );
        check(
            "src/a.rs",
            "use crate::{http, ledger::{self, sqlite::A}};",
            &["crate::http", "crate::ledger::sqlite::A"],
        );
        check("src/http/seats.rs", "use super::super::ledger::x;", &["crate::ledger::x"]);
        check("src/http/mod.rs", "use self::seats::x;", &["crate::http::seats::x"]);
        check(
            "src/a.rs",
            "fn f() { let x: Vec<sqlx::Error> = crate::ledger::new(); }",
            &["sqlx::Error", "crate::ledger::new"],
        );
        check("src/a.rs", "fn f() { println!(\"{}\", std::env::var(\"A\")); }", &["std::env::var"]);
        check(
            "src/a.rs",
            "fn f(option: OptionId) { match x { a::B => c } }",
            &["a::B", "OptionId", "option"],
        );
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        let found = paths("src/a.rs", "// use crate::ledger;\nconst A: &str = \"crate::ledger\";");
        assert!(!found.iter().any(|path| path.contains("ledger")), "{found:?}");
    }
}

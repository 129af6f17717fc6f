//! The rules of the house that a compiler does not know, as one test that lists every violation.
//!
//! A rule is a function from the text of the tree to violations, so each has a test beside it that
//! proves on a string that it can fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

mod arrows;
mod docs;
mod files;
mod tokens;

/// Text files of the tree by path from the root, with `/` between the parts.
pub type Tree = BTreeMap<String, String>;

/// A rule: what it finds wrong, one line each, beginning with the place.
type Rule = fn(&Tree) -> Vec<String>;

const RULES: [(&str, Rule); 13] = [
    ("a file has at most 500 lines", files::length),
    ("a function has at most 70 lines", files::function_length),
    ("a mark for later names its issue", files::marks),
    ("no test is switched off", files::ignored_tests),
    ("a module says first what it is", files::module_docs),
    ("the words of architecture.md have no synonyms", files::synonyms),
    ("packages depend along the arrows", arrows::packages),
    ("modules name each other along the arrows", arrows::modules),
    ("the engine does no IO and reads no clock", arrows::engine_is_pure),
    ("the environment is read in one place", arrows::environment),
    ("what a newcomer needs is there", docs::present),
    ("links inside the documents lead somewhere", docs::links),
    ("`.ci/run` runs the README's test command", docs::ci_runs_the_readme),
];

#[test]
fn the_house_is_tidy() {
    let mut tree = Tree::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    read(root, root, &mut tree);
    let untidy: Vec<String> = RULES
        .iter()
        .filter_map(|(name, rule)| {
            let found = rule(&tree);
            (!found.is_empty()).then(|| format!("{name}:\n  {}", found.join("\n  ")))
        })
        .collect();
    assert!(untidy.is_empty(), "\n\n{}\n", untidy.join("\n\n"));
}

/// Reads what is source: no build output, no data directory, nothing hidden but `.ci`.
fn read(root: &Path, folder: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(folder).expect("the folder was just listed") {
        let path = entry.expect("a directory entry is readable").path();
        let place = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        let hidden = place.split('/').any(|part| part.starts_with('.') && part != ".ci");
        let output = place == "target" || place == "data" || path.join("CACHEDIR.TAG").exists();
        if hidden || output {
            continue;
        }
        if path.is_dir() {
            read(root, &path, tree);
        } else if let Ok(text) = fs::read_to_string(&path) {
            tree.insert(place, text);
        }
    }
}

/// The Rust files below any of `folders`; `""` is all of them.
pub fn rust<'a>(tree: &'a Tree, folders: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    tree.iter()
        .filter(|(path, _)| path.ends_with(".rs") && folders.iter().any(|folder| path.starts_with(folder)))
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

/// A tree of one file, for the rules' own tests.
#[cfg(test)]
pub fn tree_of(path: &str, text: &str) -> Tree {
    Tree::from([(path.to_owned(), text.to_owned())])
}
